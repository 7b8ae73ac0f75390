"""What a tick does while the last job of its schedule has not ended: skip, queue, allow, replace."""

import asyncio

import pytest

from contract.jobs import FAILED, START, SUCCEEDED, Hands, retried, to_the_end
from litequeue import JobNotFound, at, every
from litequeue.core.duration import utc
from litequeue.core.outcome import Released
from litequeue.ipc.notifier import JOBS

MINE = frozenset({"report"})


@pytest.fixture
def report(queue):
    return queue.task(name="report")(lambda kind="daily": None)


@pytest.fixture
def add(queue, report):
    def adding(overlap, kind="daily", trigger=None, **options):
        return queue.schedules.add("s", report.s(kind), trigger or every("1m"), overlap=overlap, **options)

    return adding


@pytest.fixture
def tick(queue, clock):
    """Let so many ticks come, and return the statuses of all jobs, oldest first."""

    def ticking(count=1):
        for _ in range(count):
            clock.advance(60)
            to_the_end(queue.engine, "fire", MINE)
        return statuses(queue)

    return ticking


@pytest.fixture
def hands(queue):
    return Hands(queue.engine, "report")


def statuses(queue):
    return [str(job.status) for job in reversed(queue.jobs())]


def counts(queue):
    schedule = queue.schedules["s"]
    return schedule.runs, schedule.skipped, schedule.skipping


# skip


def test_a_tick_is_skipped_and_counted_while_the_last_job_waits_or_runs(queue, add, tick, hands):
    add("skip")
    assert tick(2) == ["queued"]
    job = hands.take()
    assert tick() == ["running"]
    hands.settle((job, SUCCEEDED))
    assert counts(queue) == (1, 2, 2)
    assert queue.schedules["s"].skipping_since.timestamp() == START + 120
    assert tick() == ["succeeded", "queued"]
    assert counts(queue) == (2, 2, 0)
    assert queue.schedules["s"].skipping_since is None


def test_a_job_that_waits_for_its_retry_has_not_ended(queue, add, tick, hands):
    add("skip")
    tick()
    hands.settle((hands.take(), retried(after=3600.0)))
    assert tick() == ["scheduled"]


def test_skip_is_what_a_schedule_does_unless_told(queue, report):
    assert queue.schedules.add("s", report.s(), every("1m")).overlap == "skip"


def test_a_failed_job_has_ended(add, tick, hands):
    add("skip")
    tick()
    hands.settle((hands.take(), FAILED))
    assert tick() == ["failed", "queued"]


# allow


def test_with_allow_every_tick_has_its_job_at_once(add, tick):
    add("allow")
    assert tick(3) == ["queued"] * 3


# queue


def test_with_queue_the_jobs_of_ticks_begin_one_after_another(queue, add, tick, hands):
    add("queue")
    assert tick(3) == ["queued", "waiting", "waiting"]
    done = []
    while queue.jobs(status="waiting") or queue.jobs(status="queued"):
        [job] = hands.claim(5)
        done.append(job.id)
        hands.settle((job, FAILED))
    assert done == sorted(done, key=int)
    assert len(done) == 3


def test_the_next_job_begins_in_the_cycle_that_records_the_end_of_the_one_before(add, tick, hands):
    add("queue")
    tick(2)
    job = hands.take()
    turn = hands.turn(5, [hands.end(job, SUCCEEDED)])
    assert [claimed.id for claimed in turn.claimed] == ["2"]


@pytest.mark.parametrize("end", [retried(after=30.0), Released()], ids=["retry", "released"])
def test_a_job_that_has_not_ended_for_good_keeps_the_next_one_waiting(queue, add, tick, hands, end):
    add("queue")
    tick(2)
    hands.settle((hands.take(), end))
    hands.claim(0)
    assert statuses(queue)[1] == "waiting"


def test_a_waiting_job_that_is_cancelled_is_passed_over(queue, add, tick, hands):
    add("queue")
    tick(3)
    job = hands.take()
    queue.job("2").cancel()
    hands.settle((job, SUCCEEDED))
    assert [claimed.id for claimed in hands.claim(5)] == ["3"]


def test_a_tick_waits_behind_a_running_job_though_the_last_one_was_cancelled(queue, add, tick, hands):
    add("queue")
    tick(2)
    hands.take()
    queue.job("2").cancel()
    assert tick() == ["running", "cancelled", "waiting"]


def test_waiting_jobs_go_on_after_their_schedule_is_removed(queue, add, tick, hands):
    add("queue")
    tick(2)
    queue.schedules.remove("s")
    hands.settle((hands.take(), SUCCEEDED))
    assert [claimed.id for claimed in hands.claim(5)] == ["2"]


def test_a_job_that_is_triggered_waits_for_its_turn_too(queue, add, tick):
    add("queue")
    tick()
    assert queue.schedules.trigger_now("s").status == "waiting"
    assert tick() == ["queued", "waiting", "waiting"]


def test_nothing_is_left_of_the_order_when_all_have_ended(queue, add, tick, hands):
    add("queue")
    tick(3)
    for _ in range(3):
        [job] = hands.claim(1)
        hands.settle((job, SUCCEEDED))
    hands.claim(1)
    assert queue.engine.kernel.read(lambda db: db.rows("SELECT * FROM litequeue_serial")) == []


# the end of one lets the next begin, in one transaction


def test_a_success_that_is_settled_alone_lets_the_next_begin(queue, add, tick, hands):
    add("queue")
    tick(3)
    hands.settle((hands.take(), SUCCEEDED))
    assert statuses(queue) == ["succeeded", "queued", "waiting"]


def test_many_ends_at_once_let_the_next_of_each_schedule_begin(queue, report, tick, hands):
    for name in "abc":
        queue.schedules.add(name, report.s(), every("1m"), overlap="queue")
    tick(2)
    jobs = hands.claim(3)
    hands.settle(*((job, SUCCEEDED) for job in jobs))
    assert len(queue.jobs(status="queued")) == 3


def test_a_cancel_lets_the_next_begin(queue, add, tick):
    add("queue")
    tick(2)
    queue.job("1").cancel()
    assert statuses(queue) == ["cancelled", "queued"]


def test_a_cancel_of_many_leaves_the_oldest_of_the_others_to_begin(queue, add, tick):
    add("queue")
    tick(4)
    list(queue.engine.bulk.cancel(["1", "3"]))
    assert statuses(queue) == ["cancelled", "queued", "cancelled", "waiting"]


def test_an_expiry_lets_the_next_begin(queue, add, tick, hands, clock):
    add("queue", expires="90s")
    tick(2)
    clock.advance(40)
    assert [job.id for job in hands.claim(5)] == ["2"]


def test_the_death_of_a_worker_lets_the_next_begin(queue, add, tick, hands):
    add("queue")
    tick(2)
    hands.take()
    queue.job("1").cancel()
    queue.engine.runs.rescue(hands.number, None, blame=True)
    assert statuses(queue) == ["cancelled", "queued"]


def test_a_completing_lets_the_next_begin(queue, add, tick, hands):
    add("queue")
    tick(2)
    with queue.engine.runs.completing(hands.take(), b"5", 60.0):
        pass
    assert statuses(queue) == ["succeeded", "queued"]


def test_an_async_completing_lets_the_next_begin(queue, add, tick, hands):
    add("queue")
    tick(2)
    job = hands.take()

    async def main():
        async with queue.engine.runs.acompleting(job, b"5", 60.0):
            pass

    asyncio.run(main())
    assert statuses(queue) == ["succeeded", "queued"]


def test_a_completing_that_is_rolled_back_does_not(queue, add, tick, hands):
    add("queue")
    tick(2)
    with pytest.raises(KeyError), queue.engine.runs.completing(hands.take(), b"5", 60.0):
        raise KeyError
    assert statuses(queue) == ["running", "waiting"]


@pytest.mark.parametrize("end", ["settle", "completing", "cancel"])
def test_workers_are_told_of_the_next_job(queue, add, tick, hands, monkeypatch, end):
    add("queue")
    tick(2)
    job, told = hands.take() if end != "cancel" else None, []
    monkeypatch.setattr(queue.engine.kernel.notifier, "notify", told.append)
    if end == "settle":
        hands.settle((job, SUCCEEDED))
    elif end == "completing":
        with queue.engine.runs.completing(job, b"5", 60.0):
            pass
    else:
        queue.job("1").cancel()
    assert JOBS in told


def test_a_job_that_was_deleted_by_hand_lets_the_next_begin_when_a_worker_starts(queue, add, tick):
    add("queue")
    tick(3)
    queue.schedules.remove("s")
    queue.engine.kernel.writer.run(lambda db: db.rows("DELETE FROM litequeue_jobs WHERE id < 3"))
    assert [job.id for job in Hands(queue.engine, "report").claim(5)] == ["3"]


def test_a_job_that_was_deleted_by_hand_lets_the_next_begin_at_the_next_tick(queue, add, tick):
    add("queue")
    tick(2)
    queue.engine.kernel.writer.run(lambda db: db.rows("DELETE FROM litequeue_jobs WHERE id = 1"))
    assert tick() == ["queued", "waiting"]


# retried


def test_a_failed_job_that_is_retried_waits_while_the_next_one_runs(queue, add, tick, hands):
    add("queue")
    tick(3)
    hands.settle((hands.take(), FAILED))
    second = hands.take()
    queue.job("1").retry()
    assert statuses(queue) == ["waiting", "running", "waiting"]
    hands.settle((second, SUCCEEDED))
    assert statuses(queue) == ["queued", "succeeded", "waiting"]  # the oldest first


@pytest.mark.parametrize("overlap", ["queue", "replace"])
def test_a_job_that_is_retried_waits_for_the_one_alone_that_runs(queue, add, tick, hands, overlap):
    add(overlap)
    tick()
    hands.settle((hands.take(), FAILED))
    tick()
    hands.take()
    queue.job("1").retry()
    assert statuses(queue) == ["waiting", "running"]


def test_a_waiting_job_that_is_cancelled_and_retried_waits_again(queue, add, tick, hands):
    add("queue")
    tick(2)
    job = hands.take()
    queue.job("2").cancel()
    queue.job("2").retry()
    assert statuses(queue) == ["running", "waiting"]
    hands.settle((job, SUCCEEDED))
    assert statuses(queue) == ["succeeded", "queued"]


def test_a_tick_waits_for_a_job_that_was_retried(queue, add, tick, hands):
    add("queue")
    tick()
    hands.settle((hands.take(), FAILED))
    queue.job("1").retry()
    assert tick() == ["queued", "waiting"]


def test_a_job_of_an_allowed_overlap_that_is_retried_begins_at_once(queue, add, tick, hands):
    add("allow")
    tick(2)
    hands.settle((hands.take(), FAILED))
    queue.job("1").retry()
    assert statuses(queue) == ["queued", "queued"]


def test_a_job_that_waits_for_its_retry_begins_when_it_is_retried_now(queue, add, tick, hands):
    add("queue")
    tick(2)
    hands.settle((hands.take(), retried(after=3600.0)))
    queue.job("1").retry()
    assert statuses(queue) == ["queued", "waiting"]


# replace


@pytest.mark.parametrize("runs", [False, True], ids=["queued", "waiting"])
def test_with_replace_a_job_of_another_task_is_cancelled_for_the_new_one(queue, add, tick, hands, clock, runs):
    """Its arguments are not for the function that it was to call."""
    other = queue.task(name="other")(lambda kind: None)
    add("replace", kind="daily")
    tick()
    if runs:
        hands.take()
        tick()
    queue.schedules.add("s", other.s("weekly"), every("1m"), overlap="replace")
    clock.advance(60)
    to_the_end(queue.engine, "fire", MINE | {"other"})
    *_, old, new = [queue.engine.jobs.look_up(job.id) for job in reversed(queue.jobs())]
    assert (old.task, str(old.status), b"daily" in old.payload) == ("report", "cancelled", True)
    assert "calls other by now" in old.errors[0].message
    assert (new.task, str(new.status), b"weekly" in new.payload) == ("other", "waiting" if runs else "queued", True)


def test_with_replace_a_job_that_has_not_begun_takes_the_new_time_and_arguments(queue, add, tick):
    add("replace")
    tick()
    add("replace", kind="weekly")
    assert tick() == ["queued"]
    [job] = queue.jobs()
    assert job.run_at.timestamp() == START + 120
    assert b"weekly" in queue.engine.jobs.look_up(job.id).payload
    assert counts(queue) == (1, 1, 1)
    assert queue.schedules["s"].last_job == job.id


def test_with_replace_a_running_job_is_asked_to_cancel_and_the_new_one_starts_when_it_has_ended(
    queue, add, tick, hands
):
    add("replace")
    tick()
    job = hands.take()
    assert tick() == ["running", "waiting"]
    assert queue.engine.runs.requested_cancels(hands.number) == [("1", 1)]
    assert tick() == ["running", "waiting"]  # replaced, and still behind it
    hands.settle((job, SUCCEEDED))
    assert [claimed.id for claimed in hands.claim(5)] == ["2"]


def test_with_replace_a_job_that_waits_for_its_retry_ends_at_once(add, tick, hands):
    add("replace")
    tick()
    hands.settle((hands.take(), retried(after=3600.0)))
    assert tick() == ["cancelled", "queued"]


# what counts as the last job, and how often


@pytest.mark.parametrize("overlap", ["skip", "allow", "replace"])
def test_trigger_now_always_stores_a_job_which_then_is_the_last_one(queue, add, tick, overlap):
    add(overlap)
    tick()
    job = queue.schedules.trigger_now("s")
    assert (job.id, job.status, queue.schedules["s"].last_job) == ("2", "queued", "2")
    assert queue.schedules["s"].runs == 1  # of its ticks


@pytest.mark.parametrize("overlap", ["skip", "replace"])
def test_each_missed_tick_needs_an_overlap_that_keeps_them(queue, add, overlap):
    with pytest.raises(ValueError, match='overlap="queue"'):
        add(overlap, catch_up="all")


def test_missed_ticks_run_one_after_another(queue, add, clock, hands):
    add("queue", catch_up="all")
    clock.advance(180)
    to_the_end(queue.engine, "fire", MINE)
    assert statuses(queue) == ["queued", "waiting", "waiting"]


def test_a_schedule_ends_after_so_many_jobs(queue, add, tick):
    add("allow", max_runs=2)
    assert tick(4) == ["queued", "queued"]
    assert queue.schedules["s"].next_at is None


def test_skipped_ticks_do_not_count_as_runs(queue, add, tick, hands):
    add("skip", max_runs=2)
    tick(2)
    hands.settle((hands.take(), SUCCEEDED))
    assert tick(3) == ["succeeded", "queued"]


def test_a_schedule_ends_at_its_until_and_makes_up_what_came_before(queue, add, clock, tick):
    add("allow", until=START_PLUS_130)
    clock.advance(300)  # nobody was there
    to_the_end(queue.engine, "fire", MINE)
    [job] = queue.jobs()
    assert job.run_at == job.created_at  # the tick at 120
    assert queue.schedules["s"].last_at.timestamp() == START + 120
    assert queue.schedules["s"].next_at is None
    assert tick() == ["queued"]


START_PLUS_130 = "2023-11-14T22:15:30Z"


def test_an_until_that_is_moved_lets_a_schedule_go_on(queue, add, tick):
    add("allow", until=START_PLUS_130)
    tick(3)
    add("allow")
    assert queue.schedules["s"].next_at is not None


def test_jobs_of_ticks_expire(queue, add, tick, hands, clock):
    add("allow", expires="30s")
    tick()
    clock.advance(31)
    hands.claim(1)
    assert statuses(queue) == ["expired"]


def test_a_call_keeps_its_expires(queue, report, tick):
    queue.schedules.add("s", report.using(expires="30s").s(), every("1m"))
    tick()
    assert queue.engine.jobs.look_up("1").expires_at == START + 90
    assert queue.schedules["s"].expires == 30.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": "never"}, 'overlap must be "skip"'),
        ({"max_runs": 0}, "max_runs must be a positive"),
        ({"max_runs": True}, "max_runs must be a positive"),
        ({"expires": 0}, "expires must be positive"),
        ({"until": "2030-01-01"}, "is a date without a time"),
    ],
)
def test_bad_options_are_refused_where_they_are_given(queue, report, options, message):
    with pytest.raises(ValueError, match=message):
        queue.schedules.add("s", report.s(), every("1m"), **options)
    with pytest.raises(TypeError, match="no option jitter; it takes catch_up, expires"):
        queue.schedules.add("s", report.s(), every("1m"), jitter=5)


def test_the_jobs_of_a_schedule_are_listed(queue, add, report, tick):
    add("allow")
    report.enqueue()
    tick(2)
    assert [job.id for job in queue.schedules["s"].jobs()] == ["3", "2"]
    assert [job.id for job in queue.jobs(schedule="s", limit=1)] == ["3"]


def test_trigger_now_inside_a_transaction_returns_the_job(queue, add):
    add("queue")
    with queue.transaction():
        jobs = [queue.schedules.trigger_now("s") for _ in range(2)]
        assert [job.status for job in jobs] == ["queued", "waiting"]
    assert [job.refresh().status for job in jobs] == ["queued", "waiting"]


def test_a_job_that_was_triggered_in_a_transaction_that_is_rolled_back_is_no_other_job(queue, add, report):
    add("queue")
    with pytest.raises(KeyError), queue.transaction():
        job = queue.schedules.trigger_now("s")
        raise KeyError
    queue.engine.kernel.clock.advance(1)
    assert report.enqueue().id == job.id
    with pytest.raises(JobNotFound, match="rolled back"):
        job.cancel()


# paused, and changed


@pytest.mark.parametrize(
    ("how", "expected"), [({}, []), ({"run_missed": True}, ["queued"])], ids=["resume", "run_missed"]
)
def test_a_moment_that_passed_while_paused_fires_only_where_resume_says_so(queue, add, tick, how, expected):
    add("allow", trigger=at(utc(START + 30)))
    queue.schedules.pause("s")
    tick()
    queue.schedules.resume("s", **how)
    assert tick() == expected
    assert queue.schedules["s"].next_at is None


def test_a_tick_that_was_due_is_not_lost_when_the_trigger_changes(queue, add, clock):
    add("allow")
    clock.advance(90)
    add("allow", trigger=every("1h"))
    to_the_end(queue.engine, "fire", MINE)
    assert statuses(queue) == ["queued"]
    assert queue.schedules["s"].next_at.timestamp() == START + 90 + 3600
