"""Where a job hangs is logged: of one left behind by itself, of all that run at SIGUSR1."""

import asyncio
import re
import signal
import subprocess
import sys
import threading

import pytest

from command_line import Command
from crash.watching import ended, until
from litequeue import Queue
from litequeue.worker.executor.stacks import of_task, of_thread

APP = """
import asyncio, os, signal, subprocess, sys, time
from pathlib import Path
from litequeue import Queue

queue = Queue("app.db", durability="normal")

def waits_in_a_thread():
    Path("in-thread").touch()
    while not Path("gate").exists():
        time.sleep(0.01)

@queue.task
def plain() -> str:
    waits_in_a_thread()
    return "undisturbed"

async def waits_on_the_loop():
    Path("on-loop").touch()
    while not Path("gate").exists():
        await asyncio.sleep(0.01)

@queue.task
async def coroutine() -> str:
    await waits_on_the_loop()
    return "undisturbed"

@queue.task
def environment() -> dict:
    return {name: value for name, value in os.environ.items() if name.startswith(("NOTIFY", "WATCHDOG"))}
"""

on_posix = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no SIGUSR1 here")


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def start(folder):
    started = []

    def starting(*arguments):
        started.append(Command(folder, "run", "app:queue", *arguments))
        return started[-1]

    yield starting
    (folder / "gate").touch()
    for command in started:
        command.clean_up()


def messages(caplog, pattern):
    return [text for text in caplog.messages if re.search(pattern, text, re.DOTALL)]


def test_a_run_left_behind_names_where_it_hangs_once_and_then_now_and_again(queue, monkeypatch, caplog):
    monkeypatch.setattr("litequeue.worker.running_jobs.LATE_GRACE", 0.1)
    monkeypatch.setattr("litequeue.worker.run_stacks.SAY_AGAIN", 0.05)
    monkeypatch.setattr("litequeue.worker.loop.POLL", 0.02)
    go = threading.Event()

    @queue.task(timeout=0.1)
    def hangs_here():
        go.wait()

    with queue.worker(threads=1):
        job = hangs_here.enqueue()
        assert ended(job).status == "failed"
        left = rf"hangs_here\[{job.id}\] does not stop when told.*in hangs_here\n    go.wait\(\)"
        again = rf"hangs_here\[{job.id}\] was left behind and still runs.*in hangs_here"
        until(lambda: len(messages(caplog, again)) >= 2)
        go.set()
    assert len(messages(caplog, left)) == 1


def test_a_run_left_behind_that_has_ended_is_not_named_again(queue, monkeypatch, caplog):
    go = threading.Event()

    @queue.task
    def hangs():
        go.wait()

    with queue.worker(threads=1) as worker:
        hangs.enqueue()
        run = until(lambda: next(iter(worker._loop.mailbox.running.values()), None))
        thread = until(lambda: worker._loop.runs._executor._threads._thread_of(run))
        stacks = worker._loop.runs.stacks
        stacks.leave(run, lambda: True)
        stacks.look(1e9)
        assert stacks.look_at == 1e9 + 600  # ten minutes later
        go.set()
        until(lambda: thread.run is None)
        stacks.look(1e9 + 600)
        assert stacks.look_at == float("inf")
    assert len(messages(caplog, "still runs")) == 1


def test_stacks_of_all_running_jobs_have_id_task_run_and_time(queue, caplog):
    go, inner = threading.Event(), threading.Event()

    @queue.task
    def in_a_thread():
        go.wait()

    @queue.task
    async def on_the_loop():
        async def deeper():
            inner.set()
            while not go.is_set():
                await asyncio.sleep(0.01)

        await deeper()

    with queue.worker(threads=1) as worker:
        worker.log_stacks()
        plain, coroutine = in_a_thread.enqueue(), on_the_loop.enqueue()
        until(lambda: plain.refresh().status == "running" and inner.is_set())

        def logged():
            worker.log_stacks()
            of_plain = messages(caplog, rf"in_a_thread\[{plain.id}\] has been running for \S+ \(run 1\).*go.wait\(\)")
            of_other = messages(caplog, rf"on_the_loop\[{coroutine.id}\] has been running.*await deeper\(\).*in deeper")
            return of_plain and of_other

        until(logged)
        go.set()
        assert [ended(job).status for job in (plain, coroutine)] == ["succeeded", "succeeded"]
    assert "no job is running here" in caplog.messages
    assert not messages(caplog, "thread_pool.py|coroutine_pool.py|run_forever")  # the job's own calls alone


def test_a_coroutine_that_holds_its_loop_is_shown_where_it_is(queue, caplog):
    go, begun = threading.Event(), threading.Event()

    @queue.task
    async def holds_the_loop():
        begun.set()
        go.wait()

    with queue.worker() as worker:
        holds_the_loop.enqueue()
        begun.wait(20)
        until(lambda: worker.log_stacks() or messages(caplog, r"holds_the_loop\[.*go.wait\(\)"))
        go.set()


def test_a_task_that_waits_for_tasks_shows_theirs_too():
    async def main():
        async def leaf():
            await asyncio.sleep(60)

        async def waits(task):
            await task

        inner = asyncio.create_task(leaf())
        outer = asyncio.create_task(waits(inner))
        for _ in range(3):
            await asyncio.sleep(0)
        return of_task(outer, 0), inner.cancel(), of_task(asyncio.current_task(), threading.get_ident())

    waiting, _, running = asyncio.run(main())
    assert "in waits" in waiting
    assert "in leaf" in waiting
    assert "in main" in running
    assert of_thread(0) == ""


def test_the_stack_of_a_loop_begins_with_what_the_loop_calls():
    found = []

    def callback():
        found.append(of_thread(threading.get_ident()))

    async def main():
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert re.search(r"\A  File .*, in callback\n", found[0])


@on_posix
@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--processes", "1")], ids=["alone", "supervised"])
def test_sigusr1_logs_every_running_jobs_stack_and_disturbs_none(start, folder, options):
    with Queue(folder / "app.db", durability="normal") as queue:
        jobs = [queue.task(name=name)(lambda: None).enqueue() for name in ("plain", "coroutine")]
        command = start(*options)
        until(lambda: (folder / "in-thread").exists() and (folder / "on-loop").exists())
        attempts = [job.refresh().attempt for job in jobs]
        for times in (1, 2):
            command.signal(signal.SIGUSR1)
            command.wait_for(r"plain\[1\] has been running for \S+ \(run \d+\)", times)
            command.wait_for("in waits_in_a_thread", times)
            command.wait_for(r"coroutine\[2\] has been running for \S+ \(run \d+\)", times)
            command.wait_for("in waits_on_the_loop", times)
        (folder / "gate").touch()
        assert {job.result(timeout=20) for job in jobs} == {"undisturbed"}
        command.signal(signal.SIGTERM)
        assert command.ends() == 0
        assert [job.refresh().attempt for job in jobs] == attempts


OWN_HANDLER = """
import os, signal, sys
from litequeue import Queue
signal.signal(signal.SIGUSR1, lambda *_: print("the application's own"))
queue = Queue(sys.argv[1], durability="normal")
with queue.worker():
    os.kill(os.getpid(), signal.SIGUSR1)
"""


@on_posix
def test_an_embedded_worker_leaves_sigusr1_to_the_application(database):
    ran = subprocess.run([sys.executable, "-c", OWN_HANDLER, database], capture_output=True, text=True, check=True)
    assert ran.stdout == "the application's own\n"


OWN_IN_APP = APP + '\nsignal.signal(signal.SIGUSR1, lambda *_: print("the app\'s own", flush=True))\n'


@on_posix
@pytest.mark.slow
def test_an_app_that_handles_sigusr1_itself_keeps_it_under_run(start, folder):
    (folder / "app.py").write_text(OWN_IN_APP)
    command = start()
    command.wait_for("runs .*threads")
    command.signal(signal.SIGUSR1)
    command.wait_for("the app's own")
    command.signal(signal.SIGTERM)
    assert command.ends() == 0


@on_posix
def test_a_fork_has_the_default_action_of_sigusr1(tmp_path):
    program = (
        "import os, signal; from litequeue.cli.stack_signal import StackSignal; StackSignal(); "
        "os.kill(os.getpid(), signal.SIGUSR1); child = os.fork(); "
        "print(signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL, flush=True) if child == 0 else os.wait()"
    )
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"
