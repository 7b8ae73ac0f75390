"""What a worker has claimed, settled, lost and released, as numbers. Knows no job."""

from __future__ import annotations


class Counts:
    """What a worker has claimed, settled, lost and released."""

    def __init__(self) -> None:
        self.claimed = self.settled = self.lost = self.released = 0
