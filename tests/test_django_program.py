"""A bookmark manager on Django under gunicorn, with `manage.py litequeue_worker`: both are killed and started again.

No bookmark that a client was told of is without its snapshot, no task begins before the commit of its bookmark, none
runs for one that was rolled back, and nobody meets "database is locked".
"""

import http.client
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest

from crash.watching import until
from litequeue import Queue
from test_servers import free_port, program

pytest.importorskip("django")

PROGRAM = Path(__file__).parent / "django_program"
DEADLINE = 60  # seconds; only a defect waits so long
ENOUGH = 15  # requests answered between two events

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="process groups")]


class Bookmarks:
    """The program's two processes, and what its clients were told."""

    def __init__(self, data, queue):
        self.data, self.port = data, free_port()
        self.environment = os.environ | {"BOOKMARKS_DATA": str(data), "BOOKMARKS_QUEUE": queue}
        self.log = data / "log"
        self.saved, self.failed, self.wrong = set(), set(), []
        self._number, self._lock, self._stop = 0, threading.Lock(), threading.Event()
        self._clients = [threading.Thread(target=self._ask) for _ in range(3)]
        self._processes = []

    def __repr__(self):
        return f"the processes of this log:\n{self.log.read_text()}"

    def start(self, *command):
        """Start a process in a group of its own."""
        with self.log.open("a") as log:
            options = {"cwd": PROGRAM, "env": self.environment, "stdin": subprocess.DEVNULL, "start_new_session": True}
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, **options))
        return self._processes[-1]

    def start_server(self):
        server = self.start(program("gunicorn"), "-w", "2", "-b", f"127.0.0.1:{self.port}", "project.wsgi")
        until(lambda: self.answer("/up") == (200, "up"), self, DEADLINE)
        return server

    def start_worker(self):
        return self.start(sys.executable, "manage.py", "litequeue_worker", "--threads", "2")

    def answer(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):  # what became of it was not told
            return 0, ""
        finally:
            connection.close()

    def ask(self):
        """Send requests from now on."""
        for client in self._clients:
            client.start()

    def _ask(self):
        while not self._stop.is_set():
            with self._lock:
                self._number += 1
                number = self._number
            fails = number % 4 == 0
            status, text = self.answer(f"/add_then_fail/{number}" if fails else f"/add/{number}")
            with self._lock:
                if status == 0:
                    self._stop.wait(0.02)
                elif status == (500 if fails else 200):
                    (self.failed if fails else self.saved).add(number)
                else:
                    self.wrong.append((number, status, text))

    def tells(self):
        """Wait until more requests have been answered."""
        begun = len(self.saved)
        until(lambda: len(self.saved) >= begun + ENOUGH or self.wrong, self, DEADLINE)

    def end_clients(self):
        self._stop.set()
        for client in self._clients:
            if client.is_alive():
                client.join(DEADLINE)

    def end(self):
        self.end_clients()
        for process in self._processes:
            kill(process)

    def rows(self, sql):
        with closing(sqlite3.connect(self.data / "bookmarks.db")) as db:
            return {row[0] for row in db.execute(sql)}


def kill(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(DEADLINE)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """A database with Django's tables and no row."""
    data = tmp_path_factory.mktemp("migrated")
    command, environment = [sys.executable, "manage.py", "migrate", "-v0"], os.environ | {"BOOKMARKS_DATA": str(data)}
    subprocess.run(command, cwd=PROGRAM, env=environment, check=True)
    return data / "bookmarks.db"


@pytest.fixture
def bookmarks(tmp_path, request, migrated):
    shutil.copy(migrated, tmp_path)
    made = Bookmarks(tmp_path, request.param)
    yield made
    made.end()


@pytest.mark.parametrize("bookmarks", ["own file", "same file"], indirect=True)
def test_each_saved_bookmark_gets_its_snapshot_whatever_is_killed(bookmarks):
    server, worker = bookmarks.start_server(), bookmarks.start_worker()
    bookmarks.ask()
    bookmarks.tells()
    kill(server)
    kill(worker)
    bookmarks.start_server()
    worker = bookmarks.start_worker()
    bookmarks.tells()
    bookmarks.end_clients()

    same = (bookmarks.data / "queue.db").exists() is False
    due = bookmarks.saved if not same else bookmarks.rows("SELECT number FROM bookmarks_bookmark")
    done = "SELECT number FROM bookmarks_bookmark WHERE id IN (SELECT bookmark_id FROM bookmarks_snapshot)"
    until(lambda: due <= bookmarks.rows(done), bookmarks, DEADLINE)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(DEADLINE) == 0, bookmarks
    assert bookmarks.wrong == []
    assert bookmarks.failed
    assert bookmarks.rows("SELECT number FROM bookmarks_bookmark").isdisjoint(bookmarks.failed)
    with Queue(bookmarks.data / ("bookmarks.db" if same else "queue.db"), driver="sqlite3") as queue:
        assert [job.errors for job in queue.jobs(status="failed", limit=10_000)] == []
        assert {job.status for job in queue.jobs(limit=10_000)} == {"succeeded"}
    assert "database is locked" not in bookmarks.log.read_text()


def litequeue(data, *words, settings="project.settings"):
    environment = os.environ | {"BOOKMARKS_DATA": str(data), "DJANGO_SETTINGS_MODULE": settings}
    command = [program("litequeue"), *words]
    return subprocess.run(
        command, cwd=PROGRAM, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def test_litequeue_run_sets_django_up_before_it_imports_models(tmp_path):
    ran = litequeue(tmp_path, "run", "-I", "bookmarks.*", "project.queue:queue", "--until-idle")
    assert ran.returncode == 0, ran.stderr
    assert "snapshot (queue default)" in ran.stderr


def test_settings_that_cannot_be_imported_are_told_with_what_to_do(tmp_path):
    ran = litequeue(tmp_path, "run", "project.queue:queue", settings="projet.settings")
    assert ran.returncode == 2
    assert "DJANGO_SETTINGS_MODULE is 'projet.settings'" in ran.stderr
    assert "did you mean 'project.settings'?; correct or unset it" in ran.stderr


def test_settings_that_raise_are_shown_with_their_traceback(tmp_path):
    ran = litequeue(tmp_path / "missing", "run", "project.queue:queue", settings="bookmarks.views")
    assert ran.returncode == 1
    assert "Traceback" in ran.stderr
    assert "Error: Django with the settings bookmarks.views could not be set up: AppRegistryNotReady" in ran.stderr
