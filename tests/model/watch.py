"""What is looked at in the file itself: that it holds the truth, and that no row goes a way that is not allowed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec.structs import astuple

from model.row import COLUMNS, Broken, Row, must_be
from model.truth import Truth

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litequeue.sqlite.store import SqliteStore

# From each state to which: scheduled, queued, waiting, running, succeeded, failed, cancelled, expired.
WAYS = {0: "0, 1, 6, 7", 1: "0, 1, 3, 6, 7", 2: "", 3: "0, 1, 3, 4, 5, 6", 4: "", 5: "1", 6: "1", 7: "1"}
ALLOWED = " OR ".join(f"OLD.state = {old} AND NEW.state IN ({new})" for old, new in WAYS.items())
# One that has ended is emptied, or lets go of its key.
OVER = """OLD.state > 3 AND NEW.held_key IS NULL AND (NEW.delete_at IS OLD.delete_at OR NEW.delete_at = 0)
          AND (NEW.state, NEW.finished_at, NEW.attempt) = (OLD.state, OLD.finished_at, OLD.attempt)"""
# Whatever breaks one of these is refused by SQLite itself, so that nobody can overlook it.
GUARDS = f"""
CREATE TABLE effects (job INTEGER);
CREATE TRIGGER ways BEFORE UPDATE ON litequeue_jobs WHEN NOT ({ALLOWED} OR {OVER})
BEGIN SELECT RAISE(ABORT, 'WATCH: from a state to one that does not follow it'); END;
CREATE TRIGGER attempts BEFORE UPDATE ON litequeue_jobs
WHEN NEW.attempt <> OLD.attempt + (NEW.state = 3 AND OLD.state = 1)
BEGIN SELECT RAISE(ABORT, 'WATCH: an attempt is no claim'); END;
CREATE TRIGGER deletes BEFORE DELETE ON litequeue_jobs WHEN OLD.state < 4
BEGIN SELECT RAISE(ABORT, 'WATCH: a job is deleted before its end'); END;
CREATE TRIGGER faults BEFORE INSERT ON litequeue_errors
WHEN EXISTS (SELECT 1 FROM litequeue_errors WHERE job = NEW.job AND attempt = NEW.attempt)
BEGIN SELECT RAISE(ABORT, 'WATCH: one attempt fails twice'); END
"""
ALL = f"SELECT {', '.join(COLUMNS)} FROM litequeue_jobs WHERE delete_at IS NOT 0"  # of which only the id is left
ONE = f"{ALL} AND id IN (SELECT value FROM json_each(?))"
COUNTS = {
    "errors of no job": "SELECT count(*) FROM litequeue_errors WHERE job NOT IN (SELECT id FROM litequeue_jobs)",
    "holders of one key": """SELECT count(*) FROM (SELECT 1 FROM litequeue_jobs WHERE held_key IS NOT NULL
                             GROUP BY task, held_key HAVING count(*) > 1)""",
    "ended jobs without an end": "SELECT count(*) FROM litequeue_jobs WHERE (state > 3) <> (finished_at IS NOT NULL)",
    "running jobs without a worker": "SELECT count(*) FROM litequeue_jobs WHERE (state = 3) <> (worker IS NOT NULL)",
}


def set_up(store: SqliteStore) -> None:
    with store.transactions.transaction() as db:
        for statement in GUARDS.split(";\nCREATE"):
            db.execute(statement if statement.startswith("\nCREATE") else f"CREATE{statement}")


def check_rows(store: SqliteStore, truth: Truth, ids: Iterable[int]) -> None:
    """These jobs are on record as they must be."""
    wanted = {number: truth.jobs[number] for number in ids if number in truth.jobs}
    rows = store.kernel.read(lambda db: db.rows(ONE, (json.dumps(list(ids)),)))
    _compare({row[0]: row for row in rows}, wanted)


def check_all(store: SqliteStore, truth: Truth) -> None:
    """All that is on record is what must be."""
    rows = lambda sql: store.kernel.read(lambda db: db.rows(sql))  # noqa: E731
    _compare({row[0]: row for row in rows(ALL)}, truth.jobs)
    errors = {(job, attempt): (at, kind) for job, attempt, at, kind, *_ in rows("SELECT * FROM litequeue_errors")}
    _same("errors", errors, truth.errors)
    _same("workers", {number for (number,) in rows("SELECT id FROM litequeue_workers")}, set(truth.workers))
    _same("schedules", {each.name: each for each in store.schedules.list()}, truth.ticks.schedules)
    effects: dict[int, int] = dict(rows("SELECT job, count(*) FROM effects GROUP BY job"))
    _same("effects", effects, truth.effects)
    must_be(all(count == 1 for count in effects.values()), f"effects that happened more than once: {effects}")
    _same("counts", {(each.queue, each.status): each.jobs for each in store.jobs.counts()}, truth.counts())
    for what, sql in COUNTS.items():
        must_be(rows(sql) == [(0,)], what)


def _compare(found: dict[int, tuple[Any, ...]], wanted: dict[int, Row]) -> None:
    must_be(
        found.keys() == wanted.keys(), f"lost: {wanted.keys() - found.keys()}; extra: {found.keys() - wanted.keys()}"
    )
    for number, row in wanted.items():
        values = found[number]
        if values != (must := astuple(row)):
            pairs = zip(COLUMNS, values, must, strict=True)
            wrong = {name: (value, wanted) for name, value, wanted in pairs if value != wanted}
            raise Broken(f"job {number}, as it is and must be: {wrong}")


def _same(what: str, found: Any, wanted: Any) -> None:
    must_be(found == wanted, f"{what}: {found}, must be {wanted}")
