"""Many open one new file at once: threads of a process, and processes."""

import subprocess
import sys
import threading

from litequeue import Queue

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
