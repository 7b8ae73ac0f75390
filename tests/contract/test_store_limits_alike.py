"""Many jobs of one full key at the head: those behind the first are parked without a look at each."""

import pytest

from litequeue import Queue
from litequeue.sqlite.limits import parking

MANY = parking.MANY * 6


@pytest.fixture
def queue(database, driver):
    with Queue(database, driver=driver, durability="normal") as queue:
        yield queue


def test_those_of_a_full_key_are_parked_together_and_come_back_in_their_order(queue):
    begun = []

    @queue.task(limit_key="{key}", concurrency=1)
    def work(key, number):
        begun.append((key, number))

    work.using(priority=1).enqueue_many([("b", number) for number in range(MANY, 2 * MANY)])
    work.enqueue_many([("a", 0), *(("b", number) for number in range(MANY)), ("c", 0)])
    queue.worker(threads=2).run(until_idle=True)
    assert [number for key, number in begun if key == "b"] == [*range(MANY, 2 * MANY), *range(MANY)]
    assert begun.index(("c", 0)) < begun.index(("b", MANY - 1))
    assert len(begun) == 2 * MANY + 2
