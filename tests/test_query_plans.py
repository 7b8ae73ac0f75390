"""Every statement by its plan, and the claim by the work it costs: neither grows with what a worker cannot take."""

import re
from pathlib import Path

import pytest

import litequeue.sqlite
from contract.jobs import START, SUCCEEDED, Hands, put
from litequeue.core.records import Status
from litequeue.sqlite.sql import SQL
from litequeue.sqlite.store import SqliteStore
from litequeue.testing import ManualClock

DAY = 86_400.0
SOURCES = "\n".join(path.read_text() for path in Path(litequeue.sqlite.__file__).parent.rglob("*.py"))

# Statements that may read every job, or every row of a part of them, and why.
SCANS = {
    "matching": "`cancel --all`: in pages by id, which together read the jobs once",
    "matching_dead": "`retry --all`: the same, over the index of what has failed",
    "succeeded": "`status --exact` reads all jobs; else a file of 20,000 ids at most",
    "recent_durations": "the newest `limit` jobs by id, and the last `limit` by an index; asked for by `status`",
    "health": "`doctor` and `status`",
}


def test_no_two_statements_have_one_name():
    texts = [path.read_text() for path in Path(litequeue.sqlite.sql.__file__).parent.glob("*.sql")]
    assert sum(text.count("\n-- name: ") + text.startswith("-- name: ") for text in texts) == len(SQL)


REPAIRS = {"forget_indexes"}  # has no plan: SQLite refuses it but where a repair has allowed it


def statements():
    return [pytest.param(name, id=name) for name in SQL if name not in REPAIRS]


def parameters(sql):
    if "?" in sql:
        return tuple(range(1, 1 + sql.count("?")))
    return {name: "[]" if name in {"tasks", "queues", "broken"} else 1 for name in re.findall(r":([a-z_]+)", sql)}


def plan(store, sql):
    values = parameters(sql)
    return [
        row[3] for row in store.kernel.read(lambda db: db.raw.execute("EXPLAIN QUERY PLAN " + sql, values).fetchall())
    ]


def scans_of_jobs(steps):
    """The steps that read all jobs: a SCAN of the table, or of an index that holds every job."""
    partial = r"(ready|due|running|expiring|ended|dead|counted)\b"
    return [
        step
        for step in steps
        if re.match(r"SCAN (litequeue_jobs|job)\b", step)
        and not re.search(r"USING .*INDEX litequeue_jobs_" + partial, step)
    ]


@pytest.fixture(scope="module", params=["apsw", "sqlite3"])
def empty(request, tmp_path_factory):
    """A store on a fresh file, which none of the tests that share it changes."""
    given = {"durability": "normal", "clock": ManualClock(), "result_ttl": DAY, "failed_ttl": DAY, "create": True}
    store = SqliteStore.open(tmp_path_factory.mktemp("plans") / "app.db", driver=request.param, **given)
    yield store
    store.close()


@pytest.mark.parametrize("name", statements())
def test_no_statement_scans_all_jobs(empty, name):
    scans = scans_of_jobs(plan(empty, SQL[name]))
    assert (scans == []) or name in SCANS, plan(empty, SQL[name])


# What holds only the part of the jobs that the statement is about may be read from end to end.
PARTS = {
    "counts": "running; the others are searched",
    "running_ids": "running",
    "ready_counts": "ready",
    "look": "ready",
    "beat": "running",
    "ownerless": "running",
    "everyone": "running",
    "stuck_jobs": "what waits, of all that is neither queued nor running nor succeeded",
    "free_stuck": "the same",
    "running_takes": "running",
    "running_of_queue": "running",
}


@pytest.mark.parametrize("name", [name for name in SQL if name not in {*SCANS, *PARTS, *REPAIRS}])
def test_every_other_statement_searches(empty, name):
    steps = [step for step in plan(empty, SQL[name]) if re.match(r"SCAN (litequeue_jobs|job)\b", step)]
    allowed = [step for step in steps if re.search(r"INDEX litequeue_jobs_(due|expiring|ended|ready)\b", step)]
    assert steps == allowed


@pytest.mark.parametrize("name", ["promote", "overdue", "prunable", "front", "heads"])
def test_what_is_taken_in_order_is_read_in_order(empty, name):
    steps = plan(empty, SQL[name])
    sorts = [step for step in steps if "TEMP B-TREE" in step]
    assert len(sorts) <= (1 if name == "claim" else 0), steps


def test_every_statement_is_used_and_every_name_used_is_a_statement():
    used = set(re.findall(r'SQL\["(\w+)"\]', SOURCES))
    quoted = set(re.findall(r'"(\w+)"', SOURCES))
    assert used <= set(SQL)
    assert [name for name in SQL if name not in used and name not in quoted] == []


def test_one_statement_begins_a_run_two_end_it_one_ends_others_together_and_one_returns_it_to_its_queue():
    changing = {name: sql.partition("SET")[2] for name, sql in SQL.items() if re.match(r"UPDATE litequeue_jobs\b", sql)}
    begin = {name for name, sql in changing.items() if "attempt = attempt" in sql}
    end = {name for name, sql in changing.items() if "finished_at = " in sql and "finished_at = NULL" not in sql}
    leave = {name for name, sql in changing.items() if "worker = NULL" in sql}
    not_running = {"cancel_together"}  # of jobs that do not run, many at once: what waits for others
    assert (begin, end - not_running, leave - end) == ({"take"}, {"finish", "succeed_together"}, {"reschedule"})
    assert "state < 3" in SQL["cancel_together"]


def test_whatever_ends_or_extends_a_run_names_its_attempt_and_that_it_runs():
    for name in ("finish", "succeed_together", "reschedule", "note_progress"):
        where = SQL[name].partition("WHERE")[2] if name != "reschedule" else SQL[name].rpartition("WHERE")[2]
        assert re.search(r"id = \S+ AND \S*attempt = \S+ AND \S*state = (3|\?)", where), name


@pytest.mark.parametrize("name", ["take", "finish", "succeed_together"])
def test_a_claim_and_an_end_write_nothing_to_the_index_of_keys(empty, name):
    """Of a million keys each entry is a page of its own: to read, to write, and to write again."""
    [(root,)] = empty.kernel.read(lambda db: db.rows("SELECT rootpage FROM sqlite_schema WHERE name LIKE '%_jobs_key'"))
    sql = "EXPLAIN " + SQL[name]
    steps = empty.kernel.read(lambda db: db.raw.execute(sql, parameters(sql)).fetchall())
    assert root not in {page for _, code, _, page, *_ in steps if code == "OpenWrite"}


def test_every_exception_is_a_statement():
    assert {name for name in SCANS if name != "health"} | set(PARTS) <= set(SQL)


# The cost of a turn: steps of SQLite's virtual machine, which no clock and no machine changes

FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
INSERT INTO litequeue_jobs
    (task, queue, payload, state, priority, run_at, created_at, finished_at, delete_at, expires_at)
SELECT :task, :queue, '[]', :state, :priority, :run_at, :now, :finished, :delete, :expires FROM n
"""


def fill(store, count, **fields):
    given = {"task": "add", "queue": "default", "state": 1, "priority": 0, "run_at": START, "now": START}
    given |= {"finished": None, "delete": None, "expires": None, "count": count} | fields
    store.kernel.writer.run(lambda db: db.rows(FILL.replace("'[]'", "X'5b5d'"), given))


def steps_of(store, work, raw=None):
    """Count the steps of SQLite's virtual machine that `work` takes, on the write connection unless `raw` is given."""
    count = [0]

    def counting():
        count[0] += 1
        return False

    raw = raw or store.kernel.writer.run_outside(lambda db: db.raw)
    set_handler = raw.set_progress_handler
    handlers = (counting, 1)
    set_handler(*handlers)
    try:
        work()
    finally:
        set_handler(None, 1)
    return count[0]


def cost(store, hands, limit=10):
    """What a claim of `limit` jobs costs, and how many it brings."""
    claimed = []
    return steps_of(store, lambda: claimed.extend(hands.claim(limit))), len(claimed)


@pytest.mark.parametrize("limit", [1, 10, 100])
def test_a_claim_costs_the_same_at_any_backlog(open_store, tmp_path, limit):
    costs = []
    for count in (1_000, 50_000):
        store = open_store(path=tmp_path / f"{count}.db")
        fill(store, count)
        costs.append(cost(store, Hands(store), limit))
    (few, got), (many, got_too) = costs
    assert got == got_too == limit
    assert many <= few * 1.2


IN_THE_WAY = {
    "unknown tasks at the head": {"task": "unknown", "priority": 100},
    "another queue": {"queue": "another"},
    "scheduled": {"state": 0, "run_at": START + 1000},
    "succeeded": {"state": 4, "finished": START, "delete": START + 1000},
    "failed": {"state": 5, "finished": START, "delete": START + 1000},
    "kept for ever": {"state": 4, "finished": START},
    "to expire": {"task": "unknown", "expires": START + 1000},
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_a_claim_costs_the_same_whatever_it_cannot_take(open_store, tmp_path, what):
    costs = []
    for count in (10, 50_000):
        store = open_store(path=tmp_path / f"{count}.db")
        fill(store, count, **IN_THE_WAY[what])
        fill(store, 100)
        hands = Hands(store, queues=("default",))
        costs.append(cost(store, hands))
    (few, got), (many, got_too) = costs
    assert got == got_too == 10
    assert many <= few * 1.2 + 50


# Jobs of schedules that run one after another: of the first number of schedules, each with so many that are held.
LINES = {"10,000 schedules with one waiting each": (10_000, 1), "100,000 waiting in one schedule": (1, 100_000)}


def fill_lines(store, schedules, held):
    """Store lines of unknown tasks."""

    def work(db):
        db.rows("UPDATE litequeue_jobs SET schedule = 's' || id WHERE schedule IS NULL AND task = 'first'")
        db.rows("INSERT INTO litequeue_serial SELECT id, schedule, 0 FROM litequeue_jobs WHERE task = 'first'")
        names = "SELECT schedule FROM litequeue_serial WHERE held = 0"
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :held)"
        jobs = "(task, queue, payload, state, priority, run_at, created_at, schedule)"
        values = f"SELECT 'held', 'default', X'5b5d', 2, 0, 1.0, 1.0, line.schedule FROM ({names}) AS line, n"
        db.rows(f"INSERT INTO litequeue_jobs {jobs} {numbers} {values}", {"held": held})
        db.rows("INSERT INTO litequeue_serial SELECT id, schedule, 1 FROM litequeue_jobs WHERE state = 2")

    fill(store, schedules, task="first")
    store.kernel.writer.run(work)


@pytest.mark.parametrize("what", LINES)
def test_a_claim_and_an_end_cost_the_same_however_many_jobs_wait_for_others(open_store, tmp_path, what):
    claims, ends, frees = [], [], []
    for schedules, held in ((1, 1), LINES[what]):
        store = open_store(path=tmp_path / f"{schedules}-{held}.db")
        fill_lines(store, schedules, held)
        fill(store, 100)
        hands, first = Hands(store), Hands(store, "first")
        claims.append(cost(store, hands))
        job = hands.take()
        ends.append(steps_of(store, lambda hands=hands, job=job: hands.settle((job, SUCCEEDED))))
        job = first.take()
        frees.append(steps_of(store, lambda first=first, job=job: first.settle((job, SUCCEEDED))))
        assert len(store.jobs.list(task="held", status=Status.QUEUED)) == 1
    assert [got for _, got in claims] == [10, 10]
    for few, many in ([spent for spent, _ in claims], ends, frees):
        assert many <= few * 1.2 + 50


def test_an_idle_cycle_costs_the_same_at_any_backlog_it_cannot_take(open_store, tmp_path):
    costs = []
    for count in (10, 50_000):
        store = open_store(path=tmp_path / f"{count}.db")
        for fields in IN_THE_WAY.values():
            fill(store, count, **fields)
        costs.append(cost(store, Hands(store, queues=("default",))))
    (few, none), (many, none_too) = costs
    assert none == none_too == 0
    assert many <= few * 1.2 + 50


def test_what_is_due_is_woken_at_the_same_cost_however_much_is(open_store, tmp_path):
    costs = []
    for count in (1_000, 50_000):
        store = open_store(path=tmp_path / f"{count}.db")
        for priority in (0, 5):
            fill(store, count, state=0, run_at=START - 1, priority=priority)
        costs.append(cost(store, Hands(store)))
    (few, got), (many, got_too) = costs
    assert got == got_too == 10
    assert many <= few * 1.2


def test_a_success_costs_the_same_at_any_backlog(open_store, tmp_path):
    costs = []
    for count in (1_000, 50_000):
        store = open_store(path=tmp_path / f"{count}.db")
        fill(store, count)
        hands = Hands(store)
        job = hands.take()
        costs.append(steps_of(store, lambda hands=hands, job=job: hands.settle((job, SUCCEEDED))))
    assert costs[1] <= costs[0] * 1.2


def test_a_keyed_submission_costs_the_same_at_any_backlog(open_store, tmp_path):
    costs = []
    for count in (1_000, 50_000):
        store = open_store(path=tmp_path / f"{count}.db")
        fill(store, count)
        costs.append(steps_of(store, lambda store=store: put(store, key="k")))
    assert costs[1] <= costs[0] * 1.2


def test_the_lanes_are_found_by_one_probe_each(open_store, tmp_path):
    store = open_store()
    for number in range(20):
        fill(store, 500, task=f"t{number}", queue=f"q{number % 4}")
    hands = Hands(store, "t7")
    spent, got = cost(store, hands, 1)
    assert got == 1
    assert spent < 20 * 100 + 1_000


@pytest.mark.parametrize("state", [4, 5])
def test_counts_cost_the_same_whatever_has_succeeded(open_store, tmp_path, state):
    costs = []
    for count in (30_000, 90_000):
        store = open_store(path=tmp_path / f"{count}.db")
        fill(store, 1_000)
        fill(store, count if state == 4 else 1_000, state=state, finished=START)
        fill(store, count, state=4, finished=START)
        raw = store.kernel.read_listing(lambda db: db.raw)
        costs.append(steps_of(store, store.jobs.counts, raw))
    assert costs[1] <= costs[0] * 1.2


def test_counts_by_task_cost_the_same_however_many_are_ready(open_store, tmp_path, monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.jobs.counts.ENTRIES", 1_000)
    costs = []
    for count in (12_000, 36_000):
        store = open_store(path=tmp_path / f"{count}.db")
        fill(store, count)
        raw = store.kernel.read_listing(lambda db: db.raw)
        costs.append(steps_of(store, store.admin.ready, raw))
    assert costs[1] <= costs[0] * 1.2


FEW = [
    {"status": Status.QUEUED, "task": "rare"},
    {"status": Status.QUEUED, "queue": "rare"},
    {"status": Status.QUEUED, "queue": "rare", "task": "rare"},
    {"status": Status.SCHEDULED},
    {"status": Status.FAILED, "queue": "rare"},
    {"status": Status.RUNNING},
]


@pytest.mark.parametrize("where", FEW, ids=str)
def test_a_listing_of_few_unfinished_jobs_costs_the_same_whatever_else_is_there(open_store, tmp_path, where):
    costs = []
    for count in (4_000, 12_000):
        store = open_store(path=tmp_path / f"{count}.db")
        fill(store, 1, task="rare", queue="rare")
        Hands(store, "rare").claim()
        fill(store, 1, state=0)
        fill(store, 1, state=5, finished=START, task="rare", queue="rare")
        fill(store, 1, task="rare", queue="rare")
        fill(store, count // 2, state=5, finished=START)
        fill(store, count)
        raw = store.kernel.read_listing(lambda db: db.raw)
        costs.append(steps_of(store, lambda store=store: store.jobs.list(**where), raw))
        assert len(store.jobs.list(**where)) == 1
    assert costs[1] <= costs[0] * 1.1
