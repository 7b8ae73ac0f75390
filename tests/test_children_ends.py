"""A child process that dies takes its own job alone with it: it is told how, the worker goes on, and so do others."""

import contextlib
import os
import signal
import sys
import threading

import pytest

import child_jobs
from child_processes import children_of, is_gone, needs_proc, number_in
from crash.watching import ended, status_of, until
from litequeue import Queue

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="signals, /proc"), needs_proc]


both_drivers = pytest.mark.parametrize("queue", ["apsw", "sqlite3"], indirect=True)


@pytest.fixture
def queue(database, request):
    with Queue(database, driver=getattr(request, "param", "apsw"), durability="normal") as queue:
        yield queue


@pytest.fixture
def task(queue):
    """Make a task of a function of `child_jobs`, which runs in a child process."""

    def declared(name, **options):
        return queue.task(process=True, **options)(getattr(child_jobs, name))

    return declared


@pytest.fixture
def worker(queue):
    """Start a worker with two children, which ends with the test; `add` is there to see that it goes on."""

    def start(**options):
        worker = queue.worker(children=2, **options)
        stack.append(worker)
        return worker.__enter__()

    stack = []
    yield start
    for each in stack:
        each.__exit__()


ENDS = [
    ("segfault", (), "was killed by SIGSEGV", "Segmentation fault"),
    ("abort", (), "was killed by SIGABRT", "Fatal Python error: Aborted"),
    ("exits", (3,), "ended with exit code 3", ""),
    ("exits", (0,), "ended with exit code 0", ""),
    ("prints_and_exits", ("as far as here", 1), "ended with exit code 1", "as far as here"),
    ("closes_all_and_returns", (), "", ""),
    ("fills_memory", (400_000_000,), "was killed by SIGSEGV", ""),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments", "how", "printed"), ENDS, ids=[f"{name}{a}" for name, a, *_ in ENDS])
def test_a_death_is_one_of_the_job_alone_that_ran_there(queue, task, worker, tmp_path, name, arguments, how, printed):
    dies, beside, gate = task(name), task("gated"), str(tmp_path / "gate")
    inside, released = threading.Event(), threading.Event()

    @queue.task
    def in_a_thread() -> bool:
        inside.set()
        return released.wait(30)

    add = task("add")
    worker()
    thread, other = in_a_thread.enqueue(), beside.enqueue(str(tmp_path / "other"), gate)
    neighbour = number_in(tmp_path / "other")
    assert inside.wait(30)
    job = dies.enqueue(*arguments)
    record = ended(job)
    assert (record.status, len(job.refresh().errors)) == ("failed", 3)
    for error in job.errors:
        assert error.type == "ChildDied"
        assert how in error.message
        assert "MB of memory" in error.message
        assert printed in error.traceback
    assert add.enqueue(1, 2).result(timeout=30) == 3
    assert not is_gone(neighbour)
    assert status_of(thread) == status_of(other) == "running"
    open(gate, "w").close()
    released.set()
    assert thread.result(timeout=30) is True
    assert other.result(timeout=30) == neighbour
    assert [other.refresh().attempt, thread.refresh().attempt] == [1, 1]
    assert not other.errors


@both_drivers
def test_a_child_that_the_system_kills_is_told_of_as_such(task, worker, tmp_path):
    """As the OOM killer does it: SIGKILL from outside."""
    job_of = task("gated_once")
    worker()
    job = job_of.enqueue(str(tmp_path / "first"), str(tmp_path / "gate"))
    (tmp_path / "gate").touch()
    pid = number_in(tmp_path / "first")
    os.kill(pid, signal.SIGKILL)
    assert job.result(timeout=30) != pid
    (error,) = job.refresh().errors
    assert "was killed by SIGKILL (the system does that when memory runs out)" in error.message
    assert (job.attempt, error.attempt) == (2, 1)


def test_a_death_is_no_try(task, worker, tmp_path):
    """It counts as a death; the retries are for errors."""
    dies = task("second_try_after_death", retries=1, backoff=0)
    worker()
    job = dies.enqueue(str(tmp_path / "died"))
    assert ended(job).status == "failed"
    assert [error.type for error in job.refresh().errors] == ["ChildDied", "ValueError", "ValueError"]


@both_drivers
def test_a_job_that_may_run_once_fails_as_interrupted(task, worker):
    dies = task("exits", delivery="at_most_once")
    worker()
    job = dies.enqueue(3)
    assert ended(job).status == "failed"
    (error,) = job.refresh().errors
    assert error.type == "Interrupted"
    assert "ended with exit code 3" in error.message


def test_a_child_that_closes_its_connection_and_hangs_is_ended_at_its_limit(task, worker):
    hangs = task("closes_all_and_hangs", timeout="1s")
    worker()
    assert ended(hangs.enqueue()).status == "failed"


def test_memory_that_runs_out_in_python_is_an_error_like_others(task, worker):
    grows = task("runs_out_of_memory")
    worker(max_jobs_per_child=1)
    job = grows.enqueue(400_000_000)
    assert ended(job).status == "failed"
    assert job.refresh().errors[0].type in ("MemoryError", "ChildDied")


@pytest.mark.parametrize("code", [0, 3, "text", None])
def test_sys_exit_is_an_error_of_the_job(task, worker, code):
    leaves, pid = task("sys_exit"), task("pid")
    worker()
    first = pid.enqueue().result(timeout=30)
    job = leaves.enqueue(code)
    assert ended(job).status == "failed"
    assert job.refresh().errors[0].type == "SystemExit"
    assert pid.enqueue().result(timeout=30) == first


@pytest.mark.parametrize("line", ["a line\n", "no line "], ids=["lines", "without a newline"])
def test_output_without_end_is_cut(task, worker, tmp_path, line, capfd):
    prints = task("prints_without_end", timeout="1s")
    worker()
    job = prints.enqueue(str(tmp_path / "begun"), line)
    assert ended(job).status == "failed"
    (error,) = job.refresh().errors
    assert error.type.endswith("JobTimeout")
    capfd.readouterr()  # else it is shown beside a failure
    assert line.strip() in error.traceback
    assert len(error.traceback) < 4500


def test_a_copy_that_the_function_forks_ends_no_job(task, worker):
    forks, pid = task("forks"), task("pid")
    worker()
    first = pid.enqueue().result(timeout=30)
    assert forks.enqueue().result(timeout=30) == 0
    assert pid.enqueue().result(timeout=30) == first


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_job_may_use_processes_of_its_own_that_log(task, worker, method):
    """What they log does not mix with what the child tells its worker."""
    works = task("multiprocesses")
    worker()
    job = works.enqueue(method)
    assert job.result(timeout=60) == [number * number for number in range(20)]
    assert job.refresh().attempt == 1


def test_a_process_that_a_job_leaves_lives_as_long_as_the_child(queue, task, tmp_path):
    leaves, pid = task("leaves_a_process"), task("pid")
    with queue.worker(children=1):
        child = pid.enqueue().result(timeout=30)
        left = leaves.enqueue(str(tmp_path / "left")).result(timeout=30)
        assert pid.enqueue().result(timeout=30) == child
        assert not is_gone(left)
    until(lambda: is_gone(left), "what the child has left is killed with it")
    assert is_gone(child)


def test_a_copy_that_leaves_the_session_keeps_no_death_from_being_seen(task, worker, tmp_path):
    """It holds what its parent had open: pipes, and a connection in which a message is only half written."""
    dies, pid = task("forks_a_daemon_and_dies_amid_a_message"), task("pid")
    worker()
    job = dies.enqueue(str(tmp_path / "daemon"))
    try:
        assert ended(job).status == "failed"
        assert [error.type for error in job.refresh().errors] == ["ChildDied"] * 3
        assert pid.enqueue().result(timeout=30)
    finally:
        for left in tmp_path.glob("daemon*"):
            with contextlib.suppress(ProcessLookupError):  # it was killed before it had left the session
                os.kill(int(left.read_text()), signal.SIGKILL)


def test_a_copy_of_a_child_ends_by_a_signal_as_any_process(task, worker):
    """`Pool.terminate()` sends SIGTERM, and waits."""
    forks = task("forks_one_that_is_terminated")
    worker()
    for number in (signal.SIGTERM, signal.SIGHUP):
        assert forks.enqueue(int(number)).result(timeout=30) == -number
    assert forks.enqueue(int(signal.SIGINT)).result(timeout=30) == 1  # by KeyboardInterrupt


def test_a_process_that_a_dying_job_leaves_dies_with_it(task, worker, tmp_path):
    leaves = task("leaves_a_process_and_dies")
    worker()
    ended(leaves.enqueue(str(tmp_path / "left")))
    until(lambda: is_gone(number_in(tmp_path / "left")))


def test_a_thread_that_a_job_leaves_does_not_hold_up_the_next(queue, task):
    leaves, pid = task("leaves_a_thread"), task("pid")
    with queue.worker(children=1):
        child = leaves.enqueue().result(timeout=30)
        assert pid.enqueue().result(timeout=30) == child
    assert is_gone(child)


@pytest.mark.filterwarnings("ignore:the arguments of double take")
def test_values_of_twenty_megabytes_go_in_and_out(database):
    with Queue(database, durability="normal", max_payload=64 << 20) as queue:
        double = queue.task(process=True)(child_jobs.double)
        text = "x" * 20_000_000
        with queue.worker(children=1):
            assert double.enqueue(text).result(timeout=60) == text * 2


def test_a_result_that_cannot_be_encoded_fails_the_job(task, worker):
    bad, pid = task("unencodable"), task("pid")
    worker()
    job = bad.enqueue()
    assert ended(job).status == "failed"
    assert job.refresh().errors[0].type == "litequeue.EncodeError"
    assert pid.enqueue().result(timeout=30)


def test_what_a_job_does_to_its_process_does_not_reach_the_worker(queue, task, tmp_path):
    spoils, pid, printing = task("spoils_its_process"), task("pid"), task("prints")
    here, handler = os.getcwd(), signal.getsignal(signal.SIGTERM)
    with queue.worker(children=1):
        child = spoils.enqueue(str(tmp_path)).result(timeout=30)
        assert pid.enqueue().result(timeout=30) == child
        assert printing.enqueue("text").result(timeout=30) == child
        assert (os.getcwd(), signal.getsignal(signal.SIGTERM)) == (here, handler)
        assert os.fstat(0)
    assert is_gone(child)


def test_an_idle_child_that_is_killed_is_replaced(queue, task, caplog):
    pid = task("pid")
    with queue.worker(children=1):
        first = pid.enqueue().result(timeout=30)
        os.kill(first, signal.SIGKILL)
        until(lambda: "which had no job, was killed by SIGKILL" in caplog.text)
        assert pid.enqueue().result(timeout=30) != first
        job = pid.enqueue()
        job.result(timeout=30)
        assert job.refresh().attempt == 1


def test_children_end_with_their_worker(queue, task):
    before = children_of()
    pid = task("pid")
    with queue.worker(children=2):
        pid.enqueue().result(timeout=30)
        assert children_of() - before
    assert children_of() == before


def test_what_a_child_logs_reaches_the_handlers_of_the_worker(task, worker, caplog):
    """Also with values beside it of classes that only the child has."""
    logs = task("logs")
    worker()
    job = logs.enqueue("from a child")
    job.result(timeout=30)
    (record,) = [each for each in caplog.records if each.name == "shop"]
    assert record.getMessage() == "from a child"
    assert record.of == "a thing"
    assert record.job_id == job.id
    assert job.refresh().attempt == 1
