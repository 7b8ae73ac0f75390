"""Says what a worker does while it stops: what it waits for, for how long, and what it releases. Knows no signal."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from litequeue.core.duration import text
from litequeue.core.logger import log
from litequeue.core.outcome import Released

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litequeue.core.clock import Clock
    from litequeue.core.outcome import Ended
    from litequeue.worker.executor.context import Run
    from litequeue.worker.executor.mailbox import Mailbox
    from litequeue.worker.stop_request import StopRequest

MOST_NAMED = 20  # jobs in one line of the log
FIRST_WARNING = 1.0  # seconds; a shorter wait is not worth a warning, and a Ctrl-C before it is no second one
WARN_AGAIN = 10.0  # seconds


class StopLog:
    """The log lines of one worker's end. Without a running job there are none."""

    def __init__(self, name: str, mailbox: Mailbox, stop: StopRequest, clock: Clock) -> None:
        self._name, self._mailbox, self._stop, self._clock = name, mailbox, stop, clock
        self._since, self._warn_at = -math.inf, math.inf
        self._released: dict[tuple[str, int], str] = {}

    def wait(self) -> None:
        """Log what is waited for: at once as information, after a second and then now and then as a warning."""
        now, runs = self._clock.monotonic(), list(self._mailbox.running.values())
        if self._since == -math.inf:
            self._since, self._warn_at = now, now + FIRST_WARNING
        elif now < self._warn_at:
            return
        else:
            self._warn_at = now + WARN_AGAIN
        if runs:
            level = logging.INFO if now == self._since else logging.WARNING
            left = text(round(max(0.0, self._since + self._stop.grace - now), 1))
            message = "%s is stopping: waiting up to %s for %s%s"
            log.log(level, message, self._name, left, self._jobs(runs), self._stop.how_to_hurry)

    def release(self) -> None:
        """Log what is about to be released."""
        runs = list(self._mailbox.running.values())
        if runs:
            why = "" if self._stop.at_once or not self._stop.grace else f"after {text(self._stop.grace)} "
            log.warning("%s is stopping: %sreleasing %s", self._name, why, self._jobs(runs))

    def note(self, ended: Iterable[Ended]) -> None:
        """Note which of these ends, which are about to be settled, release a job that had begun."""
        released = Released(begun=True)
        for end in ended:
            if end.outcome == released:
                self._released[end.job.id, end.job.attempt] = f"{end.job.task_name}[{end.job.id}]"

    def end(self) -> None:
        """Log what was released."""
        if self._released:
            log.warning("%s has released %s; to be run again", self._name, _listed(list(self._released.values())))

    def _jobs(self, runs: Iterable[Run]) -> str:
        now = self._clock.monotonic()
        return _listed([f"{run.job.task_name}[{run.id}] ({text(round(now - run.started, 1))})" for run in runs])


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{len(names)} job{'s' * (len(names) != 1)}: {', '.join(names[:MOST_NAMED])}{more}"
