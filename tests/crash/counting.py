"""What a harness has counted, as its own program and the tests of it ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue import Queue


class Figures(Protocol):
    """The counts, by name."""

    @property
    def sound(self) -> bool:
        """Whether all is as it must be."""

    def _asdict(self) -> dict[str, Any]: ...


def say(figures: Figures, seed: int) -> int:
    """Print what came of it, and how it is done again; return the exit code."""
    for name, value in figures._asdict().items():
        print(f"{name:16} {value}")
    print("sound" if figures.sound else f"NOT SOUND (--seed {seed})")
    return 0 if figures.sound else 1


def counter(queue: Queue) -> Callable[[str], int]:
    """Return a function that reads one number from the queue's file."""
    return lambda sql: int(queue.engine.kernel.read(lambda db: db.rows(sql))[0][0])
