"""What an end has brought with it: to be told after the commit."""

from __future__ import annotations


class Consequences:
    """The jobs that a transaction ended, or let begin, for the end of another, and whether it left any for later."""

    __slots__ = ("begun", "ended", "put_off")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew: the transaction is run again."""
        self.ended: list[str] = []
        self.begun: set[str] = set()
        self.put_off: bool = False
