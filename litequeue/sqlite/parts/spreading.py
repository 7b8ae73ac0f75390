"""Go on with the consequences of ends that were too many for their transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.compose.ended import go_on
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.kernel import Kernel


def spread(kernel: Kernel) -> None:
    """Take them up until none is left, in a transaction each. What dies meanwhile, another worker goes on with."""
    while kernel.read(lambda db: db.rows(SQL["has_put_off"])) == [(1,)]:
        then = Consequences()

        def work(db: Connection) -> bool:
            then.clear()  # noqa: B023
            return perform(db, go_on(kernel.clock.now(), then))  # noqa: B023

        if not kernel.writer.run(work):
            return
        kernel.tell(then)
