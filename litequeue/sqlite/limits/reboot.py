"""Times of the machine's monotonic clock that are kept in the file begin anew when the machine does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.ipc.process_identity import boot_id
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.clock import Clock
    from litequeue.sqlite.drivers.connection import Connection

BOOT = {"name": "boot"}


def note(db: Connection, clock: Clock) -> None:
    """After a reboot, and on another machine: let all windows begin full, and look at all keys."""
    boot = boot_id() or f"since hour {(clock.now() - clock.monotonic()) // 3600:.0f}"
    if db.rows(SQL["get_meta"], BOOT) == [(boot,)]:
        return
    starts, now = db.rows(SQL["all_starts"]), clock.monotonic()
    db.rows(SQL["drop_starts"])
    db.many(SQL["count_start"], [(limit, key, now, count) for limit, key, count in starts])
    db.rows(SQL["restart_keys"], {"now": now})
    db.rows(SQL["set_meta"], {**BOOT, "value": boot})
