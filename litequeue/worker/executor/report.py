"""Log how a run ended, and in which try. Knows no store and no pool."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from litequeue.core.duration import text
from litequeue.core.logger import about, log
from litequeue.core.outcome import Cancelled, Died, Failed, Outcome, Released, Retried, Settled, Snoozed, Succeeded
from litequeue.core.retry import tries_allowed
from litequeue.core.store import DEATH_LIMIT

if TYPE_CHECKING:
    from litequeue.worker.executor.context import Run


def report(run: Run, outcome: Outcome, span: float) -> None:
    """Log an end, after it is noted: a handler is the application's code, and may block."""
    if type(outcome) in (Failed, Retried, Died) or log.is_enabled_for(logging.INFO):
        _log_end(run, outcome, span)


def _log_end(run: Run, outcome: Outcome, span: float) -> None:
    name, took = f"{run.job.task_name}[{run.id}]", text(span)
    fields = about(run.job) | {"seconds": span}
    match outcome:
        case Failed() | Retried():
            _log_failure(run, outcome, f"{name} failed after {took}", fields)
        case Died(told):
            message = "%s: its process died after %s, death %d of %d: %s%s"
            printed = f"\n{told.traceback}" if told.traceback else ""
            told_of = name, text(span), run.job.deaths + 1, DEATH_LIMIT, told.message, printed
            log.log(logging.ERROR, message, *told_of, extra=fields | {"outcome": "died"}, depth=3)
        case Succeeded() | Settled():
            _say("succeeded", fields, "%s succeeded in %s", name, took)
        case Snoozed(run_at):
            fields["retry_in"] = wait = _until(run, run_at)
            _say("snoozed", fields, "%s asked to run later, again in %s, after %s", name, text(wait), took)
        case Cancelled():
            _say("cancelled", fields, "%s was cancelled after %s", name, took)
        case Released():
            _say("released", fields, "%s was released after %s", name, took)


def _say(outcome: str, fields: dict[str, object], message: str, *arguments: object) -> None:
    log.log(logging.INFO, message, *arguments, extra=fields | {"outcome": outcome}, depth=3)


def _log_failure(run: Run, outcome: Failed | Retried, message: str, fields: dict[str, object]) -> None:
    error, run.raised = run.raised, None  # else the run and the frames of the error's traceback would hold each other
    told, tries = outcome.error, tries_allowed(run.job, run.task.options.policy)
    level, what = logging.ERROR, "failed"
    if tries > 1:
        message += f", try {run.tries} of {tries}"
    if isinstance(outcome, Retried):
        level, what = logging.WARNING, "retried"
        fields["retry_in"] = wait = _until(run, outcome.run_at)
        message += f", again in {text(wait)}"
    fields |= {"outcome": what, "error_type": told.type}
    said = told.type, told.message
    # with the text of the traceback that is on record: to make it runs the error's own code
    log.log(level, "%s: %s: %s", message, *said, error=error, trace=told.traceback.rstrip(), extra=fields, depth=3)


def _until(run: Run, moment: float) -> float:
    return max(0.0, round(moment - run.clock.now(), 3))
