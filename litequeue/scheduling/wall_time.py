"""When a wall time comes in a time zone, also in nights when clocks change. Both in whole seconds since 1970."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import tzinfo

DAY = 86_400
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def instant(zone: tzinfo, wall: int) -> int:
    """Return when a wall time comes: the first time if twice, the end of the gap if never (fold: PEP 495)."""
    local = (EPOCH + timedelta(seconds=wall)).replace(tzinfo=zone)
    before, after = _utc_offset(local), _utc_offset(local.replace(fold=1))
    if before < after:
        return change(zone, wall - after, wall - before)
    return wall - before


def change(zone: tzinfo, low: int, high: int) -> int:
    """Return when, after `low` and up to `high`, the zone leaves the offset it has at `low`."""
    left = offset(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset(zone, middle) == left else (low, middle)
    return high


def offset(zone: tzinfo, moment: int) -> int:
    """Return by how many seconds the zone is ahead of UTC."""
    return _utc_offset((EPOCH + timedelta(seconds=moment)).astimezone(zone))


def _utc_offset(local: datetime) -> int:
    found = local.utcoffset()
    return int(found.total_seconds()) if found else 0
