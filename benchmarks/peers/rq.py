"""RQ on Redis."""

from __future__ import annotations

from typing import Any

from benchmarks.peers import work
from benchmarks.peers.peer import SNAPSHOTS, Place, Setting

DEFAULT = Setting(how="rq worker: forks for each job", concurrency="1 job at a time", jobs=150, durability=SNAPSHOTS)
FAST = Setting(
    name="fast",
    how="worker-pool of SimpleWorker",
    concurrency="4 processes",
    jobs=1_000,
    options={"workers": 4},
    durability=SNAPSHOTS,
)
SETTINGS = (DEFAULT, FAST, FAST.fsynced())
FORKS = Setting(name="forks", how=DEFAULT.how, concurrency="1 job at a time", jobs=150, durability=SNAPSHOTS)
TWO_FORK = Setting(
    name="forks, 2 workers",
    how="worker-pool of Worker: each forks for each job",
    concurrency="2 jobs at a time",
    jobs=150,
    options={"workers": 2, "forks": True},
    durability=SNAPSHOTS,
)
PROCESSES = (FORKS, TWO_FORK)
PACKAGES = ("rq", "redis")


class Peer:
    """An RQ queue."""

    def __init__(self, place: Place) -> None:
        from redis import Redis
        from rq import Queue

        self._workers = place.setting.options.get("workers", 0)
        self._forks = place.setting.options.get("forks", False)
        self._redis = Redis.from_url(place.redis)
        self._queue = Queue("default", connection=self._redis)
        self._finished = self._queue.finished_job_registry

    def enqueue(self, count: int) -> None:
        """Enqueue one at a time."""
        for number in range(count):
            self._queue.enqueue(work.add, number, 2)

    def stamp(self) -> Any:
        """Enqueue the clock's reader."""
        return self._queue.enqueue(work.stamp)

    def result(self, job: Any) -> int:
        """Wait on the job's stream of results."""
        return int(job.latest_result(timeout=60).return_value)

    def done(self, count: int) -> bool:
        """Whether so many are on the list of the finished."""
        return bool(self._redis.zcard(self._finished.key) >= count)

    def work(self) -> None:
        """Run `rq worker`, or `rq worker-pool`."""
        from rq import SimpleWorker, Worker
        from rq.worker_pool import WorkerPool

        if self._workers:
            options = {"num_workers": self._workers, "worker_class": Worker if self._forks else SimpleWorker}
            WorkerPool([self._queue], self._redis, **options).start(logging_level="WARNING")
        else:
            Worker([self._queue], connection=self._redis).work()

    def close(self) -> None:
        """Let go of the connections."""
        self._redis.close()


opened = Peer
