"""persist-queue's SQLiteAckQueue: a bare queue, so the worker is ours, and results go unkept."""

from __future__ import annotations

import threading
import time
from typing import Any

from benchmarks.peers import work
from benchmarks.peers.peer import CHECKPOINTED, SYNCED, THREADS, Place, Setting, wait_for

SETTINGS = (
    Setting(
        how="get() looks every 10 s",
        concurrency="4 threads",
        durability=SYNCED,
        jobs=500,
        period=10.0,
        options={"synchronous": "FULL", "polling": None},
    ),
    Setting(
        name="fast",
        how="synchronous=NORMAL, looks every 10 ms",
        concurrency="4 threads",
        durability=CHECKPOINTED,
        jobs=2_000,
        options={"synchronous": "NORMAL", "polling": 0.01},
    ),
)
PACKAGES = ("persist-queue",)


class Peer:
    """A queue of calls, and a second one for what `stamp` returns."""

    def __init__(self, place: Place) -> None:
        self._polling = place.setting.options["polling"]
        synchronous = place.setting.options["synchronous"]
        self._calls = _queue(f"{place.folder}/calls", synchronous)
        self._replies = _queue(f"{place.folder}/replies", synchronous)

    def enqueue(self, count: int) -> None:
        """Put one at a time."""
        for number in range(count):
            self._calls.put(("add", number, 2))

    def stamp(self) -> Any:
        """Put the clock's reader."""
        return self._calls.put(("stamp",))

    def result(self, _job: Any) -> int:
        """Look for an answer every millisecond."""
        answer = wait_for(lambda: _taken(self._replies), pause=0.001)
        self._replies.ack(answer)
        return int(answer[0])

    def done(self, count: int) -> bool:
        """Whether so many are acknowledged."""
        return bool(self._calls.acked_count() >= count)

    def work(self) -> None:
        """Take, call, acknowledge: four threads until the process is killed."""
        threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _serve(self) -> None:
        while True:
            call = self._take()
            name, *arguments = call
            result = getattr(work, name)(*arguments)
            if name == "stamp":
                self._replies.put([result])
            self._calls.ack(call)

    def _take(self) -> Any:
        if self._polling is None:
            return self._calls.get()
        while (call := _taken(self._calls)) is None:
            time.sleep(self._polling)
        return call

    def close(self) -> None:
        """Close the files."""
        self._calls.close()
        self._replies.close()


def _taken(queue: Any) -> Any:
    from persistqueue import Empty

    try:
        return queue.get(block=False)
    except Empty:
        return None


def _queue(path: str, synchronous: str) -> Any:
    from persistqueue import SQLiteAckQueue

    class Queue(SQLiteAckQueue):  # type: ignore[misc, unused-ignore]
        def _new_db_connection(self, *arguments: Any) -> Any:
            connection = super()._new_db_connection(*arguments)
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            return connection

    # Another process's unfinished calls are not ours to put back.
    return Queue(path, multithreading=True, auto_resume=False)


opened = Peer
