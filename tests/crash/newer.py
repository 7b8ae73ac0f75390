"""A release to come: this one with one more migration. `python -m tests.crash.newer FILE DRIVER WHAT`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from litequeue.sqlite.drivers import apsw_driver as driver_apsw
from litequeue.sqlite.drivers import sqlite3_driver as driver_sqlite3
from litequeue.sqlite.file import migrate
from tests.crash.program import declare

OLD = migrate.newest()
ADDS = [
    "ALTER TABLE litequeue_jobs ADD COLUMN note TEXT",
    "CREATE INDEX litequeue_jobs_note ON litequeue_jobs (note) WHERE note IS NOT NULL",
]


def become_newer() -> None:
    scripts = migrate.migrations() | {OLD + 1: ADDS}
    migrate.migrations = lambda: scripts  # type: ignore[assignment]


def die_at(statement: int) -> None:
    """End by SIGKILL before that statement of the migration's transaction, whichever driver runs it."""
    left = [statement]

    for kind in (driver_apsw.ApswConnection, driver_sqlite3.Sqlite3Connection):
        for name in ("rows", "script"):
            _count(kind, name, left)


def _count(kind: type, name: str, left: list[int]) -> None:
    run = getattr(kind, name)

    def counted(self: object, sql: str, *parameters: object) -> object:
        if sql in ADDS or "litequeue_meta" in sql or sql == "COMMIT":
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return run(self, sql, *parameters)

    setattr(kind, name, counted)


def main(path: str, driver: str, what: str) -> None:
    become_newer()
    if what.startswith("die"):
        die_at(int(what.removeprefix("die")))
    with declare(Path(path), driver=driver) as queue:
        queue.engine.jobs.counts()
        if what == "work":
            queue.worker(threads=2).run()
        if what == "work off":
            queue.worker(threads=2).run(until_idle=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
