"""Passes the ends of runs to the worker: a pool notes which jobs have begun and how they ended; the worker takes these.

Knows no pool and no worker.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING

from litequeue.core.budget import BUDGET
from litequeue.core.outcome import Ended, Released, Succeeded

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from litequeue.core.records import Claimed
    from litequeue.worker.executor.context import Run

SHORT_LIMIT = 1.5  # seconds; the worker looks more often than that by itself
LARGEST_SETTLE = 1000


def _size(end: Ended) -> int:
    result = len(end.outcome.result) if type(end.outcome) is Succeeded else 0
    return result if end.log is None else result + len(end.log.data)


class Mailbox:
    """The runs in progress, and the ends that are not settled; `wake` wakes the worker, from any thread.

    `settle` records ends in the store, and returns those that were fenced off.
    """

    def __init__(self, wake: Callable[[], None], settle: Callable[[list[Ended]], list[Ended]]) -> None:
        self.wake: Callable[[], None] = wake
        self.running: dict[tuple[str, int], Run] = {}  # by id and attempt: after a death told too soon there are two
        self.ended: deque[Ended] = deque()
        self.look_at: float = math.inf  # when the next limit will be over, by the monotonic clock
        self.cut_short: int = 0  # runs that had begun and were released
        self.limited: bool = False  # a job has begun here that takes of a limit
        self.late: int = 0  # claimed, and given back since their functions could not be called in time
        self.left: int = 0  # runs that do not stop, and were given up
        self.left_behind: dict[tuple[str, int], Claimed] = {}  # those whose functions still go on
        self.is_behind: bool = False  # more results wait than one transaction takes
        self.worker_sleeps: bool = False  # and will claim nothing when it is woken by an end
        self.settling: bool = False  # in the thread of a run
        self.follows: bool = False  # the last end let another job begin, and the next one may: one transaction for both
        self._settle = settle
        self._settled: deque[tuple[Ended, list[Ended]]] = deque()
        self._gone: deque[Claimed] = deque()

    # ---- the side of the pools

    def look(self, deadline: float, now: float) -> None:
        """Have the worker look at a run's limit, which is over before the others; it is woken if that is soon."""
        self.look_at = deadline
        if deadline - now < SHORT_LIMIT:
            self.wake()

    def end(self, ended: Ended) -> int:
        """Put in how a run ended, for the worker to settle; return how many it has to."""
        job = ended.job
        self.ended.append(ended)  # before it leaves `running`: what is in neither is released as unheard
        self.running.pop((job.id, job.attempt), None)
        return len(self.ended)

    def settle(self, ended: Ended) -> bool:
        """Settle the only run here and now, in its thread: its waiters need not wait for the worker. False: not so."""
        if not self.worker_sleeps or self.follows or self.ended or len(self.running) > 1:
            return False
        self.settling = True
        try:
            lost = self._settle([ended])
            self.running.pop((ended.job.id, ended.job.attempt), None)  # first: when the worker is told, it has room
            self._settled.append((ended, lost))
        except Exception:  # also of `on_connect`: the worker tries again, and says what is wrong
            self.end(ended)
            self.wake()
        finally:
            self.settling = False
        return True

    def note_gone(self, job: Claimed) -> None:
        """Put in a job whose function has returned, after it was left behind: it takes of nothing any more."""
        self.left_behind.pop((job.id, job.attempt), None)
        self._gone.append(job)
        self.wake()

    # ---- the side of the worker

    def take_gone(self) -> list[Claimed]:
        """Take out those whose ends are settled: before that, nothing in the file says that they were left behind."""
        unsettled = {(end.job.id, end.job.attempt) for end in list(self.ended)}
        gone = [self._gone.popleft() for _ in range(len(self._gone))]
        self._gone.extend(job for job in gone if (job.id, job.attempt) in unsettled)
        return [job for job in gone if (job.id, job.attempt) not in unsettled]

    def keep_gone(self, gone: list[Claimed]) -> None:
        """Keep, for the next cycle, what could not be noted."""
        self._gone.extendleft(reversed(gone))

    def release(self, jobs: Iterable[Claimed], now: float, keep_for: float) -> None:
        """Put in jobs that are released before they begin; `keep_for`: should one have been cancelled meanwhile."""
        self.ended.extend(Ended(job, Released(), now, keep_for) for job in jobs)

    def take(self) -> list[Ended]:
        """Take out ends to settle, at most as many as fit one transaction."""
        take, self.is_behind = self.ended.popleft, False
        ended = [take() for _ in range(min(len(self.ended), LARGEST_SETTLE))]
        size = sum([len(end.outcome.result) for end in ended if type(end.outcome) is Succeeded])
        if size + sum([len(end.log.data) for end in ended if end.log is not None]) > BUDGET:
            return self._first_of(ended)
        return ended

    def _first_of(self, ended: list[Ended]) -> list[Ended]:
        """Keep those with which the transaction would be too large, for the next cycle, which comes at once."""
        sizes = accumulate(map(_size, ended))
        fit = max(1, sum(size <= BUDGET for size in sizes))
        self.keep(ended[fit:])
        self.is_behind = True
        self.wake()
        return ended[:fit]

    def keep(self, ended: list[Ended]) -> None:
        """Keep, for the next cycle, ends that could not be settled."""
        self.ended.extendleft(reversed(ended))

    def take_settled(self) -> list[tuple[Ended, list[Ended]]]:
        """Take out the ends that their threads have settled, with those among them that were lost."""
        return [self._settled.popleft() for _ in range(len(self._settled))]

    def begun(self, tasks: Container[str] | None = None) -> set[str]:
        """Return the runs that have begun and are not settled, as noted in the lock file; of these tasks, or of all."""
        jobs = [run.job for run in list(self.running.values())]
        jobs += [end.job for end in list(self.ended) if end.outcome != Released()]
        return {f"{job.id}:{job.attempt}" for job in jobs if tasks is None or job.task in tasks}
