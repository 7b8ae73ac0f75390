"""Whether one step holds an event loop, as another thread sees it while it does. Knows no job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from litequeue.core.clock import SystemClock

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

HELD = 0.25  # seconds after which what holds a loop is named
LOOK_EVERY = 0.1  # seconds between looks at a loop that works
REST_AFTER = 10  # looks at which the loop rested, after which the looks are those at a loop that rests
REST_EVERY = 1.0  # seconds between these: no more than an idle worker looks at its file
LARGEST_STEP = 0.2  # seconds that count from one look to the next: the process may have been stopped as a whole


class Loop(Protocol):
    """The part of an event loop that another thread can see."""

    def rests(self) -> bool:
        """Whether it waits for something to do."""

    def task(self) -> asyncio.Task[Any] | None:
        """The task that is in its step now."""

    def call(self, what: Callable[[], object]) -> bool:
        """Schedule a call, from any thread."""


class Hold(NamedTuple):
    """What holds a loop. `task`: the task of asyncio whose step it is; None: a callback."""

    task: asyncio.Task[Any] | None
    seconds: float


class HoldWatch:
    """Looks at one loop now and then, and asks it a question while it works.

    The answer is scheduled behind what was ready when it was asked. So a task that is found in its step at two looks,
    with no answer in between, is in the same step still.
    """

    def __init__(self, at: Loop) -> None:
        self._at = at
        self._asked = False
        self._task: asyncio.Task[Any] | None = None
        self._held = self._looked = 0.0
        self._rests = 0

    @property
    def look_in(self) -> float:
        """Seconds after which to look again."""
        return REST_EVERY if self._rests >= REST_AFTER else LOOK_EVERY

    def stir(self) -> None:
        """The loop has something to do: look often again."""
        self._rests = 0

    def look(self) -> Hold | None:
        """Return what holds the loop for too long, if anything does."""
        now = SystemClock.monotonic()
        step, self._looked = min(now - self._looked, LARGEST_STEP), now
        if self._at.rests():
            self._rests += 1
            self._held = 0.0
            return None
        self._rests = 0
        if not self._asked:
            self._asked, self._held = True, 0.0
            self._at.call(self._answer)
            self._task = self._at.task()
            return None
        task = self._at.task()  # before the next line: unanswered then, it was so when the task was read
        if not self._asked or task is not self._task:
            self._task, self._held = task, 0.0
            return None
        self._held += step
        return Hold(task, self._held) if self._held >= HELD else None

    def _answer(self) -> None:
        self._asked, self._task = False, None
