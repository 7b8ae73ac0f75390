"""The program that tests/test_frozen.py has PyInstaller build. Each start of it leaves a line in $SHOP_STARTS."""

import multiprocessing
import os
import sys

from shop.images import queue


@queue.task
def here(width: int) -> int:
    return width * 2


if "own" in sys.argv:

    @queue.task(process=True)
    def own() -> None: ...


if __name__ == "__main__":
    multiprocessing.freeze_support()
    with open(os.environ["SHOP_STARTS"], "a") as starts:
        starts.write(f"{os.getpid()}\n")
    queue.worker(threads=2, coroutines=2, children=2, grace="1s").run()
