"""Many open one new file at once: threads of a process, and processes."""

import contextlib
import subprocess
import sys
import threading

import apsw
import pytest

from litequeue import Queue, StoreError
from litequeue.sqlite.drivers import apsw_driver as driver_apsw
from litequeue.sqlite.drivers import sqlite3_driver as driver_sqlite3

FILES = 40
CROWD = 6


def open_all(paths, driver, failures):
    for path in paths:
        try:
            Queue(path, driver=driver).close()
        except Exception as error:
            failures.append(error)


def test_threads_that_open_one_new_file_at_once_all_get_it(tmp_path, driver):
    failures = []
    paths = [tmp_path / f"{number}.db" for number in range(FILES)]
    gate = threading.Barrier(CROWD)

    def work():
        for path in paths:
            gate.wait(60)
            open_all([path], driver, failures)

    threads = [threading.Thread(target=work) for _ in range(CROWD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []


def test_processes_that_open_one_new_file_at_once_all_get_it(tmp_path, driver):
    program = f"""
import sys
from litequeue import Queue
for line in sys.stdin:
    Queue(line.strip(), driver={driver!r}).close()
    print("opened", flush=True)
"""
    crowd = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    try:
        for number in range(FILES):
            for process in crowd:
                process.stdin.write(f"{tmp_path / str(number)}.db\n")
                process.stdin.flush()
            assert [process.stdout.readline() for process in crowd] == ["opened\n"] * len(crowd)
    finally:
        for process in crowd:
            process.kill()
            process.communicate(timeout=30)


@pytest.mark.parametrize("name", ["x" * 246, "ä" * 123, "x" * 300])
def test_a_name_to_which_nothing_can_be_added_is_refused(tmp_path, name):
    with pytest.raises(StoreError, match="is too long: at most 245 bytes"):
        Queue(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_is_taken(tmp_path, driver):
    with Queue(tmp_path / ("x" * 245), driver=driver) as queue:
        queue.task(name="t")(lambda: 1)
        job = queue.tasks["t"].enqueue()
        with queue.worker():
            assert job.result(timeout=20) == 1


def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_made(tmp_path, driver):
    with pytest.raises(StoreError, match="whose names are UTF-8"):
        Queue(tmp_path / "app\udcff.db", driver=driver)
    assert list(tmp_path.iterdir()) == []


def test_a_path_with_a_null_character_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be text, got"):
        Queue(tmp_path / "a\0b.db")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no files")
def test_a_file_that_cannot_be_created_says_why(driver):
    with pytest.raises(StoreError, match=r"/proc/litequeue.db cannot be created: "):
        Queue("/proc/litequeue.db", driver=driver)


@pytest.mark.parametrize("library", [driver_apsw, driver_sqlite3], ids=["apsw", "sqlite3"])
def test_a_driver_that_cannot_open_a_path_says_what_to_check(tmp_path, library):
    with pytest.raises(StoreError, match="check that its folder exists"):
        library.connect(str(tmp_path / "no" / "such.db"))


def test_an_apsw_connection_that_is_closed_or_busy_elsewhere_is_told_apart(tmp_path):
    path = str(tmp_path / "app.db")
    closed = apsw.Connection(path)
    closed.close()
    assert not driver_apsw.holds(path)
    busy = apsw.Connection(path)
    assert driver_apsw.holds(path)
    assert not driver_apsw.holds(path + "2")
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

    def work():
        with contextlib.suppress(apsw.InterruptError):
            busy.execute(count).fetchall()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(1_000):
            assert driver_apsw.holds(path)
    finally:
        while thread.is_alive():
            busy.interrupt()
            thread.join(0.01)
        busy.close()


LEFT_OPEN = """
import sys, threading
from litequeue import Queue
queue = Queue(sys.argv[1], driver=sys.argv[2])
queue.task(name="add")(lambda: None).enqueue()
queue.jobs()
"""
IN_USE = """
inside = threading.Barrier(3)

def write():
    with queue.transaction():
        inside.wait()
        threading.Event().wait()

def look(db):
    inside.wait()
    threading.Event().wait()

threading.Thread(target=write, daemon=True).start()
threading.Thread(target=queue.engine.kernel.read, args=(look,), daemon=True).start()
inside.wait()
"""


def end_of(program, *arguments):
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_program_that_leaves_its_queue_open_ends_without_a_word_of_it(database, driver):
    done = end_of(LEFT_OPEN, database, driver)
    assert (done.returncode, "ResourceWarning" in done.stderr) == (0, False)
    assert not database.with_name("app.db-wal").exists()


def test_a_program_ends_also_while_threads_of_it_use_the_queue(database, driver):
    assert end_of(LEFT_OPEN + IN_USE, database, driver).returncode == 0
