"""The queues that are measured, litequeue and SqliteHuey, behind the same few verbs."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks import floor
from litequeue import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

THREADS = 4
NAMES = ("litequeue", "huey")


def count(steps: int) -> None:
    """Keep the interpreter busy with so many steps."""
    while steps:
        steps -= 1


def has_huey() -> bool:
    """Whether huey is installed: the extra `bench`."""
    return importlib.util.find_spec("huey") is not None


class LiteQueue:
    """A litequeue in a folder. `durability` is "full" or "normal"; `counting` counts SQL statements."""

    def __init__(self, folder: str, durability: str = "full", *, counting: bool = False) -> None:
        self.statements = 0
        if counting:
            self._count_statements()
        self.queue = Queue(f"{folder}/litequeue.db", durability="full" if durability == "full" else "normal")

        @self.queue.task(name="add")
        def add(a: int, b: int) -> int:
            return a + b

        @self.queue.task(name="aadd")
        async def aadd(a: int, b: int) -> int:
            return a + b

        @self.queue.task(name="total")
        def total(values: list[int]) -> int:
            return sum(values)

        @self.queue.task(name="stamp")
        def stamp() -> int:
            return time.monotonic_ns()

        @self.queue.task(name="nap")
        def nap(seconds: float) -> tuple[int, int]:
            began = time.monotonic_ns()
            time.sleep(seconds)
            return began, time.monotonic_ns()

        @self.queue.task(name="anap")
        async def anap(seconds: float) -> tuple[int, int]:
            began = time.monotonic_ns()
            await asyncio.sleep(seconds)
            return began, time.monotonic_ns()

        @self.queue.task(name="burn")
        def burn(steps: int) -> tuple[int, int]:
            began = time.monotonic_ns()
            count(steps)
            return began, time.monotonic_ns()

        self.folder, self.add, self.aadd, self.total, self.stamp = folder, add, aadd, total, stamp
        self.nap, self.anap, self.burn = nap, anap, burn

    def _count_statements(self) -> None:
        import apsw

        def count(_event: Any) -> None:
            self.statements += 1

        apsw.connection_hooks.append(lambda connection: connection.trace_v2(apsw.SQLITE_TRACE_STMT, count))

    def enqueue(self, a: int, b: int) -> None:
        """Store one call."""
        self.add.enqueue(a, b)

    def enqueue_many(self, calls: list[tuple[int, int]]) -> None:
        """Store calls in one transaction."""
        self.add.enqueue_many(calls)

    def aenqueue_many(self, calls: list[tuple[int, int]]) -> None:
        """Store calls of the coroutine."""
        self.aadd.enqueue_many(calls)

    def drain(self, _count: int) -> None:
        """Work off what is there, from the worker's start to its end."""
        self.queue.worker(threads=THREADS).run(until_idle=True)

    def began(self) -> int:
        """Have the clock read by a worker: when its function began, in ns of the monotonic clock of the machine."""
        return self.stamp.enqueue().result(timeout=30)

    def stored(self) -> int:
        """How many jobs the file holds."""
        return sum(count.jobs for count in self.queue.engine.jobs.counts())

    @contextlib.contextmanager
    def worker(self, threads: int = THREADS) -> Iterator[None]:
        """Run a worker for the block, in this process."""
        with self.queue.worker(threads=threads):
            yield

    def close(self) -> None:
        """Close the file."""
        self.queue.close()


class Huey:
    """A SqliteHuey in a folder, as it comes ("full": its SQLite syncs at each commit) or with fsync off ("off").

    Where a server is named, a RedisHuey.

    Its consumer polls every `polling` seconds; None is as it comes: from 0.1 s, ever more slowly, up to 10 s.
    """

    def __init__(
        self,
        folder: str,
        durability: str = "full",
        *,
        counting: bool = False,
        polling: float | None = None,
        redis: str = "",
    ) -> None:
        import huey
        from huey.signals import SIGNAL_COMPLETE

        self.statements = 0
        options = {} if durability == "full" else {"fsync": False}
        if redis:
            self.huey = huey.RedisHuey(url=redis, results=True, notify_result=True)
        else:
            self.huey = huey.SqliteHuey(filename=f"{folder}/huey.db", results=True, **options)
        if counting:
            self._count_statements()
        self._polling = {} if polling is None else {"initial_delay": polling, "backoff": 1.0, "max_delay": polling}
        self._left = 0
        self._lock, self._drained = threading.Lock(), threading.Event()
        self.huey.signal(SIGNAL_COMPLETE)(self._completed)

        @self.huey.task(name="add")  # type: ignore[untyped-decorator]
        def add(a: int, b: int) -> int:
            return a + b

        @self.huey.task(name="total")  # type: ignore[untyped-decorator]
        def total(values: list[int]) -> int:
            return sum(values)

        @self.huey.task(name="stamp")  # type: ignore[untyped-decorator]
        def stamp() -> int:
            return time.monotonic_ns()

        self.add, self.total, self.stamp = add, total, stamp

    def _count_statements(self) -> None:
        storage = self.huey.storage
        connect = storage._create_connection  # noqa: SLF001

        def counted() -> Any:
            connection = connect()
            connection.set_trace_callback(self._count)
            return connection

        storage._create_connection = counted  # noqa: SLF001

    def _count(self, _sql: str) -> None:
        self.statements += 1

    def _completed(self, *_arguments: Any) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._drained.set()

    def enqueue(self, a: int, b: int) -> None:
        """Store one call."""
        self.add(a, b)

    def enqueue_many(self, calls: list[tuple[int, int]]) -> None:
        """Store calls: huey has no way to store many at once."""
        for call in calls:
            self.add(*call)

    def drain(self, count: int) -> None:
        """Work off `count` calls, from the consumer's start to the last stored result."""
        self._left = count
        self._drained.clear()
        with self.worker():
            if not self._drained.wait(120):
                raise TimeoutError(f"huey had {self._left} of {count} calls left after 120 s")

    def began(self) -> int:
        """Have the clock read by a consumer: when its function began."""
        return int(self.stamp().get(blocking=True, timeout=60))

    def consumer(self) -> Any:
        """Make a consumer: `run()` works until SIGTERM."""
        from huey.consumer import Consumer

        return Consumer(self.huey, workers=THREADS, **self._polling)

    @contextlib.contextmanager
    def worker(self) -> Iterator[None]:
        """Run a consumer for the block, in this process."""
        consumer = self.consumer()
        consumer._set_signal_handlers = lambda: None  # noqa: SLF001 - signals are the measurement's own
        consumer.start()
        try:
            yield
        finally:
            consumer.stop(graceful=True)

    def close(self) -> None:
        """Close this thread's connection."""
        self.huey.storage.close()


class Looker:
    """The floor of an idle worker: sleep, ask SQLite whether the file has changed, sleep again."""

    EVERY = 1.2  # seconds, as litequeue's workers look

    def __init__(self, folder: str, durability: str) -> None:
        self.statements = 0
        self._connection = floor.connect("apsw", f"{folder}/floor.db", durability)

    @contextlib.contextmanager
    def worker(self) -> Iterator[None]:
        """Look for the block, in a thread."""
        end = threading.Event()
        thread = threading.Thread(target=self._look_until, args=(end,))
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def _look_until(self, end: threading.Event) -> None:
        while not end.wait(self.EVERY):
            self._connection.execute("PRAGMA data_version").fetchall()
            self.statements += 1

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def opened(name: str, folder: str, durability: str, *, counting: bool = False) -> Any:
    """Open the side of that name: one of `NAMES`, or the floor."""
    if name == "floor":
        return Looker(folder, durability)
    if name == "huey":
        return Huey(folder, durability, counting=counting)
    return LiteQueue(folder, durability, counting=counting)
