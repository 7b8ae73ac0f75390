"""Options of a call: the later one counts, and each is checked where it is given."""

from datetime import datetime, timezone

import pytest

from litequeue import Queue, Unsupported

THEN = datetime(2100, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def task(database):
    with Queue(database) as queue:
        yield queue.task(name="t")(lambda: None)


def test_of_delay_and_at_the_later_given_counts(task):
    before = datetime.now(timezone.utc)
    assert task.using(delay=1).using(at=THEN).enqueue().run_at == THEN
    assert (task.using(at=THEN).using(delay=60).enqueue().run_at - before).total_seconds() == pytest.approx(60, abs=30)
    assert task.using(delay=60).using(delay=None).enqueue().status == "queued"


def test_delay_and_at_together_are_refused(task):
    with pytest.raises(ValueError, match="delay= or at=, not both"):
        task.using(delay=1, at=THEN)


@pytest.mark.parametrize("option", [{"expires": THEN}, {"at": THEN}, {"delay": 1}, {"key": "k"}], ids=str)
def test_a_call_as_a_value_names_the_option_that_it_cannot_keep(task, option):
    with pytest.raises(Unsupported, match=rf"only, not .*\b{next(iter(option))}$"):
        task.using(**option).s()


def test_a_call_as_a_value_keeps_queue_priority_and_how_long_it_may_wait(database):
    with Queue(database) as queue:
        task = queue.task(name="t", expires="1h")(lambda: None)
        call = task.using(queue="q", priority=3).s()
        assert (call.queue, call.priority, call.expires) == ("q", 3, 3600)
        assert task.using(expires="2h").s().expires == 7200
