"""`litequeue run --reload`: what counts as a change of the code, and a new process after it."""

import os
import signal
import sys
import threading
import types

import pytest
from click.testing import CliRunner

from command_line import DEADLINE, Command
from litequeue import Queue
from litequeue.cli import main
from litequeue.cli.reload import ImportedFiles

APP = """
import asyncio, sys, threading, time
from pathlib import Path
from litequeue import Queue

queue = Queue("app.db", durability="normal")
VERSION = 1

@queue.task
def version() -> int:
    return VERSION

@queue.task
async def waits() -> None:
    sys.stdout.write("a coroutine waits\\n")
    sys.stdout.flush()
    await asyncio.sleep(600)

@queue.task
def stuck() -> None:
    threading.Thread(target=lambda: time.sleep(600)).start()
    sys.stdout.write("a function is stuck\\n")
    sys.stdout.flush()
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass

@queue.task
def imports_more() -> int:
    import more
    return more.N
"""


# ---- what counts as a change


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that is imported from a file; return the file."""
    file = tmp_path / "watched_module.py"
    file.write_text("x = 1")
    os.utime(file, (1e9, 1e9))
    made = types.ModuleType("watched_module")
    made.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "watched_module", made)
    return file


@pytest.fixture
def files(module):
    files = ImportedFiles()
    assert files.change() is None
    return files


def test_a_file_that_is_as_it_was_has_not_changed(files):
    assert files.change() is None


def test_a_file_that_is_written_or_replaced_or_deleted_has_changed(files, module):
    module.write_text("x = 22")
    assert files.change().path == str(module)
    assert files.change() is None
    other = module.with_name("other")
    other.write_text("x = 333")
    other.replace(module)
    assert files.change().path == str(module)
    module.unlink()
    assert files.change().path == str(module)
    assert files.change() is None
    module.write_text("x = 1")
    assert files.change().path == str(module)


def test_a_module_that_is_imported_later_is_watched_from_then_on(files, module, tmp_path, monkeypatch):
    later = tmp_path / "later_module.py"
    later.write_text("y = 1")
    os.utime(later, (1e9, 1e9))
    made = types.ModuleType("later_module")
    made.__file__ = str(later)
    monkeypatch.setitem(sys.modules, "later_module", made)
    assert files.change() is None
    later.write_text("y = 22")
    assert files.change().path == str(later)


def test_a_file_that_was_written_while_it_was_imported_has_changed_once(module):
    files = ImportedFiles()
    module.write_text("x = 22")  # after the import, and before the first look
    assert files.change().path == str(module)
    assert files.change() is None


def test_a_time_in_the_future_tells_nothing(module):
    os.utime(module, (4e9, 4e9))
    assert ImportedFiles().change() is None


def test_a_module_in_an_archive_or_without_a_file_is_left_out(files, module, monkeypatch):
    made = types.ModuleType("zipped_module")
    made.__file__ = str(module / "inside.py")
    monkeypatch.setitem(sys.modules, "zipped_module", made)
    monkeypatch.setitem(sys.modules, "no module", object())
    assert files.change() is None


@pytest.mark.parametrize("broken", ["x = (", "import a_module_that_is_not_there", "1 / 0"])
def test_modules_that_could_not_be_imported_are_watched_too(files, tmp_path, monkeypatch, broken):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_broken_module.py").write_text(broken)
    try:
        __import__("a_broken_module")
    except Exception as error:
        files.add_those_of(error)
    sys.modules.pop("a_broken_module", None)
    assert files.change() is None
    if "not_there" in broken:
        changed = tmp_path / "a_module_that_is_not_there.py"
        changed.touch()
    else:
        changed = tmp_path / "a_broken_module.py"
        changed.write_text("all_is_well = True")
    assert files.change().path == str(changed)


def test_a_wait_ends_when_it_is_told_to(files):
    over = threading.Event()
    over.set()
    assert files.wait(over) is None


# ---- as processes


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    os.utime(tmp_path / "app.py", (1e9, 1e9))
    return tmp_path


@pytest.fixture
def tasks(folder):
    """The app's tasks, known here by their names."""
    with Queue(folder / "app.db", durability="normal") as queue:
        yield {name: queue.task(name=name)(lambda: None) for name in ("version", "waits", "stuck", "imports_more")}


@pytest.fixture
def start(folder):
    started = []

    def starting(*arguments):
        # as if Python wrote bytecode, which it does by default
        started.append(Command(folder, "run", "app:queue", "--reload", *arguments, PYTHONDONTWRITEBYTECODE=""))
        return started[-1]

    yield starting
    for command in started:
        command.clean_up()


def replace(file, old, new, at=None):
    """As editors do it: write another file, and move it into place; as if it had been written `at`."""
    beside = file.with_name("beside")
    beside.write_text(file.read_text().replace(old, new))
    if at is not None:
        os.utime(beside, (at, at))
    beside.replace(file)


def test_changes_start_new_processes_and_mistakes_wait_for_the_next_change(start, tasks, folder):
    command = start("-I", "json.tool")
    assert tasks["version"].enqueue().result(timeout=DEADLINE) == 1
    replace(folder / "app.py", "VERSION = 1", "VERSION = (")
    command.wait_for("SyntaxError")
    command.wait_for("waiting for a change")
    replace(folder / "app.py", "VERSION = (", "VERSION = 2", at=1e9 + 0.5)  # bytecode knows whole seconds, and the size
    assert tasks["version"].enqueue().result(timeout=DEADLINE) == 2
    (folder / "app.py").unlink()
    command.wait_for("waiting for a change", 2)
    command.signal(signal.SIGINT)
    assert command.ends() == 0


@pytest.mark.slow
def test_every_process_is_replaced_and_jobs_that_run_are_asked_to_end_and_released(start, tasks, folder):
    (folder / "more.py").write_text("N = 1")
    command = start("--processes", "2", "--grace", "10m")
    command.wait_for("has started", 2)
    assert tasks["imports_more"].enqueue().result(timeout=DEADLINE) == 1
    replace(folder / "more.py", "N = 1", "N = 22")  # which one of the two has imported
    command.wait_for("has started", 3)
    jobs = [tasks["waits"].enqueue(), tasks["stuck"].enqueue()]
    command.wait_for("a coroutine waits")
    command.wait_for("a function is stuck")
    replace(folder / "app.py", "VERSION = 1", "VERSION = 22")
    command.wait_for("a coroutine waits", 2)
    command.wait_for("a function is stuck", 2)
    command.wait_for("has started", 5)
    for job in jobs:
        job.refresh()
        assert (job.tries, job.status) == (1, "running")
    command.signal(signal.SIGINT)
    command.wait_for("asks for a stop", 2)
    command.signal_until(signal.SIGINT, "releasing running jobs now")
    assert command.ends() == 75


def test_with_until_idle_it_is_refused():
    refused = CliRunner().invoke(main, ["run", "app:queue", "--reload", "--until-idle"])
    assert refused.exit_code == 2
    assert "give one of them" in refused.output
