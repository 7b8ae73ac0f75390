"""Real web servers on the loopback, which fork the process that has imported the application.

Whatever the server does to its processes, each job that it has told a client of is in the file.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from crash.watching import until

BIN = Path(sys.executable).parent
DEADLINE = 60  # seconds; only a defect waits so long
ENOUGH = 60  # jobs told between two events
REFUSED = ("was forked", "lazy-apps", "py-call-uwsgi-fork-hooks")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

APP = """
import os, traceback
from litequeue import Queue

queue = Queue("app.db", driver={driver!r})

@queue.task
def add(a: int, b: int) -> int:
    return a + b

@queue.task
def process() -> int:
    return os.getpid()

{setup}

def application(environ, start_response):
    try:
        if environ["PATH_INFO"] == "/enqueue":
            body = add.enqueue(1, 2).id
        elif environ["PATH_INFO"] == "/run":
            body = str(process.enqueue().result(timeout=20))
        else:
            body = str(os.getpid())
        status = "200 OK"
    except Exception as error:
        body, status = "".join(traceback.format_exception_only(error)), "500 Internal Server Error"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body.encode())))])
    return [body.encode()]
"""

DECLARED = ""
USED_BEFORE = 'open("told", "a").write(f"{add.enqueue(0, 0).id}\\n")'
WORKER_AT_IMPORT = "worker = queue.worker(threads=1, coroutines=1)\nworker.__enter__()"
# uWSGI's master forks without the interpreter's lock: where a thread has it at that moment, the child waits for that
# thread, which it does not have, for ever. So the import ends when the worker's threads rest.
WORKER_BEFORE_UWSGI_FORK = f"""{WORKER_AT_IMPORT}
import time
rests_since, shared = time.monotonic(), worker._loop._listener
while time.monotonic() < rests_since + 0.2:
    time.sleep(0.01)
    if not shared.listened or shared._listener._young:
        rests_since = time.monotonic()
"""
WORKER_AFTER_UWSGI_FORK = """
import uwsgidecorators

@uwsgidecorators.postfork
def start_worker():
    queue.worker(threads=1, coroutines=1).__enter__()
"""
POST_FORK = """
def post_fork(server, worker):
    from app import queue

    worker.litequeue = queue.worker(threads=1, coroutines=1)
    worker.litequeue.__enter__()


def worker_exit(server, worker):
    worker.litequeue.__exit__(None, None, None)
"""


def program(name):
    """Return the path of a server's command: missing, it is a failure in CI, and a skip elsewhere."""
    path = BIN / name
    if not path.exists():
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"{name} is not installed: make .venv/.stamp-servers")
    return str(path)


def free_port():
    """Return a port of the loopback that is free now; a reload of uWSGI would choose another one than at its start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server's master process, its log, and what clients were told."""

    def __init__(self, folder, command):
        self.folder, self.port, self.lazy = folder, free_port(), "--lazy-apps" in command
        command = [word.replace("PORT", str(self.port)) for word in command]
        self.log = folder / "log"
        with self.log.open("w") as log:
            environment = {name: value for name, value in os.environ.items() if name != "LITEQUEUE_PATH"}
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.told, self.refused, self.lost_connections = set(), [], 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._clients = []
        until(lambda: self.is_up("/pid"), self, DEADLINE)

    def __repr__(self):
        return f"the server of this log:\n{self.log.read_text()}"

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def is_up(self, path):
        assert self.process.poll() is None, self
        try:
            return self.get(path)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def start_clients(self):
        """Enqueue from four threads until the server is stopped; note what each was told."""
        self._clients = [threading.Thread(target=self._enqueue) for _ in range(4)]
        for client in self._clients:
            client.start()

    def _enqueue(self):
        while not self._stop.is_set():
            try:
                status, text = self.get("/enqueue")
            except (OSError, http.client.HTTPException):  # what became of it was not told
                self.lost_connections += 1
                self._stop.wait(0.02)
                continue
            with self._lock:
                if status == 200:
                    self.told.add(text)
                else:
                    self.refused.append(text)

    def tells(self, more=ENOUGH):
        """Wait until clients were told of so many more jobs, or were refused that often."""
        begun = len(self.told) + len(self.refused)
        until(lambda: len(self.told) + len(self.refused) >= begun + more, self, DEADLINE)

    def workers(self):
        """Return the pids of the processes that answer."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(pid) for pid in children}

    def are_there_but(self, for_old):
        """Tell whether two processes are up, and none of the old: uWSGI loses its way if told to reload before that."""
        there = self.workers()
        if for_old & there or len(there) < 2:
            return False
        log = self.log.read_text() if self.lazy else ""
        return not self.lazy or all(f"pid: {pid} (default app)" in log for pid in there)

    def kill_one(self):
        """Kill a process that answers, and wait until it is replaced."""
        pid = until(lambda: next(iter(self.workers()), None), self, DEADLINE)
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.are_there_but(for_old={pid}), self, DEADLINE)

    def reload(self):
        """SIGHUP: every process that answers is replaced."""
        old = self.workers()
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self.are_there_but(for_old=old), self, DEADLINE)
        until(lambda: self.is_up("/pid"), self, DEADLINE)

    def stop(self, number=signal.SIGTERM):
        """Stop it while clients enqueue, and then them."""
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE)
        self.end_clients()
        return code

    def end_clients(self):
        self._stop.set()
        for client in self._clients:
            client.join(DEADLINE)

    def told_at_import(self):
        path = self.folder / "told"
        return set(path.read_text().split()) if path.exists() else set()


def look_from_outside(folder, driver):
    """Open the file and close it again, as any command does; return the ids in it, and what is wrong with it."""
    text = (
        "import sys, json, litequeue; q = litequeue.Queue(sys.argv[1], driver=sys.argv[2]); "
        "print(json.dumps([q.engine.admin.integrity(), [job.id for job in q.engine.jobs.list(limit=1_000_000)]]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", text, folder / "app.db", driver], capture_output=True, text=True, check=True
    )
    return json.loads(ran.stdout)


@pytest.fixture
def start(tmp_path):
    """Start a server for an app of this folder; ended after the test."""
    servers = []

    def go(command, setup=DECLARED, driver="apsw"):
        (tmp_path / "app.py").write_text(APP.format(driver=driver, setup=setup))
        servers.append(Server(tmp_path, command))
        return servers[-1]

    yield go
    for server in servers:
        children = server.workers() if server.process.poll() is None else set()
        server.process.kill()
        server.process.wait()
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        server.end_clients()


def uwsgi(*options):
    """A master that imports the app and forks two processes, as uWSGI does unless told otherwise."""
    # --binary-path: as a module of Python it would start itself anew, at SIGHUP, outside of the virtual environment
    fixed = ("--master", "--processes", "2", "--need-app", "--die-on-term", "--worker-reload-mercy", "10")
    return [
        program("uwsgi"), "--binary-path", sys.executable, "--http-socket", "127.0.0.1:PORT", *fixed,
        "--wsgi-file", "app.py", *options,
    ]  # fmt: skip


def gunicorn(*options):
    fixed = (
        "--bind",
        "127.0.0.1:PORT",
        "--workers",
        "2",
        "--preload",
        "--no-control-socket",
        "--graceful-timeout",
        "10",
    )
    return [program("gunicorn"), *fixed, *options, "app:application"]


def ill_treat(server, driver):
    """Kill, reload and stop it under load; look into the file between; nothing it told is lost."""
    server.start_clients()
    server.tells()
    server.kill_one()
    look_from_outside(server.folder, driver)
    server.tells()
    server.reload()
    look_from_outside(server.folder, driver)
    server.tells()
    server.kill_one()
    server.tells()
    server.stop()
    wrong, ids = look_from_outside(server.folder, driver)
    assert wrong == []
    assert (server.told | server.told_at_import()) - set(ids) == set()


@pytest.mark.parametrize("driver", ["apsw", "sqlite3"])
def test_uwsgi_works_where_the_app_only_declares_its_queue(start, driver):
    server = start(uwsgi(), driver=driver)
    ill_treat(server, driver)
    assert server.refused == []
    assert len(server.told) > 3 * ENOUGH


def test_uwsgi_is_refused_where_the_app_uses_its_queue_before_the_fork(start):
    server = start(uwsgi(), USED_BEFORE)
    status, text = server.get("/enqueue")
    assert status == 500
    assert all(words in text for words in ("StoreError", *REFUSED)), text
    wal = [os.readlink(path) for path in Path(f"/proc/{server.process.pid}/fd").iterdir()]
    assert any(name.endswith("app.db-wal") for name in wal), "the master has it open"
    ill_treat(server, "apsw")
    assert server.told == set()
    assert len(server.refused) > 3 * ENOUGH
    assert len(server.told_at_import()) == 2  # of the start, and of the reload


def test_uwsgi_processes_harm_nothing_of_the_masters_though_the_app_used_its_queue(start):
    server = start(uwsgi(), USED_BEFORE)
    for _ in range(3):
        server.get("/enqueue")
        server.kill_one()
        wrong, ids = look_from_outside(server.folder, "apsw")
        assert (wrong, set(ids)) == ([], server.told_at_import())
    names = [os.readlink(path) for path in Path(f"/proc/{server.process.pid}/fd").iterdir()]
    assert [name for name in names if "app.db" in name and name.endswith("(deleted)")] == []


def test_uwsgi_with_pythons_fork_hooks_works_though_the_app_used_its_queue(start):
    server = start(uwsgi("--py-call-uwsgi-fork-hooks"), USED_BEFORE)
    ill_treat(server, "apsw")
    assert server.refused == []
    assert len(server.told) > 3 * ENOUGH


def test_uwsgi_with_the_childs_hook_alone_is_refused(start):
    """py-call-osafterfork is not enough: nothing was closed before the fork."""
    server = start(uwsgi("--py-call-osafterfork"), USED_BEFORE)
    ill_treat(server, "apsw")
    assert server.told == set()
    assert all("py-call-uwsgi-fork-hooks" in text for text in server.refused)


def test_uwsgi_with_lazy_apps_works_though_the_app_uses_its_queue_at_import(start):
    server = start(uwsgi("--lazy-apps"), USED_BEFORE)
    ill_treat(server, "apsw")
    assert server.refused == []
    assert len(server.told) > 3 * ENOUGH


def test_uwsgi_recycles_its_processes_without_loss(start):
    """max-requests: they end in good order, by Python's own finalisation, again and again."""
    server = start(uwsgi("--max-requests", "20", "--min-worker-lifetime", "0"))
    server.start_clients()
    for _ in range(3):
        server.tells(ENOUGH)
        look_from_outside(server.folder, "apsw")
    server.stop()
    wrong, ids = look_from_outside(server.folder, "apsw")
    assert (wrong, server.refused, server.told - set(ids)) == ([], [], set())


def test_uwsgi_runs_an_embedded_worker_that_is_started_after_the_fork(start):
    server = start(uwsgi("--enable-threads"), WORKER_AFTER_UWSGI_FORK)
    assert server.get("/run")[0] == 200
    assert {int(server.get("/run")[1]) for _ in range(4)} <= server.workers()
    assert server.stop() == 0


def test_uwsgi_refuses_an_embedded_worker_started_at_import_in_its_processes(start):
    server = start(uwsgi("--enable-threads"), WORKER_BEFORE_UWSGI_FORK)
    status, text = server.get("/enqueue")
    assert (status, all(words in text for words in REFUSED)) == (500, True), text


@pytest.mark.parametrize(("kind", "driver"), [("sync", "apsw"), ("gthread", "sqlite3")])
def test_gunicorn_with_preload_works_though_the_app_used_its_queue_before_the_fork(start, driver, kind):
    server = start(gunicorn("--worker-class", kind, "--threads", "1" if kind == "sync" else "3"), USED_BEFORE, driver)
    ill_treat(server, driver)
    assert server.refused == []
    assert len(server.told) > 3 * ENOUGH


def test_gunicorn_recycles_its_processes_without_loss(start):
    server = start(gunicorn("--max-requests", "20"), USED_BEFORE)
    server.start_clients()
    for _ in range(3):
        server.tells(ENOUGH)
        look_from_outside(server.folder, "apsw")
    server.stop()
    wrong, ids = look_from_outside(server.folder, "apsw")
    assert (wrong, server.refused, server.told - set(ids)) == ([], [], set())


def test_gunicorn_runs_an_embedded_worker_that_is_started_in_post_fork(start, tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text(POST_FORK)
    server, up = start(gunicorn()), set()
    assert {int(server.get("/run")[1]) for _ in range(4)} <= server.workers()
    # a process that is stopped before it has come to accept misses the signal, and is killed after 10 s
    until(lambda: up.add(server.get("/pid")[1]) or len(up) == 2, server, DEADLINE)
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def test_gunicorn_runs_jobs_in_its_master_where_the_worker_was_started_at_import(start):
    """It does not cross the fork: the processes that answer have none."""
    server = start(gunicorn(), WORKER_AT_IMPORT)
    assert {int(server.get("/run")[1]) for _ in range(4)} == {server.process.pid}
