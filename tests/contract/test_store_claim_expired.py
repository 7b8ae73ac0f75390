"""Claims where more jobs have expired than one transaction ends: they are passed over, and never start."""

import pytest

from contract.jobs import START, Hands, new, put, states
from test_query_plans import cost, fill, steps_of


def ids(claimed):
    return [job.id for job in claimed]


@pytest.fixture
def ends_three(monkeypatch):
    """A cycle ends no more than three expired jobs."""
    monkeypatch.setattr("litequeue.sqlite.jobs.settle.CHUNK", 3)


def put_all(store, *expires, **fields):
    """Submit jobs that expire after so many seconds, or never."""
    jobs = [new(expires_at=None if each is None else START + each, **fields) for each in expires]
    return [submitted.id for submitted in store.jobs.submit(jobs)]


def test_a_job_is_claimed_though_expired_ones_stand_before_it(store, clock, ends_three):
    stored = put_all(store, *[10] * 20, None, *[10] * 20, 60)
    clock.advance(10)
    assert ids(Hands(store).claim(5)) == [stored[20], stored[41]]


def test_an_expired_job_never_starts_and_all_are_ended_in_the_end(store, clock, ends_three):
    stored = put_all(store, *[10] * 20, None)
    clock.advance(10)
    hands, cycles = Hands(store), []
    while not cycles or cycles[-1].next_at is not None:
        cycles.append(hands.turn(10))
    assert [job.id for cycle in cycles for job in cycle.claimed] == stored[20:]
    assert states(store, stored[:20]) == ["expired"] * 20
    assert len(cycles) == 7


def test_a_worker_is_told_to_look_again_at_once_while_expired_jobs_are_left(store, clock, ends_three):
    put_all(store, *[10] * 4)
    clock.advance(10)
    assert [Hands(store).turn().next_at for _ in range(2)] == [START + 10, None]


@pytest.mark.parametrize("few", [8, 1])
def test_the_order_holds_among_those_that_have_not_expired(store, clock, ends_three, monkeypatch, few):
    for module in ("claim", "lanes", "settle"):
        monkeypatch.setattr(f"litequeue.sqlite.jobs.{module}.FEW", few)
    for priority in (0, 5, -5):
        put_all(store, *[10] * 4, task="add", priority=priority)
    live = {}
    for task in ("add", "b", "c"):
        for priority in (0, 5):
            [live[-priority, task]] = put_all(store, None, task=task, priority=priority)
            put_all(store, 10, 10, task=task, priority=priority)
    clock.advance(10)
    claimed = ids(Hands(store, "add", "b", "c").claim(10))
    assert claimed == [live[place] for place in sorted(live)]


def test_one_that_has_begun_before_is_claimed_among_the_expired(store, clock, ends_three):
    from contract.jobs import snoozed

    begun, hands = put(store, expires_at=START + 10), Hands(store)
    hands.settle((hands.take(), snoozed(1)))
    put_all(store, *[10] * 10)
    clock.advance(10)
    assert ids(hands.claim(5)) == [begun]


def test_jobs_that_a_worker_leaves_to_others_are_left_among_the_expired_too(store, clock, ends_three):
    from litequeue.core.store import Demand

    suspect, innocent = put_all(store, None, None)
    put_all(store, *[10] * 10)
    store.kernel.writer.run(lambda db: db.rows("UPDATE litequeue_jobs SET deaths = 2 WHERE id = ?", (int(suspect),)))
    clock.advance(10)
    claimed = store.runs.claim(Hands(store).number, [Demand(frozenset({"add"}), 5, 1)], None).claimed
    assert ids(claimed) == [innocent]


@pytest.mark.parametrize("live_at", [100, 6_543, 19_995])
def test_a_job_behind_thousands_of_expired_ones_is_found_without_reading_them(
    store, clock, ends_three, monkeypatch, live_at
):
    """By steps of SQLite's machine: one job read takes some 20 of them."""
    monkeypatch.setattr("litequeue.sqlite.jobs.expiry.READ", 50)
    fill(store, live_at, expires=START + 10)
    fill(store, 20_000 - live_at, expires=START + 60)
    clock.advance(10)
    spent, got = cost(store, Hands(store), limit=10)
    assert got == min(10, 20_000 - live_at)
    assert spent < 10_000


def test_nothing_is_claimed_of_a_lane_in_which_all_have_expired(store, clock, ends_three, monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.jobs.expiry.READ", 50)
    fill(store, 1_000, expires=START + 10)
    other = put(store, "other")
    clock.advance(10)
    assert ids(Hands(store, "add", "other").claim(10)) == [other]


def test_a_claim_stops_after_some_rows_of_many_lanes_in_which_all_have_expired_and_says_so(store, clock, ends_three):
    """By steps of SQLite's machine: one job read takes some 20 of them."""
    tasks = [f"t{number}" for number in range(5)]
    for queue in range(60):
        for task in tasks:
            fill(store, 70, task=task, queue=f"q{queue:02}", expires=START + 10)
    clock.advance(10)
    hands, cycles = Hands(store, *tasks), []
    spent = steps_of(store, lambda: cycles.append(hands.turn(10)))
    assert [(cycle.claimed, cycle.cut) for cycle in cycles] == [([], True)]
    assert spent < 200_000


def test_every_queue_has_its_turn_though_one_claim_does_not_read_all_expired_jobs(
    store, clock, ends_three, monkeypatch
):
    monkeypatch.setattr("litequeue.sqlite.jobs.expiry.READ", 200)
    queues = [f"q{number:02}" for number in range(40)]
    for queue in queues:
        fill(store, 30, queue=queue, expires=START + 10)
        fill(store, 1, queue=queue)
    clock.advance(10)
    hands = Hands(store)
    served = {job.queue for _ in range(60) for job in hands.claim(40)}
    assert served == set(queues)


# Jobs of the higher priority, by when they expire: behind one that may start; last; among those that have expired
HIGHER = {
    "first and last": [None, *[10] * 1_200, *[None] * 30],
    "between": [None, *[10] * 600, *[None] * 30, *[10] * 600],
    "last": [*[10] * 1_200, *[None] * 30],
}


@pytest.mark.parametrize("tasks", [1, 3, 60])
@pytest.mark.parametrize("higher", HIGHER)
def test_no_job_of_lower_priority_comes_first_while_expired_ones_are_left(store, clock, monkeypatch, higher, tasks):
    monkeypatch.setattr("litequeue.sqlite.jobs.settle.CHUNK", 200)
    monkeypatch.setattr("litequeue.sqlite.jobs.expiry.READ", 500)
    names = [f"t{number}" for number in range(tasks)]
    put_all(store, *HIGHER[higher], task="t0", priority=10)
    for name in names:
        put_all(store, None, task=name, priority=-5)
    clock.advance(10)
    hands, cycles = Hands(store, *names), []
    while not cycles or cycles[-1].claimed or cycles[-1].next_at is not None:
        cycles.append(hands.turn(20))
    priorities = [job.priority for cycle in cycles for job in cycle.claimed]
    assert priorities == [10] * HIGHER[higher].count(None) + [-5] * tasks
    assert len(cycles) < 20
