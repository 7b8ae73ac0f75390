"""One trial of one queue at one setting: an enqueuing process, a worker's process, and what they measure."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.child import ROOT, Child
from benchmarks.peers.redis_server import dying_with_us
from benchmarks.peers.usage import usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.figures import Plan
    from benchmarks.peers.peer import Broker, Setting
    from benchmarks.peers.redis_server import RedisServer

SAMPLES = 60
SAMPLING = 4.0  # seconds at most, for a queue that polls slowly
SETTLING = 20.0  # what workers do once, after their start: some twenty start at the same time
WATCHED = 10.0


@dataclass
class Measured:
    """What the rounds gave. Rates are jobs a second, times are ms, writes are bytes a job."""

    enqueue: list[float] = field(default_factory=list)
    drain: list[float] = field(default_factory=list)
    pickup: list[float] = field(default_factory=list)
    round_trip: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)
    to_disk: list[float] = field(default_factory=list)
    wal: list[float] = field(default_factory=list)  # MiB at the end of the drain
    idle_cpu: float | None = None  # % of a core
    idle_memory: float | None = None  # MiB


def python_of(peer: str) -> str:
    """Name the interpreter that has the queue: a queue whose requirements conflict has a venv of its own."""
    own = ROOT / f".venv-peers-{peer}" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def versions(peer: str) -> dict[str, str] | None:
    """Tell the versions of a queue and what it stands on; None where it is not installed."""
    command = [python_of(peer), "-m", "benchmarks.peers.child", "versions", peer]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if told.returncode:
        return None
    found: dict[str, str] = json.loads(told.stdout)
    return found


def trial(peer: str, setting: Setting, servers: Mapping[Broker, RedisServer], plan: Plan, measured: Measured) -> None:
    """Measure once, on an empty file or server."""
    redis = emptied(setting, servers)
    count, drained = plan.size(setting.jobs, least=10), plan.size(setting.worked_off, least=10)
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        where = (peer, setting.name, folder, redis)
        caller = Child("caller", *where, python=python_of(peer), module="benchmarks.peers.child")
        try:
            measured.enqueue.append(caller.ask(f"enqueue {count} {max(0, drained - count)}"))
            with worker(*where) as session:
                measured.drain.append(caller.ask(f"drain {max(count, drained)}"))
                _note_writes(measured, session, max(count, drained), folder)
                times = caller.ask(f"latency {plan.size(SAMPLES)} {SAMPLING * plan.scale} {setting.period}")
        except BaseException:
            caller.kill()
            raise
        caller.end()
    measured.pickup.extend(times["pickup"])
    measured.round_trip.extend(times["round_trip"])


def _note_writes(measured: Measured, session: int, jobs: int, folder: str) -> None:
    used = usage(session)
    measured.written.append(used.written / jobs)
    measured.to_disk.append(used.to_disk / jobs)
    measured.wal.append(sum(file.stat().st_size for file in Path(folder).rglob("*-wal")) / 2**20)


def idle(
    settings: Mapping[tuple[str, str], Setting], servers: Mapping[Broker, RedisServer], plan: Plan
) -> dict[tuple[str, str], tuple[float, float]]:
    """Watch all workers side by side with nothing to do: % of a core, and MiB resident."""
    with contextlib.ExitStack() as stack:
        sessions = {}
        for (peer, name), setting in settings.items():
            redis = emptied(setting, servers)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench"))
            sessions[peer, name] = stack.enter_context(worker(peer, name, folder, redis))
        time.sleep(SETTLING * plan.scale)
        before = {key: usage(session) for key, session in sessions.items()}
        began = time.monotonic()
        time.sleep(max(1.0, WATCHED * plan.scale))
        after = {key: usage(session) for key, session in sessions.items()}
        span = time.monotonic() - began
    return {key: ((after[key].cpu - before[key].cpu) / span * 100, after[key].memory) for key in sessions}


def emptied(setting: Setting, servers: Mapping[Broker, RedisServer]) -> str:
    """Empty the server of a setting; give its URL."""
    if setting.durability.broker == "none":
        return ""
    server = servers[setting.durability.broker]
    server.empty()
    return server.url


@contextlib.contextmanager
def worker(peer: str, name: str, folder: str, redis: str) -> Iterator[int]:
    """Run a worker for the block, in a session of its own; give its number."""
    command = [python_of(peer), "-m", "benchmarks.peers.child", "worker", peer, name, folder, redis]
    with tempfile.TemporaryFile(prefix="bench") as log:
        process = subprocess.Popen(
            [*dying_with_us("TERM"), *command],
            cwd=ROOT,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield process.pid
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read()[-3_000:].decode(errors="replace"))
            raise
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask once; then end what is left of the session."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=3)
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                if os.getsid(int(folder.name)) == process.pid:
                    os.kill(int(folder.name), signal.SIGKILL)
    process.wait()
