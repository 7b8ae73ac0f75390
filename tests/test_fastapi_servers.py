"""A FastAPI application under a real uvicorn with a real worker, which is killed, reloaded and stopped.

What a response has told a client of is run, once.
"""

import http.client
import json
import os
import signal
import sys
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from crash.watching import until
from litequeue import Queue
from test_servers import DEADLINE, Server, program

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

APP = """
import os, time
from pathlib import Path
from typing import Annotated
from fastapi import Depends, FastAPI, HTTPException
from litequeue import Queue, current_job
from litequeue.integrations.fastapi import Background, background, jobs_router, worker_lifespan

queue = Queue("app.db")
gate = Path("gate")

def note(file, text):
    with open(file, "a") as noted:
        noted.write(f"{{text}}\\n")

def wait_for(condition):
    while not condition():
        time.sleep(0.01)

@queue.task
def occupy():
    note("occupied", os.getpid())
    current_job().progress(1, 2, "half way")
    wait_for(gate.exists)

@queue.task
def welcome(name: str):
    note("welcomed", name)

@queue.task
def meet():
    note("met", os.getpid())
    wait_for(lambda: len(set(Path("met").read_text().split())) > 1)

@queue.task
def process() -> int:
    return os.getpid()

app = FastAPI(lifespan=worker_lifespan(queue, threads=1, {options}))
Jobs = Annotated[Background, Depends(background(queue), scope="function")]

@app.post("/signup/{{name}}")
async def sign_up(name: str, jobs: Jobs):
    jobs.add_task(welcome, name)

@app.post("/occupy")
async def occupy_a_thread(jobs: Jobs):
    jobs.add_task(occupy)

@app.post("/refused")
async def refuse(jobs: Jobs):
    jobs.add_task(welcome, "nobody")
    raise HTTPException(418)

@app.post("/unstored")
async def fail_to_store(jobs: Jobs):
    for name in "ada", "bob":
        jobs.add_task(welcome.using(key="one", on_conflict="raise"), name)

@app.get("/pid")
def pid():
    return os.getpid()

app.include_router(jobs_router(queue, dependencies=[]), prefix="/jobs")
"""


def uvicorn(*options):
    return [program("uvicorn"), "app:app", "--port", "PORT", "--log-level", "warning", *options]


class Uvicorn(Server):
    """A server whose worker's jobs leave notes in files."""

    def post(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request("POST", path)
            return connection.getresponse().status
        finally:
            connection.close()

    @contextmanager
    def events(self, number):
        """Follow a job: the states of which the server tells, as they come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        connection.request("GET", f"/jobs/{number}/events")
        with closing(connection), connection.getresponse() as stream:
            assert stream.getheader("content-type").startswith("text/event-stream")
            yield (json.loads(line.removeprefix(b"data: ")) for line in stream if line.startswith(b"data: "))

    def noted(self, name):
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def notes(self, name, count):
        """Wait until a file has so many notes; return them."""
        until(lambda: len(self.noted(name)) >= count, self, DEADLINE)
        return self.noted(name)

    def open_gate(self):
        (self.folder / "gate").touch()

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(tmp_path):
    """Start an application in this folder; what is left of it is ended after the test."""
    servers = []

    def go(*command, options=""):
        (tmp_path / "app.py").write_text(APP.format(options=options))
        servers.append(Uvicorn(tmp_path, uvicorn(*command)))
        return servers[-1]

    yield go
    for server in servers:
        server.open_gate()
        children = server.workers() if server.process.poll() is None else set()
        server.kill()
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def test_what_a_response_has_told_of_runs_though_the_server_was_killed_before_and_nothing_else_does(start):
    server = start()
    server.post("/occupy")
    server.notes("occupied", 1)  # the only thread is taken, so that no other job begins
    assert [server.post(path) for path in ("/refused", "/unstored", "/signup/ada")] == [418, 500, 200]
    server.kill()
    assert server.noted("welcomed") == []
    server.open_gate()
    again = start()
    assert again.notes("welcomed", 1) == ["ada"]
    assert [job.task for job in with_queue(server, Queue.jobs)] == ["welcome", "occupy"]


def test_a_stream_of_events_tells_of_progress_and_does_not_keep_the_server_from_stopping(start):
    server = start()
    server.post("/occupy")
    server.post("/signup/ada")
    with server.events(1) as occupied, server.events(2) as waiting:
        half = next(job for job in occupied if job["progress"])
        assert half["progress"] == {"done": 1, "total": 2, "note": "half way"}
        assert next(waiting)["status"] == "queued"
        server.process.send_signal(signal.SIGTERM)
        assert list(waiting) == []  # it ends, though the job has not
    server.open_gate()
    server.process.wait(DEADLINE)


def test_each_process_of_a_server_runs_jobs_and_none_runs_twice(start):
    server = start("--workers", "2")
    for _ in range(2):
        with_queue(server, lambda queue: queue.tasks["meet"].enqueue())
    assert len(set(server.notes("met", 2))) == 2
    names = [f"guest-{number}" for number in range(20)]
    for name in names:
        server.post(f"/signup/{name}")
    assert Counter(server.notes("welcomed", len(names))) == Counter(names)
    assert set(map(int, server.noted("met"))) <= server.workers()


def test_one_process_of_a_server_runs_the_worker_and_another_once_it_is_killed(start):
    server = start("--workers", "2", options="one=True")

    def run(queue):
        return queue.tasks["process"].enqueue().result(timeout=DEADLINE)

    pid = with_queue(server, run)
    assert {with_queue(server, run) for _ in range(3)} == {pid}
    os.kill(pid, signal.SIGKILL)
    other = with_queue(server, run)
    assert other != pid
    until(lambda: other in server.workers(), server, DEADLINE)


def test_jobs_survive_a_reload(start):
    server = start("--reload", options='grace="0.2s"')
    server.post("/occupy")
    server.notes("occupied", 1)
    server.post("/signup/ada")
    path = server.folder / "app.py"
    path.write_text(path.read_text().replace('note("welcomed", name)', 'note("welcomed", f"{name}-by-new-code")'))
    assert len(set(server.notes("occupied", 2))) == 2  # its run was released, and begins again in the new process
    server.open_gate()
    assert server.notes("welcomed", 1) == ["ada-by-new-code"]


def with_queue(server, call):
    """Call something with a queue on the server's file that has its tasks declared."""
    with Queue(Path(server.folder) / "app.db") as queue:
        for name in ("meet", "process"):
            queue.task(name=name)(lambda: None)
        return call(queue)
