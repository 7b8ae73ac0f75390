"""Logs where runs are: all that run, when asked, and those left behind, now and then. Knows no store and no signal."""

from __future__ import annotations

import math
from logging import ERROR, WARNING
from typing import TYPE_CHECKING

from litequeue.core.duration import text
from litequeue.core.logger import about, log

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.core.clock import Clock
    from litequeue.worker.executor.context import Run
    from litequeue.worker.executor.executor import Executor
    from litequeue.worker.executor.mailbox import Mailbox

LEFT = "does not stop when told; it is left running and counted as ended"
RELEASED = "was released though it still runs here; it may run again elsewhere"
SAY_AGAIN = 600.0  # seconds until a run that was left behind is named again

_Left = tuple["Run", "Callable[[], str]"]  # a run, and its stack; empty once it has ended


class RunStacks:
    """The stacks of one worker's runs."""

    def __init__(self, executor: Executor, mailbox: Mailbox, clock: Clock) -> None:
        self._executor, self._mailbox, self._clock = executor, mailbox, clock
        self._left: list[_Left] = []
        self.look_at: float = math.inf
        """When to look at the runs that were left behind, by the monotonic clock."""

    def leave(self, run: Run, write_off: Callable[[], bool], *, released: bool = False) -> None:
        """Write off a run that does not stop when told, and log where it is, unless it has ended meanwhile."""
        stack = self._executor.stack(run)
        now_at = _read(stack)
        if not write_off():
            return
        log.log(
            WARNING if released else ERROR,
            "%s[%s] %s%s",
            *(run.job.task_name, run.id, RELEASED if released else LEFT, f"; it is here:\n{now_at}" if now_at else ""),
            extra=about(run.job),
        )
        self._left.append((run, stack))
        self.look_at = min(self.look_at, self._clock.monotonic() + SAY_AGAIN)

    def look(self, now: float) -> None:
        """Log where the runs are that were left behind and still run."""
        self._left = [left for left in self._left if _still_there(left, now)]
        self.look_at = now + SAY_AGAIN if self._left else math.inf

    def log_all(self) -> None:
        """Log every run with its stack; from any thread."""
        now = self._clock.monotonic()
        runs = [(run, self._executor.stack(run), "") for run in list(self._mailbox.running.values())]
        runs += [(run, stack, ", left behind") for run, stack in list(self._left)]
        there = [(run, now_at, left) for run, stack, left in runs if (now_at := _read(stack))]
        if not there:
            log.warning("no job is running here")
        for run, now_at, left in there:
            log.log(
                WARNING,
                "%s[%s] has been running for %s (run %d%s); it is here:\n%s",
                *(run.job.task_name, run.id, text(round(now - run.started, 1)), run.attempt, left, now_at),
                extra=about(run.job),
            )


def _read(stack: Callable[[], str]) -> str:
    try:
        return stack()
    except Exception as error:  # a loader of the application's modules gives their lines
        return f"(its stack cannot be read: {type(error).__name__})"


def _still_there(left: _Left, now: float) -> bool:
    run, stack = left
    now_at = _read(stack)
    if now_at:
        log.warning(
            "%s[%s] was left behind and still runs, for %s so far; it is here:\n%s",
            *(run.job.task_name, run.id, text(round(now - run.started, 1)), now_at),
            extra=about(run.job),
        )
    return bool(now_at)
