"""Options of a call: the later one counts, and each is checked where it is given."""

from datetime import datetime, timezone

import pytest

from litequeue import Queue

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
    with pytest.raises(ValueError, match="delay or at, not both"):
        task.using(delay=1, at=THEN)
