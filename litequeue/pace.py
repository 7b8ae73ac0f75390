"""How many jobs to claim at a time, from how long they take. Pure: knows no job and no store."""

from __future__ import annotations

# A claimed job should start within this, in seconds; what would wait longer is left for other workers.
HORIZON = 0.010
LARGEST_CLAIM = 400
LARGEST_BATCH = 256
SHORTEST = HORIZON / LARGEST_BATCH  # what is shorter makes no batch larger
# A line that stands still for this many seconds is given back.
PATIENCE = 0.025
SMOOTHING = 0.2


class Pace:
    """A running estimate of a job's seconds; quick to believe in slow ones, slow to believe in fast ones."""

    def __init__(self) -> None:
        self._seconds: float | None = None
        self.batch: int = 1
        self.patience = PATIENCE

    def note(self, span: float) -> None:
        """Take one more measured run into account."""
        known = self._seconds
        if known is None or span > known * 4:
            known = span
        self._seconds = known = known + SMOOTHING * (span - known)
        self.batch = LARGEST_BATCH if known < SHORTEST else 1 if known > HORIZON else int(HORIZON / known)

    def slow_down(self) -> None:
        """Claimed jobs had to be given back: claim no more than can start at once, until runs are short again."""
        self._seconds = max(self._seconds or 0.0, HORIZON)
        self.batch = 1

    def claim_size(self, room: int, threads: int) -> int:
        """How many jobs to claim with `room` of so many threads free."""
        if self._seconds is None or self._seconds >= HORIZON:
            return room
        ahead = int(HORIZON / max(self._seconds, 1e-6) * threads)
        return max(room, min(LARGEST_CLAIM, ahead) - (threads - room))

    def __repr__(self) -> str:
        return f"<Pace {self._seconds}>"
