"""A worker inside a real web server: a second Ctrl-C, and a reload of the code."""

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from crash.stops import heeding
from crash.watching import until
from litequeue import Queue
from test_servers import DEADLINE, free_port, program

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

# The jobs never end by themselves, and the grace is longer than any test.
APP = """
import asyncio, os, time
from contextlib import asynccontextmanager
from pathlib import Path
from litequeue import Queue

queue = Queue("app.db", durability="normal")

@queue.task
def slow():
    with open("begun", "a") as begun:
        begun.write(f"slow {os.getpid()}\\n")
    while True:
        time.sleep(0.01)

@queue.task
async def aslow():
    with open("begun", "a") as begun:
        begun.write(f"aslow {os.getpid()}\\n")
    await asyncio.sleep(3600)

async def app(scope, receive, send):
    if scope["type"] == "http":
        Path("asked").touch()
        await asyncio.sleep(3600)
    async with queue.worker(threads=2, grace="1h"):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})

def wsgi(environ, start_response):
    raise NotImplementedError
"""

POST_FORK = """
def post_fork(server, worker):
    from app import queue

    worker.litequeue = queue.worker(threads=2, grace="1h")
    worker.litequeue.__enter__()


def worker_exit(server, worker):
    worker.litequeue.__exit__(None, None, None)
"""


class Server:
    """A server in a folder, with a job in a thread and one on the loop that are running."""

    def __init__(self, folder, queue, *command):
        self.folder, self.queue, self.port = folder, queue, free_port()
        self.jobs = [queue.tasks[name].enqueue() for name in ("slow", "aslow")]
        command = [word.replace("PORT", str(self.port)) for word in command]
        self.log = folder / "log"
        with self.log.open("w") as log, heeding():
            self.process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.first = self.begun_in(but=())

    def __repr__(self):
        return f"the server of this log:\n{self.log.read_text()}"

    def begun_in(self, but):
        """Return the processes in which both jobs have begun, once there is another one than these."""
        path = self.folder / "begun"

        def look():
            assert self.process.poll() is None, self
            begun = {tuple(line.split()) for line in path.read_text().splitlines()} if path.exists() else set()
            pids = {pid for _, pid in begun}
            return {pid for pid in pids - set(but) if {("slow", pid), ("aslow", pid)} <= begun}

        return until(look, self, DEADLINE)

    def says(self, pattern):
        return re.search(pattern, self.log.read_text())

    def assert_released(self, *statuses):
        assert {str(job.refresh().status) for job in self.jobs} <= {*statuses, "queued"}, self
        assert [self.queue.engine.jobs.look_up(job.id).deaths for job in self.jobs] == [0, 0]
        assert self.queue.engine.workers.list() == []


@pytest.fixture
def start(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "gunicorn.conf.py").write_text(POST_FORK)
    servers = []
    with Queue(tmp_path / "app.db", durability="normal") as queue:
        for name in ("slow", "aslow"):
            queue.task(name=name)(lambda: None)

        def starting(*command):
            servers.append(Server(tmp_path, queue, *command))
            return servers[-1]

        yield starting
    for server in servers:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


def uvicorn(*options):
    return program("uvicorn"), "app:app", "--port", "PORT", *options


def test_a_second_ctrl_c_under_uvicorn_releases_what_runs_and_both_say_what_that_is(start):
    server = start(*uvicorn())
    server.process.send_signal(signal.SIGINT)
    until(lambda: server.says(r"waiting up to \S+ for 2 jobs: slow\[1\] .*aslow\[2\] .*second Ctrl-C"), server)
    with contextlib.suppress(subprocess.TimeoutExpired):  # one within a moment of the first would be the same one
        server.process.wait(0.2)
    while not server.says("SIGINT: releasing running jobs now"):
        server.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(0.2)
    server.process.wait(DEADLINE)
    assert server.says(r"is stopping: releasing 2 jobs: slow\[1\] \(.*\), aslow\[2\] \("), server
    assert server.says(r"has released 2 jobs: "), server
    server.assert_released()


def test_a_second_ctrl_c_that_ends_the_wait_of_uvicorn_for_a_connection_releases_what_runs(start):
    server = start(*uvicorn())
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        until((server.folder / "asked").exists, server)
        server.process.send_signal(signal.SIGINT)
        until(lambda: server.says("Waiting for connections to close"), server)
        server.process.send_signal(signal.SIGINT)
        server.process.wait(DEADLINE)
    assert server.says(r"is stopping: releasing .*slow\[1\]"), server
    server.assert_released("scheduled")  # the loop's end has cancelled the coroutine, which runs again a second later


@pytest.mark.parametrize("name", ["uvicorn", "gunicorn"])
def test_a_server_that_reloads_waits_for_no_grace(start, name):
    options = ("--bind", "127.0.0.1:PORT", "--no-control-socket", "--reload", "app:wsgi")
    server = start(*(uvicorn("--reload") if name == "uvicorn" else (program("gunicorn"), *options)))
    touch = itertools.count(int((server.folder / "app.py").stat().st_mtime) + 1)

    def changed():
        """Change it again and again: a server notes what there is some time after its application has started."""
        moment = next(touch)
        os.utime(server.folder / "app.py", (moment, moment))
        return server.says(r"is stopping: after 500ms releasing 1 job: slow\[1\]")

    until(changed, server, DEADLINE)
    assert server.begun_in(but=server.first)
    assert [server.queue.engine.jobs.look_up(job.id).deaths for job in server.jobs] == [0, 0]
