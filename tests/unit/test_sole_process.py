"""The lock of a role of which there is to be one: who has it, and how it is freed."""

import os
import signal
import subprocess
import sys

import pytest

from litequeue.ipc.sole_process import SoleProcess

HOLDS = """
import sys, time
from pathlib import Path
from litequeue.ipc.sole_process import SoleProcess
lock = SoleProcess(Path(sys.argv[1]), "role")
print(lock.enter(), flush=True)
{after}
sys.stdin.read()
"""
FORKS = """
import os
if os.fork() == 0:
    print(os.getpid(), flush=True)
    time.sleep(600)
    os._exit(0)
"""


def holder(database, after=""):
    """Start a process that takes the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS.format(after=after), database],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "True\n"
    return process


def test_one_holds_it_until_it_leaves(database):
    database.touch()
    first, second, other = (SoleProcess(database, name) for name in ("role", "role", "another"))
    assert [first.enter(), second.enter(), other.enter()] == [True, False, True]
    first.leave()
    first.leave()
    assert second.enter()
    second.leave()
    other.leave()


def test_it_is_free_when_its_holder_is_killed(database):
    database.touch()
    with holder(database) as process:
        lock = SoleProcess(database, "role")
        assert not lock.enter()
        process.kill()
        process.wait()
        assert lock.enter()
        lock.leave()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_its_holder_does_not_keep_it(database):
    database.touch()
    with holder(database, FORKS) as process:
        child = int(process.stdout.readline())
        try:
            process.kill()
            process.wait()
            lock = SoleProcess(database, "role")
            assert lock.enter()
            lock.leave()
        finally:
            os.kill(child, signal.SIGKILL)
