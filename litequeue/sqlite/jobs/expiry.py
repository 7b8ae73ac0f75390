"""Expiry: end jobs that have not begun in time, and find what stands behind those that are not ended yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litequeue.core.records import Status
from litequeue.sqlite.jobs.finish import finish_all, until
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection, Row


def expire(db: Connection, now: float, result_ttl: float, limit: int) -> None:
    """End what has not begun by its `expires`, so many of them."""
    overdue = db.rows(SQL["overdue"], {"now": now, "limit": limit})
    finish_all(db, Status.EXPIRED, now, until(now, result_ttl), overdue)


def live_heads(db: Connection, lane: dict[str, Any], limit: int, scan: int) -> list[Row]:
    """The first jobs of a lane that have not expired, as (rank, id). Reads `scan` jobs of each priority, or a few more.

    Where all of these have expired, a job that has not is looked for by halves. It is the first such job if those that
    were enqueued earlier expire earlier; else others may stand before it, and wait until the expired ones are ended.
    """
    found: list[Row] = []
    rank = -101  # before all
    while len(found) < limit and (next_rank := db.rows(SQL["next_rank"], lane | {"rank": rank})):
        [(rank, first)] = next_rank
        some = lane | {"rank": rank, "scan": scan, "limit": limit - len(found)}
        live = db.rows(SQL["live"], some | {"first": first})
        if not live and (behind := _behind_expired(db, some, first)) is not None:
            live = db.rows(SQL["live"], some | {"first": behind})
        found += live
    return found


def _behind_expired(db: Connection, lane: dict[str, Any], low: int) -> int | None:
    """An id at which a job has not expired and the one before has, given the first job, which has expired."""
    high: int
    [(high, is_live)] = db.rows(SQL["last_of_rank"], lane)
    if not is_live:
        return None
    while low + 1 < high:
        middle = (low + high) // 2
        [(at, is_live)] = db.rows(SQL["at_or_behind"], lane | {"first": middle})
        if is_live:
            high = middle
        else:
            low = at
    return high
