"""Time: when a job may begin, and until when."""

import time
from datetime import datetime, timedelta, timezone

import pytest

from contract.engine.needing import needs
from litequeue import JobExpired
from litequeue.core.engine import Feature

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("way", ["delay", "at"])
def test_a_job_is_scheduled_until_its_time(rig, way):
    options = {"delay": "1h"} if way == "delay" else {"at": datetime.now(timezone.utc) + HOUR}
    job = rig.tasks.add.using(**options).enqueue(1)
    assert job.status == "scheduled"
    rig.work()
    assert job.refresh().status == "scheduled"
    assert (job.run_at - job.created_at).total_seconds() == pytest.approx(3600, abs=600)


def test_a_job_begins_when_its_time_has_come(rig):
    job = rig.tasks.add.using(delay=0.2).enqueue(1)
    with rig.worker():
        assert job.result(10) == 2
    assert job.refresh().started_at >= job.run_at >= job.created_at + timedelta(seconds=0.199)


def test_a_time_that_has_passed_is_at_once(rig):
    job = rig.tasks.add.using(at="2020-01-01T00:00:00+00:00").enqueue(1)
    assert job.status == "queued"
    rig.work()
    assert job.result(5) == 2


def test_a_time_without_a_zone_is_refused(rig):
    with pytest.raises(ValueError, match="zone"):
        rig.tasks.add.using(at=datetime(2100, 1, 1))  # noqa: DTZ001  which is the point
    assert rig.stored() == 0


def test_a_job_that_has_not_begun_in_time_never_runs(rig):
    job = rig.tasks.note.using(expires=0.05).enqueue("too late")
    time.sleep(0.1)
    rig.work()
    with pytest.raises(JobExpired):
        job.result(5)
    assert job.refresh().status == "expired"
    assert job.attempt == 0


def test_a_job_that_begins_in_time_runs(rig):
    job = rig.tasks.add.using(expires="1h").enqueue(1)
    rig.work()
    assert job.result(5) == 2


@needs(Feature.LONG_DELAY)
def test_a_delay_may_be_of_any_length(rig):
    job = rig.tasks.add.using(delay="5000d").enqueue(1)
    rig.work()
    assert job.refresh().status == "scheduled"
