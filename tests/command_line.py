"""A folder with an app in it, and `litequeue` processes started there: what the tests of the command line share."""

import os
import re
import subprocess
import sys
import threading

DEADLINE = 30.0  # seconds; only a defect waits so long

APP = """
import os, sys, time
from pathlib import Path
from litequeue import Queue, cron

queue = Queue("app.db", durability="normal")

@queue.task(queue="email", retries=2, backoff=0)
def add(a: int, b: int = 1) -> int:
    return a + b

@queue.task
async def greet(name: str) -> str:
    return f"hello {name}"

@queue.task
def gated() -> str:
    sys.stdout.write(f"begins in {os.getpid()}\\n")  # print() writes the line break by itself
    sys.stdout.flush()
    while not Path("gate").exists():
        time.sleep(0.01)
    return "through"

@queue.task
def stuck() -> None:
    # neither this function nor the thread it leaves lets the process end by itself
    import threading
    threading.Thread(target=lambda: time.sleep(600)).start()
    sys.stdout.write("is stuck\\n")
    sys.stdout.flush()
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass

@queue.task
def stops_a_child() -> int | None:
    import multiprocessing
    context = multiprocessing.get_context("fork")
    runs = context.Event()
    child = context.Process(target=lambda: (runs.set(), time.sleep(60)))
    child.start()
    runs.wait(20)
    child.terminate()
    child.join(20)
    return child.exitcode

@queue.task
def bad() -> None:
    raise ValueError("no good")

@queue.task(schedule=cron("0 6 * * *", tz="Europe/Paris"))
def daily() -> None: ...
"""


class Command:
    """A `litequeue` process, its output read as it comes."""

    def __init__(self, folder, *arguments, **environment):
        command = [sys.executable, "-m", "litequeue", *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"NO_COLOR": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self._changed = threading.Condition()
        self._closed = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def output(self):
        return "\n".join(self.lines)

    def wait_for(self, pattern, times=1):
        """Wait until so many lines match; return the matches."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._found(pattern)) >= times, DEADLINE)
            found = self._found(pattern)
        assert len(found) >= times, f"{pattern!r} did not come {times} times in:\n{self.output}"
        return found

    def _found(self, pattern):
        return [match for line in self.lines if (match := re.search(pattern, line))]

    def signal(self, number):
        self.process.send_signal(number)

    def signal_until(self, number, pattern):
        """Send it until such a line comes: what comes within a moment of a stop is no other."""
        with self._changed:
            while not (self._closed or self._found(pattern)):
                self.signal(number)
                self._changed.wait(0.1)
        self.wait_for(pattern)

    def ends(self):
        """Wait for the end; return the exit code."""
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code

    def clean_up(self):
        self.process.kill()
        self.process.wait()
        self._reader.join(DEADLINE)
        self.process.stdout.close()


def ended(folder, *arguments):
    """Run one command, in a process of its own, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "litequeue", *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        check=False,
    )


def make_folder(path):
    (path / "app.py").write_text(APP)
    return path
