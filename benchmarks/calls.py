"""How far one job's way is through the code: calls, files and changes of file, by sys.setprofile.

`python -m benchmarks.calls [FOLDER]` from the root of the repository; FOLDER holds another `litequeue/`, to compare.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

TIMES = 5  # the way of the last is counted: what is opened or looked up once is no part of it


class Way:
    """The files of litequeue's own functions that were called, in order, by thread."""

    def __init__(self, package: str) -> None:
        self._package = package
        self.by_thread: dict[int, list[str]] = {}

    def note(self, frame: FrameType, event: str, _argument: object) -> None:
        """Note a call, as sys.setprofile tells of it."""
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(self._package):
            self.by_thread.setdefault(threading.get_ident(), []).append(name)

    def figures(self) -> str:
        """Say them as calls / files / changes of file."""
        ways = list(self.by_thread.values())
        files = {name for way in ways for name in way}
        changes = sum(one != other for way in ways for one, other in itertools.pairwise(way))
        return f"{sum(map(len, ways))} / {len(files)} / {changes}"


def counted(package: str, work: Callable[[], Any]) -> str:
    """Do it several times, and count the last."""
    for _ in range(TIMES - 1):
        work()
    way = Way(package)
    threading.setprofile(way.note)
    sys.setprofile(way.note)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return way.figures()


def main(folder: str | None = None) -> None:
    if folder is not None:
        sys.path.insert(0, folder)
    import litequeue

    package = str(Path(litequeue.__file__).parent)
    with tempfile.TemporaryDirectory() as place:
        queue = litequeue.Queue(Path(place) / "app.db")
        add = queue.task(name="add")(lambda a: a)
        print("one enqueue:", counted(package, lambda: add.enqueue(1)))

        def worked_off() -> None:
            job = add.enqueue(1)
            queue.worker(threads=1, coroutines=1).run(until_idle=True)
            job.result(20)

        print("enqueue to result, by a worker that starts and stops:", counted(package, worked_off))
        print("enqueue to result, beside a worker at rest:", beside_a_worker(package, queue, add))
        queue.close()


def beside_a_worker(package: str, queue: Any, add: Any) -> str:
    """Count one job's way through all threads of a process in which a worker is idle; what it does by the clock is in.

    The median of several: a look at the file or a heartbeat may fall into one.
    """
    way = Way(package)
    threading.setprofile(way.note)  # the worker's threads begin under it
    sys.setprofile(way.note)
    found = []
    try:
        with queue.worker():
            for _ in range(2 * TIMES + 1):
                time.sleep(0.1)
                way.by_thread.clear()
                add.enqueue(1).result(20)
                time.sleep(0.1)  # until the worker rests again
                found.append((sum(map(len, way.by_thread.values())), way.figures()))
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return sorted(found)[TIMES][1]


if __name__ == "__main__":
    main(*sys.argv[1:2])
