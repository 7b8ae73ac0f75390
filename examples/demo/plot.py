"""What happens in the demo: enqueue, watch, kill a worker half-way, see its jobs rescued. Knows no look."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from examples.demo import ledger as sql
from examples.demo import tasks
from examples.demo.folder import Listing
from examples.demo.ledger import Ledger
from examples.demo.show import Show
from examples.demo.workers import WorkerDied, WorkerProcess
from litequeue import default_queue

LOOK_EVERY = 0.1  # seconds
LOOK_CLOSELY = 0.01  # seconds, after the kill
STALLED = 60.0  # seconds without a job's end after which something is wrong
ALL, ROLLED_UP = "all files", "rolled up"


class Plot:
    """One run of the demo, over a listing, with two workers."""

    def __init__(self, listing: Listing, workers: list[WorkerProcess], ledger: Ledger, show: Show) -> None:
        self.listing, self.workers, self.ledger, self.show = listing, workers, ledger, show
        self.total = len(listing.files)
        self._ended = 0
        self._moved = time.monotonic()

    def play(self) -> None:
        """Enqueue a job for each file, and return when all have ended and been rolled up."""
        for name in (ALL, *(f"worker {worker.place}" for worker in self.workers), ROLLED_UP):
            self.show.bar(name, self.total)
        self._enqueue()
        survivor, victim = self.workers
        self._watch_until(lambda: self._ended >= self.total / 2 and self._holds_jobs(victim))
        self._kill(victim, survivor)
        self._watch_until(lambda: self._ended == self.total)
        seconds = self.show.elapsed()
        default_queue.schedules.trigger_now("roll_up").result(timeout=STALLED)
        self._look()
        self.show.say(f"every job has ended: {self.total / seconds:,.0f} jobs a second", "bold")

    def _enqueue(self) -> None:
        began = time.monotonic()
        small = [(path,) for path, (size, _) in self.listing.files.items() if size < tasks.SMALL]
        large = [(path,) for path, (size, _) in self.listing.files.items() if size >= tasks.SMALL]
        with default_queue.transaction():  # all jobs of both tasks, or none
            tasks.count_small_file.enqueue_many(small)
            tasks.count_file.enqueue_many(large)
        self.show.say(
            f"{self.total:,} jobs enqueued in {time.monotonic() - began:.2f} s: "
            f"{len(small):,} for coroutines, {len(large):,} for threads"
        )

    # ---- watch

    def _watch_until(self, enough: Callable[[], bool]) -> None:
        while True:
            self._look()
            if enough() or self._ended == self.total:
                return
            time.sleep(LOOK_EVERY)

    def _look(self) -> None:
        """Read how far it is, and move the bars."""
        counted = dict(self.ledger.rows(sql.COUNTED))
        states = dict(self.ledger.rows(sql.STATES))
        self._note_ended(states.get("succeeded", 0) + states.get("failed", 0))
        self.show.move(ALL, self._ended, f"{self._ended / max(self.show.elapsed(), 0.1):,.0f} jobs a second")
        for worker in self.workers:
            note = "killed" if worker.killed else f"pid {worker.pid}"
            self.show.move(f"worker {worker.place}", counted.get(worker.pid, 0), note)
        [(rolled_up, _)] = self.ledger.rows(sql.ROLLED_UP)
        self.show.move(ROLLED_UP, rolled_up, "by a schedule, each second")

    def _note_ended(self, ended: int) -> None:
        now = time.monotonic()
        if ended != self._ended:
            self._ended, self._moved = ended, now
        for worker in self.workers:
            worker.check()
        if now - self._moved > STALLED:
            raise WorkerDied(f"no job has ended for {STALLED:.0f} s")

    # ---- kill

    def _held_by(self, worker: WorkerProcess) -> list[int]:
        return [job for (job,) in self.ledger.rows(sql.HELD, worker.number)]

    def _holds_jobs(self, worker: WorkerProcess) -> bool:
        return bool(self._held_by(worker))

    def _kill(self, victim: WorkerProcess, survivor: WorkerProcess) -> None:
        if self._ended == self.total:
            self.show.say(f"too few files to kill {victim} during the run")
            return
        victim.kill()
        killed, held = time.monotonic(), self._held_by(victim)
        self.show.mark(f"worker {victim.place}", "red")
        self.show.say(f"{victim} killed with SIGKILL; its running jobs: {len(held)}", "bold red")
        self._look_closely_until(lambda: not self._holds_jobs(victim))
        self._say_since(killed, f"{survivor} noticed and released them")
        self._look_closely_until(lambda: self._have_ended(held))
        self._say_since(killed, f"worker {survivor.place} has finished them")

    def _have_ended(self, jobs: list[int]) -> bool:
        [(unfinished,)] = self.ledger.rows(sql.UNFINISHED, json.dumps(jobs))
        return bool(unfinished == 0)

    def _look_closely_until(self, enough: Callable[[], bool]) -> None:
        while not enough():
            self._look()
            time.sleep(LOOK_CLOSELY)

    def _say_since(self, killed: float, what: str) -> None:
        self.show.say(f"{what}, {time.monotonic() - killed:.2f} s after the kill", "bold green")
