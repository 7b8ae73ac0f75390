"""A worker for `test_overlap_kills`: serves one schedule of each overlap, and notes when each job begins and ends."""

import os
import sys
import time

from litequeue import JobCancelled, Queue, current_job

TICKS = 200
EVERY = 0.02  # seconds

queue = Queue("app.db", durability="normal")


def note(what: str, name: str) -> None:
    """Write one line at once; what several processes append so does not mix."""
    job = current_job()
    line = f"{what} {job.id} {time.monotonic()!r}\n".encode()
    file = os.open(f"{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line)
    finally:
        os.close(file)


@queue.task(name="work", retries=0)
def work(name: str) -> None:
    """Take about as long as the time between two ticks."""
    note("begin", name)
    time.sleep(0.001 if int(current_job().id) % 20 else 3 * EVERY)
    if current_job().cancelled:
        note("end", name)
        raise JobCancelled
    note("end", name)


if __name__ == "__main__":
    queue.worker(threads=6).run()
    sys.exit(0)
