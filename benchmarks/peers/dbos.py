"""DBOS on SQLite: durable workflows, enqueued by a client."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import threading
from typing import Any

from benchmarks.peers import work
from benchmarks.peers.peer import CHECKPOINTED, SYNCED, Place, Setting

SETTINGS = (
    Setting(
        how="polls every 1 s",
        concurrency="no limit",
        durability=SYNCED,
        jobs=100,
        period=1.0,
        options={"polling": 1.0, "wal": False},
    ),
    Setting(
        name="fast",
        how="WAL, synchronous=NORMAL, polls every 10 ms",
        concurrency="no limit",
        durability=CHECKPOINTED,
        jobs=200,
        options={"polling": 0.01, "wal": True},
    ),
)
PACKAGES = ("dbos", "sqlalchemy")
QUEUE = "bench"


class Peer:
    """A client; in the worker's process, an executor."""

    def __init__(self, place: Place) -> None:
        self._options = place.setting.options
        self._file = f"{place.folder}/dbos.sqlite"
        self._url = f"sqlite:///{self._file}"
        if self._options["wal"]:
            _relax(self._file)
        self._opened: Any = None

    @property
    def _client(self) -> Any:
        if self._opened is None:
            from dbos import DBOSClient, run_dbos_database_migrations

            run_dbos_database_migrations(self._url)
            self._opened = DBOSClient(system_database_url=self._url, application_name=QUEUE)
        return self._opened

    def enqueue(self, count: int) -> None:
        """Enqueue one at a time."""
        for number in range(count):
            self._client.enqueue({"queue_name": QUEUE, "workflow_name": "add"}, number, 2)

    def stamp(self) -> Any:
        """Enqueue the clock's reader."""
        return self._client.enqueue({"queue_name": QUEUE, "workflow_name": "stamp"})

    def result(self, job: Any) -> int:
        """Poll for the result: on SQLite there is nothing else."""
        return int(job.get_result(polling_interval_sec=self._options["polling"]))

    def done(self, count: int) -> bool:
        """Whether so many workflows have succeeded."""
        with contextlib.closing(sqlite3.connect(self._file)) as db:
            [(ended,)] = db.execute("SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'")
        return bool(ended >= count)

    def work(self) -> None:
        """Launch, and wait for SIGTERM."""
        from dbos import DBOS

        DBOS(config={"name": QUEUE, "system_database_url": self._url, "run_admin_server": False})
        for function in (work.add, work.stamp):
            DBOS.workflow(name=function.__name__)(function)
        DBOS.launch()
        DBOS.register_queue(QUEUE, polling_interval_sec=self._options["polling"])
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        stopped.wait()
        DBOS.destroy()

    def close(self) -> None:
        """Let go of the file."""
        if self._opened is not None:
            self._opened.destroy()


def _relax(file: str) -> None:
    """Put the file in WAL mode, and every connection of SQLAlchemy at synchronous=NORMAL."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA journal_mode = wal")

    def connected(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous = NORMAL")

    event.listen(Engine, "connect", connected)


opened = Peer
