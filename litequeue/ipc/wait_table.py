"""Who waits for which job's end, in one process on one file. Knows no listener and no file."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from litequeue.ipc.result_waiter import EMITTED, Waiter, Waits, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from contextvars import Context


class WaitTable:
    """Each method may be called in any thread; `lock` is for what has to be done together."""

    def __init__(self) -> None:
        # re-entrant: a signal handler may cancel a job inside enter()
        self.lock: AbstractContextManager[object] = threading.RLock()
        self._waiting: dict[str, set[Waits]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def has(self, one: Waiter) -> bool:
        """Whether it still waits."""
        return one in self._waiting.get(one.job_id, ())

    def enter(self, one: Waits) -> None:
        """Note what it waits for."""
        with self.lock:
            for job_id in one.job_ids:
                ones = self._waiting.setdefault(job_id, set())
                ones.add(one)
                while self._waiting.get(job_id) is not ones:  # a signal handler's own wait took it out while empty
                    ones = self._waiting.setdefault(job_id, set())
                    ones.add(one)

    def leave(self, one: Waits, job_ids: Iterable[str]) -> None:
        """Forget that it waits for these."""
        with self.lock:
            for job_id in job_ids:
                ones = self._waiting.get(job_id)
                if ones is not None:
                    ones.discard(one)
                    if not ones:
                        self._waiting.pop(job_id, None)

    def take(self, watch: Watch, job_ids: Iterable[str]) -> list[str]:
        """Forget these jobs of a watch, and return those that it had not been told of."""
        with self.lock:
            theirs = [job_id for job_id in job_ids if job_id in watch.job_ids]
            watch.job_ids.difference_update(theirs)
            self.leave(watch, theirs)
            return theirs

    def of(self, job_ids: Iterable[str]) -> dict[Waits, list[str]]:
        """Return who is to be told of these ends, and of which; a watch forgets them."""
        found: dict[Waits, list[str]] = {}
        with self.lock:
            for job_id in job_ids:
                for one in self._waiting.get(job_id, ()):
                    found.setdefault(one, []).append(job_id)
            return {one: self.take(one, theirs) if isinstance(one, Watch) else theirs for one, theirs in found.items()}

    def any(self) -> Waits | None:
        """Return one of those that wait."""
        with self.lock:
            return next((one for ones in self._waiting.values() for one in ones), None)

    def awaited(self) -> list[str]:
        """Return the ids of all jobs that are waited for."""
        with self.lock:
            return list(self._waiting)

    def contexts(self) -> list[tuple[Context, str]]:
        """Return each wait's context, and the job's id."""
        with self.lock:
            waiting = self._waiting.items()
            return [(one.context, name) for name, ones in waiting if not name.startswith(EMITTED) for one in ones]
