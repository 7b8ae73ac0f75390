"""An error is raised in a thread at once where that leaves nothing half done, and held back elsewhere."""

import subprocess
import sys
import threading

import pytest

from litequeue import JobTimeout, execute
from litequeue.interrupt import insist, interrupt, take_back

DEADLINE = 20


class Paused:
    """Stands in for something that litequeue looks at; whoever does stays there until told to go on."""

    def __init__(self):
        self.reached, self.go = threading.Event(), threading.Event()

    def get(self):
        self.reached.set()
        while not self.go.is_set():
            pass
        raise LookupError


@pytest.fixture
def thread(monkeypatch):
    """Start a thread that is inside `current_job()`, or inside whatever else looks at `_current`."""
    paused, ends = Paused(), []
    monkeypatch.setattr(execute, "_current", paused)

    def start(function):
        def run():
            try:
                ends.append(function())
            except BaseException as error:
                ends.append(error)

        started = threading.Thread(target=run, daemon=True)
        started.start()
        assert paused.reached.wait(DEADLINE)
        return started

    yield start, paused, ends
    paused.go.set()


def test_a_thread_that_looks_at_its_job_is_interrupted_at_once(thread):
    start, _, ends = thread
    started = start(execute.current_job)
    assert interrupt(started.ident, JobTimeout)
    started.join(DEADLINE)
    assert [type(end) for end in ends] == [JobTimeout]


def test_a_thread_amid_our_own_work_is_not(thread):
    start, paused, ends = thread
    amid = {"__name__": "litequeue.sqlite.writer", "look": paused.get}
    exec("def commit():\n look()", amid)

    def work():
        try:
            amid["commit"]()
        finally:
            take_back()

    started = start(work)
    assert not interrupt(started.ident, JobTimeout)
    assert not insist(started.ident)
    paused.go.set()
    started.join(DEADLINE)
    assert [type(end) for end in ends] == [LookupError]
    assert insist(started.ident)


TRACED = """
import sys, threading
from litequeue.interrupt import take_back

thread = threading.Thread(target=take_back)
thread.start()
thread.join()

def traced():
    return "begun"

sys.settrace(lambda *about: None)
print(traced())
"""


def test_after_one_is_taken_back_functions_that_are_traced_still_begin():
    ran = subprocess.run([sys.executable, "-c", TRACED], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert ran.stdout == "begun\n"
