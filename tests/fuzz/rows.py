"""Rows that a foreign hand may have written, of every table and column that the schema has: what becomes of them."""

from __future__ import annotations

import itertools
import json
import logging
import threading
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import apsw
from hypothesis import strategies as st

from fuzz import graph_rows, hostile, limit_texts
from fuzz.app import TASKS, declare, folder, only, prepared
from fuzz.hostile import NOW, Raw
from fuzz.looking import LOOKS, act_by_command, listed, look_by_command
from fuzz.targets import Target
from litequeue import Queue
from litequeue.errors import LiteQueueError
from litequeue.ipc.process_identity import Identity
from litequeue.worker import loop
from litequeue.worker.running_jobs import RunningJobs

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 2.0  # seconds; a worker that is not idle by then is told to stop
MOST_ROUNDS = 1_000  # in each it checks its lock; a worker that spins makes some thousands a second
PREFIX = "litequeue_"
LAST_ID = hostile.LARGEST - 10_000  # AUTOINCREMENT refuses rows after the largest number, whoever took it
STATES = range(8)
FAULTS = ("loop failed", "maintenance failed", "the file could not be written", "cannot be read", "stops:")


class Column(NamedTuple):
    """What the schema says of one."""

    name: str
    kind: str
    required: bool
    filled: bool


class Written(NamedTuple):
    """One row of a foreign hand: the well-formed one, and what is hostile in it."""

    table: str
    good: dict[str, Any]
    hostile: dict[str, Any]


@cache
def schema() -> dict[str, list[Column]]:
    db = apsw.Connection(str(prepared() / "app.db"))
    try:
        tables = db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'litequeue~_%' ESCAPE '~'"
        )
        return {table: _columns(db.execute(f"PRAGMA table_info({table})").fetchall()) for (table,) in tables.fetchall()}
    finally:
        db.close()


def _columns(described: list[Any]) -> list[Column]:
    keys = [key for *_, key in described if key]
    return [
        # SQLite fills in a key that is one whole number: the id of the row
        Column(name, kind, bool(required), default is not None or (key and len(keys) == 1 and kind == "INTEGER"))
        for _, name, kind, required, default, key in described
    ]


# ---- well-formed rows, of which something then is not


def _job(draw: st.DrawFn) -> dict[str, Any]:
    state = draw(st.sampled_from(STATES))
    row: dict[str, Any] = {
        "task": draw(st.sampled_from(TASKS)),
        "queue": "default",
        "payload": b"[[1],{}]",
        "state": state,
    }
    row |= {"priority": 0, "run_at": NOW, "created_at": NOW, "attempt": 1, "begun": 1}
    if state == 3:
        row |= {"worker": draw(st.integers(1, 4)), "started_at": NOW}
    if state >= 4:
        row |= {"started_at": NOW, "finished_at": NOW + 1, "delete_at": NOW * 2}
    return row


def _worker(draw: st.DrawFn) -> dict[str, Any]:
    identity = json.loads(Identity.current().to_text()) | draw(
        st.just({})
        | st.dictionaries(st.sampled_from(["pid", "host", "boot", "started", "namespace"]), hostile.plain, max_size=2)
    )
    row = {"token": draw(st.text("0123456789abcdef", min_size=32, max_size=32)), "identity": json.dumps(identity)}
    return row | {
        "queues": '["default"]',
        "tasks": '["plain"]',
        "threads": 1,
        "coroutines": 1,
        "started_at": NOW,
        "beat_at": NOW,
    }


def _schedule(draw: st.DrawFn) -> dict[str, Any]:
    row: dict[str, Any] = {"name": draw(st.sampled_from(["ticks", "extra"])), "task": draw(st.sampled_from(TASKS))}
    row |= {"queue": "default", "payload": b"[[],{}]", "priority": 0, "created_at": NOW, "next_at": NOW}
    trigger = st.sampled_from(['{"at": 1700000000}', '{"every": 3600, "jitter": 0}']) | hostile.trigger_texts()
    return row | {"trigger": draw(trigger.filter(hostile.decodable))}


def _error(draw: st.DrawFn) -> dict[str, Any]:
    return {"job": draw(st.integers(1, 6)), "attempt": 1, "at": NOW, "type": "E", "message": "m", "traceback": "t"}


def _event(draw: st.DrawFn) -> dict[str, Any]:
    row = {"job": draw(st.integers(1, 6)), "number": draw(st.sampled_from([1, 2, 3, 10**15 - 1, 10**15])), "at": NOW}
    return row | {"attempt": draw(st.integers(0, 3)), "value": draw(st.none() | st.sampled_from([b"1", b"", b"{"]))}


def _log(draw: st.DrawFn) -> dict[str, Any]:
    row = {"job": draw(st.integers(1, 6)), "attempt": draw(st.integers(0, 3)), "at": NOW, "dropped": 0}
    return row | {
        "written": draw(st.integers(0, 9)),
        "log": draw(st.sampled_from([b'"a\\nb"', b'""', b"7", b"{", b""])),
    }


def _meta(draw: st.DrawFn) -> dict[str, Any]:
    return {"name": draw(st.sampled_from(["schema_version", "made_by_litequeue", "rules", "boot", "x"])), "value": "1"}


GOOD = (
    {
        "jobs": _job,
        "workers": _worker,
        "schedules": _schedule,
        "errors": _error,
        "streams": _event,
        "run_logs": _log,
        "meta": _meta,
    }
    | limit_texts.ROWS
    | graph_rows.ROWS
)
PLAIN = {"INTEGER": 0, "REAL": 0.0, "TEXT": "", "BLOB": b""}


@st.composite
def written(draw: st.DrawFn) -> Written:
    """A row of any table; jobs more often, since they have most columns and states."""
    return _written(draw, draw(st.sampled_from([PREFIX + "jobs", PREFIX + "jobs", *schema()])), least=1)


@st.composite
def graph(draw: st.DrawFn) -> list[Written]:
    """Rows of what runs after what, most of them as they should be, over jobs that wait and jobs that run."""
    tables = st.sampled_from(
        [PREFIX + name for name in ("edges", "edges", "edges", "dependents", "dependents", *graph_rows.ROWS)]
    )
    rows = [_written(draw, table, least=0) for table in draw(st.lists(tables, min_size=2, max_size=14))]
    jobs = [_row_of_job(draw, number) for number in draw(st.sets(st.sampled_from(graph_rows.JOBS), max_size=4))]
    return [*jobs, *rows]


def _row_of_job(draw: st.DrawFn, number: int) -> Written:
    state = draw(st.sampled_from([1, 2, 2, 2, 5, 6]))
    task = draw(st.sampled_from(["plain", "nap", "bad"]))
    row = _job(draw) | {"id": number, "task": task, "state": state, "attempt": 0, "begun": 0}
    row |= dict.fromkeys(("worker", "started_at", "finished_at", "delete_at"))
    return Written(PREFIX + "jobs", row | ({"finished_at": NOW, "delete_at": NOW * 2} if state > 4 else {}), {})


def _written(draw: st.DrawFn, table: str, *, least: int) -> Written:
    columns = schema()[table]
    good = {one.name: PLAIN[one.kind] for one in columns if one.required and not one.filled}
    good |= GOOD[table.removeprefix(PREFIX)](draw) if table.removeprefix(PREFIX) in GOOD else {}
    chosen = draw(st.lists(st.sampled_from(columns), min_size=least, max_size=3 if least else 1, unique=True))
    return Written(table, good, {one.name: draw(_values(one)) for one in chosen})


def _values(column: Column) -> st.SearchStrategy[Any]:
    values = hostile.OF_TYPE[column.kind]
    if column.name == "id":
        values = values.filter(lambda number: number <= LAST_ID)
    if column.name == "name":  # a pause of what stands beside the rows holds
        values = values.filter(lambda name: name not in ("plain", "nap", "default"))
    return values if column.required else st.none() | values


def write(db: apsw.Connection, row: Written) -> set[str]:
    """Insert the row, with as much of it hostile as typing and CHECKs allow; return those columns."""
    taken = dict(row.hostile)
    while True:
        values = row.good | taken
        marks = ["CAST(? AS TEXT)" if isinstance(value, Raw) else "?" for value in values.values()]
        bound = [bytes(value) if isinstance(value, Raw) else value for value in values.values()]
        sql = f"INSERT OR REPLACE INTO {row.table} ({', '.join(values)}) VALUES ({', '.join(marks)})"
        try:
            db.execute(sql, bound)
        except apsw.ConstraintError:
            if not taken:
                raise
            taken.popitem()
        else:
            return set(taken)


# ---- what becomes of them


class Heard(logging.Handler):
    """What litequeue logs that it must not say because of a row."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if any(fault in text for fault in FAULTS):
            self.faults.append(text)


def live_with(case: tuple[str, list[Written]]) -> None:
    """Write the rows, then list, work and list again: the jobs beside them succeed, and nothing crashes or spins."""
    driver, rows = case
    with folder() as place:
        path = place / "app.db"
        db = apsw.Connection(str(path))
        try:
            hit = {(row.table, column) for row in rows for column in write(db, row)}
            db.execute("INSERT OR REPLACE INTO litequeue_meta VALUES ('rules', 'changed')")
        finally:
            db.close()
        _serve(path, driver, refusable=any(table == PREFIX + "meta" for table, _ in hit))


def _serve(path: Path, driver: str, *, refusable: bool) -> None:
    try:
        Queue(path, driver=driver).close()
    except LiteQueueError:
        assert refusable, "a queue does not open because of its rows"
        look_by_command(path, driver, refused=True)
        return
    look_by_command(path, driver)
    act_by_command(path, driver)
    with declare(Queue(path, driver=driver, durability="normal")) as queue:
        ours = [queue.tasks[name].enqueue(5) for name in ("plain", "nap")]
        _look(queue)
        heard = _work(queue)
        for job in ours:
            job.refresh()
            assert job.status == "succeeded", f"the job beside them is {job.status}; {heard.faults}"
            assert job.result(0) == 5
        assert not heard.faults, "\n".join(heard.faults[:3])
        _look(queue)
    for command in LOOKS:
        listed([command, str(path), "--driver", driver], (0, 1) if command == "doctor" else (0,))


def _work(queue: Queue) -> Heard:
    working = queue.worker(threads=2, coroutines=2, grace=1)
    rounds = itertools.count()
    plain_check = RunningJobs.check

    def counted(runs: RunningJobs) -> None:  # the loop checks once a round
        next(rounds)
        plain_check(runs)

    heard, log = Heard(), logging.getLogger("litequeue")
    timer = threading.Timer(PATIENCE, working.stop)
    died = lambda given: heard.faults.append(f"a thread died of {given.exc_value!r}")  # noqa: E731
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(RunningJobs, "check", counted))
        stack.enter_context(mock.patch.object(loop, "BACK_OFF", 0.01))
        stack.enter_context(mock.patch.object(threading, "excepthook", died))
        stack.enter_context(only(log, heard))
        timer.start()
        stack.callback(timer.cancel)
        working.run(until_idle=True)
    count = next(rounds)
    assert count < MOST_ROUNDS, f"the worker spins: {count} rounds"
    return heard


def _look(queue: Queue) -> None:
    """Read all that a program can read of it."""
    jobs = queue.jobs(limit=10_000)
    there = "SELECT count(*) FROM litequeue_jobs WHERE delete_at IS NULL OR delete_at > ?"
    [(count,)] = queue.engine.kernel.read(lambda db: db.rows(there, (queue.now(),)))
    assert len(jobs) == min(count, 10_000)
    for job in jobs:
        for name in (name for name, kind in vars(type(job)).items() if isinstance(kind, property)):
            getattr(job, name)
        repr(job)
        if job.status.finished:
            _answer(job)
        _follow(job)
        _read_logs(job)
        queue.job(job.id)
    for schedule in queue.schedules:
        for name in (name for name, kind in vars(type(schedule)).items() if isinstance(kind, property)):
            if name not in ("trigger", "options"):  # these raise where they are not understood
                getattr(schedule, name)
        repr(schedule)
    [groups] = [
        queue.engine.kernel.read(lambda db: db.rows("SELECT id FROM litequeue_groups WHERE id BETWEEN 1 AND 999"))
    ]
    for (number,) in groups:
        _look_at_group(queue, f"g{number}")
    queue.jobs(tag="a")
    queue.engine.kernel.reads.doing(queue.engine.jobs.list(limit=1)[0])


def _answer(job: Any) -> None:
    try:
        job.result(0)
    except LiteQueueError as error:
        if not str(error):
            raise AssertionError("it does not say what is wrong") from error


def _read_logs(job: Any) -> None:
    try:
        assert isinstance(job.logs(), str)
    except LiteQueueError as error:
        if not str(error):
            raise AssertionError("it does not say what is wrong") from error


def _follow(job: Any) -> None:
    try:
        numbers = [event.number for event in job.stream(timeout=0)]
    except (LiteQueueError, TimeoutError) as error:
        if not str(error):
            raise AssertionError("it does not say what is wrong") from error
    else:
        assert numbers == sorted(set(numbers))


def _look_at_group(queue: Queue, number: str) -> None:
    try:
        group = queue.group(number)
        repr(group)
        assert group.progress.total >= 0
        group.results(0, on_error="return")
    except (LiteQueueError, TimeoutError) as error:
        if not str(error):
            raise AssertionError("it does not say what is wrong") from error


schema()  # now: what it draws at random is no part of an input
TARGETS = (
    Target(
        "rows",
        st.tuples(st.sampled_from(["apsw", "sqlite3"]), st.lists(written(), min_size=1, max_size=4) | graph()),
        live_with,
        share=10,
    ),
)
