"""Jobs that wait for jobs: a build whose steps run side by side where they can, and in order where they must.

Run: `python examples/dag.py`.
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

from litequeue import Job, JobFailed, Queue, wait_all

logging.getLogger("litequeue").setLevel("CRITICAL")  # a worker logs each failure; the one below is on purpose
queue = Queue(Path(tempfile.mkdtemp()) / "app.db")  # in your program: Queue("app.db")
NEEDS: dict[str, list[str]] = {"core": [], "web": ["core"], "cli": ["core"], "docs": ["web", "cli"]}
built: list[str] = []
broken = {"web"}


@queue.task
def build(part: str) -> None:
    if part in broken:
        raise RuntimeError(f"{part} does not compile")
    built.append(part)


@queue.task
def clean(parts: list[str]) -> str:
    return f"cleaned {len(parts)}"


def enqueue_build() -> dict[str, Job[None]]:
    """Each job names those that it waits for: they must exist, so there can be no circle."""
    jobs: dict[str, Job[None]] = {}
    with queue.transaction():  # all of the build, or nothing
        for part, needed in NEEDS.items():
            jobs[part] = build.using(after=[jobs[name] for name in needed]).enqueue(part)
    return jobs


def main() -> None:
    jobs = enqueue_build()
    cleaned = clean.using(after=list(jobs.values()), after_failed="run").enqueue(list(jobs))  # whatever becomes of them

    with queue.worker():
        all_jobs: list[Job[Any]] = [*jobs.values(), cleaned]
        for job in wait_all(all_jobs, timeout=10):
            print(f"{job.id} {job.task}: {job.status.value}" + (f", {job.reason}" if job.reason else ""))
        print("built:", sorted(built))

        # Once the cause is gone, the retry of what failed makes what it had cancelled wait again.
        broken.clear()
        try:
            jobs["web"].result(timeout=0)
        except JobFailed as failure:
            print("retried:", failure.message)
        jobs["web"].retry()
        jobs["docs"].refresh().result(timeout=10)  # loaded again: it was loaded as cancelled
        print("built:", sorted(built))


if __name__ == "__main__":
    main()
