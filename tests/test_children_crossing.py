"""What crosses between a child and its worker arrives whole, whatever the application does meanwhile."""

import ctypes
import logging
import os
import subprocess
import sys

import pytest

import child_jobs
from child_processes import needs_proc
from crash.watching import ended, until
from litequeue import Queue
from litequeue.children import child_process, log_records
from litequeue.children.messages import Found, Setup
from litequeue.ipc.this_process import resident_memory
from litequeue.worker.child import loading
from litequeue.worker.executor import child_handler

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="signals, /proc"), needs_proc]


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal", job_logs="16KiB") as queue:
        yield queue


@pytest.fixture
def run(queue):
    """Run one of the jobs in a child, and return it once it has ended."""

    def running(name, *arguments, **options):
        task = queue.task(process=True, **options)(getattr(child_jobs, name))
        with queue.worker(children=1):
            job = task.enqueue(*arguments)
            ended(job, 60)
        return job.refresh()

    return running


def test_a_coroutine_may_cancel_what_it_asks_the_worker(run):
    job = run("cancels_what_it_asks", 200, retries=0)
    assert (job.result(), job.attempt) == (200, 1)


@pytest.mark.parametrize("name", ["reports_while_it_completes", "areports_while_it_completes"])
def test_progress_may_be_reported_in_the_block_of_completing(run, name):
    job = run(name, retries=0)
    assert (job.result(), job.progress.note) == ("paid", "inside")


@pytest.mark.parametrize("raises", [False, True], ids=["", "raises"])
def test_a_signal_handler_may_log_amid_any_other_message(run, raises):
    job = run("logs_in_a_signal_handler", raises, timeout="60s", retries=0)
    assert (job.result(), job.attempt) == ("heard", 1)


def test_a_finalizer_may_log_amid_any_other_message(run):
    assert run("logs_when_it_is_collected", 2000, timeout="60s", retries=0).result() == 2000


def test_a_function_that_only_logs_hears_its_soft_limit(run):
    assert run("logs_large_lines_until_its_limit", soft_timeout="0.2s", timeout="30s").result() == "heard"


def test_lines_of_a_thread_that_a_job_has_left_are_not_those_of_the_next(queue):
    leaves, sleeps = (
        queue.task(process=True)(getattr(child_jobs, name))
        for name in ("leaves_a_thread_that_logs", "sleeps_for_a_moment")
    )
    with queue.worker(children=1):
        leaves.enqueue().result(timeout=30)
        job = sleeps.enqueue()
        job.result(timeout=30)
    assert job.logs() == ""


def program_prints(code, folder):
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.rstrip()


EXPECTED = ["of a logger that does not propagate", "of another one"]
CONFIGURED = """
import logging, logging.config, sys
from litequeue import Queue
logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"file": {"class": "logging.FileHandler", "filename": "lines.log"}},
    "loggers": {"shop": {"handlers": ["file"], "propagate": False, "level": "INFO"}},
    "root": {"handlers": ["file"], "level": "INFO"},
})
queue = Queue("app.db", job_logs="16KiB")

@queue.task(process=True)
def pack():
    logging.getLogger("shop").info("of a logger that does not propagate")
    logging.getLogger("other").info("of another one")
"""


def test_what_the_application_configures_in_its_module_keeps_no_line_back(tmp_path):
    (tmp_path / "shop.py").write_text(CONFIGURED)
    program = (
        "import shop\njob = shop.pack.enqueue()\nshop.queue.worker(children=1).run(until_idle=True)\nprint(job.logs())"
    )
    ran = program_prints(program, tmp_path)
    assert [line.rpartition(": ")[2] for line in ran.splitlines()] == EXPECTED
    lines = [line for line in (tmp_path / "lines.log").read_text().splitlines() if line in EXPECTED]
    assert lines == EXPECTED  # once each


@pytest.mark.parametrize("name", ["exits_in_a_task_of_its_own", "stops_its_loop"])
def test_what_else_happens_on_the_loop_of_a_coroutine_does_not_end_it(run, name):
    job = run(name, retries=0)
    assert (job.result()[:4], job.attempt) == ("fine", 1)


def test_a_coroutine_for_which_there_is_no_loop_has_not_begun(queue, tmp_path):
    takes = queue.task(process=True)(child_jobs.takes_all_descriptors)
    once = queue.task(process=True, delivery="at_most_once")(child_jobs.acalled)
    with queue.worker(children=1):
        child = takes.enqueue().result(timeout=30)
        assert once.enqueue(str(tmp_path / "called")).result(timeout=30) != child
    assert (tmp_path / "called").exists()


def test_a_job_that_leaves_the_folder_takes_no_file_from_the_next(tmp_path):
    (tmp_path / "shop.py").write_text(
        "import os\n"
        "from litequeue import Queue, current_job\n"
        "queue = Queue('app.db')\n"
        "@queue.task(process=True)\ndef leaves():\n    os.chdir('/')\n"
        "@queue.task(process=True, retries=0)\ndef pays():\n    with current_job().completing('paid'): pass\n"
    )
    program = (
        "import shop\njobs = [shop.leaves.enqueue(), shop.pays.enqueue()]\n"
        "shop.queue.worker(children=1).run(until_idle=True)\nprint(jobs[1].result(timeout=0))"
    )
    assert program_prints(program, tmp_path) == "paid"


def test_the_last_words_of_a_child_that_prints_much_are_kept(queue):
    pid, dies = (queue.task(process=True)(getattr(child_jobs, name)) for name in ("pid", "prints_much_and_dies"))
    with queue.worker(children=1):
        pid.enqueue().result(timeout=30)
        job = ended(dies.enqueue(), 60)
    assert ["LAST WORDS" in error.traceback for error in job.errors] == [True] * 3


# ---- the end of a child


def started():
    child = child_process.ChildProcess()
    child.begin(Setup(tuple(sys.path), (), None, (), (), {}, "", tells_memory=False))
    assert child.next(30) is not None
    return child


@pytest.mark.parametrize("fork", [os.fork, ctypes.PyDLL(None).fork], ids=["", "in C"])
def test_a_copy_of_this_process_does_not_keep_a_child_from_seeing_its_end(fork):
    child = started()
    copy = fork()
    if not copy:
        ctypes.PyDLL(None).pause()
    try:
        child.channel.close()
        assert child.ends_within(4)
        assert child.take_end().code == 0
    finally:
        os.kill(copy, 9)
        os.waitpid(copy, 0)


def test_a_copy_lets_go_of_the_channel_so_that_the_death_of_this_process_is_seen():
    child = started()
    copy = os.fork()
    if not copy:
        os._exit(0 if child.channel.connection.closed else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
    child.end()


def test_where_the_system_has_no_descriptor_of_a_process_no_other_one_is_killed(monkeypatch):
    monkeypatch.setattr(child_process, "_sentinel", lambda _: None)
    child = started()
    child.channel.close()
    until(lambda: child.has_ended)
    killed = []
    monkeypatch.setattr(child_process.os, "killpg", lambda *given: killed.append(given))
    monkeypatch.setattr(child_process.os, "kill", lambda *given: killed.append(given))
    death = child.take_end()
    assert (death.code, death.peak is not None, killed) == (0, resident_memory() is not None, [])


def test_a_module_that_logs_while_it_is_imported_has_no_more_time_for_that(queue, tmp_path, monkeypatch, caplog):
    (tmp_path / "waits_for_its_database.py").write_text(
        "import logging, os, time\n"
        f"while os.getpid() != {os.getpid()}:\n"
        "    logging.getLogger('shop').warning('it is not there yet')\n    time.sleep(0.05)\n"
        "def work() -> None: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(child_handler, "START_WITHIN", 1.0)
    import waits_for_its_database

    work = queue.task(process=True)(waits_for_its_database.work)
    with queue.worker(children=1):
        job = work.enqueue()
        until(lambda: "it was not ready within 1 s" in caplog.text)
        assert "it is not there yet" in caplog.text
        job.cancel()


def test_while_a_child_ends_its_worker_claims_nothing_for_it(queue, monkeypatch):
    """It may take seconds, in which another worker is to have the next job."""
    free, end = [], child_process.ChildProcess.end
    pid = queue.task(process=True)(child_jobs.pid)
    with queue.worker(children=1, max_jobs_per_child=1) as worker:
        pool = worker._loop._executor._children

        def ends(child):
            free.append(pool.free)
            end(child)

        monkeypatch.setattr(child_process.ChildProcess, "end", ends)
        pid.enqueue().result(timeout=30)
        until(lambda: free)
    assert free[0] == 0


def test_a_module_of_a_file_that_raises_is_met_whole_again(tmp_path):
    (tmp_path / "half.py").write_text("def work(): ...\nraise RuntimeError('the reason')\n")
    found = Found("half_of_a_module", "work", str(tmp_path / "half.py"), None)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the reason"):
            loading.load(found)


def test_a_record_that_cannot_be_read_fails_no_job(monkeypatch, capsys):
    def unreadable(_fields):
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr(logging.Logger, "callHandlers", logging.Logger.callHandlers)  # put back in the end
    log_records.send_records(unreadable, {}, logging.Filter())
    logging.getLogger("shop").warning("packed")
    assert "RuntimeError: dictionary changed size during iteration" in capsys.readouterr().err
