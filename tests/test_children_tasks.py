"""Everything that a task may do in a thread it may do in a child process as well."""

import datetime as dt
import sys

import pytest

import child_jobs
from child_processes import needs_proc
from crash.watching import ended, until
from litequeue import Queue, Unsupported, group
from litequeue.serialization.encryption import EncryptedCodec, new_key

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="signals, /proc"), needs_proc]


@pytest.fixture(params=["apsw", "sqlite3"])
def queue(database, request):
    with Queue(database, driver=request.param, durability="normal") as queue:
        with queue.transaction() as db:
            db.execute("CREATE TABLE effects (value)")
        yield queue


@pytest.fixture
def task(queue):
    def declared(name, **options):
        return queue.task(process=True, **options)(getattr(child_jobs, name))

    return declared


def effects(queue):
    with queue.transaction() as db:
        return [value for (value,) in db.execute("SELECT value FROM effects ORDER BY value")]


def test_plain_functions_and_coroutines_run_there(queue, task):
    add, slowly = task("add"), task("add_slowly")
    with queue.worker(children=2):
        jobs = [each.enqueue(number, b=2) for each in (add, slowly) for number in range(5)]
        assert [job.result(timeout=30) for job in jobs] == [2, 3, 4, 5, 6] * 2


@pytest.mark.parametrize(
    ("what", "status", "errors", "attempt"),
    [("Retry", "succeeded", 1, 2), ("Snooze", "succeeded", 0, 2), ("GiveUp", "failed", 1, 1)],
)
def test_a_function_may_ask_for_what_follows(queue, task, what, status, errors, attempt):
    asks = task("asks", retries=3, backoff=0)
    with queue.worker(children=1):
        job = asks.enqueue(what)
        assert ended(job).status == status
    assert (len(job.refresh().errors), job.attempt) == (errors, attempt)


def test_a_backoff_function_is_called_there(queue, task):
    raises = task("raises", retries=1, backoff=child_jobs.after_each_failure, timeout=None)
    before = queue.now()
    with queue.worker(children=1):
        job = raises.enqueue("no")
        until(lambda: job.refresh().errors)
    assert job.run_at >= dt.datetime.fromtimestamp(before + 999, dt.timezone.utc)
    (error,) = job.errors
    assert (error.type, error.message) == ("ValueError", "no")
    assert "raise ValueError(message)" in error.traceback
    assert "litequeue" not in error.traceback


def test_an_older_version_is_upgraded_there(queue, task):
    old = queue.task(name="send", version=1)(lambda first: first)
    with queue.worker():  # what it calls its arguments is on record now
        pass
    job = old.enqueue(1)
    with Queue(queue.path, driver=queue.engine.driver_name, durability="normal") as newer:
        newer.task(name="send", version=2, upgrade=child_jobs.older, process=True)(child_jobs.add)
        with newer.worker(children=1):
            assert newer.job(job.id).result(timeout=30) == 101


def test_chunks_and_maps_run_there(queue, task):
    add = task("add")
    with queue.worker(children=2):
        assert add.map(range(4)).results(timeout=30) == [1, 2, 3, 4]
        (job,) = add.chunks([1, 2, 3], 3).jobs
        assert job.result(timeout=30) == [2, 3, 4]


def test_results_are_handed_on_to_jobs_there(queue, task):
    add, slowly, total = task("add"), task("add_slowly"), task("handed_on")
    with queue.worker(children=2):
        assert (add.s(1) | slowly.s() | add.s()).enqueue().result(timeout=30) == 4
        assert (group(add.s(n) for n in range(3)) | total.s()).enqueue().result(timeout=30) == 6


def test_a_death_calls_on_failure(queue, task):
    dies, told = task("exits"), task("told_of")
    with queue.worker(children=1):
        job = dies.using(on_failure=told.s()).enqueue(3)
        assert ended(job).status == "failed"
        (callback,) = until(lambda: queue.jobs(task="told_of"))
        assert callback.result(timeout=30).startswith("ChildDied: its process ended with exit code 3")


def test_a_rate_with_costs_is_charged_from_there(queue, task):
    calls = queue.limit("calls", rate="1000/h")
    charges = queue.task(process=True, limits=[calls.cost(10)])(child_jobs.charges)
    with queue.worker(children=1):
        charges.enqueue(700).result(timeout=30)
        charges.enqueue(0).result(timeout=30)
        until(lambda: queue.limits["calls"].started == 700)


@pytest.mark.parametrize(
    "name",
    ["emits", "aemits", "emits_and_completes", "aemits_and_completes", "emits_in_a_block_that_fails"],
)
def test_what_it_emits_is_read_by_others_whole_and_in_order(queue, task, name):
    says = task(name)
    with queue.worker(children=1):
        jobs = [says.enqueue(3) for _ in range(3)]
        assert [[event.value for event in job.stream(timeout=30)] for job in jobs] == [[0, 1, 2]] * 3


@pytest.mark.parametrize("name", ["completes", "acompletes"])
def test_rows_and_success_are_one_commit(queue, task, name):
    """The block has a connection of the queue's own driver."""
    pays = task(name)
    with queue.worker(children=2) as worker:
        jobs = pays.enqueue_many([(n,) for n in range(10)])
        assert [job.result(timeout=30) for job in jobs] == list(range(10))
    assert effects(queue) == list(range(10))
    assert worker.lost == 0


def test_the_block_has_the_connection_that_the_queue_would_open(database):
    with Queue(database, driver="sqlite3", durability="normal", on_connect=child_jobs.set_up) as queue:
        with queue.transaction() as db:
            db.execute("CREATE TABLE effects (value)")
        size = queue.task(process=True)(child_jobs.cache_size)
        with queue.worker(children=1):
            assert size.enqueue().result(timeout=30) == "done"
        assert effects(queue) == ["-1000 litequeue.sqlite.drivers.sqlite3_driver"]


def test_a_success_that_is_on_record_stands_whatever_becomes_of_the_child(queue, task, caplog):
    pays, add = task("completes_and_dies"), task("add")
    with queue.worker(children=1) as worker:
        job = pays.enqueue(7)
        assert job.result(timeout=30) == 7
        assert add.enqueue(1).result(timeout=30) == 2
    assert worker.lost == 0
    assert "death" not in caplog.text
    assert (job.refresh().status, job.errors, effects(queue)) == ("succeeded", (), [7])


def test_values_are_emitted_from_there(queue, task, tmp_path):
    emits = task("emits_dicts")
    with queue.worker(children=1):
        job = emits.enqueue(str(tmp_path / "begun"))
        assert [event.value["number"] for event in job.stream()] == [0, 1, 2, 3, 4]


def test_a_thread_that_a_job_has_left_tells_of_no_other_job(queue, task, tmp_path):
    leaves, add, reports = task("leaves_a_thread_that_reports"), task("add"), task("reports")
    with queue.worker(children=1):
        left = leaves.enqueue(str(tmp_path / "heard"))
        left.result(timeout=30)
        jobs = [add.enqueue(number) for number in range(100)]
        assert [job.result(timeout=30) for job in jobs] == [*range(1, 101)]
        assert until(lambda: (tmp_path / "heard").exists() and (tmp_path / "heard").read_text()) == "Fenced"
        job = reports.enqueue(3)
        job.result(timeout=30)
    assert job.refresh().progress.note == "at 3"
    assert not [each for each in jobs if each.refresh().progress is not None or [*each.stream()]]


@pytest.mark.parametrize("name", ["reports", "areports"])
def test_progress_is_stored_from_there(queue, task, name):
    reports = task(name)
    with queue.worker(children=1):
        job = reports.enqueue(5)
        job.result(timeout=30)
    assert (job.refresh().progress.done, job.progress.total, job.progress.note) == (5, 5, "at 5")


def test_a_job_enqueues_another_from_there(queue, task):
    enqueues, add = task("enqueues"), task("add")
    with queue.worker(children=2):
        other = enqueues.enqueue(str(queue.path), 5).result(timeout=30)
        assert queue.job(other).result(timeout=30) == 6
    assert add.name == "add"


def test_a_codec_that_cannot_be_pickled_refuses_a_task_that_is_declared_elsewhere(database):
    with Queue(database, durability="normal", codec=EncryptedCodec(new_key())) as queue:
        queue.task(process=True)(child_jobs.add)
        with pytest.raises(Unsupported, match=r"cannot be pickled .*; put @queue.task\(process=True, ...\) above"):
            queue.worker(children=1).run(until_idle=True)


def test_process_and_soft_timeout_are_checked_where_they_are_given(queue):
    for options, words in [
        ({"soft_timeout": "1s"}, "soft_timeout='1s' needs process=True, where timeout= kills"),
        ({"soft_timeout": 0, "process": True}, "soft_timeout must be positive, got 0"),
        ({"soft_timeout": "5s", "timeout": "5s", "process": True}, "must be less than timeout='5s'"),
        ({"soft_timeout": "11m", "process": True}, "that is the queue's timeout, 10m, for the task has none"),
    ]:
        with pytest.raises(ValueError, match=words):
            queue.task(**options)(child_jobs.add)
    with pytest.raises(TypeError, match="process must be True or False, got 1"):
        queue.task(process=1)(child_jobs.add)
