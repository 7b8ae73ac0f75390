"""The smallest program: define a task, enqueue a call, run it, get the result.

Run: `python examples/script.py`. With the same $LITEQUEUE_PATH, or in the same folder, the worker may also be another
process: `litequeue run script`.
"""

import os
import tempfile

from litequeue import default_queue, task

# Without this line the default queue's file is ./litequeue.db.
os.environ.setdefault("LITEQUEUE_PATH", f"{tempfile.mkdtemp()}/litequeue.db")


@task
def add(a: int, b: int) -> int:
    return a + b


if __name__ == "__main__":
    job = add.enqueue(2, 3)  # on disk when it returns
    print("enqueued:", job.status)

    with default_queue.worker():
        print("result:", job.result(timeout=10))

    print("a plain call stays a plain call:", add(2, 3))
