"""What a death leaves behind: some of the statements that `make torture` dies at all of."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from faults.scenarios import Scenario

TESTS = Path(__file__).resolve().parents[1]
PATHS = os.pathsep.join([str(TESTS), str(TESTS.parent)])

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGKILL")]

# One that notes a job that never was, one whose jobs are in two transactions, and one that ends badly by itself.
BROKEN = """
from crash.failpoint import DEATHS
from crash.statements import Point, die_at_each, each, harness
from faults.scenarios import Enqueue, EnqueueMany

class Forgetful(Enqueue):
    def use(self, queue, book):
        book.jobs.append("99")
        super().use(queue, book)

class Halving(EnqueueMany):
    def use(self, queue, book):
        for _ in range(2):
            queue.tasks["plain"].enqueue_many([(number,) for number in range(self.MANY // 2)])

class Failing(Enqueue):
    def use(self, queue, book):
        raise RuntimeError("of its own")

with harness() as made:
    for scenario in (Forgetful(), Halving(), Failing()):
        try:
            die_at_each(made, scenario, "apsw", DEATHS[0], each)
        except AssertionError as error:
            print(type(scenario).__name__, "seen:", str(error).strip().splitlines()[-1])
"""


def python(*arguments):
    """In a process of its own: the harness forks, which must not be done beside other tests' threads."""
    command, paths = [sys.executable, *arguments], os.environ | {"PYTHONPATH": PATHS}
    return subprocess.run(command, env=paths, capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.parametrize("first", [0, 1], ids=["one half", "the other"])
def test_nothing_is_lost_or_half_done_whichever_statement_is_the_last(first):
    scenarios = [scenario.name for scenario in Scenario.all[first::2]]
    ran = python("-m", "crash.statements", "--part", *scenarios)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = [line for line in ran.stdout.splitlines() if " kill " in line]
    assert [row.split()[:3] for row in rows] == [
        [driver, "kill", when] for driver in ("apsw", "sqlite3") for when in ("before", "after")
    ]
    for row in rows:
        points = [int(number) for number in row.split()[3:]]
        assert len(points) == len(scenarios)
        assert min(points) > 4
    assert re.search(r"\d+ points in \d+ s: nothing lost, nothing half done", ran.stdout)


def test_the_harness_sees_a_promise_that_is_not_kept():
    ran = python("-c", BROKEN)
    forgetful, halving, failing = ran.stdout.splitlines()
    assert forgetful.startswith("Forgetful seen: litequeue.JobNotFound: no job 99")
    assert halving.startswith("Halving seen: AssertionError")
    assert failing == "Failing seen: RuntimeError: of its own"
