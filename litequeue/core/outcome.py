"""How a run of a job ends: a closed set of values. Knows no store and no worker."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from litequeue.job import Claimed


class ErrorInfo(NamedTuple):
    """An exception as text."""

    type: str
    message: str
    traceback: str


class Succeeded(msgspec.Struct, frozen=True, gc=False):
    """The function returned; `result` is its encoded value."""

    result: bytes


class Failed(msgspec.Struct, frozen=True):
    """The function raised, and will not be tried again."""

    error: ErrorInfo


class Retried(msgspec.Struct, frozen=True):
    """The function raised, and is to be tried again at `run_at`."""

    run_at: float
    error: ErrorInfo


class Snoozed(msgspec.Struct, frozen=True):
    """The function asked to come back at `run_at`; no attempt is used up."""

    run_at: float


class Cancelled(msgspec.Struct, frozen=True):
    """The job was cancelled while it ran."""


class Released(msgspec.Struct, frozen=True):
    """The worker puts the job back; no attempt is used up. `begun`: its function had been called."""

    begun: bool = False


class Settled(msgspec.Struct, frozen=True):
    """The job's success is on record already: it was committed by `completing()`."""


Outcome = Succeeded | Failed | Retried | Snoozed | Cancelled | Released | Settled


class Ended(msgspec.Struct, frozen=True, gc=False):
    """How one run ended, when, and for how many seconds its record is to be kept."""

    job: Claimed
    outcome: Outcome
    at: float
    keep_for: float
