"""A worker in a process of its own: `python -m contract.engine.serve PATH DRIVER THREADS GRACE`, exit code 0 or 75."""

import sys

from contract.engine import app
from litequeue import Queue

if __name__ == "__main__":
    path, driver, threads, grace = sys.argv[1:]
    queue = Queue(path, driver=driver, durability="normal")
    app.declare(queue)
    sys.exit(0 if queue.worker(threads=int(threads), grace=grace).run() else 75)
