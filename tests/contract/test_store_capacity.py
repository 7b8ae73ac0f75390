"""The slots of a queue in one worker, and the resources that a worker offers: what is claimed, and what is left."""

import pytest

from contract.jobs import FAILED, RELEASED, SETTLED, SUCCEEDED, Hands, new, put, retried, states
from litequeue.core.capacity import Capacity
from litequeue.core.dispatch import IdleWorker
from litequeue.core.store import Demand
from litequeue.limits.task_rules import encoded_rules


def put_many(store, queue, count, task="add"):
    return [each.id for each in store.jobs.submit([new(task, queue=queue) for _ in range(count)])]


def declare(store, **uses):
    store.limits.declare({}, {task: encoded_rules((), ordered=False, uses=used) for task, used in uses.items()})


def claimed_by(hands, limit=100):
    """How many jobs of each queue a claim gets."""
    found = {}
    for job in hands.claim(limit):
        found[job.queue] = found.get(job.queue, 0) + 1
    return found


def ended(hands, job, outcome):
    return [hands.end(job, outcome)]


# ---- slots


def test_no_more_jobs_of_a_queue_are_claimed_than_it_has_slots_and_the_rest_is_of_other_queues(store):
    put_many(store, "reports", 50)
    put_many(store, "email", 10)
    hands = Hands(store, slots={"reports": 2})
    assert claimed_by(hands) == {"reports": 2, "email": 10}
    assert claimed_by(hands) == {}


def test_a_flood_of_a_full_queue_at_the_head_keeps_no_other_job_back(store):
    put_many(store, "reports", 300)
    hands = Hands(store, slots={"reports": 1})
    assert claimed_by(hands) == {"reports": 1}
    put_many(store, "email", 1)
    assert claimed_by(hands, limit=1) == {"email": 1}


def test_slots_hold_where_there_are_many_lanes(store):
    for number in range(30):
        put_many(store, "reports", 2, task=f"task{number}")
    put_many(store, "email", 3, task="task0")
    hands = Hands(store, *(f"task{number}" for number in range(30)), slots={"reports": 5})
    assert claimed_by(hands) == {"reports": 5, "email": 3}


@pytest.mark.parametrize("outcome", [SUCCEEDED, FAILED, RELEASED, retried()])
def test_an_end_frees_the_slot_in_the_same_transaction(store, outcome):
    put_many(store, "reports", 3)
    hands = Hands(store, slots={"reports": 1})
    [job] = hands.claim()
    [following] = hands.turn(5, ended(hands, job, outcome)).claimed
    assert following.queue == "reports"


def test_a_success_that_the_job_itself_has_stored_frees_the_slot(store):
    put_many(store, "reports", 2)
    hands = Hands(store, slots={"reports": 1})
    [job] = hands.claim()
    with store.runs.completing(job, b"1", 60.0):
        pass
    assert len(hands.turn(5, ended(hands, job, SETTLED)).claimed) == 1


def test_the_slots_of_a_worker_are_its_own(store):
    put_many(store, "reports", 10)
    first, second = Hands(store, slots={"reports": 2}), Hands(store, slots={"reports": 3})
    assert [len(first.claim(9)), len(second.claim(9)), len(Hands(store).claim(9))] == [2, 3, 5]


def test_plain_and_coroutine_tasks_share_the_slots_of_their_queue(store):
    put_many(store, "reports", 5, task="plain")
    put_many(store, "reports", 5, task="coroutine")
    hands = Hands(store, "plain", "coroutine", slots={"reports": 3})
    demands = [Demand(frozenset({"plain"}), 2), Demand(frozenset({"coroutine"}), 5)]
    claimed = store.runs.claim(hands.number, demands, None, (), hands.capacity).claimed
    assert [job.task for job in claimed] == ["plain", "plain", "coroutine"]


def test_a_run_that_goes_on_after_its_end_holds_its_slot_and_is_counted_once_before(store):
    put_many(store, "reports", 4)
    hands = Hands(store, slots={"reports": 2})
    [job] = hands.claim(1)
    hands.present = [(job.id, job.attempt, job.queue, job.task)]
    assert len(hands.claim(9)) == 1
    assert hands.turn(9, ended(hands, job, FAILED)).claimed == []
    hands.present = []
    assert len(hands.claim(9)) == 1


def test_a_job_is_not_dispatched_to_an_idle_worker_whose_slots_are_taken(store):
    given = []
    hands = Hands(store, slots={"reports": 1})
    hands.present = [("1000", 1, "reports", "add")]
    kinds = frozenset({frozenset({"add"})})

    def rest():
        accept = lambda _number, jobs: given.extend(jobs)  # noqa: E731
        store.dispatch.offer(IdleWorker(hands.number, kinds, None, accept, lambda: None, hands.capacity))

    rest()
    full = put(store, queue="reports")
    rest()
    other = put(store, queue="email")
    assert ([job.id for job in given], states(store, [full, other])) == ([other], ["queued", "running"])


def test_a_queue_with_slots_has_its_turn_among_others_by_shares(store):
    put_many(store, "reports", 10)
    put_many(store, "email", 10)
    assert claimed_by(Hands(store, slots={"reports": 8}), limit=6) == {"reports": 3, "email": 3}


# ---- resources


def test_a_worker_claims_as_many_jobs_as_it_has_resources_for(store):
    declare(store, render={"gpu": 1, "ram_mb": 4000})
    put_many(store, "default", 5, task="render")
    put_many(store, "default", 2)
    hands = Hands(store, "render", "add", offers={"gpu": 4, "ram_mb": 9000})
    assert sorted(job.task for job in hands.claim(9)) == ["add", "add", "render", "render"]
    assert hands.claim(9) == []


@pytest.mark.parametrize("offers", [{}, {"gpu": 1}, {"ram_mb": 64000}])
def test_a_worker_that_offers_too_little_leaves_the_job_and_goes_on_behind_it(store, offers):
    declare(store, render={"gpu": 2})
    put_many(store, "default", 100, task="render")
    put_many(store, "default", 1)
    hands = Hands(store, "render", "add", offers=offers)
    assert [job.task for job in hands.claim(1)] == ["add"]
    assert len(Hands(store, "render", offers={"gpu": 2}).claim(9)) == 1


def test_a_smaller_job_starts_where_a_larger_one_has_no_room(store):
    declare(store, large={"gpu": 2}, small={"gpu": 1})
    put_many(store, "default", 3, task="large")
    put_many(store, "default", 3, task="small")
    hands = Hands(store, "large", "small", offers={"gpu": 3})
    assert [job.task for job in hands.claim(9)] == ["large", "small"]


def test_versions_of_a_task_use_what_the_task_uses(store):
    declare(store, render={"gpu": 1})
    put_many(store, "default", 2, task="render@2")
    hands = Hands(store, "render@2", offers={"gpu": 1})
    assert (len(hands.claim(9)), len(hands.claim(9))) == (1, 0)


def test_an_end_gives_the_resources_back(store):
    declare(store, render={"gpu": 1})
    put_many(store, "default", 2, task="render")
    hands = Hands(store, "render", offers={"gpu": 1})
    [job] = hands.claim(9)
    assert len(hands.turn(9, ended(hands, job, SUCCEEDED)).claimed) == 1


def test_a_task_that_uses_nothing_any_more_is_plain_again(store):
    declare(store, render={"gpu": 1})
    declare(store, render={})
    assert store.limits.uses() == {}
    put(store, task="render")
    assert len(Hands(store, "render").claim()) == 1


def test_what_no_worker_offers_is_not_dispatched_either(store):
    declare(store, render={"gpu": 1})
    hands, given = Hands(store, "render"), []
    kinds = frozenset({frozenset({"render"})})
    store.dispatch.offer(IdleWorker(hands.number, kinds, None, lambda *told: given.append(told), lambda: None))
    assert states(store, [put(store, task="render")]) == ["queued"]
    assert given == [(hands.number, [])]


def test_a_worker_on_record_shows_its_slots_and_offers(store):
    Hands(store, queues=("email", "reports"), slots={"reports": 2}, offers={"gpu": 1})
    Hands(store)
    assert [(each.slots, each.offers) for each in store.workers.list()] == [({"reports": 2}, {"gpu": 1}), ({}, {})]


def test_a_capacity_without_slots_or_offers_admits_every_plain_job(store):
    put_many(store, "reports", 3)
    hands = Hands(store)
    claimed = store.runs.claim(hands.number, [Demand(frozenset({"add"}), 9)], None, (), Capacity({}, {})).claimed
    assert len(claimed) == 3
