"""What failing disks do to a queue: some of the points that `make torture` tries all of."""

import sys

import pytest

from faults.scenarios import Enqueue, Scenario
from litequeue import JobNotFound

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="SQLite's unix VFS")]


def _further(first):
    """1, 5, 25, 125 ...: most of what can go wrong does so at the beginning."""
    return first * 5


@pytest.fixture
def made():
    from faults.points import harness  # the unix VFS that it takes apart is not everywhere

    with harness() as made:
        yield made


@pytest.mark.parametrize("scenario", Scenario.all, ids=lambda scenario: scenario.name)
def test_nothing_is_lost_or_half_done_whichever_call_of_the_disk_fails(made, scenario):
    from faults.disk import FAULTS
    from faults.points import fail_at_each

    tried = {fault.name: fail_at_each(made, scenario, fault, _further) for fault in FAULTS}
    assert sum(tried.values()) > 30
    assert tried["disk full"] > 2


def test_the_harness_sees_a_promise_that_is_not_kept(made):
    from faults.disk import FAULTS
    from faults.points import Point

    class Forgetful(Enqueue):
        def use(self, queue, book):
            super().use(queue, book)
            book.jobs.append("99")

    forgetful = Scenario.all.pop()
    with pytest.raises(JobNotFound, match="no job 99"):
        made.run(Point(forgetful, FAULTS[0], 1, 10_000))
