"""The calls of schedules keep the options of using(): times, limits, tags, keys and callbacks."""

import json
import math

import pytest

from contract.jobs import FAILED, START, SUCCEEDED, Hands, retried, to_the_end
from litequeue import Failure, KeyConflict, Schedule, Unsupported, every
from litequeue.ipc.notifier import JOBS

MINE = frozenset({"report"})


@pytest.fixture
def report(queue):
    return queue.task(name="report")(lambda kind="daily": kind)


@pytest.fixture
def tell(queue):
    return queue.task(name="tell")(lambda said="nothing": said)


@pytest.fixture
def add(queue):
    def adding(call, **options):
        return queue.schedules.add("s", call, every("1m"), **options)

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
    return schedule.runs, schedule.skipped, schedule.last_job


def records(queue):
    return [queue.engine.jobs.look_up(job.id) for job in reversed(queue.jobs())]


def listed(queue):
    return [(job.task, str(job.status)) for job in reversed(queue.jobs())]


# Times, limits, tags


def test_a_tick_has_the_options_of_its_call(queue, report, add, tick, hands):
    report = report.using(retries=3, timeout="5s", tags=["a", "b"], delay="10s", expires="30s", priority=7)
    add(report.s("weekly"))
    assert tick() == ["scheduled"]
    [job] = records(queue)
    assert (job.tags, job.priority) == (("a", "b"), 7)
    assert (job.run_at, job.expires_at) == (START + 70, START + 90)
    queue.clock.advance(10)
    run = hands.take()
    assert (run.retries, run.timeout) == (3, 5.0)


def test_no_limit_is_kept_as_such(report, add, tick, hands):
    add(report.using(timeout=None).s())
    tick()
    assert hands.take().timeout == math.inf


def test_a_schedule_shows_the_options_of_its_call(queue, report, tell, add, driver, connect):
    kept = add(report.using(retries=3, timeout=None, tags=["a"], on_success=tell.using(delay=5).si("secret")).s())
    told = {"task": "tell", "queue": "default", "priority": 0, "delay": 5.0}
    assert kept.options == {"retries": 3, "timeout": None, "tags": ["a"], "on_success": told}
    assert add(report.s()).options == {}
    assert queue.schedules["s"].options == {}


def test_the_view_of_schedules_shows_the_options_as_json(report, add, connect):
    add(report.using(retries=3).s())
    [[options]] = connect().execute("SELECT options FROM litequeue_schedules_view").fetchall()
    assert json.loads(options) == {"retries": 3}
    add(report.s())
    [[options]] = connect().execute("SELECT options FROM litequeue_schedules_view").fetchall()
    assert options is None


def test_options_that_others_wrote_keep_one_schedule_from_firing_and_no_other(queue, report, add, tick, caplog):
    add(report.using(retries=3).s())
    queue.schedules.add("t", report.s(), every("1m"))
    db = queue.engine.kernel.writer
    db.run(lambda db: db.rows("UPDATE litequeue_schedules SET options = x'7b22' WHERE name = 's'"))
    assert tick() == ["queued"]
    assert queue.schedules["t"].runs == 1
    assert "'s' (the options of its call are not understood" in caplog.text
    with pytest.raises(Unsupported, match="cannot fire here"):
        queue.schedules.trigger_now("s")
    with pytest.raises(ValueError, match="not understood"):
        _ = queue.schedules["s"].options


# Options of the task


def test_a_task_with_a_delay_and_unique_calls_can_have_a_schedule(queue, clock):
    task = queue.task(name="report", delay="1h", unique=True, schedule=every("1m"))(lambda: None)
    queue.engine.ticks.declare(queue.declared.code(["report"]))
    first = task.enqueue()
    clock.advance(60)
    to_the_end(queue.engine, "fire", MINE)
    assert queue.jobs() == [first]
    assert queue.schedules["report"].skipped == 1
    first.cancel()
    clock.advance(60)
    to_the_end(queue.engine, "fire", MINE)
    [job, _] = queue.jobs()
    assert (job.schedule, job.run_at.timestamp()) == ("report", START + 120 + 3600)
    assert task.enqueue() == job


def test_callbacks_of_the_task_are_stored_with_each_tick(queue, tell, tick):
    queue.task(name="report", on_failure=tell.s(), schedule=every("1m"))(lambda: None)
    queue.engine.ticks.declare(queue.declared.code(["report"]))
    tick()
    assert listed(queue) == [("report", "queued"), ("tell", "waiting")]


# Keys


@pytest.mark.parametrize("scope", ["unfinished", "queued"])
def test_a_tick_whose_key_is_held_is_skipped_and_counted(queue, report, add, tick, hands, scope):
    keyed = report.using(key="k", key_scope=scope)
    add(keyed.s("weekly"))
    mine = keyed.enqueue("other arguments")
    assert tick(2) == ["queued"]
    assert counts(queue) == (0, 2, None)
    job = hands.take()
    assert (job.id, tick()) == (mine.id, ["running"] if scope == "unfinished" else ["running", "queued"])
    hands.settle((job, SUCCEEDED))
    tick()
    assert statuses(queue) == ["succeeded", "queued"]
    assert queue.schedules["s"].runs == 1


def test_a_job_of_a_tick_holds_the_key_for_other_calls(queue, report, add, tick):
    add(report.using(key="k", key_scope="unfinished").s())
    tick()
    [job] = queue.jobs()
    assert report.using(key="k").enqueue() == job


def test_a_tick_may_replace_what_holds_its_key_and_has_not_begun(queue, report, add, tick, hands):
    keyed = report.using(key="k", key_scope="unfinished", on_conflict="replace")
    add(keyed.using(priority=9).s("weekly"))
    mine = keyed.enqueue("monthly")
    assert tick() == ["queued"]
    assert (mine.refresh().priority, counts(queue)) == (9, (0, 1, None))
    hands.take()
    assert tick() == ["running"]


def test_nobody_is_told_of_a_conflict_but_a_caller_of_trigger_now(queue, report, add, tick):
    keyed = report.using(key="k", key_scope="unfinished")
    add(keyed.using(on_conflict="raise").s())
    mine = keyed.enqueue()
    assert tick() == ["queued"]
    with pytest.raises(KeyConflict, match=f"job {mine.id}"):
        queue.schedules.trigger_now("s")
    add(keyed.s("weekly"))
    assert queue.schedules.trigger_now("s") == mine
    assert counts(queue) == (0, 1, None)


def test_the_last_job_is_replaced_in_its_place_and_keeps_the_key(queue, report, add, tick, hands):
    add(report.using(key="k", key_scope="queued").s(), overlap="replace")
    assert tick(2) == ["queued"]
    first = hands.take()
    assert tick() == ["running", "waiting"]
    assert tick() == ["running", "waiting"]
    hands.settle((first, SUCCEEDED))
    assert statuses(queue) == ["succeeded", "queued"]
    hands.settle((hands.take(), retried(after=1e6)))
    assert tick() == ["succeeded", "cancelled", "queued"]  # it had begun


def test_nothing_is_cancelled_for_a_tick_whose_key_another_job_holds(queue, report, add, tick, hands):
    keyed = report.using(key="k", key_scope="queued")
    add(keyed.s(), overlap="replace")
    tick()
    hands.take()
    keyed.enqueue("by hand")
    tick()
    assert [job.cancel_requested for job in records(queue)] == [False, False]
    assert (statuses(queue), queue.schedules["s"].skipped) == (["running", "queued"], 1)


def test_a_last_job_with_another_key_is_cancelled_for_the_next(queue, report, add, tick):
    add(report.using(key="k", key_scope="queued").s(), overlap="replace")
    tick()
    add(report.using(key="l", key_scope="queued").s(), overlap="replace")
    assert tick() == ["cancelled", "queued"]
    assert queue.jobs()[0].key == "l"


def test_one_that_waits_for_its_schedule_waits_on_when_a_call_replaces_it(queue, report, add, tick, hands):
    keyed = report.using(key="k", key_scope="queued", on_conflict="replace")
    add(keyed.s(), overlap="queue")
    tick()
    first = hands.take()
    tick()
    assert str(keyed.enqueue("by hand").status) == "waiting"
    hands.settle((first, SUCCEEDED))
    assert statuses(queue) == ["succeeded", "queued"]


@pytest.mark.parametrize("overlap", ["queue", "allow", "replace"])
def test_a_key_that_is_held_until_the_end_goes_with_skip_alone(queue, report, add, overlap):
    with pytest.raises(ValueError, match='give key_scope="queued"'):
        add(report.using(key="k", key_scope="unfinished").s(), overlap=overlap)
    with pytest.raises(ValueError, match='give key_scope="queued"'):
        queue.task(name="other", unique=True, schedule=Schedule(every("1m"), overlap=overlap))(lambda: None)
    with pytest.raises(ValueError, match='give key_scope="queued"'):
        queue.schedule("t", report.using(key="k", key_scope="unfinished").s(), every("1m"), overlap=overlap)


# Callbacks


def test_each_tick_has_callbacks_of_its_own(queue, report, tell, add, tick, hands):
    add(report.using(on_success=tell.using(priority=5, tags=["t"]).s(), on_failure=tell.si("bad")).s())
    tick()
    assert listed(queue) == [("report", "queued"), ("tell", "waiting"), ("tell", "waiting")]
    assert [(job.schedule, job.priority, job.tags) for job in queue.jobs()][1] == (None, 5, ("t",))
    hands.settle((hands.take(), SUCCEEDED))
    assert statuses(queue)[:2] == ["succeeded", "queued"]
    assert "waiting" not in statuses(queue)
    tick()
    hands.settle((hands.take(), FAILED))
    assert [state for state in statuses(queue)[-3:] if state != "cancelled"] == ["failed", "queued"]


def test_callbacks_may_have_callbacks_and_wait_from_the_end_of_the_tick_on(queue, report, tell, add, tick, hands):
    add(report.using(on_success=tell.using(delay=30, expires=40, on_success=tell.using(delay=1).s()).s()).s())
    tick()
    assert listed(queue) == [("report", "queued"), ("tell", "waiting"), ("tell", "waiting")]
    job = hands.take()
    queue.clock.advance(10)
    hands.settle((job, SUCCEEDED))
    _, outer, inner = records(queue)
    assert [str(inner.status), str(outer.status)] == ["waiting", "scheduled"]
    assert (outer.run_at, outer.expires_at) == (START + 60 + 10 + 30, START + 60 + 10 + 40)


def test_callbacks_are_handed_what_became_of_the_tick(open_queue):
    queue = open_queue()
    said = []
    tell = queue.task(name="tell")(said.append)
    fail = queue.task(name="fail")(lambda kind: 1 / 0)
    report = queue.task(name="report")(lambda kind: f"a {kind} report")
    queue.schedules.add("good", report.using(on_success=tell.s()).s("daily"), every("1h"))
    queue.schedules.add("bad", fail.using(on_failure=tell.s()).s("daily"), every("1h"))
    good, bad = queue.schedules.trigger_now("good"), queue.schedules.trigger_now("bad")
    queue.worker().run(until_idle=True)
    assert good.result(timeout=10) == "a daily report"
    [failure] = [each for each in said if isinstance(each, Failure)]
    assert (failure.job_id, failure.error_type) == (bad.id, "ZeroDivisionError")
    assert "a daily report" in said


def test_a_callback_whose_key_is_held_is_that_of_before(queue, report, tell, add, tick, hands):
    once = tell.using(key="once", key_scope="unfinished", on_conflict="raise")
    add(report.using(on_success=once.si("at the tick")).s())
    mine = once.enqueue("by hand")
    assert tick() == ["queued", "queued"]
    hands.settle((hands.take(), SUCCEEDED))
    assert (statuses(queue), mine.refresh().key) == (["queued", "succeeded"], "once")
    mine.cancel()
    tick()
    assert listed(queue)[2:] == [("report", "queued"), ("tell", "waiting")]


def test_the_callbacks_of_a_job_that_is_replaced_stay_its_own(queue, report, tell, add, tick):
    add(report.using(on_success=tell.si(1)).s(), overlap="replace")
    tick()
    [told, _] = queue.jobs()
    add(report.using(on_success=tell.si(2)).s("weekly"), overlap="replace")
    assert tick() == ["queued", "waiting"]
    assert queue.jobs()[0] == told


def test_what_waits_for_a_job_that_is_cancelled_for_the_next_is_told(queue, report, tell, add, tick, monkeypatch):
    add(report.using(on_success=tell.s()).s(), overlap="replace")
    tick()
    [told, _] = queue.jobs()
    ended = []
    monkeypatch.setattr(queue.engine.kernel, "tell_ended", ended.extend)
    add(tell.si(), overlap="replace")
    queue.clock.advance(60)
    to_the_end(queue.engine, "fire", frozenset({"tell"}))
    assert told.id in ended


def test_jobs_in_line_have_their_callbacks(queue, report, tell, add, tick, hands):
    add(report.using(on_success=tell.si()).s(), overlap="queue")
    tick()
    first = hands.take()
    tick()
    assert listed(queue)[2:] == [("report", "waiting"), ("tell", "waiting")]
    hands.settle((first, SUCCEEDED))
    assert listed(queue)[1:] == [("tell", "queued"), ("report", "queued"), ("tell", "waiting")]
    hands.settle((hands.take(), SUCCEEDED))
    assert listed(queue)[2:] == [("report", "succeeded"), ("tell", "queued")]


def test_each_of_the_ticks_that_were_missed_has_its_callbacks(queue, report, tell, add, clock):
    add(report.using(on_success=tell.si()).s(), overlap="allow", catch_up="all")
    clock.advance(180)
    to_the_end(queue.engine, "fire", MINE)
    assert [task for task, _ in listed(queue)] == ["report", "tell"] * 3


def test_a_schedule_that_is_triggered_in_a_transaction_comes_and_goes_with_it(queue, report, tell, add):
    add(report.using(on_success=tell.s()).s())
    with pytest.raises(ZeroDivisionError), queue.transaction():
        queue.schedules.trigger_now("s")
        1 / 0  # noqa: B018
    assert queue.jobs() == []
    with queue.transaction():
        queue.schedules.trigger_now("s")
    assert statuses(queue) == ["queued", "waiting"]


def test_a_worker_is_told_of_ticks_with_callbacks(queue, report, tell, add, tick, monkeypatch):
    add(report.using(on_success=tell.s()).s())
    told = []
    monkeypatch.setattr(queue.engine.kernel.notifier, "notify", lambda *what: told.extend(what))
    tick()
    assert JOBS in told
