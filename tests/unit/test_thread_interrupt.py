"""An error is raised in a thread at once where that leaves nothing half done, and held back elsewhere."""

import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

import litequeue
from litequeue import JobTimeout
from litequeue.ipc.thread_interrupt import insist, interrupt, withdraw
from litequeue.worker.executor import context, execute

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
def thread():
    """Start a thread, and wait until it has come to what it stays in."""
    paused, ends = Paused(), []

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
    start, paused, ends = thread

    def stay(frame, _event, _argument):
        if frame.f_code is context.current_job.__code__:
            sys.settrace(None)
            paused.get()

    def look():
        sys.settrace(stay)
        context.current_job()

    started = start(look)
    assert interrupt(started.ident, JobTimeout)
    started.join(DEADLINE)
    assert [type(end) for end in ends] == [JobTimeout]


def test_a_thread_amid_our_own_work_is_not(thread):
    start, paused, ends = thread
    amid = {"__name__": "litequeue.sqlite.commit.writer", "look": paused.get}
    exec("def commit():\n look()", amid)

    def work():
        try:
            amid["commit"]()
        finally:
            withdraw()

    started = start(work)
    assert not interrupt(started.ident, JobTimeout)
    assert not insist(started.ident)
    paused.go.set()
    started.join(DEADLINE)
    assert [type(end) for end in ends] == [LookupError]
    assert insist(started.ident)


def amid(look=None):
    look()


HOOK = "litequeue.integrations.pyinstaller.hook-litequeue"  # needs PyInstaller, which alone reads it
MODULES = ["litequeue", *(found.name for found in pkgutil.walk_packages(litequeue.__path__, "litequeue."))]
MODULES.remove(HOOK)


@pytest.mark.parametrize("module", MODULES)
def test_a_thread_in_a_function_of_ours_is_not_wherever_it_stands_and_whatever_it_is_called(thread, module):
    start, paused, ends = thread
    namespace = vars(importlib.import_module(module))
    work = types.FunctionType(amid.__code__, namespace, argdefs=(paused.get,))

    def run():
        try:
            work()
        finally:
            withdraw()

    started = start(run)
    assert not interrupt(started.ident, JobTimeout)
    paused.go.set()
    started.join(DEADLINE)
    assert [type(end) for end in ends] == [LookupError]


def test_there_are_such_modules():
    assert {"litequeue.serialization.json_codec", "litequeue.sqlite.commit.writer", "litequeue.cli.run"} <= set(MODULES)


@pytest.mark.parametrize("function", [execute.execute, execute.aexecute])
def test_what_is_marked_is_the_function_itself(function):
    assert function.__module__ == "litequeue.worker.executor.execute"
    assert not hasattr(function, "__wrapped__")


COPY = """
import threading, types, sys
from otherqueue import Queue, current_job
from otherqueue.core.interruptible import is_protected
from otherqueue.sqlite.commit import writer

def innermost():
    return sys._getframe(1)

def of_ours(look):
    return look()

def stands(module):
    return types.FunctionType(of_ours.__code__, vars(module))(innermost)

print(is_protected(stands(writer)), is_protected(innermost()), is_protected(stands(threading)))
queue = Queue("app.db")

@queue.task(timeout=2)  # long enough to begin beside load
def long():
    try:
        while not current_job().cancelled:
            current_job().id
    except TimeoutError:
        print("interrupted")
        raise

with queue.worker(threads=1):
    try:
        long.enqueue().result(20)
    except Exception as error:
        print(error.traceback.splitlines()[1].partition("in ")[2])
print(any(name.partition(".")[0] == "litequeue" for name in sys.modules))
"""


def test_a_copy_under_another_name_is_protected_as_well(tmp_path):
    package = Path(litequeue.__file__).parent
    shutil.copytree(package, tmp_path / "otherqueue", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (tmp_path / "otherqueue").rglob("*.py"):
        text = re.sub(r"^(\s*(?:from|import)) litequeue\b", r"\1 otherqueue", path.read_text(), flags=re.MULTILINE)
        path.write_text(re.sub(r"\((['\"])litequeue\.sqlite\1", r"(\1otherqueue.sqlite\1", text))  # where its SQL is
    program = [sys.executable, "-c", COPY]
    ran = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.splitlines() == ["True False False", "interrupted", "long", "False"], ran.stderr


TRACED = """
import sys, threading
from litequeue.ipc.thread_interrupt import withdraw

thread = threading.Thread(target=withdraw)
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
