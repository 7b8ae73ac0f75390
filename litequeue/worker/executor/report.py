"""Log how a run ended. Knows no store and no pool."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from litequeue.core.duration import text
from litequeue.core.logger import log
from litequeue.core.outcome import Cancelled, Failed, Outcome, Released, Retried, Settled, Snoozed, Succeeded

if TYPE_CHECKING:
    from litequeue.worker.executor.context import Run


def report(run: Run, outcome: Outcome, span: float) -> None:
    """Log an end, after it is noted: a handler is the application's code, and may block."""
    if type(outcome) in (Failed, Retried) or log.is_enabled_for(logging.INFO):
        _log_end(run, outcome, span)


def _log_end(run: Run, outcome: Outcome, span: float) -> None:
    name, took = f"{run.job.task}[{run.id}]", text(span)
    about = {"job": run.id, "task": run.job.task, "queue": run.job.queue, "attempt": run.attempt, "seconds": span}

    def say(level: int, what: str, message: str, *arguments: object) -> None:
        log.log(level, message, name, took, *arguments, extra=about | {"outcome": what})

    match outcome:
        case Succeeded() | Settled():
            say(logging.INFO, "succeeded", "%s succeeded in %s")
        case Failed(error):
            trace = error.traceback.rstrip()
            say(logging.ERROR, "failed", "%s failed after %s: %s: %s\n%s", error.type, error.message, trace)
        case Retried(_, error):
            say(
                logging.WARNING,
                "retried",
                "%s failed after %s and will be tried again: %s: %s",
                error.type,
                error.message,
            )
        case Snoozed():
            say(logging.INFO, "snoozed", "%s asked to run later, after %s")
        case Cancelled():
            say(logging.INFO, "cancelled", "%s was cancelled after %s")
        case Released():
            say(logging.INFO, "released", "%s was released after %s")
