"""What a stop, a signal or the end of the program interrupts is released without blame; a stop told twice is one."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from command_line import DEADLINE, Command
from crash.stops import heeding, stop_all
from crash.watching import ended, status_of, until
from litequeue import Queue
from litequeue.ipc.process_lock import tokens, told

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

# The jobs say what they are at by files; `how` is how the program is to end, and main does it when a job has begun.
APP = """
import asyncio, ctypes, os, re, signal, sys, threading, time
from pathlib import Path
from litequeue import Queue
queue = Queue("app.db", durability="normal")

def begin():
    Path("begun").touch()

@queue.task
def slow() -> int:
    begin()
    while not Path("gate").exists():
        time.sleep(0.01)
    return os.getpid()

@queue.task
async def aslow() -> int:
    begin()
    while not Path("gate").exists():
        await asyncio.sleep(0.01)
    return os.getpid()

@queue.task
def in_c() -> None:
    begin()
    re.match(r"(a|a)*$", "a" * 60 + "b")  # for hours, and no other thread has the interpreter meanwhile

@queue.task
def crashes_when_it_is_to_end() -> None:
    begin()
    while not Path("gate").exists():
        time.sleep(0.01)
    ctypes.string_at(0)  # a segmentation fault

@queue.task
def leaves() -> None:
    os._exit(3)

@queue.task
def interpreter() -> list:
    import warnings
    return [sys.flags.optimize, sys.flags.dev_mode, sys.flags.utf8_mode, "error::UserWarning" in sys.warnoptions,
            sys._xoptions.get("marked"), sys.path]
"""

MAIN = """
from app import *

def begun():
    while not Path("begun").exists():
        time.sleep(0.005)

def say(*what):
    os.write(1, (" ".join(map(str, what)) + "\\n").encode())
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def queue(folder):
    """The app's queue, seen from here: it knows the tasks by name."""
    with Queue(folder / "app.db", durability="normal") as queue:
        for name in ("slow", "aslow", "in_c", "crashes_when_it_is_to_end", "leaves", "interpreter"):
            queue.task(name=name)(lambda: None)
        yield queue


@pytest.fixture
def run(folder):
    """Start a program of these lines, or a command, in which no signal is ignored; its stdout and stderr are one."""
    started = []

    def running(*command):
        if len(command) == 1:
            command = ("-c", MAIN + command[0])
        with heeding():
            process = subprocess.Popen(
                [sys.executable, *command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        started.append(process)
        return process

    yield running
    (folder / "gate").touch()
    for process in started:
        process.kill()
        process.communicate()


def released(queue, job):
    """Have the dead process's job released by a worker that does not know its task; return the record."""
    with Queue(queue.path, durability="normal") as other:
        other.task(name="other")(lambda: None)
        with other.worker(threads=1):
            until(lambda: job.refresh().status != "running")
    return queue.engine.jobs.look_up(job.id)


def blamed(queue, job):
    record = released(queue, job)
    return record.deaths, record.failures, [error.type for error in record.errors]


WORKS = "queue.worker(threads=1, coroutines=1, grace=0.3"
IN_A_THREAD = f"threading.Thread(target={WORKS}).run, daemon=True).start(); begun()"
ENDS = {
    "sys.exit beside a thread": ("slow", f"{IN_A_THREAD}; sys.exit(0)"),
    "the end beside a thread": ("aslow", IN_A_THREAD),
    "an error beside a thread": ("slow", f"{IN_A_THREAD}; 1 / 0"),
    "two blocks never left": ("aslow", f"{WORKS}).__enter__(); {WORKS}).__enter__(); begun()"),
    "an error in a block": ("slow", f"with {WORKS}): begun(); 1 / 0"),
    "sys.exit in a block": ("aslow", f"with {WORKS}): begun(); sys.exit(1)"),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_the_program_is_no_death(queue, run, end):
    task, lines = ENDS[end]
    job = queue.tasks[task].enqueue()
    run(lines).wait(DEADLINE)
    record = queue.engine.jobs.look_up(job.id)  # released by the program itself, before it was gone
    assert (record.status, record.deaths, record.failures) == ("queued", 0, 0)
    assert queue.engine.workers.list() == []


def test_a_block_on_a_loop_that_is_closed_without_leaving_it_is_no_death(queue, run):
    job = queue.tasks["aslow"].enqueue()
    program = run(f"""
async def main():
    await {WORKS}).__aenter__()
    await asyncio.to_thread(begun)
asyncio.run(main())
""")
    program.wait(DEADLINE)
    assert blamed(queue, job) == (0, 0, [])


@pytest.mark.parametrize(
    ("number", "task"), [(signal.SIGTERM, "slow"), (signal.SIGINT, "in_c"), (signal.SIGHUP, "in_c")]
)
def test_sigkill_after_a_stop_is_no_death(queue, folder, run, number, task):
    """Also amid a call in C that lets no other Python code run, not even a signal's handler."""
    job = queue.tasks[task].enqueue()
    worker = run("-m", "litequeue", "run", "app:queue", "--threads", "1")
    until((folder / "begun").exists)
    worker.send_signal(number)
    directory = queue.engine.directory
    until(lambda: any(told(directory, token) for token in tokens(directory)))
    worker.kill()
    worker.wait(DEADLINE)
    assert job.refresh().status == "running"
    assert blamed(queue, job) == (0, 0, [])


def test_a_crash_after_a_stop_is_no_death(queue, folder, run):
    job = queue.tasks["crashes_when_it_is_to_end"].enqueue()
    worker = run("-m", "litequeue", "run", "app:queue", "--threads", "1")
    until((folder / "begun").exists)
    worker.send_signal(signal.SIGTERM)
    until(lambda: "finishing running jobs" in worker.stdout.readline())
    (folder / "gate").touch()
    assert worker.wait(DEADLINE) == -signal.SIGSEGV
    assert blamed(queue, job) == (0, 0, [])


@pytest.mark.parametrize("task", ["slow", "leaves"])
def test_sigkill_without_a_stop_and_os_exit_are_deaths(queue, folder, run, task):
    job = queue.tasks[task].enqueue()
    worker = run("-m", "litequeue", "run", "app:queue", "--threads", "1")
    if task == "slow":
        until((folder / "begun").exists)
        worker.kill()
    worker.wait(DEADLINE)
    assert blamed(queue, job) == (1, 0, [])


def test_a_child_of_a_fork_that_ends_by_sys_exit_says_nothing_of_its_parents_workers(queue, run):
    job = queue.tasks["slow"].enqueue()
    program = run(f"""
with {WORKS}):
    begun()
    if os.fork() == 0:
        sys.exit(0)
    os.wait()
    os.kill(os.getpid(), signal.SIGKILL)
""")
    program.wait(DEADLINE)
    assert blamed(queue, job) == (1, 0, [])


def test_a_job_under_which_three_workers_died_is_named_in_an_error(queue, run, caplog):
    job = queue.tasks["leaves"].enqueue()
    for _ in range(3):
        run("-m", "litequeue", "run", "app:queue", "--threads", "1").wait(DEADLINE)
    assert blamed(queue, job) == (3, 0, ["WorkerDied"])
    [error] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert error.getMessage().startswith(f"leaves[{job.id}] failed: 3 worker processes died")


# Signals in the application's own process


@pytest.mark.parametrize(
    ("block", "number", "task"),
    [
        ("with", signal.SIGTERM, "slow"),
        ("with", signal.SIGHUP, "aslow"),
        ("async with", signal.SIGTERM, "aslow"),
        ("async with", signal.SIGHUP, "slow"),
    ],
)
def test_with_signals_what_runs_ends_and_then_the_program_by_the_same_signal(queue, folder, run, number, task, block):
    job = queue.tasks[task].enqueue()
    program = run(
        {
            "with": """
with queue.worker(signals=True):
    time.sleep(60)
""",
            "async with": """
async def main():
    async with queue.worker(signals=True):
        await asyncio.sleep(60)
asyncio.run(main())
""",
        }[block]
    )
    until((folder / "begun").exists)
    program.send_signal(number)
    until(lambda: "finishing running jobs, up to 30s" in program.stdout.readline())
    (folder / "gate").touch()
    assert program.wait(DEADLINE) == -number
    assert job.refresh().status == "succeeded"
    assert queue.engine.workers.list() == []


HANDLERS = {
    "signal.signal": """
signal.signal(signal.SIGTERM, lambda *_: (say("handler", queue.job("1").status.value), done.append(1)))
with queue.worker(signals=True), queue.worker(signals=True):
    say("ready")
    while not done:
        time.sleep(0.01)
""",
    "the loop's": """
async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: (say("handler"), stop.set()))
    async with queue.worker(signals=True), queue.worker(signals=True):
        say("ready")
        await stop.wait()
asyncio.run(main())
""",
    "signal.signal under a loop": """
signal.signal(signal.SIGTERM, lambda *_: (say("handler", queue.job("1").status.value), done.append(1)))
async def main():
    async with queue.worker(signals=True):
        say("ready")
        while not done:
            await asyncio.sleep(0.01)
asyncio.run(main())
""",
}


@pytest.mark.parametrize("handler", HANDLERS)
def test_the_handler_that_was_there_before_is_called_once_what_ran_has_ended(queue, folder, run, handler):
    job = queue.tasks["slow"].enqueue()
    program = run(f"done = []\n{HANDLERS[handler]}\nsay('left')")
    until(lambda: program.stdout.readline() == "ready\n")
    until((folder / "begun").exists)
    program.send_signal(signal.SIGTERM)
    until(lambda: "finishing running jobs" in program.stdout.readline())
    program.send_signal(signal.SIGTERM)  # within a moment, as from a service manager that signals the whole group
    (folder / "gate").touch()
    output, _ = program.communicate(timeout=DEADLINE)
    assert program.returncode == 0
    assert output.count("handler") - (handler == "the loop's") in (0, 1)  # a loop's own hears each signal, as always
    assert ("handler succeeded" in output) is (handler != "the loop's")
    assert output.endswith("left\n")
    assert job.refresh().status == "succeeded"


def test_a_ctrl_c_amid_its_start_leaves_no_worker_behind(queue, monkeypatch):
    interrupted, register = threading.Event(), queue.engine.workers.register

    def registering(new):
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted.wait(DEADLINE)
        return register(new)

    monkeypatch.setattr(queue.engine.workers, "register", registering)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            queue.worker(name="half").__enter__()
    finally:
        signal.signal(signal.SIGINT, before)
    interrupted.set()
    until(lambda: not any(thread.name == "litequeue-half" for thread in threading.enumerate()))
    assert queue.engine.workers.list() == []


def test_handlers_are_put_back_when_the_last_block_is_left(queue):
    def mine(*_):
        raise AssertionError

    before = {number: signal.signal(number, mine) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with queue.worker(signals=True):
            inside = signal.getsignal(signal.SIGTERM)
            with queue.worker(signals=True):
                assert signal.getsignal(signal.SIGTERM) == inside != mine
            assert signal.getsignal(signal.SIGTERM) == inside
            assert signal.getsignal(signal.SIGINT) is mine
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_a_hangup_that_is_ignored_or_means_something_else_is_left_alone(queue, handler):
    before = signal.signal(signal.SIGHUP, handler)
    try:
        with queue.worker(signals=True):
            assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_are_for_the_main_thread_alone(queue):
    caught = []

    def start():
        for how in (lambda: queue.worker(signals=True).__enter__(), lambda: queue.worker(signals=True).run()):
            try:
                how()
            except RuntimeError as error:
                caught.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(DEADLINE)
    assert len(caught) == 2
    assert all("main thread" in message for message in caught)


def test_a_worker_that_leaves_signals_to_the_application_says_which_end_it_once(run):
    program = run("""
import logging
logging.basicConfig(level=logging.INFO)
for _ in range(2):
    with queue.worker():
        pass
signal.signal(signal.SIGTERM, lambda *_: None)
say("handles", signal.getsignal(signal.SIGHUP) == signal.SIG_DFL)
""")
    output, _ = program.communicate(timeout=DEADLINE)
    assert output.count("SIGTERM would end this program without stopping its worker; pass signals=True, or") == 1
    assert output.count("would end this program") == 1
    assert output.endswith("handles True\n")  # nothing was installed


def test_a_worker_whose_application_handles_signals_says_nothing(run):
    program = run("""
import logging
logging.basicConfig(level=logging.INFO)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: None)
with queue.worker():
    pass
""")
    output, _ = program.communicate(timeout=DEADLINE)
    assert "at once" not in output


# One stop


SUPERVISED = pytest.param(("--processes", "1"), marks=pytest.mark.slow)


@pytest.mark.parametrize("options", [(), ("--processes", "2")])
def test_a_stop_that_is_told_to_the_whole_group_is_one(queue, folder, run, options):
    job = queue.tasks["slow"].enqueue()
    worker = run("-m", "litequeue", "run", "app:queue", "--threads", "1", *options)
    until((folder / "begun").exists)
    until(lambda: len(queue.engine.workers.living()) == max(1, len(options)))
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    for _ in range(2):
        for pid in (*map(int, children), worker.pid):
            with contextlib.suppress(ProcessLookupError):  # one without a job has ended
                os.kill(pid, signal.SIGTERM)
    until(lambda: "finishing running jobs" in worker.stdout.readline())
    (folder / "gate").touch()
    assert worker.wait(DEADLINE) == 0
    assert job.refresh().status == "succeeded"


def test_ctrl_c_told_twice_while_a_block_is_left_is_one(queue, folder, run):
    job = queue.tasks["slow"].enqueue()
    program = run("""
inside = []

def watch():
    while not inside or sys._current_frames()[threading.main_thread().ident].f_code.co_name != "wait":
        time.sleep(0.005)
    say("waits")

with queue.worker():
    threading.Thread(target=watch, daemon=True).start()
    begun()
    inside.append(True)
    say("works")
    time.sleep(60)
""")
    until(lambda: program.stdout.readline() == "works\n")
    program.send_signal(signal.SIGINT)
    until(lambda: program.stdout.readline() == "waits\n")
    program.send_signal(signal.SIGINT)
    (folder / "gate").touch()
    assert program.wait(DEADLINE) == -signal.SIGINT
    assert job.refresh().status == "succeeded"


@pytest.mark.slow
def test_a_worker_process_that_is_told_to_stop_alone_finishes_and_is_replaced(queue, folder):
    job = queue.tasks["slow"].enqueue()
    command = Command(folder, "run", "app:queue", "--processes", "1")
    try:
        [first] = command.wait_for(r"\[(\d+)\] INFO +worker-\d+ has started")
        until((folder / "begun").exists)
        os.kill(int(first[1]), signal.SIGTERM)
        command.wait_for("finishing running jobs")
        (folder / "gate").touch()
        command.wait_for("starting another")
        command.wait_for(r"\[(\d+)\] INFO +worker-\d+ has started", 2)
        command.signal(signal.SIGTERM)
        assert command.ends() == 0
        assert ended(job).result.decode() == first[1]
    finally:
        command.clean_up()


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("options", [(), SUPERVISED])
def test_a_closed_terminal_stops_a_worker_unless_nohup_has_it_ignored(queue, folder, options, ignored):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        command = Command(folder, "run", "app:queue", *options)
    finally:
        signal.signal(signal.SIGHUP, before)
    try:
        job = queue.tasks["slow"].enqueue()
        until((folder / "begun").exists)
        command.signal(signal.SIGHUP)
        if ignored:
            (folder / "gate").touch()
            ended(job)
            assert "finishing running jobs" not in command.output
            command.signal(signal.SIGTERM)
        command.wait_for("finish")
        (folder / "gate").touch()
        assert command.ends() == 0
        assert ended(job).status == "succeeded"
    finally:
        command.clean_up()


# The supervisor's children


def test_children_have_their_parents_path_and_flags(queue, run):
    flags = ("-O", "-X", "dev", "-X", "utf8", "-X", "marked=1", "-W", "error::UserWarning")
    found = []
    for options in ((), ("--processes", "1")):
        job = queue.tasks["interpreter"].enqueue()
        program = run(*flags, "-m", "litequeue", "run", "app:queue", "--until-idle", *options)
        assert program.wait(DEADLINE) == 0, program.stdout.read()
        found.append(job.result(0))
    assert found[0] == found[1]
    assert found[1][:-1] == [1, True, 1, True, "1"]


@pytest.mark.parametrize("name", ["types.py", "litequeue/__init__.py"])
def test_what_lies_in_the_current_folder_is_not_taken_for_a_library(queue, folder, run, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("raise SystemExit('a local module was imported')")
    job = queue.tasks["interpreter"].enqueue()
    script = "import sys; sys.path.remove(''); from litequeue.cli import main; main(sys.argv[1:])"
    program = run("-c", script, "run", "app:queue", "--until-idle", "--processes", "1")
    assert program.wait(DEADLINE) == 0, program.stdout.read()
    assert ended(job).status == "succeeded"


@pytest.mark.parametrize("how", ["sys.frozen = True", "sys.executable = ''"])
def test_a_program_without_an_interpreter_does_not_start_itself_again(folder, run, how):
    script = f"import sys; from litequeue.cli import main; {how}; main(sys.argv[1:], prog_name='litequeue')"
    program = run("-c", script, "run", "app:queue", "--until-idle", "--processes", "2")
    output, _ = program.communicate(timeout=DEADLINE)
    assert program.returncode == 2
    assert "without --processes" in output


# All of it


@pytest.mark.slow
def test_no_stop_at_a_random_moment_blames_loses_or_doubles_a_job(tmp_path):
    figures = stop_all(tmp_path, stops=12, seed=int.from_bytes(os.urandom(4), "big"))
    assert figures.sound, figures


def test_a_worker_that_is_run_again_after_it_was_idle_hears_signals(tmp_path):
    main = """
import os, signal, threading, time
from litequeue import Queue
queue = Queue("app.db")
worker = queue.worker()
worker.run(until_idle=True)

def stop():
    while not queue.engine.workers.list():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=stop, daemon=True).start()
assert worker.run()
"""
    done = subprocess.run(
        [sys.executable, "-c", main], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False
    )
    assert done.returncode == 0


def test_a_hangup_by_which_the_application_reloads_excuses_no_later_death(tmp_path):
    main = """
import os, signal, threading
from litequeue import Queue
queue = Queue("app.db")
reloaded = threading.Event()

@queue.task(name="dies")
def dies():
    os.kill(os.getpid(), signal.SIGHUP)
    reloaded.wait()
    os.kill(os.getpid(), signal.SIGKILL)

signal.signal(signal.SIGHUP, lambda *_: reloaded.set())
dies.enqueue()
queue.worker().run()
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", main], cwd=tmp_path, env=env, timeout=DEADLINE, check=False)
    assert done.returncode == -signal.SIGKILL
    with Queue(tmp_path / "app.db").worker(queues=["another"]) as worker:
        until(lambda: not worker.queue.jobs(status="running"))
    assert worker.queue.engine.jobs.look_up("1").deaths == 1


def test_a_worker_run_in_a_thread_leaves_signals_to_the_application(queue):
    queue.task(name="work")(lambda: None)
    job, numbers = queue.tasks["work"].enqueue(), (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    thread = threading.Thread(target=lambda: queue.worker().run(until_idle=True))
    thread.start()
    thread.join(20)
    assert status_of(job) == "succeeded"
    assert [signal.getsignal(number) for number in numbers] == before


TWICE = """
import asyncio, sys, time
from litequeue import Queue
queue = Queue(sys.argv[1])

@queue.task(name="slow")
def slow():
    print("begins", flush=True)
    for _ in range(3000):
        time.sleep(0.01)

def plain():
    with queue.worker(threads=2):
        try:
            slow.enqueue()
            time.sleep(60)
        finally:
            print("leaves", flush=True)

async def on_the_loop():
    async with queue.worker(threads=2):
        try:
            slow.enqueue()
            await asyncio.sleep(60)
        finally:
            print("leaves", flush=True)

plain() if sys.argv[2] == "plain" else asyncio.run(on_the_loop())
"""


@pytest.mark.parametrize("block", ["plain", *(["on the loop"] if sys.version_info >= (3, 11) else [])])
def test_a_second_ctrl_c_at_the_end_of_a_block_releases_what_runs(queue, block):
    """Up to Python 3.10 `asyncio.run()` leaves the block to itself at the second."""
    command = [sys.executable, "-c", TWICE, str(queue.path), block]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout.readline() == "begins\n"  # the block was entered before it was enqueued
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "leaves\n"
            while process.poll() is None:  # it waits for the job now, which takes another half minute
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1.2)  # a Ctrl-C within a moment of the first is the same one
                process.send_signal(signal.SIGINT)
        finally:
            process.kill()
    [job] = queue.jobs()
    assert queue.engine.jobs.look_up(job.id).deaths == 0
    assert (job.status, queue.engine.workers.list()) == ("queued", [])


FORKS = """
import os, sys
from litequeue import Queue
queue = Queue(sys.argv[1])

with queue.worker():
    child = os.fork()
    if child == 0:
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_may_leave_the_block_of_a_worker_that_it_has_not(database):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, str(database)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (run.stdout, run.returncode) == ("7\n", 0)
