"""What may start: limits that close lanes, keys that park, rates, orders, and which job comes back when."""

import json

import pytest

from contract.jobs import BOOM, START, SUCCEEDED, Hands, new, put, status
from litequeue.core.outcome import Ended, Failed, Released, Retried
from litequeue.core.store import Demand
from litequeue.limits import settings
from litequeue.limits.limit import Allowed
from litequeue.limits.rate import LATEST, Rate
from litequeue.limits.task_rules import LimitUse, TaskRules, _encode
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.file import migrate
from litequeue.sqlite.limits import stored_rules
from test_query_plans import fill, steps_of

KEYED = LimitUse("add", True, 1)
POOL = LimitUse("pool", False, 1)


def declare(store, limits, **tasks):
    """Declare limits, and of tasks which they take; `ordered` is a task of that name."""
    rules = {
        task: _encode(TaskRules(limits=tuple(uses), ordered=task == "ordered")).decode() if uses else None
        for task, uses in tasks.items()
    }
    store.limits.declare({name: settings.encoded(allowed) for name, allowed in limits.items()}, rules)


def one_at_once(store, task="add"):
    declare(store, {task: Allowed(concurrency=1)}, **{task: [LimitUse(task, True, 1)]})


def keyed(store, key="a", task="add", cost=1, **fields):
    return put(store, task, takes=json.dumps({task: [key, cost]}), **fields)


def ids(jobs):
    return [job.id for job in jobs]


def parked(store):
    return [
        job
        for (job,) in store.kernel.read(
            lambda db: db.rows("SELECT CAST(job AS TEXT) FROM litequeue_parked ORDER BY job")
        )
    ]


def test_a_full_limit_closes_its_lanes_and_no_other(store):
    declare(store, {"pool": Allowed(concurrency=2)}, add=[POOL], send=[POOL])
    first = [put(store, "add"), put(store, "add")]
    later, plain = put(store, "send"), put(store, "plain")
    hands = Hands(store, "add", "send", "plain")
    claimed = hands.claim(10)
    assert sorted(ids(claimed)) == sorted([*first, plain])
    assert ids(hands.turn(10, [hands.end(claimed[0], SUCCEEDED)]).claimed) == [later]
    assert parked(store) == []


def test_a_cheaper_job_before_a_costly_one_starts_and_one_behind_it_waits(store):
    declare(store, {"pool": Allowed(concurrency=3)}, add=[POOL], big=[LimitUse("pool", False, 2)])
    put(store, "big")
    before, big, behind = put(store, "add"), put(store, "big"), put(store, "add", priority=-1)
    hands = Hands(store, "add", "big")
    assert len(hands.claim(10)) == 2
    assert [str(status(store, job)) for job in (before, big, behind)] == ["running", "queued", "queued"]


def test_a_key_that_is_full_keeps_no_other_key_waiting_behind_thousands(store):
    one_at_once(store)
    takes = json.dumps({"add": ["a", 1]})
    store.jobs.submit([new(takes=takes) for _ in range(2_000)])
    other, hands, claims = keyed(store, "b"), Hands(store), 0
    while status(store, other) == "queued":
        hands.claim(5)
        claims += 1
    assert claims <= 5
    assert hands.claim(5) == []


def test_parked_jobs_come_back_by_priority_then_age_one_for_each_end(store):
    one_at_once(store)
    low, first, second, high = keyed(store, priority=-5), keyed(store), keyed(store), keyed(store, priority=5)
    hands, order = Hands(store), []
    [job] = hands.claim(9)
    while job is not None:
        order.append(job.id)
        claimed = hands.turn(9, [hands.end(job, SUCCEEDED)]).claimed
        assert len(claimed) <= 1
        job = claimed[0] if claimed else None
    assert order == [high, first, second, low]


def test_a_job_of_several_limits_takes_all_of_them_or_none(store):
    limits = {"add": Allowed(concurrency=1), "pool": Allowed(concurrency=1)}
    declare(store, limits, add=[KEYED, POOL], send=[POOL])
    running, both = put(store, "send"), None
    hands = Hands(store, "send")
    job = hands.take()
    both = keyed(store)
    hands.tasks = ("add", "send")
    assert hands.claim(5) == []
    again = hands.turn(5, [hands.end(job, SUCCEEDED)])
    assert (job.id, ids(again.claimed)) == (running, [both])


def test_a_later_cheaper_job_of_a_key_does_not_overtake(store):
    declare(store, {"add": Allowed(concurrency=3)}, add=[LimitUse("add", True, None)])
    first, costly, cheap = keyed(store, cost=2), keyed(store, cost=3), keyed(store, cost=1)
    hands = Hands(store)
    job = hands.take()
    assert job.id == first
    assert hands.claim(5) == []
    assert ids(hands.turn(5, [hands.end(job, SUCCEEDED)]).claimed) == [costly]
    assert status(store, cheap) == "queued"


@pytest.mark.parametrize("count", [5, 200])
def test_in_no_window_do_more_start_than_the_rate_allows(store, clock, count):
    rate = Rate(count, 10.0)
    declare(store, {"add": Allowed(rate=rate)}, add=[LimitUse("add", False, 1)])
    store.jobs.submit([new() for _ in range(3 * count)])
    hands, starts = Hands(store), []
    hands.turn = lambda limit, ended=(): store.runs.claim(hands.number, [_all_at_once(limit)], None, list(ended))
    while clock.monotonic() < 1_021.0:
        starts += [clock.monotonic()] * len(hands.turn(3 * count).claimed)
        clock.advance(0.25)
    assert all(sum(at - 10.0 < other <= at for other in starts) <= count for at in starts)
    assert len(starts) >= 2 * count  # two windows, and a little of each is lost to the slices


def _all_at_once(limit):
    return Demand(frozenset({"add"}), limit, None, limit)


def test_a_smooth_rate_spaces_its_starts(store, clock):
    declare(store, {"add": Allowed(rate=Rate(5, 10.0, smooth=True))}, add=[LimitUse("add", False, 1)])
    store.jobs.submit([new() for _ in range(9)])
    hands = Hands(store)
    assert len(hands.claim(9)) == 1
    opens_at = hands.turn(9).opens_at
    assert opens_at == pytest.approx(clock.monotonic() + (10.0 + 2 * LATEST) / 5 - LATEST)  # the next slot
    clock.advance(1.9)
    assert hands.claim(9) == []
    clock.advance(0.2)
    assert len(hands.claim(9)) == 1


def test_a_claim_that_is_given_back_unbegun_is_no_start_and_lets_others_of_its_key_in(store):
    declare(store, {"add": Allowed(rate=Rate(1, 60.0))}, add=[LimitUse("add", True, 1)])
    first, second = keyed(store), keyed(store)
    hands = Hands(store)
    job = hands.take()
    assert (job.id, hands.claim(5), parked(store)) == (first, [], [second])
    store.jobs.cancel(first)
    assert ids(hands.turn(5, [hands.end(job, Released(begun=False))]).claimed) == [second]


@pytest.mark.parametrize("how", ["cancel", "expire"])
def test_a_job_that_was_let_in_and_ends_unbegun_lets_the_next_one_in(store, clock, how):
    one_at_once(store)
    running, second, third = keyed(store), keyed(store, expires_at=START + 5), keyed(store)
    hands = Hands(store)
    job = hands.take()
    assert (job.id, hands.claim(5)) == (running, [])
    hands.settle((job, SUCCEEDED))  # lets in the second
    if how == "cancel":
        store.jobs.cancel(second)
    else:
        clock.advance(6)
    assert ids(hands.claim(5)) == [third]


@pytest.mark.parametrize("end", [Failed(BOOM), SUCCEEDED], ids=["failed", "succeeded"])
def test_a_key_that_keeps_its_order_waits_for_retries_stops_and_deaths(store, clock, end):
    one_at_once(store, "ordered")
    first, second = keyed(store, task="ordered"), keyed(store, task="ordered", priority=9)
    hands = Hands(store, "ordered")
    job = hands.take()
    assert job.id == second
    for leave in (Retried(START, BOOM), Released(begun=True)):
        again = hands.turn(5, [hands.end(job, leave)]).claimed
        job = again[0] if again else hands.take()
        assert job.id == second
    store.runs.rescue(hands.number, None, blame=True)
    hands = Hands(store, "ordered")
    job = hands.take()
    assert job.id == second
    assert ids(hands.turn(5, [hands.end(job, end)]).claimed) == [first]


@pytest.mark.parametrize("changes", [None, Allowed(concurrency=5)], ids=["undeclared", "raised"])
def test_rules_that_change_bring_back_what_they_let_in(store, changes):
    one_at_once(store)
    stored, hands = [keyed(store) for _ in range(4)], Hands(store)
    hands.claim(9)
    assert parked(store) == stored[1:]
    if changes is None:
        declare(store, {}, add=None)
    else:
        declare(store, {"add": changes}, add=[KEYED])
    assert sorted(ids(hands.claim(9))) == stored[1:]
    assert parked(store) == []


def test_a_job_that_does_not_say_what_it_takes_is_told_to_its_worker(store):
    one_at_once(store)
    silent, hands = put(store), Hands(store)
    cycle = hands.turn(5)
    assert (cycle.claimed, ids(cycle.keyless)) == ([], [silent])
    store.limits.give_takes({silent: json.dumps({"add": ["a", 1]})}, {})
    assert ids(hands.claim(5)) == [silent]


def test_a_parked_job_that_is_replaced_starts_by_its_new_key(store):
    one_at_once(store)
    call = {"key": "k", "on_conflict": "replace"}
    keyed(store)
    waiting, hands = put(store, takes=json.dumps({"add": ["a", 1]}), **call), Hands(store)
    hands.claim(5)
    assert parked(store) == [waiting]
    put(store, takes=json.dumps({"add": ["b", 1]}), **call)
    assert ids(hands.claim(5)) == [waiting]
    assert parked(store) == []


def test_nothing_is_kept_of_a_parked_job_that_is_no_more(store, clock):
    one_at_once(store)
    keyed(store)
    waiting, hands = keyed(store), Hands(store)
    hands.claim(5)
    assert parked(store) == [waiting]
    store.jobs.cancel(waiting)
    assert parked(store) == []
    put(store)
    clock.advance("31d")
    store.maintenance.prune()
    kept = "SELECT count(*) FROM litequeue_limited WHERE job NOT IN (SELECT id FROM litequeue_jobs)"
    assert store.kernel.read(lambda db: db.rows(kept)) == [(0,)]


def test_a_run_left_behind_holds_its_place_until_its_function_returns(store):
    one_at_once(store)
    first, second = keyed(store), keyed(store)
    hands = Hands(store)
    job = hands.take()
    end = Ended(job, Failed(BOOM), store.clock.now(), 60.0, True)
    assert (job.id, hands.turn(5, [end]).claimed) == (first, [])
    store.runs.is_gone(job)
    assert ids(hands.claim(5)) == [second]


def test_what_a_dead_worker_held_is_free_when_it_is_rescued(store):
    one_at_once(store)
    first, second = keyed(store), keyed(store)
    dead, hands = Hands(store), Hands(store)
    dead.take()
    assert hands.claim(5) == []
    store.runs.rescue(dead.number, None, blame=False)
    assert ids(hands.claim(5)) == [first]
    assert status(store, second) == "queued"


def test_a_completed_job_lets_in_the_next_of_its_key(store):
    one_at_once(store)
    keyed(store)
    second, hands = keyed(store), Hands(store)
    job = hands.take()
    with store.runs.completing(job, b"1", 60.0):
        pass
    assert ids(hands.claim(5)) == [second]


def test_a_pause_stops_starts_until_it_ends(store):
    def operate(sql):
        store.kernel.writer.run(lambda db: [db.rows(sql), perform(db, stored_rules.changed())])

    job, hands = put(store), Hands(store)
    operate("INSERT INTO litequeue_pauses VALUES ('task', 'add', 1.0)")
    assert hands.claim(5) == []
    operate("DELETE FROM litequeue_pauses")
    assert ids(hands.claim(5)) == [job]


# Two releases


def test_the_migration_reads_no_job(open_store, tmp_path, monkeypatch):
    scripts, steps = migrate.migrations(), []
    for count in (100, 5_000):
        path = tmp_path / f"{count}.db"
        monkeypatch.setattr(migrate, "migrations", lambda: {1: scripts[1]})
        old = open_store(path=path)
        fill(old, count)
        monkeypatch.setattr(migrate, "migrations", lambda: scripts)
        steps.append(steps_of(old, lambda old=old, path=path: _migrate(old, path)))
    assert abs(steps[1] - steps[0]) < 100


def _migrate(store, path):
    store.kernel.writer.run_outside(lambda db: migrate.migrate(db, str(path)))
