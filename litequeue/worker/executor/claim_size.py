"""How many jobs to claim at a time, from how long they take. Pure: knows no job and no store."""

from __future__ import annotations

# A claimed job should start within this, in seconds; what would wait longer is left for other workers.
HORIZON = 0.010
LARGEST_CLAIM = 1000
LARGEST_BATCH = 1000
SHORTEST = HORIZON / LARGEST_BATCH  # what is shorter makes no batch larger
# A backlog that stands still for this many seconds is released.
PATIENCE = 0.025
SMOOTHING = 0.2


class ClaimSize:
    """A running estimate of a job's seconds; quick to believe in slow ones, slow to believe in fast ones."""

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._careful = False
        self.batch: int = 1
        self.patience = PATIENCE

    def note(self, span: float) -> None:
        """Take one more measured run into account."""
        known = self._seconds
        if known is None or span > known * 4:
            known = span
        self._seconds = known = known + SMOOTHING * (span - known)
        self._careful = self._careful and known >= HORIZON
        self.batch = LARGEST_BATCH if known < SHORTEST else 1 if known > HORIZON else int(HORIZON / known)

    def slow_down(self) -> None:
        """Claim no more than can start at once, until runs are short again: claimed jobs had to be released."""
        self._seconds, self._careful = max(self._seconds or 0.0, HORIZON), True
        self.batch = 1

    def claim_size(self, room: int, threads: int) -> int:
        """How many jobs to claim with `room` of so many threads free."""
        known = self._seconds
        if known is None:
            return room
        soon = int(HORIZON / max(known, 1e-6) * threads)  # so many begin within the horizon
        if known >= HORIZON:
            return room if self._careful else room + soon
        return max(room, min(LARGEST_CLAIM, soon) - (threads - room))

    def __repr__(self) -> str:
        return f"<ClaimSize {self._seconds}>"
