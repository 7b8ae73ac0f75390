"""What runs of this process have emitted and is not in the file yet. Knows no connection and no thread.

Values go into the file with the next write transaction, before anything else in it: so no run's end is on record before
its values. They stay here until that is known to be committed: a transaction may be rolled back, and run again.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from litequeue.sqlite.jobs.finish import MOST
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.core.records import Claimed
    from litequeue.sqlite.drivers.connection import Steps


class _Value:
    """One emitted value. `written`: it is in the file, or never will be."""

    __slots__ = ("at", "data", "lost", "run", "written")

    def __init__(self, run: tuple[str, int], at: float, data: bytes, lost: Callable[[], None]) -> None:
        self.run, self.at, self.data, self.lost = run, at, data, lost
        self.written: bool = False


class Batch:
    """The values that one transaction writes."""

    def __init__(self, values: list[_Value]) -> None:
        self.values = values
        self.last: tuple[str, int, int] | None = None  # job, number and attempt of the last event of it
        self.jobs: set[str] = set()
        self.lost: list[Callable[[], None]] = []  # to be called once it is committed
        self.beats: list[_Value] = []


class Pending:
    """The values of all runs of one process. `add` from any thread; all else by the one that has the write connection.

    HAZARD: a Ctrl-C comes between any two instructions. So a value is dropped only when it is marked as written, and
    whether a batch was committed is looked up in the file where nobody has said so.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all, as in the child of a fork: the runs are its parent's."""
        self.values: deque[_Value] = deque()  # empty in most processes, at most times
        self.batch: Batch = Batch([])
        self._written: deque[str] = deque()  # jobs
        self.beats: dict[tuple[str, int], _Value] = {}  # of each run the last one

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write, or to drop."""
        return not (self.values or self.beats)

    def beat(self, job: Claimed, details: bytes, at: float, lost: Callable[[], None]) -> None:
        """Take in the details of a heartbeat, in the place of those before."""
        run = job.id, job.attempt
        self.beats[run] = _Value(run, at, details, lost)

    def add(self, job: Claimed, value: bytes, at: float, lost: Callable[[], None]) -> None:
        """Take in a value. `lost` is called if the run is not the job's any more."""
        self.values.append(_Value((job.id, job.attempt), at, value, lost))

    @property
    def unwritten(self) -> bool:
        """Whether any value is not in the file yet; those that are stay until a transaction drops them."""
        if self.beats:
            return True
        with suppress(IndexError):  # not "if values": another thread may drop the last one meanwhile
            return not self.values[-1].written
        return False

    def steps(self) -> Steps[None]:
        """Write all that is there in the transaction that is open, as one batch."""
        before = self.batch
        if before.last is not None and not before.values[-1].written and (yield SQL["is_emitted"], before.last):
            self.note(before)
        while self.values and self.values[0].written:
            self.values.popleft()
        self.batch = Batch([])
        yield from self.more()

    def more(self) -> Steps[None]:
        """Write what came since, in the transaction that has begun with `steps`."""
        batch = self.batch
        unwritten = [value for value in self.values.copy() if not value.written]
        new = unwritten[len(batch.values) :]
        batch.values += new  # first: what is rolled back stays to be written
        runs: dict[tuple[str, int], list[_Value]] = {}
        for value in new:
            runs.setdefault(value.run, []).append(value)
        for (job_id, attempt), values in runs.items():
            rows = yield SQL["stream_end"], {"id": job_id, "attempt": attempt, "most": MOST - len(values)}
            if not rows:
                batch.lost.append(values[0].lost)
                continue
            number, last_attempt = rows[0][0] or 0, rows[0][1]
            if last_attempt is not None and last_attempt != attempt:
                number += 1
                yield SQL["emit"], (job_id, number, attempt, values[0].at, None)
            for value in values:
                number += 1
                yield SQL["emit"], (job_id, number, attempt, value.at, value.data)
            batch.last = job_id, number, attempt
            batch.jobs.add(job_id)
        for beat in [beat for beat in self.beats.copy().values() if not any(beat is each for each in batch.beats)]:
            batch.beats.append(beat)
            job_id, attempt = beat.run
            if not (yield SQL["beat_of_run"], {"id": job_id, "attempt": attempt, "at": beat.at, "details": beat.data}):
                batch.lost.append(beat.lost)

    def note(self, batch: Batch) -> None:
        """Note that the transaction of a batch is committed."""
        for value in batch.values:
            value.written = True
        self._written.extend(batch.jobs)
        for beat in batch.beats:
            beat.written = True
            left = self.beats.pop(beat.run, None)
            if left is not None and not left.written:  # another one has come, or comes now
                self.beats.setdefault(beat.run, left)
        while batch.lost:
            batch.lost.pop()()

    def written(self) -> list[str]:
        """Return the jobs of which there is more in the file than when this was asked last."""
        jobs: dict[str, None] = {}
        while self._written:
            jobs[self._written.popleft()] = None
        return list(jobs)
