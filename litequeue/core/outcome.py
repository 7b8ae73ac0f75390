"""How a run of a job ends: a closed set of values. Knows no store and no worker."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from litequeue.core.records import Claimed
from litequeue.core.run_logs import KeptLog


class ErrorInfo(NamedTuple):
    """An exception as text."""

    type: str
    message: str
    traceback: str


INTERRUPTED = "Interrupted"  # the type of the error of a run that was cut short, and may not be repeated


def interrupted(why: str) -> ErrorInfo:
    """Return the error of a run that was cut short, of a task with `delivery="at_most_once"`."""
    what = "It may have had its effect, and delivery='at_most_once' runs no job twice"
    return ErrorInfo(INTERRUPTED, f"{why}. {what}: look what it has done, and retry it by hand if need be", "")


class Succeeded(msgspec.Struct, frozen=True, gc=False):
    """The function returned; `result` is its encoded value."""

    result: bytes


class Failed(msgspec.Struct, frozen=True):
    """The function raised, and the job is not tried again."""

    error: ErrorInfo


class Retried(msgspec.Struct, frozen=True):
    """The function raised, and the job is tried again at `run_at`."""

    run_at: float
    error: ErrorInfo


class Snoozed(msgspec.Struct, frozen=True):
    """The function asked to run again at `run_at`; no retry is used up."""

    run_at: float


class Cancelled(msgspec.Struct, frozen=True):
    """The job was cancelled while it ran."""


class Released(msgspec.Struct, frozen=True):
    """The worker releases the job; no retry is used up. `begun`: its function had been called."""

    begun: bool = False


class Settled(msgspec.Struct, frozen=True):
    """The job's success has already been committed by `completing()`."""


class Died(msgspec.Struct, frozen=True):
    """The child process that ran the job has died: a death of this job alone."""

    error: ErrorInfo


Outcome = Succeeded | Failed | Retried | Snoozed | Cancelled | Released | Settled | Died


def is_interrupted(outcome: Outcome) -> bool:
    """Whether it is the end of a run that was cut short, and may not be repeated."""
    return isinstance(outcome, Failed) and outcome.error.type == INTERRUPTED


class Ended(msgspec.Struct, frozen=True, gc=False):
    """How one run ended, when, and for how many seconds its record is to be kept."""

    job: Claimed
    outcome: Outcome
    at: float
    keep_for: float
    left_behind: bool = False  # its function goes on, and holds its places of limits until it returns
    log: KeptLog | None = None
