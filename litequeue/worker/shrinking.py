"""Make the file smaller in steps, with rests for others: delete old jobs, then give free pages back. Knows no SQL."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litequeue.core.clock import Clock
    from litequeue.core.store import FileMaintenance

# How long others have the file to themselves after a step, in lengths of it. To delete a job takes about a sixth of the
# time to run one that does nothing: with a quarter of the time a worker that is never idle deletes as fast as it runs.
REST = 3.0
ASK_EVERY = 1.0  # seconds between looks whether another worker does it
LARGEST_WAL = 4096  # pages, 16 MiB: while a reader keeps so much from being moved into the file, nothing is deleted
READER_REST = 1.0  # seconds


class Shrinking:
    """Steps of about 5 ms each; between two of them any number of seconds may pass, and anything happen."""

    def __init__(self, store: FileMaintenance, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._asked = math.inf  # the monotonic clock at the last look at other workers; infinite: not at work
        self._unmoved = 0  # pages of the WAL that wait for readers

    def step(self, worker: int, *, idle: bool) -> float | None:
        """Do one step; return for how many seconds to let others write. None: nothing is left to do here, or to us.

        `idle`: the worker runs nothing, so pages may be given back, too.
        """
        began = self._clock.monotonic()
        if not self._is_ours(worker, began, idle=idle):
            self._asked = math.inf
            return None
        if idle and self._unmoved > LARGEST_WAL:
            self._unmoved = self._store.checkpoint()
            return READER_REST
        done = self._store.prune() or (idle and self._store.vacuum())
        if idle:  # step by step: a busy worker's own commits do so
            self._unmoved = self._store.checkpoint()
        if not done:
            self._asked = math.inf
            return None
        if self._asked == math.inf:
            self._asked = -math.inf
        return (self._clock.monotonic() - began) * REST

    def _is_ours(self, worker: int, now: float, *, idle: bool) -> bool:
        """Look at the other workers now and then; not before the first step, which mostly finds nothing to do."""
        if now - self._asked < ASK_EVERY:
            return True
        self._asked = now
        return self._store.may_shrink(worker, alone=idle)
