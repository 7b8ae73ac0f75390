"""What a run gives back when it has ended: places that others wait for, and starts that were none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.outcome import Released
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.limits.bring_back import freed
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from litequeue.core.outcome import Ended
    from litequeue.limits.held import Held
    from litequeue.sqlite.drivers.connection import Connection


def leave_behind(db: Connection, ended: Iterable[Ended]) -> None:
    """Before runs end whose functions go on: let these hold their places until they return."""
    left = [(end.job.id, end.job.attempt) for end in ended if end.left_behind]
    if left:
        db.many(SQL["leave_behind"], left)


def give_back(db: Connection, ended: Sequence[Ended]) -> None:
    """Let others have what these runs held; of a run whose function was not called also its starts."""
    if not ended:
        return
    take_off(db, (end.job.held for end in ended if type(end.outcome) is Released and not end.outcome.begun))
    perform(db, freed([end.job.id for end in ended], [end.job.held for end in ended]))


def take_off(db: Connection, held: Iterable[Held | None]) -> None:
    """Take off starts that were counted for functions that were not called."""
    starts = [start for each in held if each is not None for start in each.starts]
    if starts:
        db.many(SQL["take_off_start"], [(start.cost, start.limit, start.key, start.at) for start in starts])
