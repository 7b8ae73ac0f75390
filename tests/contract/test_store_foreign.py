"""What a foreign hand may write into the file harms no job beside it. The inputs are those that `tests/fuzz/` found."""

import gc
import math

import pytest

from contract.jobs import Hands, to_the_end
from litequeue import NotAQueue, Queue, StoreError, Unsupported, every
from litequeue.cli.printing import to_json
from litequeue.cli.report import overview
from litequeue.core.outcome import Ended, Released
from litequeue.core.store import Demand
from litequeue.ipc.process_identity import Identity, alive
from litequeue.sqlite.store import SqliteStore
from litequeue.worker.maintenance import Maintenance

LARGEST = 2**63 - 1
MOST = 10**15  # of a counter, by the schema
NO_UTF8 = "CAST(x'ff' AS TEXT)"


@pytest.fixture
def write(queue):
    """Change the file past litequeue."""
    return lambda sql, *values: queue.engine.kernel.writer.run(lambda db: db.rows(sql, values))


@pytest.fixture
def work(queue):
    """Enqueue a job and one beside it that fails at its first attempt; afterwards let a worker work both off."""

    @queue.task(name="plain")
    def plain(n: int = 1) -> int:
        return n

    @queue.task(name="bad", retries=1, backoff="1h")
    def bad() -> None:
        raise RuntimeError

    queue.tasks["bad"].enqueue()
    beside = queue.tasks["plain"].enqueue()

    def working():
        queue.worker(threads=1).run(until_idle=True)
        assert beside.result(0) == 1
        return queue.jobs(task="bad")[0]

    return working


COUNTERS = ["attempt", "failures", "deaths"]


@pytest.mark.parametrize("column", COUNTERS)
@pytest.mark.parametrize("number", [MOST, LARGEST])
def test_the_file_refuses_a_count_to_which_no_run_could_be_added(queue, write, work, column, number):
    with pytest.raises(StoreError, match="CHECK constraint"):
        write(f"UPDATE litequeue_jobs SET {column} = {number} WHERE task = 'bad'")
    assert work().attempt == 1


@pytest.mark.parametrize("column", COUNTERS)
def test_a_count_at_the_largest_number_keeps_no_job_from_its_end(queue, write, work, column):
    write(f"UPDATE litequeue_jobs SET attempt = 1, begun = 1, {column} = {MOST - 1} WHERE task = 'bad'")
    assert work().status in {"failed", "scheduled"}


def test_a_job_whose_attempts_are_used_up_does_not_return_to_its_queue(queue, write, work):
    write(f"UPDATE litequeue_jobs SET attempt = {MOST - 1} WHERE task = 'bad'")
    job = work()  # which has a retry left
    assert (job.status, job.attempt, [error.type for error in job.errors]) == ("failed", MOST, ["RuntimeError"])


def test_a_claim_that_is_the_last_one_and_is_released_says_why_its_job_has_failed(queue, write, work):
    write(f"UPDATE litequeue_jobs SET attempt = {MOST - 1} WHERE task = 'bad'")
    store = queue.engine
    number = Hands(store, "bad").number
    [job] = store.runs.claim(number, [Demand(frozenset({"bad"}), 1)], None).claimed
    assert store.runs.settle([Ended(job, Released(), queue.now(), 60.0)]) == []
    assert [error.type for error in store.jobs.look_up(job.id).errors] == ["CountersUsedUp"]
    assert work().status == "failed"


def test_a_job_that_stands_as_run_by_the_dead_is_judged_though_its_deaths_are_the_largest_number(queue, write, work):
    write(
        "INSERT INTO litequeue_workers (id, token, identity, tasks, threads, coroutines, started_at, beat_at) "
        "VALUES (7, 'a', '{}', '[]', 1, 1, 1.0, 1.0)"
    )
    running = "UPDATE litequeue_jobs SET state = 3, worker = 7, started_at = 1, attempt = 1, begun = 1, deaths = ?"
    write(f"{running} WHERE task = 'bad'", MOST - 1)
    Maintenance(queue.engine, queue.clock, "observer", frozenset()).reap()
    assert work().status == "failed"


def test_the_longest_id_and_attempt_are_run(queue, write, work):
    write(f"UPDATE litequeue_jobs SET id = {-LARGEST}, attempt = {MOST - 1} WHERE task = 'bad'")
    assert work().attempt == MOST


@pytest.mark.parametrize("column", ["task", "queue", "key", "tags", "schedule", "progress"])
def test_text_that_is_no_utf_8_hides_no_job(queue, write, work, column):
    write(f"UPDATE litequeue_jobs SET {column} = {NO_UTF8} WHERE task = 'bad'")
    queue.worker(threads=1).run(until_idle=True)
    assert [job.status for job in queue.jobs(task="plain")] == ["succeeded"]
    assert len(queue.jobs()) == 2


@pytest.mark.parametrize("moment", [math.inf, -math.inf, 1e300, -1e11])
def test_a_time_that_no_calendar_holds_is_shown_as_the_nearest(queue, write, work, moment):
    work()
    write("UPDATE litequeue_jobs SET created_at = ?, run_at = ?, started_at = ?", moment, moment, moment)
    write("UPDATE litequeue_jobs SET finished_at = ? WHERE state > 3", moment)
    write("UPDATE litequeue_errors SET at = ?", moment)
    for job in queue.jobs():
        assert {job.created_at.year, job.run_at.year, job.started_at.year} <= {1, 9999}
    assert queue.jobs(task="bad")[0].errors[0].at.year in {1, 9999}
    assert overview(queue.engine)["tasks"] == [] or math.isfinite(moment)


@pytest.mark.parametrize("text", ["no JSON", "7", "[[]]", ""])
def test_a_workers_row_of_another_shape_names_no_task_and_hides_no_other(queue, write, text):
    write(
        "INSERT INTO litequeue_workers (id, token, identity, queues, tasks, modules, at_most_once, slots, offers,"
        " threads, coroutines, started_at, beat_at) VALUES (7, '../x', '[', ?1, ?1, ?1, ?1, ?1, ?1, 1, 1, 1e300, 1.0)",
        text,
    )
    [found] = queue.engine.workers.list()
    assert (found.queues, found.tasks, queue.engine.workers.lives(found.token)) == ((), (), False)
    assert (found.slots, found.offers) == ({}, {})
    job = queue.task(name="plain")(lambda n: n).enqueue(1)
    queue.engine.runs.claim(7, [Demand(frozenset({"plain"}), 9)], None)
    assert job.id in queue.engine.runs.rescue(7, None, blame=True).returned


@pytest.mark.parametrize("rules", ["", "7", '{"uses": {"gpu": -1}}', '{"uses": {"gpu": "1"}}', '{"uses": [1]}'])
def test_rules_of_a_task_that_are_not_ours_bound_nothing(queue, write, work, rules):
    write("INSERT INTO litequeue_tasks VALUES ('bad', ?)", rules)
    write("INSERT OR REPLACE INTO litequeue_meta VALUES ('rules', 'new')")
    assert queue.engine.limits.uses() == {}
    assert work().attempt == 1


@pytest.mark.parametrize("wrong", ["next_at = -1e300", "next_at = -9e999", "next_at = -1e11", f"name = {NO_UTF8}"])
def test_a_schedule_that_cannot_be_moved_on_does_not_fire_nor_stop_the_others(queue, write, work, wrong):
    for name in ("broken", "sound"):
        queue.schedules.add(name, queue.tasks["plain"].s(2), every("1m"), catch_up="all", overlap="allow")
    write("UPDATE litequeue_schedules SET next_at = ?", queue.now() - 1)
    write(f"UPDATE litequeue_schedules SET {wrong} WHERE name = 'broken'")
    assert to_the_end(queue.engine, "fire", frozenset({"plain"})) > queue.now()
    assert [job.schedule for job in queue.jobs(task="plain")] == ["sound", None]


def test_a_paused_schedule_that_is_not_understood_is_not_resumed_and_says_why(queue, write, work):
    queue.schedules.add("broken", queue.tasks["plain"].s(2), every("1m"))
    queue.schedules.pause("broken")
    write("UPDATE litequeue_schedules SET trigger = ''")
    assert "not understood" in repr(queue.schedules["broken"])
    with pytest.raises(Unsupported, match="'broken' cannot fire here"):
        queue.schedules.resume("broken")


@pytest.mark.parametrize("version", ["x", "", "-1", "0", "9" * 5000])
def test_a_schema_version_that_is_none_is_told(queue, write, driver, version):
    write("UPDATE litequeue_meta SET value = ? WHERE name = 'schema_version'", version)
    queue.close()
    options = {"durability": "full", "clock": queue.clock, "result_ttl": 1.0, "failed_ttl": 1.0, "create": False}
    for opening in (Queue, lambda path, driver: SqliteStore.open(path, driver=driver, **options)):
        with pytest.raises(NotAQueue, match="schema version"):
            opening(queue.path, driver=driver)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"pid": 99999999999}', '{"pid": -1}', '{"host": "\\ud800"}'])
def test_no_identity_is_too_odd_to_read(text):
    gc.collect()  # what other tests have left: its finalizers must not run deep in what this text recurses into
    identity = Identity.from_text(text)
    identity.host.encode()
    assert (identity.pid, alive(identity)) == (0, None)


def test_what_is_nested_too_deeply_to_be_shown_is_cut():
    value = []
    for _ in range(100_000):
        value = [value]
    assert to_json({"args": value}).count("[") == 49


@pytest.mark.parametrize("tags", ["'urgent'", "'[1]'", "7", "'{'"])
def test_tags_of_someone_else_hide_no_job(queue, tags):
    queue.task(name="work")(lambda: None)
    job = queue.tasks["work"].enqueue()
    with queue.transaction() as db:
        db.execute(f"UPDATE litequeue_jobs SET tags = {tags}")
    [found] = queue.jobs()
    assert (found.id, len(found.tags)) == (job.id, 1)
    assert [each.id for each in queue.jobs(tag="work")] == []
    assert [each.id for each in queue.jobs(tag=found.tags[0])] in ([job.id], [])


@pytest.mark.parametrize("words", ["the account is locked", "too busy", "the cart is full", "a readonly order"])
@pytest.mark.parametrize("way", ["ABORT", "FAIL", "ROLLBACK"])
def test_what_a_trigger_of_the_application_raises_is_told_as_that_whatever_its_words(queue, write, words, way):
    """An error was once taken for SQLite's own by a word in its text, and tried again as a locked file."""
    task = queue.task(name="refused")(lambda: None)
    task.enqueue()
    write(
        f"CREATE TRIGGER mine BEFORE INSERT ON litequeue_jobs WHEN new.task = 'refused' "
        f"BEGIN SELECT RAISE({way}, '{words}'); END"
    )
    for enqueue in (task.enqueue, lambda: task.enqueue_many([(), ()])):
        with pytest.raises(StoreError, match=f"^SQLite refused: .*{words}") as raised:
            enqueue()
        assert type(raised.value) is StoreError
    assert len(queue.jobs()) == 1
