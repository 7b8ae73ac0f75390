"""Jobs that cannot start as things are, keys with a rate and a bound, reboots, ticks that replace a parked job."""

import json

import pytest

from contract.jobs import SUCCEEDED, Hands, put, status, to_the_end
from contract.test_store_limits import declare, ids, keyed, parked
from litequeue import every
from litequeue.core.outcome import ErrorInfo
from litequeue.limits.limit import Allowed
from litequeue.limits.rate import Rate
from litequeue.limits.task_rules import LimitUse
from litequeue.sqlite.limits import reboot


def test_jobs_that_do_not_say_what_they_take_hold_up_no_other(store):
    declare(store, {"add": Allowed(concurrency=1)}, add=[LimitUse("add", True, 1)])
    silent, plain = [put(store, "add") for _ in range(40)], put(store, "plain")
    hands = Hands(store, "add", "plain")
    turn = hands.turn(1)
    assert ids(turn.claimed) == [plain]
    assert set(ids(turn.keyless)) <= set(silent)
    assert {str(status(store, job)) for job in silent} == {"queued"}
    takes = {job: json.dumps({"add": [f"key {job}", 1]}) for job in silent}
    assert store.limits.give_takes(takes, {})
    assert ids(hands.claim(50)) == silent


def test_what_says_less_than_the_file_asks_for_is_not_looked_at_again(store):
    declare(store, {"add": Allowed(concurrency=1)}, add=[LimitUse("add", True, 1)])
    job = put(store, "add")
    hands = Hands(store, "add")
    assert ids(hands.turn(1).keyless) == [job]
    assert not store.limits.give_takes({job: json.dumps({"other": ["a", 1]})}, {})
    assert hands.turn(1).keyless == ()


def test_a_job_whose_key_cannot_be_worked_out_fails_though_it_is_set_aside(store):
    declare(store, {"add": Allowed(concurrency=1)}, add=[LimitUse("add", True, 1)])
    job = put(store, "add")
    Hands(store, "add").turn(1)
    assert store.limits.give_takes({}, {job: ErrorInfo("ValueError", "no key", "")})
    assert status(store, job) == "failed"


def test_a_job_that_takes_more_than_there_ever_is_holds_up_no_other_of_its_limit(store):
    declare(
        store, {"pool": Allowed(concurrency=2)}, add=[LimitUse("pool", False, None)], send=[LimitUse("pool", False, 1)]
    )
    big = put(store, "add", takes=json.dumps({"pool": [None, 3]}))
    small, other = put(store, "add", takes=json.dumps({"pool": [None, 1]})), put(store, "send")
    hands = Hands(store, "add", "send")
    assert sorted(ids(hands.claim(10))) == sorted([small, other])
    assert status(store, big) == "queued"
    declare(store, {"pool": Allowed(concurrency=5)})
    assert ids(hands.claim(10)) == [big]


@pytest.mark.parametrize("smooth", [False, True])
def test_a_key_whose_places_are_taken_is_not_looked_at_because_its_rate_is_open(store, smooth):
    both = Allowed(concurrency=1, rate=Rate(100, 60.0, smooth))
    declare(store, {"add": both}, add=[LimitUse("add", True, 1)])
    first, second = keyed(store), keyed(store)
    hands = Hands(store, "add")
    assert ids(hands.claim(1)) == [first]
    assert hands.claim(1) == []
    store.kernel.writer.run(lambda db: db.rows("UPDATE litequeue_full_keys SET look_at = 0"))
    assert hands.turn(1).opens_at > store.kernel.clock.monotonic() + 1
    assert parked(store) == [second]


def test_after_a_reboot_a_window_is_full_also_where_its_starts_were_lost(store, clock, monkeypatch):
    declare(store, {"add": Allowed(rate=Rate(2, 10.0))}, add=[LimitUse("add", False, 1)])
    jobs = [put(store, "add") for _ in range(4)]
    hands = Hands(store, "add")
    assert ids(hands.claim(1) + hands.claim(1)) == jobs[:2]
    store.kernel.writer.run(lambda db: db.rows("DELETE FROM litequeue_starts"))  # not synced when the power went
    monkeypatch.setattr(reboot, "boot_id", lambda: "another boot")
    declare(store, {"add": Allowed(rate=Rate(2, 10.0)), "more": Allowed(concurrency=1)})
    with pytest.raises(ZeroDivisionError):  # one whose first claim is rolled back
        store.kernel.writer.run(lambda db: (store.kernel.known_rules.now(db), 1 / 0))
    assert hands.claim(9) == []
    clock.advance(10.1)
    assert ids(hands.claim(1) + hands.claim(1)) == jobs[2:]


def test_starts_of_keys_that_never_start_again_are_forgotten(store, clock):
    declare(store, {"add": Allowed(rate=Rate(2, 10.0))}, add=[LimitUse("add", True, 1)])
    hands = Hands(store, "add")
    for number in range(60):
        keyed(store, f"key {number}")
        [job] = hands.claim(1)
        store.runs.settle([hands.end(job, SUCCEEDED)])
        clock.advance(2)
    [(kept,)] = store.kernel.read(lambda db: db.rows("SELECT count(*) FROM litequeue_starts"))
    assert kept <= 6


def test_a_tick_that_replaces_a_parked_job_leaves_it_where_it_comes_back(queue, clock):
    queue.task(name="report", concurrency=1, limit_key="{kind}")(lambda kind: None)
    store, report = queue.engine, queue.tasks["report"]
    declare(store, {"report": Allowed(concurrency=1)}, report=[LimitUse("report", True, 1)])
    first = report.enqueue("daily")
    hands = Hands(store, "report")
    [running] = hands.claim(1)
    assert running.id == first.id
    queue.schedules.add("s", report.s("daily"), every("1m"), overlap="replace")
    takes = json.dumps({"report": ["daily", 1]})
    for _ in range(2):
        clock.advance(60)
        to_the_end(store, "fire", frozenset({"report"}))
        turn = hands.turn(1)
        store.limits.give_takes({job.id: takes for job in turn.keyless}, {})
        assert hands.claim(1) == []
    assert [str(job.status) for job in queue.jobs(schedule="s")] == ["queued"]
    assert len(hands.turn(1, [hands.end(running, SUCCEEDED)]).claimed) == 1


def test_a_key_is_told_as_full_while_jobs_wait_for_it(store):
    declare(store, {"add": Allowed(concurrency=1)}, add=[LimitUse("add", True, 1)])
    keyed(store), keyed(store)
    hands = Hands(store, "add")
    [first] = hands.claim(2)
    assert [limit.full_keys for limit in store.rules.list()] == [1]
    [second] = hands.turn(1, [hands.end(first, SUCCEEDED)]).claimed
    assert [limit.full_keys for limit in store.rules.list()] == [0]
    assert store.runs.settle([hands.end(second, SUCCEEDED)]) == []
