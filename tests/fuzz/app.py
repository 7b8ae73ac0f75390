"""A folder in which an app has worked, and has work to do: what rows are written into, and commands run in."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuzz.hostile import NOW
from litequeue import Queue, cron, current_job
from litequeue.core.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Generator

TASKS = ("plain", "nap", "bad", "ticks", "limited")
SHARED_MEMORY = Path("/dev/shm")

SHOP = logging.getLogger("fuzz.app")
SHOP.addHandler(logging.NullHandler())
SHOP.propagate = False


class NearNow(SystemClock):
    """A clock that began at the time by which the rows are written."""

    def now(self) -> float:
        return NOW + self.monotonic() % 1e4


def declare(queue: Queue) -> Queue:
    queue.clock = queue.engine.clock = NearNow()

    @queue.task(name="plain", timeout="5s", job_logs="1KiB")
    def plain(n: int) -> int:
        current_job().emit(n)
        SHOP.error("plain %d", n)
        return n

    @queue.task(name="nap", timeout="5s")
    async def nap(n: int) -> int:
        await asyncio.sleep(0)
        current_job().emit(n)
        return n

    @queue.task(name="bad", retries=1, backoff="1h")
    def bad(n: Any = None) -> None:
        raise RuntimeError(str(n))

    tokens = queue.limit("tokens", rate="5/s", smooth=True).key("{n}").cost("{n}")

    @queue.task(name="limited", limit_key="{n}", concurrency=1, limits=[queue.limit("pool", concurrency=2), tokens])
    def limited(n: int) -> None: ...

    @queue.task(name="ticks", schedule=cron("0 6 * * *", tz="UTC"))
    def ticks() -> None: ...

    return queue


@cache
def _holder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)


_folders = itertools.count()


@contextmanager
def folder() -> Generator[Path, None, None]:
    """A copy of a folder in which an app has worked, and has work to do."""
    place = Path(_holder().name) / f"{next(_folders)}"
    shutil.copytree(prepared(), place)
    try:
        yield place
    finally:
        shutil.rmtree(place)


@cache
def prepared() -> Path:
    place = Path(_holder().name) / "prepared"
    place.mkdir()
    quiet = only(logging.getLogger("litequeue"), logging.NullHandler())
    with quiet, declare(Queue(place / "app.db", durability="normal")) as queue:
        for name in TASKS[:3]:
            queue.tasks[name].using(tags=["a"], key=name).enqueue(1)
        queue.worker(threads=1, coroutines=1).run(until_idle=True)
        queue.tasks["plain"].using(delay="1h").enqueue(2)
        queue.tasks["plain"].using(delay="1h").enqueue(3).cancel()
    shutil.rmtree(place / "app.db-litequeue")
    return place


@contextmanager
def only(log: logging.Logger, handler: logging.Handler) -> Generator[None, None, None]:
    before = log.handlers[:], log.propagate, log.manager.disable
    log.handlers[:], log.propagate, log.manager.disable = [handler], False, logging.NOTSET
    try:
        yield
    finally:
        log.handlers[:], log.propagate, log.manager.disable = before
