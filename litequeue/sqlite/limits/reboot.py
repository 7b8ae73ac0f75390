"""Times of the machine's monotonic clock that are kept in the file begin anew when the machine does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from litequeue.ipc.process_identity import boot_id
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.clock import Clock
    from litequeue.sqlite.drivers.connection import Connection

BOOT, BOOTED_AT = {"name": "boot"}, {"name": "booted_at"}


def note(db: Connection, clock: Clock) -> bool:
    """After a reboot, and on another machine, forget such times; return whether it was one.

    All windows begin full then, from the moment that is noted: claims are not synced, so starts may have been lost.
    """
    boot = boot_id() or f"since hour {(clock.now() - clock.monotonic()) // 3600:.0f}"
    known = db.rows(SQL["get_meta"], BOOT)
    if known == [(boot,)]:
        return False
    if known:
        db.rows(SQL["set_meta"], {**BOOTED_AT, "value": repr(clock.monotonic())})
        db.rows(SQL["drop_starts"])
        db.rows(SQL["restart_keys"], {"now": clock.monotonic()})
    db.rows(SQL["set_meta"], {**BOOT, "value": boot})
    return True


def booted_at(db: Connection) -> float | None:
    """When windows began full after the last reboot; None: there was none that the file knows of."""
    try:
        [(text,)] = db.rows(SQL["get_meta"], BOOTED_AT)
        moment = float(text)
    except ValueError:
        return None
    return moment if math.isfinite(moment) else None
