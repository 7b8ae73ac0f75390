"""The options of workers: checked where they are given. Knows no worker."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from litequeue.core.duration import seconds
from litequeue.core.engine import Feature, RunOptions
from litequeue.core.names import check_name
from litequeue.core.retry import Duration
from litequeue.core.size import size
from litequeue.ipc.this_process import resident_memory, usable_cores
from litequeue.limits.resources import checked_resources
from litequeue.limits.served_queues import served_queues
from litequeue.options import at_once, check_known, whole

MOST_JOBS = 10**12
MOST_THREADS = 32  # of "auto"
MOST_CHILDREN = 1000
LEAST_MEMORY = 20_000_000  # bytes, of a child
UNKNOWN_MEMORY = (
    "{}= needs to know how much memory a process holds, which this system does not tell; install psutil, or use {}="
)


class WorkerOptions(TypedDict, total=False):
    """The options of a worker; see `Queue.worker`."""

    threads: int | Literal["auto"] | None
    coroutines: int
    queues: Sequence[str] | Mapping[str, int | None] | None
    offers: Mapping[str, int] | None
    grace: Duration
    name: str | None
    signals: bool
    max_jobs: int | None
    max_memory: int | str | None
    children: int | None
    max_jobs_per_child: int | None
    max_memory_per_child: int | str | None


def run_options(given: WorkerOptions) -> RunOptions:
    """Check the options of a worker."""
    check_known(given, WorkerOptions, "worker()")
    name, max_jobs, max_memory = given.get("name"), given.get("max_jobs"), given.get("max_memory")
    per_child, memory_per_child = given.get("max_jobs_per_child"), given.get("max_memory_per_child")
    served = served_queues(given.get("queues"))
    return RunOptions(
        threads=_threads(given.get("threads")),
        coroutines=at_once(given.get("coroutines", 100), "coroutines"),
        queues=served.names,
        slots=served.slots,
        offers=checked_resources(given.get("offers"), "offers"),
        grace=seconds(given.get("grace", "30s"), "grace"),
        name=None if name is None else check_name(name, "a worker's name"),
        signals=given.get("signals", False),
        max_jobs=None if max_jobs is None else whole(max_jobs, "max_jobs", MOST_JOBS),
        max_memory=None if max_memory is None else _memory(max_memory),
        children=_children(given.get("children")),
        max_jobs_per_child=None if per_child is None else whole(per_child, "max_jobs_per_child", MOST_JOBS),
        max_memory_per_child=None if memory_per_child is None else _memory_per_child(memory_per_child),
    )


def worker_features(options: RunOptions) -> list[Feature]:
    """Return what these options need of an engine, beyond what every engine has."""
    asked = {
        Feature.RECYCLING: options.max_jobs is not None or options.max_memory is not None,
        Feature.LIMITS: bool(options.slots or options.offers),
        Feature.PROCESSES: options.max_jobs_per_child is not None or options.max_memory_per_child is not None,
    }
    return [feature for feature, is_asked in asked.items() if is_asked]


def _threads(given: int | str | None) -> int:
    if given is None:
        return min(8, (os.cpu_count() or 1) + 4)
    if isinstance(given, str):
        if given != "auto":
            raise ValueError(f'threads must be a whole number or "auto", got {given!r}')
        return min(MOST_THREADS, usable_cores() + 4)
    return at_once(given, "threads")


def _children(given: int | None) -> int:
    if given is None:
        return usable_cores()
    return 0 if type(given) is int and given == 0 else whole(given, "children", MOST_CHILDREN, "; or 0 for none")


def _memory_per_child(given: int | str) -> int:
    most = size(given, "max_memory_per_child")
    if resident_memory() is None:
        raise ValueError(UNKNOWN_MEMORY.format("max_memory_per_child", "max_jobs_per_child"))
    if most < LEAST_MEMORY:
        least = f"{LEAST_MEMORY / 1e6:.0f} MB"
        raise ValueError(f"max_memory_per_child must be at least {least}, which Python alone takes, got {given!r}")
    return most


def _memory(given: int | str) -> int:
    most, now = size(given, "max_memory"), resident_memory()
    if now is None:
        raise ValueError(UNKNOWN_MEMORY.format("max_memory", "max_jobs"))
    if now >= most:
        raise ValueError(
            f"max_memory={given!r} is no more than this process holds before its first job ({now / 1e6:.0f} MB); "
            "give a larger one"
        )
    return most
