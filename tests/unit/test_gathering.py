"""The writer thread waits for callers that it has told, as long as they do come again."""

import threading

import pytest

from litequeue.sqlite.commit import gathering as module
from litequeue.sqlite.commit.gathering import Gathering

NEVER = 30.0  # seconds: a wait that lasts so long fails its test


@pytest.fixture
def waiting():
    return []


@pytest.fixture
def gathering(waiting):
    return Gathering(waiting)


@pytest.fixture
def waits(gathering, monkeypatch):
    """Which waits there were, as the callers expected in each; nobody comes meanwhile."""
    seen = []

    class Lock:
        def acquire(self, blocking=True, timeout=-1):
            if timeout > 0:
                seen.append(gathering._expected)

    monkeypatch.setattr(gathering, "_all_came", Lock())
    return seen


def come(gathering, waiting, many):
    for _ in range(many):
        waiting.append(object())
        gathering.note()


def test_the_last_of_the_expected_callers_ends_the_wait(gathering, waiting, monkeypatch):
    monkeypatch.setattr(module, "AT_MOST", NEVER)
    come(gathering, waiting, 1)
    gathering.expect(4)
    thread = threading.Thread(target=gathering.wait, daemon=True)
    thread.start()
    come(gathering, waiting, 4)
    thread.join(NEVER / 2)
    assert not thread.is_alive()


@pytest.mark.parametrize(("told", "before"), [(0, 0), (3, 0), (4, 5)], ids=["nobody", "three", "fewer than wait"])
def test_the_next_batch_does_not_wait_for_few_callers(gathering, waiting, waits, told, before):
    come(gathering, waiting, before)
    gathering.expect(told)
    gathering.wait()
    assert waits == []


def test_callers_that_do_not_come_again_are_waited_for_ever_more_rarely(gathering, waits):
    at = []
    for batch in range(100):
        gathering.expect(4)
        gathering.wait()
        if len(waits) > len(at):
            at.append(batch)
    assert at == [0, 2, 6, 14, 30, 61, 92]


def test_where_three_of_four_callers_come_again_the_next_are_waited_for_at_once(gathering, waiting, waits):
    for _ in range(3):
        gathering.expect(4)
        come(gathering, waiting, 3)
        gathering.wait()
        waiting.clear()
    assert waits == [4, 4, 4]


def test_where_half_of_the_callers_come_again_the_next_batch_does_not_wait(gathering, waiting, waits):
    for _ in range(2):
        gathering.expect(4)
        come(gathering, waiting, 2)
        gathering.wait()
        waiting.clear()
    assert waits == [4]
