"""The numbers of the states in the file."""

from __future__ import annotations

from litequeue.core.records import Status

# By their numbers in the file: what does not run yet, then what runs, then what has ended.
STATES: tuple[Status, ...] = (
    Status.SCHEDULED,
    Status.QUEUED,
    Status.WAITING,
    Status.RUNNING,
    Status.SUCCEEDED,
    Status.FAILED,
    Status.CANCELLED,
    Status.EXPIRED,
)
NUMBER: dict[Status, int] = {status: number for number, status in enumerate(STATES)}
