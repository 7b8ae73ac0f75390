"""Correct what a run takes of a rate: it reserved an estimate when it was claimed, and knows now what it has used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.limits.held import Start
    from litequeue.sqlite.drivers.connection import Steps


def charge(start: Start, more: int, now: float) -> Steps[None]:
    """Count so much more of the limit, or less; where its start counts no more, more of it counts as of now."""
    place = {"limit": start.limit, "key": start.key}
    counted = yield SQL["charge"], place | {"at": start.at, "more": more}
    if not counted and more > 0:
        yield SQL["count_start"], (start.limit, start.key, now, more)
    if more < 0:
        yield SQL["look_at_key"], place
