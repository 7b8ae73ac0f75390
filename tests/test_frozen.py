"""A program that PyInstaller has built, as a user builds one, and that is started where no Python is to be found."""

import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from crash.watching import ended, until
from litequeue import Queue

PROGRAM = Path(__file__).parent / "frozen_program"
DEADLINE = 60  # seconds; only a defect waits so long
BUILD_WITHIN = 300  # seconds; usually 10

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]


def build(folder, kind):
    """Have the program built; its source goes, and so does the folder that it was built in."""
    source = folder / "source"
    folder.mkdir(exist_ok=True)
    shutil.copytree(PROGRAM, source, ignore=shutil.ignore_patterns("__pycache__"))
    places = [f"--{name}path={folder / name}" for name in ("dist", "work", "spec")]
    command = [sys.executable, "-m", "PyInstaller", kind, "--noconfirm", "--log-level=WARN", *places, "main.py"]
    environment = os.environ | {"PYINSTALLER_CONFIG_DIR": str(folder / "config")}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    made = subprocess.run(command, cwd=source, env=environment, timeout=BUILD_WITHIN, check=False, **output)
    assert made.returncode == 0, made.stdout
    moved = shutil.move(folder / "dist" / "main", folder / "moved")
    for name in ("source", "work", "dist"):
        shutil.rmtree(folder / name)
    return Path(moved)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen")
    yield build(folder, "--onedir") / "main"
    shutil.rmtree(folder, ignore_errors=True)


def processes_of(program):
    """Return the numbers of the processes of this program that live."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(entry / "exe")) == program and "\nState:\tZ" not in (entry / "status").read_text():
                found.add(int(entry.name))
        except OSError:  # it has ended, or is not ours
            continue
    return found


class Shop:
    """The program at work on a queue's file."""

    def __init__(self, built, folder, driver, *arguments):
        self.built, self.starts, self.log = built, folder / "starts", folder / "log"
        self.database = folder / "shop.db"
        given = {"SHOP_DB": str(self.database), "SHOP_DRIVER": driver, "SHOP_STARTS": str(self.starts)}
        with self.log.open("w") as log:
            options = {"cwd": "/", "env": given, "stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self.process = subprocess.Popen([built, *arguments], **options)

    def __repr__(self):
        return f"the program that wrote this:\n{self.log.read_text()}"

    def stop(self):
        """Tell it to end; return its code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)

    def end(self):
        """Kill what there is of it."""
        self.process.kill()
        self.process.wait()
        for pid in processes_of(self.built):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not processes_of(self.built), self, DEADLINE)  # else the next test finds them


@pytest.fixture
def start(request, tmp_path, driver):
    started = []

    def starting(*arguments, built=None):
        built = built or request.getfixturevalue("built")
        started.append(Shop(built, tmp_path, driver, *arguments))
        return started[-1]

    yield starting
    for shop in started:
        shop.end()


@pytest.fixture
def queue(tmp_path, driver):
    with Queue(tmp_path / "shop.db", driver=driver) as opened:
        yield opened


def succeeded(shop, job):
    record = ended(job, DEADLINE)
    assert record.status == "succeeded", (record.errors, shop)
    return job.result()


def test_functions_coroutines_and_child_processes_run_their_jobs(start, queue):
    shop = start("anything")
    assert succeeded(shop, queue.enqueue("resize", 8)) == 4
    assert succeeded(shop, queue.enqueue("fetch", 8)) == 9
    assert succeeded(shop, queue.enqueue("here", 8)) == 16
    shrunk, pid, arguments = succeeded(shop, queue.enqueue("shrink", 8))
    assert (shrunk, arguments) == (2, ["anything"])
    assert pid in processes_of(shop.built) - {shop.process.pid}
    cropped, pid = succeeded(shop, queue.enqueue("crop", 8))
    assert cropped == 7
    assert pid != shop.process.pid
    assert "shrinking" in shop.log.read_text()


def test_the_program_itself_starts_once_and_nothing_is_left_after_a_stop(start, queue):
    shop = start()
    for job in [queue.enqueue("shrink", 8) for _ in range(20)]:
        succeeded(shop, job)
    assert len(processes_of(shop.built)) <= 3  # with the two children
    assert shop.stop() == 0, shop
    assert shop.starts.read_text() == f"{shop.process.pid}\n"
    until(lambda: not processes_of(shop.built), shop, DEADLINE)


def test_a_time_limit_ends_c_code(start, queue):
    shop = start()
    record = ended(queue.enqueue("match"), DEADLINE)
    assert (record.status, record.errors[-1].type) == ("failed", "litequeue.JobTimeout"), shop
    assert shop.process.poll() is None


def test_a_child_that_crashes_costs_its_own_job_alone(start, queue):
    shop = start()
    record = ended(queue.enqueue("crash"), DEADLINE)
    assert (record.status, record.errors[-1].type) == ("failed", "ChildDied"), shop
    assert "SIGABRT" in record.errors[-1].message
    assert succeeded(shop, queue.enqueue("shrink", 8))[0] == 2


def test_a_job_in_a_child_may_start_processes_by_multiprocessing(start, queue):
    """So the hooks of PyInstaller that follow ours have run, and the child passes for the program."""
    shop = start()
    assert succeeded(shop, queue.enqueue("pooled", [-1, -2])) == [1, 2]
    assert shop.starts.read_text() == f"{shop.process.pid}\n"


def test_schedules_fire_and_know_time_zones(start, queue):
    shop = start()
    look = until(lambda: queue.jobs(schedule="look", status="succeeded"), shop, DEADLINE)[0]
    assert look.result() == shop.process.pid
    (clean,) = [each for each in queue.schedules if each.name == "clean"]
    offset = clean.next_at.astimezone(dt.timezone.utc)
    assert (offset.minute, offset.hour in (0, 1)) == (30, True)


def test_a_stop_reaches_a_job_in_a_child_and_leaves_no_process(start, queue, tmp_path):
    shop = start()
    job = queue.enqueue("rest", str(tmp_path / "begun"))
    until((tmp_path / "begun").exists, shop, DEADLINE)
    shop.stop()
    until(lambda: not processes_of(shop.built), shop, DEADLINE)
    assert job.refresh().status == "queued"


def test_the_kill_of_the_program_ends_its_children(start, queue, tmp_path):
    shop = start()
    queue.enqueue("rest", str(tmp_path / "begun"))
    until((tmp_path / "begun").exists, shop, DEADLINE)
    shop.process.kill()
    until(lambda: not processes_of(shop.built), shop, DEADLINE)


def test_a_task_in_the_programs_own_file_is_refused_for_children(start):
    shop = start("own")
    assert shop.process.wait(DEADLINE) == 1
    assert "put the function at the top level of a module" in shop.log.read_text()


@pytest.mark.parametrize("driver", ["apsw"])
def test_a_program_of_one_file_runs_and_stops_too(start, queue, tmp_path):
    one_file = build(tmp_path / "built", "--onefile")
    shop = start(built=one_file)
    assert succeeded(shop, queue.enqueue("shrink", 8))[0] == 2
    job = queue.enqueue("rest", str(tmp_path / "begun"))
    until((tmp_path / "begun").exists, shop, DEADLINE)
    assert shop.stop() == 0, shop
    until(lambda: not processes_of(one_file), shop, DEADLINE)
    assert job.refresh().status == "queued"
    assert len(shop.starts.read_text().split()) == 1
