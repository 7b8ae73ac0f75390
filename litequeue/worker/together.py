"""Workers of several queues in one process: started, stopped and watched together. Knows no queue."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from litequeue.core.clock import SystemClock
from litequeue.core.current_run import current_app
from litequeue.worker.idleness import Idleness
from litequeue.worker.signals import Stops

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litequeue.worker.watchdog import Watcher
    from litequeue.worker.worker import Worker

LOOK_EVERY = 1.0  # seconds; Windows tells of signals only between waits


class Together:
    """Runs workers, by the names of their apps, each in a thread of its own; a `Listener` of signals for all of them.

    The first that ends for good ends the others: by a stop, or, if it was recycled, without haste. `until_idle`: they
    end when all are idle at once.
    """

    def __init__(self, workers: Mapping[str, Worker]) -> None:
        self.workers: dict[str, Worker] = dict(workers)
        self.stops: Stops = Stops()
        self.returns: bool = True  # see `Listener`
        self._unfinished = False
        self._failures: list[BaseException] = []
        idleness = Idleness()
        for worker in self.workers.values():
            worker.stop_request.idleness = idleness
            idleness.join(worker.stop_request, worker.counts)

    def run(self, *, until_idle: bool = False) -> bool:
        """Run them until all have ended; return whether every job that had begun has. Raises the first one's error."""
        threads = [
            threading.Thread(target=self._run, args=(app, until_idle), name=f"litequeue-{app}", daemon=True)
            for app in self.workers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(LOOK_EVERY)
        if self._failures:
            raise self._failures[0]
        return not self._unfinished

    def _run(self, app: str, until_idle: bool) -> None:  # noqa: FBT001  of a thread
        current_app.set(app)
        worker = self.workers[app]
        others = [other.stop_request for other in self.workers.values() if other is not worker]
        try:
            if not worker.run(until_idle=until_idle):
                self._unfinished = True
        except BaseException as error:
            self._failures.append(error)
            for stop in others:
                stop.told(f"the worker of {app} has failed", 1)
        else:
            for stop in others:
                if worker.recycled:
                    stop.drain(f"the worker of {app} is done")
                elif not until_idle:
                    stop.stop()

    def watch(self, watcher: Watcher) -> None:
        """Tell it of all of them as of one."""
        together = _Watched(watcher, len(self.workers))
        for worker in self.workers.values():
            worker.watcher = _Part(together)

    # ---- a listener of signals

    @property
    def drained(self) -> bool:
        """Whether all have ended."""
        return all(worker.stop_request.drained for worker in self.workers.values())

    def note_stop(self) -> None:
        """Note, for other processes, that they were told to stop."""
        for worker in self.workers.values():
            worker.stop_request.note_stop()

    def told(self, who: str, times: int) -> None:
        """Stop all; with `times` over 1, at once."""
        for worker in self.workers.values():
            worker.stop_request.told(who, times)

    def stop(self, *, now: bool = False) -> None:
        """Stop all, as the program itself requests it."""
        for worker in self.workers.values():
            worker.stop(now=now)

    def shorten(self, grace: float) -> None:
        """Let go quickly; see `StopRequest.shorten`."""
        for worker in self.workers.values():
            worker.stop_request.shorten(grace)

    def wait(self, seconds: float) -> bool:
        """Wait for the end of all; return whether they have ended."""
        over = SystemClock.monotonic() + seconds
        stops = [worker.stop_request for worker in self.workers.values()]
        return all(stop.wait(max(0.0, over - SystemClock.monotonic())) for stop in stops)

    # ---- the same as of one worker

    def wait_until_started(self) -> bool:
        """Wait until all have registered, or one could not; return whether they have."""
        return all(worker.wait_until_started() for worker in self.workers.values())

    def log_stacks(self) -> None:
        """Log the stack of each running job of each of them."""
        for worker in self.workers.values():
            worker.log_stacks()

    @property
    def recycled(self) -> bool:
        """Whether they end because of `max_jobs` or `max_memory`, and were not told to stop."""
        return all(worker.recycled for worker in self.workers.values())

    @property
    def left_running(self) -> int:
        """How many functions were left behind."""
        return sum(worker.left_running for worker in self.workers.values())

    def __repr__(self) -> str:
        return f"<Together {', '.join(self.workers)}>"


class _Watched:
    """What is told to a watcher of several workers: only what holds for each of them."""

    def __init__(self, watcher: Watcher, workers: int) -> None:
        self.watcher: Watcher = watcher
        self._workers = workers
        self._claim: dict[_Part, str] = {}
        self._alive: set[_Part] = set()  # those that were heard of since the watcher was last told
        self._lock = threading.Lock()

    def claims(self, part: _Part, status: str) -> None:
        """Tell once all claim."""
        with self._lock:
            self._claim[part] = status
            if len(self._claim) == self._workers:
                self.watcher.claims(self._status())

    def goes_on(self, part: _Part, status: str) -> None:
        """Tell once each has said it again."""
        with self._lock:
            self._claim[part] = status
            self._alive.add(part)
            if len(self._alive) == self._workers:
                self._alive.clear()
                self.watcher.goes_on(self._status())

    def stops(self, part: _Part, status: str) -> None:
        """Tell for each: what stops says so until it has ended."""
        with self._lock:
            self._claim[part] = status
            self.watcher.stops(self._status())

    def _status(self) -> str:
        return "; ".join(self._claim.values())


class _Part:
    """One worker's side of it."""

    def __init__(self, together: _Watched) -> None:
        self._together = together

    @property
    def every(self) -> float:
        """See `Watcher`."""
        return self._together.watcher.every

    def claims(self, status: str) -> None:
        """See `Watcher`."""
        self._together.claims(self, status)

    def goes_on(self, status: str) -> None:
        """See `Watcher`."""
        self._together.goes_on(self, status)

    def stops(self, status: str) -> None:
        """See `Watcher`."""
        self._together.stops(self, status)
