"""A worker beside your own code, in the same process, and its clean shutdown.

Leaving the block finishes running jobs; jobs that have not begun stay in the file for the next worker.
Run: `python examples/embedded_worker.py`.
"""

import tempfile
import threading
import time
from pathlib import Path

from litequeue import Queue, Status, current_job

queue = Queue(Path(tempfile.mkdtemp()) / "app.db")  # in your program: Queue("app.db")
begun = threading.Event()


@queue.task
def bake(loaf: int) -> str:
    begun.set()
    for minute in range(5):
        current_job().progress(minute, total=5)
        time.sleep(0.1)
    return f"loaf {loaf}"


def main() -> None:
    jobs = bake.enqueue_many([(1,), (2,), (3,)])
    with queue.worker(threads=1, grace="10s"):  # grace: how long running jobs may take at the end
        begun.wait(timeout=10)
    print("stopped; finished:", [job.result() for job in jobs if job.refresh().status is Status.SUCCEEDED])

    queue.worker(threads=2).run(until_idle=True)  # runs the remaining jobs, in this thread
    print("all finished:", [job.result(timeout=0) for job in jobs])


if __name__ == "__main__":
    main()
