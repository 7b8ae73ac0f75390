"""Children that cannot be started: no job is to blame, the error says why, and it goes on afterwards."""

import errno
import math
import os
import signal
import subprocess
import sys
import threading

import pytest

import child_jobs
from child_processes import children_of, descriptors, needs_proc
from crash.watching import until
from litequeue import Queue
from litequeue.children import child_process, output
from litequeue.worker.executor import child_pool

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="signals, /proc"), needs_proc]


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(child_pool, "FIRST_PAUSE", 0.02)


@pytest.fixture
def pid(queue):
    return queue.task(process=True)(child_jobs.pid)


def refusing(monkeypatch, error, times):
    """Have the system refuse a process so many times."""
    real, refused = subprocess.Popen, []

    def popen(*arguments, **options):
        if len(refused) < times:
            refused.append(1)
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(child_process.subprocess, "Popen", popen)
    return refused


@pytest.mark.parametrize(
    "error",
    [
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError(errno.EMFILE, "Too many open files"),
        MemoryError(),
        subprocess.SubprocessError("Exception occurred in preexec_fn."),
    ],
    ids=lambda error: type(error).__name__ + str(getattr(error, "errno", "")),
)
def test_where_the_system_gives_no_process_the_job_waits(queue, pid, monkeypatch, caplog, error):
    refused = refusing(monkeypatch, error, 3)
    with queue.worker(children=1):
        job = pid.enqueue()
        assert job.result(timeout=30)
    assert len(refused) == 3
    assert not job.refresh().errors
    told = [record.getMessage() for record in caplog.records if "no child process could be started" in record.msg]
    assert len(told) == 3
    assert str(error) in told[0]
    assert [line.rpartition("again in ")[2] for line in told] == ["20ms", "40ms", "80ms"]


def test_where_the_system_gives_no_descriptor_the_job_waits(queue, pid, monkeypatch):
    real, refused = child_process.Pipe, []

    def pipe():
        if len(refused) < 2:
            refused.append(1)
            raise OSError(errno.EMFILE, "Too many open files")
        return real()

    monkeypatch.setattr(child_process, "Pipe", pipe)
    with queue.worker(children=1):
        assert pid.enqueue().result(timeout=30)


def test_where_the_system_gives_no_thread_no_process_is_left(queue, pid, monkeypatch):
    before, real, refused = children_of(), threading.Thread.start, []

    def start(thread):
        if thread.name == "litequeue-output" and len(refused) < 3:
            refused.append(1)
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(output.threading.Thread, "start", start)
    with queue.worker(children=1):
        child = pid.enqueue().result(timeout=30)
        assert children_of() - before == {child}
    assert len(refused) == 3


def test_where_the_system_gives_no_thread_for_a_child_the_job_waits(queue, pid, monkeypatch):
    real, refused = threading.Thread.start, []

    def start(thread):
        if thread.name.startswith("litequeue-child") and len(refused) < 3:
            refused.append(1)
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with queue.worker(children=1):
        assert pid.enqueue().result(timeout=30)
    assert len(refused) == 3


def test_an_interpreter_that_dies_at_once_is_told_of_with_what_it_printed(queue, pid, monkeypatch, caplog):
    died = []

    def command(number):
        died.append(number)
        return [sys.executable, "-c", "import os; print('no way', flush=True); os._exit(7)"]

    real = child_process.child_command
    monkeypatch.setattr(child_process, "child_command", lambda n: command(n) if len(died) < 3 else real(n))
    with queue.worker(children=1):
        job = pid.enqueue()
        assert job.result(timeout=30)
    assert not job.refresh().errors
    assert "no child process could be started: it ended with exit code 7" in caplog.text
    assert "it printed last:\nno way" in caplog.text


def test_pauses_grow_to_half_a_minute_and_those_who_fail_together_count_once(queue, pid, monkeypatch):
    worker = queue.worker(children=4)
    with worker:
        pool = worker._loop._executor._children
        monkeypatch.setattr(child_pool, "FIRST_PAUSE", 0.5)
        pool._pause, pauses = 0.5, []
        now = [1000.0]
        monkeypatch.setattr(pool, "_clock", type("Clock", (), {"monotonic": staticmethod(lambda: now[0])}))
        for _ in range(9):
            for _ in range(4):
                pool.note_failed_start("why")
            pauses.append(pool._paused_until - now[0])
            assert pool.free == 0
            now[0] = pool._paused_until
            assert pool.free == 4
        assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
        assert pool.watch_in() == math.inf


def test_a_full_system_that_refuses_some_children_runs_jobs_in_the_others(queue, tmp_path, monkeypatch):
    gated = queue.task(process=True)(child_jobs.gated)
    real, made, first = subprocess.Popen, [], threading.Lock()

    def popen(*arguments, **options):
        if not first.acquire(blocking=False):
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        made.append(real(*arguments, **options))
        return made[0]

    monkeypatch.setattr(child_process.subprocess, "Popen", popen)
    gate = tmp_path / "gate"
    gate.touch()
    with queue.worker(children=4):
        jobs = [gated.enqueue(str(tmp_path / str(n)), str(gate)) for n in range(20)]
        assert {job.result(timeout=60) for job in jobs} == {made[0].pid}


def test_a_module_that_cannot_be_imported_in_a_child_fails_no_job(queue, tmp_path, monkeypatch, caplog):
    """Its database may be away for a while; other tasks go on."""
    (tmp_path / "app_of_children.py").write_text(
        "import os\n"
        "from pathlib import Path\n"
        f"if os.getpid() != {os.getpid()} and not Path({str(tmp_path / 'gate')!r}).exists():\n"
        "    raise ConnectionError('the database is away')\n"
        "def five() -> int:\n    return 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import app_of_children

    five, pid = queue.task(process=True)(app_of_children.five), queue.task(process=True)(child_jobs.pid)
    with queue.worker(children=1):
        job = five.enqueue()
        until(lambda: "five cannot begin in a child process: ConnectionError: the database is away" in caplog.text)
        assert pid.enqueue().result(timeout=30)
        until(lambda: caplog.text.count("five cannot begin") > 2)
        (tmp_path / "gate").touch()
        assert job.result(timeout=30) == 5
    assert not job.refresh().errors


@pytest.mark.parametrize("how", ["os._exit(4)", "os.abort()", "os.kill(os.getpid(), 9)"])
def test_a_module_that_kills_the_child_fails_no_job(queue, tmp_path, monkeypatch, caplog, how):
    (tmp_path / "deadly.py").write_text(
        "import os\n"
        "from pathlib import Path\n"
        f"if os.getpid() != {os.getpid()} and not Path({str(tmp_path / 'gate')!r}).exists():\n    {how}\n"
        "def five() -> int:\n    return 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "deadly", raising=False)
    import deadly

    five = queue.task(process=True)(deadly.five)
    with queue.worker(children=1):
        job = five.enqueue()
        until(lambda: caplog.text.count("no child process could be started") > 1)
        (tmp_path / "gate").touch()
        assert job.result(timeout=30) == 5
    assert not job.refresh().errors


def test_a_child_that_never_is_ready_is_given_up(queue, pid, monkeypatch, caplog):
    from litequeue.worker.executor import child_handler

    monkeypatch.setattr(child_handler, "START_WITHIN", 0.3)
    monkeypatch.setattr(child_handler, "EXIT_SEEN", 0.05)
    hung, real = [], child_process.child_command

    def command(number):
        hung.append(number)
        return [sys.executable, "-c", "import time; time.sleep(600)"]

    monkeypatch.setattr(child_process, "child_command", lambda n: command(n) if not hung else real(n))
    with queue.worker(children=1):
        job = pid.enqueue()
        until(lambda: "it was not ready within 0.3 s, and was killed by SIGKILL" in caplog.text)
        monkeypatch.setattr(child_handler, "START_WITHIN", 60)
        assert job.result(timeout=60)


@pytest.mark.parametrize("hangs", ["before it has read a word", "in an import"])
def test_a_stop_waits_for_no_child_that_is_starting(queue, tmp_path, monkeypatch, hangs):
    before = children_of()
    begun = tmp_path / "begun"
    code = f"open({str(begun)!r}, 'w').close(); import time; time.sleep(600)"
    if hangs == "in an import":
        (tmp_path / "endless.py").write_text(f"import os\nif os.getpid() != {os.getpid()}:\n    {code}\ndef f(): ...\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "endless", raising=False)
        import endless

        slow = queue.task(process=True)(endless.f)
    else:
        monkeypatch.setattr(child_process, "child_command", lambda _: [sys.executable, "-c", code])
        slow = queue.task(process=True)(child_jobs.pid)
    monkeypatch.setattr(child_pool, "LAST_WAIT", 60.0)
    with queue.worker(children=1):
        job = slow.enqueue()
        until(begun.exists)
    assert job.refresh().status == "queued"
    assert children_of() == before


def test_whoever_waits_for_every_process_of_the_program_takes_no_child_for_alive(queue, tmp_path):
    """The application's own handler of SIGCHLD reaps the child before we do."""
    dies, pid = queue.task(process=True)(child_jobs.exits), queue.task(process=True)(child_jobs.pid)

    def reap(*_):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass

    old = signal.signal(signal.SIGCHLD, reap)
    try:
        with queue.worker(children=1):
            job = dies.enqueue(3)
            until(lambda: job.refresh().status == "failed")
            assert pid.enqueue().result(timeout=30)
    finally:
        signal.signal(signal.SIGCHLD, old)
    told = {error.message for error in job.errors}
    assert all("ended with exit code 3" in each or "the system does not tell how" in each for each in told)


def test_ignored_ends_of_processes_do_not_matter(queue):
    pid = queue.task(process=True)(child_jobs.pid)
    dies = queue.task(process=True)(child_jobs.exits)
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with queue.worker(children=1):
            job = dies.enqueue(3)
            until(lambda: job.refresh().status == "failed")
            assert pid.enqueue().result(timeout=30)
    finally:
        signal.signal(signal.SIGCHLD, old)
    assert "ended, and the system does not tell how" in job.errors[0].message


def test_nothing_is_left_open_by_children_that_could_not_start(queue, monkeypatch, caplog):
    pid = queue.task(process=True)(child_jobs.pid)
    monkeypatch.setattr(child_process, "child_command", lambda _: [sys.executable, "-c", "raise SystemExit(1)"])
    monkeypatch.setattr(child_pool, "LONGEST_PAUSE", 0.05)
    with queue.worker(children=2):
        pid.enqueue()
        until(lambda: caplog.text.count("no child process could be started") > 2)
        before = descriptors()
        until(lambda: caplog.text.count("no child process could be started") > 12)
        until(lambda: descriptors() <= before + 6)
