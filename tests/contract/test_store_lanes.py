"""A claim where the ready jobs are of many tasks and queues: what it takes, in what order, and how much it reads."""

from collections import Counter

import pytest

from contract.jobs import START, Hands, new, put
from litequeue.core.store import Demand
from test_query_plans import cost

TASKS = [f"t{number:03}" for number in range(40)]
QUEUES = [f"q{number:02}" for number in range(30)]


def ids(claimed):
    return [job.id for job in claimed]


def lanes(store, tasks, queues, each=1):
    """Submit jobs of every task in every queue, a task after another, and return how they stand in each queue."""
    jobs = [new(task, queue=queue) for _ in range(each) for task in tasks for queue in queues]
    stored = store.jobs.submit(jobs)
    return [(job.queue, submitted.id) for job, submitted in zip(jobs, stored, strict=True)]


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
def test_the_order_holds_across_many_tasks_of_one_queue(store, limit):
    jobs = [new(TASKS[(n * 7) % 40], priority=(n * 13) % 5 - 2) for n in range(600)]
    jobs += [new(TASKS[0]) for _ in range(300)]
    stored = [int(submitted.id) for submitted in store.jobs.submit(jobs)]
    first = sorted(zip(stored, jobs, strict=True), key=lambda pair: (-pair[1].priority, pair[0]))
    hands, claimed = Hands(store, *TASKS), []
    while more := ids(hands.claim(limit)):
        claimed += more
    assert claimed == [str(job_id) for job_id, _ in first]


def test_many_tasks_that_a_worker_does_not_have_do_not_stand_in_the_way(store):
    lanes(store, TASKS, QUEUES)
    mine = put(store, "mine", queue=QUEUES[-1])
    assert ids(Hands(store, "mine").claim(10)) == [mine]


def test_a_job_under_which_workers_died_is_left_to_others_among_many_tasks(store):
    stored = lanes(store, TASKS, ["default"], each=3)
    suspects = [int(job_id) for _, job_id in stored[:60]]
    for job_id in suspects:
        store.kernel.writer.run(
            lambda db, job_id=job_id: db.rows("UPDATE litequeue_jobs SET deaths = 2 WHERE id = ?", (job_id,))
        )
    hands = Hands(store, *TASKS)
    left = store.runs.claim(hands.number, [Demand(frozenset(TASKS), 30, 1)], None).claimed
    assert ids(left) == [job_id for _, job_id in stored[60:90]]


@pytest.mark.parametrize("queues", [None, tuple(reversed(QUEUES))])
def test_many_queues_are_served_in_turn(store, queues):
    lanes(store, TASKS[:2], QUEUES)
    hands = Hands(store, *TASKS, queues=queues)
    served = [job.queue for _ in range(12) for job in hands.claim(5)]
    expected = list(queues or QUEUES)
    assert (served[:30], served[30:]) == (expected, expected)


def test_queues_that_one_claim_looks_at_get_equal_shares(store, monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.jobs.lanes.MANY", 1000)
    lanes(store, TASKS[:4], QUEUES, each=5)
    shares = Counter(job.queue for job in Hands(store, *TASKS).claim(300))
    assert set(shares) == set(QUEUES)
    assert set(shares.values()) == {10}


def test_what_few_of_many_queues_have_is_claimed_in_full(store, monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.jobs.lanes.MANY", 1000)
    lanes(store, TASKS[:1], QUEUES)
    lanes(store, TASKS[:1], QUEUES[:1], each=50)
    assert Counter(job.queue for job in Hands(store, *TASKS).claim(60))[QUEUES[0]] == 31


def test_every_queue_is_served_soon_though_one_claim_does_not_look_at_all_of_many_lanes(store):
    lanes(store, TASKS, [*QUEUES, *map(str.upper, QUEUES)])  # 2,400 lanes
    hands = Hands(store, *TASKS)
    served = {job.queue for _ in range(15) for job in hands.claim(100)}
    assert served == {*QUEUES, *map(str.upper, QUEUES)}


def test_a_claim_of_many_lanes_brings_as_many_as_it_asks_for(store):
    queues = [f"q{number:03}" for number in range(200)]
    lanes(store, TASKS[:1], queues)
    hands = Hands(store, *TASKS)
    assert [len(hands.claim(150)) for _ in range(3)] == [150, 50, 0]


def test_all_of_many_lanes_is_claimed_in_the_end(store):
    stored = lanes(store, TASKS, QUEUES, each=2)
    hands, claimed = Hands(store, *TASKS), []
    while more := ids(hands.claim(700)):
        claimed += more
    assert sorted(claimed) == sorted(job_id for _, job_id in stored)


def test_a_job_becomes_first_among_many_lanes_as_soon_as_it_is_there(store):
    lanes(store, TASKS, ["default"])
    hands = Hands(store, *TASKS, "late")
    hands.claim(3)
    urgent = put(store, "late", priority=100)
    assert ids(hands.claim(1)) == [urgent]


FILL = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :tasks * :queues * :each)
INSERT INTO litequeue_jobs (task, queue, payload, state, priority, run_at, created_at)
SELECT 't' || (i / :queues % :tasks), 'q' || (i % :queues), X'5b5d', 1, 0, :now, :now FROM n
"""


@pytest.mark.parametrize(("tasks", "queues"), [(200, 50), (1, 10_000), (200, 1)])
def test_a_claim_reads_few_of_many_lanes(open_store, tmp_path, tasks, queues):
    """By steps of SQLite's machine: looking at every lane, or at the full limit of each, takes many times as many."""
    costs = []
    for number, (some, others) in enumerate([(1, 1), (tasks, queues)]):
        store = open_store(path=tmp_path / f"{number}.db")
        filled = {"tasks": some, "queues": others, "each": -(-20_000 // (some * others)), "now": START}
        store.kernel.writer.run(lambda db, filled=filled: db.rows(FILL, filled))
        costs.append(cost(store, Hands(store, *[f"t{task}" for task in range(some)]), 500))
    (one, got), (many, got_too) = costs
    assert got == got_too == 500
    assert many <= one + 130 * 1_000 + 200 * 500


def test_a_claim_of_many_lanes_takes_a_part_of_what_is_asked_for_and_says_so(store, monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.jobs.claim.OF_MANY", 20)
    lanes(store, TASKS[:1], QUEUES)
    hands = Hands(store, *TASKS)
    cycles = [hands.turn(25), hands.turn(25), hands.turn(25)]
    assert [(len(cycle.claimed), cycle.cut) for cycle in cycles] == [(20, True), (10, False), (0, False)]
