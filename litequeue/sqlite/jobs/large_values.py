"""Payloads and results too large for a job's row: each is kept in a table of its own, as a statement of its own.

A change of a job's state rewrites its row. So a row stays within its page, and what is large is written once, and read
only when it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Statement

INLINE = 1024  # bytes: up to there a longer row costs less than a statement more; see decision 62


def inline(value: bytes) -> bytes | None:
    """What of a value stands in the job's row: all, or nothing."""
    return value if len(value) <= INLINE else None


def keep_payload(job_id: str | int, payload: bytes) -> Statement:
    """Keep a large payload apart, in the transaction that stores its job."""
    return SQL["keep_payload"], (job_id, payload)


def keep_result(job_id: str, result: bytes) -> Statement:
    """Keep a large result apart, in the transaction that ends its job."""
    return SQL["keep_result"], (job_id, result)
