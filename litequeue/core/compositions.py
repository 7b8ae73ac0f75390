"""Jobs that take the results of others, as values: what a job is handed when it runs. Knows no store and no task."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from litequeue.core.records import Status


class Failure(msgspec.Struct, frozen=True):
    """How a job ended that did not succeed: the argument of its `on_failure` callback.

    `status`: failed or expired. `error_type` and `message` are text, as in `JobFailed`; `tries`: how many it had.
    """

    job_id: str
    task: str
    status: Status
    error_type: str
    message: str
    tries: int


class Lost(msgspec.Struct, frozen=True):
    """The end of a parent that did not succeed, in the place of its result."""

    failure: Failure
    traceback: str = ""


# What the parents of a job hand on: a result as it is stored, an end without one, or those of a group, in its order. A
# `Failure` is what a callback is given: it has no parent's result to take.
Handed: TypeAlias = "bytes | Lost | Failure | list[Handed]"
