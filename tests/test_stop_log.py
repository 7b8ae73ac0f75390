"""A worker says what it waits for while it stops, hears a second Ctrl-C beside a server, and lets go at a reload."""

import asyncio
import functools
import os
import re
import signal
import threading
from types import SimpleNamespace

import pytest

from crash.watching import until
from litequeue import Queue, current_job
from litequeue.worker.ctrl_c import CtrlC
from litequeue.worker.stop_request import StopRequest
from litequeue.worker.web_server import Server


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


@pytest.fixture
def handle():
    """Handle a signal as a server does, until the test's end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handling(handler, number=signal.SIGINT):
        signal.signal(number, handler)

    yield handling
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def endless(queue):
    """A running job that ends when it is told to; how often it has begun."""
    begun = threading.Event()

    @queue.task(name="report")
    def report():
        begun.set()
        while True:
            pass

    return report, begun


def said(caplog, pattern, level=None):
    return [
        record.getMessage()
        for record in caplog.records
        if re.search(pattern, record.getMessage()) and level in (None, record.levelname)
    ]


def test_a_stopping_worker_says_what_it_waits_for_and_then_what_it_releases(queue, endless, caplog, monkeypatch):
    monkeypatch.setattr("litequeue.worker.stop_log.FIRST_WARNING", 0.1)
    caplog.set_level("INFO", "litequeue")
    task, begun = endless
    job = task.enqueue()
    with queue.worker(grace=0.8, name="one"):
        assert begun.wait(20)
    which = rf"1 job: report\[{job.id}\]"
    assert len(said(caplog, rf"one is stopping: waiting up to 800ms for {which} \(\S+\)", "INFO")) == 1
    assert said(caplog, rf"one is stopping: waiting up to \d+ms for {which} \(\S+\)", "WARNING")
    assert len(said(caplog, rf"one is stopping: after 800ms releasing {which} \(\S+\)", "WARNING")) == 1
    assert len(said(caplog, rf"one has released {which}; to be run again", "WARNING")) == 1


def test_a_worker_with_nothing_running_says_nothing_of_its_stop(queue, caplog):
    caplog.set_level("INFO", "litequeue")
    with queue.worker():
        pass
    assert said(caplog, "is stopping|has released") == []


def test_many_jobs_are_counted_and_some_are_named(queue, caplog, monkeypatch):
    monkeypatch.setattr("litequeue.worker.stop_log.MOST_NAMED", 1)
    go = threading.Barrier(3)

    @queue.task
    def watchful():
        go.wait(20)
        while not current_job().cancelled:
            pass

    watchful.enqueue_many([(), ()])
    with queue.worker(threads=2, grace=0):
        go.wait(20)
    assert said(caplog, r"releasing 2 jobs: \S*watchful\[\d\] \(\S+\) and 1 more")


# A second Ctrl-C beside a server's own handler


def leave(queue, endless, send):
    """Leave the block of a worker whose job does not end; `send` from another thread what a person would."""
    task, begun = endless
    job = task.enqueue()
    with queue.worker(grace="1h"):
        assert begun.wait(20)
        threading.Thread(target=send).start()
    return job


def test_a_ctrl_c_while_a_block_is_left_is_heard_beside_a_servers_handler(queue, endless, handle, caplog, monkeypatch):
    monkeypatch.setattr("litequeue.worker.ctrl_c.MOMENT", 0.0)
    heard = []

    def servers(number, frame):
        heard.append(number)

    def send():
        until(lambda: signal.getsignal(signal.SIGINT) != servers)
        os.kill(os.getpid(), signal.SIGINT)

    handle(servers)
    job = leave(queue, endless, send)
    assert job.refresh().status == "queued"
    assert heard == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) == servers
    assert said(caplog, "SIGINT: releasing running jobs now")


def test_a_ctrl_c_within_a_moment_of_the_first_is_the_same_one(handle):
    handle(lambda number, frame: None)
    stop = StopRequest(30.0)
    with CtrlC(stop):
        os.kill(os.getpid(), signal.SIGINT)
        assert not stop.made
        assert stop.how_to_hurry == "; a second Ctrl-C releases them"


def test_workers_that_end_one_after_another_leave_the_servers_handler_as_it_was(handle, monkeypatch):
    monkeypatch.setattr("litequeue.worker.ctrl_c.MOMENT", 0.0)

    def servers(number, frame):
        raise OSError("the handler's own")

    handle(servers)
    stops = [StopRequest(30.0), StopRequest(30.0)]
    first, second = map(CtrlC, stops)
    first.__enter__()
    second.__enter__()
    first.__exit__()
    with pytest.raises(OSError, match="the handler's own"):
        signal.raise_signal(signal.SIGINT)
    second.__exit__()
    assert [stop.at_once for stop in stops] == [False, True]
    assert signal.getsignal(signal.SIGINT) == servers


class Runner:
    def _on_sigint(self, number, frame): ...


@pytest.mark.parametrize(
    ("handler", "hint"),
    [
        (signal.default_int_handler, "; a second Ctrl-C releases them"),
        (functools.partial(Runner()._on_sigint), "; a second Ctrl-C releases them"),
        (signal.SIG_IGN, ""),
    ],
)
def test_a_handler_that_raises_by_itself_and_an_ignored_ctrl_c_are_left_alone(handle, handler, hint):
    handle(handler)
    stop = StopRequest(30.0)
    with CtrlC(stop):
        assert signal.getsignal(signal.SIGINT) == handler
        assert stop.how_to_hurry == hint


def test_elsewhere_than_in_the_main_thread_no_handler_is_changed(handle):
    def servers(number, frame): ...

    handle(servers)
    stop, found = StopRequest(30.0), []

    def leaves():
        with CtrlC(stop):
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=leaves)
    thread.start()
    thread.join()
    assert (found, stop.how_to_hurry) == ([servers], "")


# A server that reloads


class Uvicorn:
    def __init__(self, *, reload):
        self.config, self.force_exit = SimpleNamespace(should_reload=reload), False

    def handle_exit(self, number, frame): ...


class Gunicorn:
    def __init__(self, *, reload):
        self.cfg = SimpleNamespace(reload=reload)

    def handle_exit(self, number, frame): ...


@pytest.mark.parametrize("server", [Uvicorn, Gunicorn])
@pytest.mark.parametrize("reloads", [True, False])
def test_whether_a_server_reloads_is_told_by_its_handler_of_signals(handle, server, reloads):
    assert not Server().reloads
    handle(server(reload=reloads).handle_exit, signal.SIGTERM)
    assert Server().reloads is reloads
    assert not Server().is_forced


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN, lambda *_: None, print])
def test_other_handlers_are_no_server(handle, handler):
    handle(handler, signal.SIGTERM)
    assert not Server().reloads


def test_at_a_reload_jobs_are_asked_to_end_and_released_whatever_the_grace(queue, handle, caplog):
    """A coroutine is cancelled, a function that looks ends by itself, one that does not look is interrupted."""
    begun = threading.Barrier(4)

    @queue.task
    async def coroutine():
        await asyncio.to_thread(begun.wait, 20)
        await asyncio.Event().wait()

    @queue.task
    def looks() -> str:
        begun.wait(20)
        while not current_job().cancelled:
            pass
        return "ended by itself"

    @queue.task
    def looks_not():
        begun.wait(20)
        while True:
            pass

    handle(Uvicorn(reload=True).handle_exit, signal.SIGTERM)
    jobs = [task.enqueue() for task in (coroutine, looks, looks_not)]
    with queue.worker(threads=2, grace="1h"):
        begun.wait(20)
    assert [job.refresh().status for job in jobs] == ["queued", "succeeded", "queued"]
    assert {queue.engine.jobs.look_up(job.id).deaths for job in jobs} == {0}
    assert said(caplog, r"after 500ms releasing 1 job: \S*looks_not\[3\]")
    assert said(caplog, r"has released 2 jobs: \S*coroutine\[1\], \S*looks_not\[3\]; to be run again")
