"""What is submitted, what a worker is handed, and in what order."""

import pytest

from contract.jobs import RELEASED, START, SUCCEEDED, Hands, new, put, retried, snoozed, states, status
from litequeue.core.outcome import Released
from litequeue.core.records import Status
from litequeue.core.store import Demand
from litequeue.errors import JobNotFound


def ids(claimed):
    return [job.id for job in claimed]


def test_a_submitted_job_is_on_record_as_it_was_given(store):
    job_id = put(store, payload=b'["x"]', priority=7, timeout=3.0, retries=2, key="k", tags=("a", "b"), schedule="s")
    job = store.jobs.look_up(job_id)
    assert (job.status, job.payload, job.priority, job.key) == (Status.QUEUED, b'["x"]', 7, "k")
    assert (job.tags, job.schedule, job.created_at, job.run_at, job.attempt) == (("a", "b"), "s", START, START, 0)


def test_a_claimed_job_carries_what_its_run_needs(store):
    job_id = put(store, payload=b'["x"]', priority=7, timeout=3.0, retries=2, key="k")
    job = Hands(store).take()
    assert (job.id, job.attempt, job.task, job.queue, job.payload) == (job_id, 1, "add", "default", b'["x"]')
    assert (job.priority, job.timeout, job.retries, job.key, job.created_at) == (7, 3.0, 2, "k", START)


def test_a_claimed_job_is_running_under_its_worker(store, clock):
    job_id, hands = put(store), Hands(store)
    clock.advance(5)
    hands.take()
    job = store.jobs.look_up(job_id)
    assert (job.status, job.worker, job.started_at) == (Status.RUNNING, str(hands.number), START + 5)


def test_a_job_is_claimed_once(store, open_store):
    put(store)
    first, second = Hands(store), Hands(open_store())
    assert len(first.claim(10) + second.claim(10)) == 1


def test_jobs_submitted_together_are_stored_all_or_none(store):
    wrong = new(priority=101)
    with pytest.raises(Exception, match="CHECK constraint"):
        store.jobs.submit([new(), wrong])
    assert store.jobs.list() == []


def test_ids_are_never_used_again_after_a_prune(store, clock):
    first, hands = put(store), Hands(store)
    hands.settle((hands.take(), SUCCEEDED), keep_for=0.0)
    assert store.maintenance.prune() == 1
    assert int(put(store)) > int(first)


def test_higher_priority_goes_first_and_then_first_in_first_out(store):
    low, first, second, high = (put(store, priority=number) for number in (-5, 0, 0, 5))
    assert ids(Hands(store).claim(10)) == [high, first, second, low]


def test_the_order_holds_across_tasks_of_one_queue(store):
    one, two, three = put(store, "b"), put(store, "a"), put(store, "b")
    urgent = put(store, "a", priority=1)
    assert ids(Hands(store, "a", "b").claim(3)) == [urgent, one, two]
    assert ids(Hands(store, "a", "b").claim(3)) == [three]


def test_the_order_holds_claim_by_claim(store):
    wanted = [put(store, task) for task in ("a", "b", "b", "a", "b")]
    hands = Hands(store, "a", "b")
    assert [hands.take().id for _ in wanted] == wanted


def test_a_claim_takes_nothing_of_what_lies_between_the_jobs_it_takes(store):
    first = put(store), put(store)
    between = put(store, "other"), put(store, queue="elsewhere"), put(store, run_at=START + 60)
    low, high = put(store, priority=-5), put(store, priority=5)
    last = put(store), put(store)
    taken = Hands(store, queues=("default",)).claim(5)
    assert ids(taken) == [high, *first, *last]
    assert states(store, ids(taken)) == ["running"] * 5
    assert [store.jobs.look_up(job.id).attempt for job in taken] == [1] * 5
    assert states(store, [*between, low]) == ["queued", "queued", "scheduled", "queued"]


def test_no_more_is_claimed_than_asked_for(store):
    store.jobs.submit([new() for _ in range(10)])
    assert len(Hands(store).claim(3)) == 3


def test_a_flood_in_one_queue_does_not_starve_another(store):
    store.jobs.submit([new(queue="flood") for _ in range(1000)])
    quiet = put(store, queue="quiet")
    assert quiet in ids(Hands(store).claim(2))


def test_queues_are_served_in_turn_one_job_at_a_time(store):
    store.jobs.submit([new(queue=queue) for queue in "aaabbbccc"])
    hands = Hands(store)
    queues = [hands.take().queue for _ in range(9)]
    assert [sorted(queues[place : place + 3]) for place in (0, 3, 6)] == [["a", "b", "c"]] * 3


def test_what_one_queue_leaves_the_others_take(store):
    store.jobs.submit(
        [new(queue="few"), *[new(queue="many") for _ in range(20)], *[new(queue="more") for _ in range(20)]]
    )
    claimed = Hands(store).claim(11)
    assert len(claimed) == 11
    assert sorted({job.queue for job in claimed}) == ["few", "many", "more"]


def test_what_the_last_queue_leaves_the_first_takes(store):
    store.jobs.submit([new(queue="few"), *[new(queue="many") for _ in range(20)]])
    hands = Hands(store, queues=("many", "few"))
    assert [job.queue for job in hands.claim(10)].count("many") == 9


def test_a_worker_serves_its_own_queues_only(store):
    put(store, queue="other")
    mine = put(store, queue="mine")
    assert ids(Hands(store, queues=("mine", "empty")).claim(10)) == [mine]


def test_an_unknown_task_is_never_claimed_and_never_lost(store):
    unknown = put(store, "elsewhere", priority=100)
    known = put(store)
    assert ids(Hands(store).claim(10)) == [known]
    assert status(store, unknown) is Status.QUEUED


def test_each_kind_of_task_is_claimed_up_to_its_own_limit(store):
    store.jobs.submit([new(task) for task in ("plain", "coroutine") for _ in range(5)])
    hands = Hands(store, "plain", "coroutine")
    demands = [Demand(frozenset({"plain"}), 1), Demand(frozenset({"coroutine"}), 3)]
    claimed = store.runs.claim(hands.number, demands, None).claimed
    assert [job.task for job in claimed] == ["plain", "coroutine", "coroutine", "coroutine"]


def test_a_worker_that_is_not_on_record_gets_nothing_and_is_told(store):
    put(store)
    turn = store.runs.claim(99, [Demand(frozenset({"add"}), 1)], None)
    assert (turn.claimed, turn.registered) == ([], False)


def test_a_turn_without_demand_claims_nothing(store):
    put(store)
    hands = Hands(store)
    assert store.runs.claim(hands.number, [], None).claimed == []


# Scheduled


def test_a_scheduled_job_is_not_claimed_before_its_time(store, clock):
    job_id, hands = put(store, run_at=START + 60), Hands(store)
    clock.advance(59)
    turn = hands.turn()
    assert (turn.claimed, turn.next_at, status(store, job_id)) == ([], START + 60, Status.SCHEDULED)


def test_a_scheduled_job_becomes_due(store, clock):
    job_id, hands = put(store, run_at=START + 60), Hands(store)
    clock.advance(60)
    turn = hands.turn()
    assert (ids(turn.claimed), turn.next_at) == ([job_id], None)


def test_a_time_that_is_past_already_is_now(store):
    job_id = put(store, run_at=START - 60)
    assert (status(store, job_id), Hands(store).take().id) == (Status.QUEUED, job_id)


def test_more_due_jobs_than_one_transaction_wakes_are_all_claimed_in_the_end(store, clock):
    store.jobs.submit([new(run_at=START + 1 + number / 1000) for number in range(1200)])
    clock.advance(10)
    hands = Hands(store)
    turns = [hands.turn(1000) for _ in range(4)]
    assert [len(turn.claimed) for turn in turns] == [500, 500, 200, 0]
    assert [turn.next_at is not None for turn in turns] == [True, True, False, False]


def test_a_job_that_came_due_keeps_its_place_by_priority(store, clock):
    put(store)
    urgent = put(store, run_at=START + 60, priority=1)
    clock.advance(60)
    assert Hands(store).take().id == urgent


def test_of_more_due_jobs_than_one_transaction_wakes_the_highest_priorities_are_woken_first(store, clock):
    store.jobs.submit([new(run_at=START + 1) for _ in range(1200)])
    least, urgent, most = (put(store, run_at=START + 2, priority=each) for each in (-1, 5, 100))
    clock.advance(10)
    hands = Hands(store)
    assert ids(hands.claim(2)) == [most, urgent]
    claimed = [job for _ in range(4) for job in ids(hands.claim(1000))]
    assert (len(claimed), claimed[-1]) == (1201, least)


def test_the_next_due_job_is_the_soonest_of_all_priorities(store):
    for after, priority in ((60, 0), (30, -5), (90, 5)):
        put(store, run_at=START + after, priority=priority)
    assert Hands(store).turn().next_at == START + 30


# Expires


def test_a_job_that_has_not_begun_in_time_expires(store, clock):
    job_id, hands = put(store, expires_at=START + 10), Hands(store)
    clock.advance(10)
    assert hands.claim() == []
    job = store.jobs.look_up(job_id)
    assert (job.status, job.finished_at) == (Status.EXPIRED, START + 10)


def test_a_job_that_begins_in_time_does_not_expire(store, clock):
    job_id, hands = put(store, expires_at=START + 10), Hands(store)
    clock.advance(9)
    assert hands.take().id == job_id
    clock.advance(60)
    assert hands.turn().next_at is None
    assert status(store, job_id) is Status.RUNNING


def test_a_scheduled_job_expires_too(store, clock):
    job_id, hands = put(store, run_at=START + 100, expires_at=START + 200), Hands(store)
    clock.advance(201)
    assert hands.claim() == []
    assert status(store, job_id) is Status.EXPIRED


def test_a_job_that_has_run_and_comes_back_does_not_expire(store, clock):
    job_id, hands = put(store, expires_at=START + 10), Hands(store)
    hands.settle((hands.take(), snoozed(60)))
    clock.advance(60)
    assert hands.take().id == job_id


def test_a_job_released_before_it_began_still_expires(store, clock):
    job_id, hands = put(store, expires_at=START + 10), Hands(store)
    hands.settle((hands.take(), Released(begun=False)))
    assert store.jobs.look_up(job_id).started_at is None
    clock.advance(10)
    assert hands.claim() == []
    assert states(store, [job_id]) == ["expired"]


def test_a_job_released_unbegun_after_it_had_begun_once_does_not_expire(store, clock):
    job_id, hands = put(store, expires_at=START + 10), Hands(store)
    hands.settle((hands.take(), Released(begun=True)))
    hands.settle((hands.take(), Released(begun=False)))
    clock.advance(10)
    assert ids(hands.claim()) == [job_id]


def test_a_job_released_before_it_began_can_still_be_replaced(store):
    hands = Hands(store)
    put(store, key="k")
    hands.settle((hands.take(), Released(begun=False)))
    put(store, key="k", payload=b"[2]", on_conflict="replace")
    assert hands.take().payload == b"[2]"


def test_a_dead_workers_job_does_not_expire_for_it_may_have_run(store, clock):
    """Its note is gone once its function has returned, and it died before the end was stored."""
    job_id, hands = put(store, expires_at=START + 10), Hands(store)
    hands.take()
    store.runs.rescue(hands.number, frozenset(), blame=True)
    clock.advance(10)
    assert ids(Hands(store).claim()) == [job_id]


def test_jobs_with_many_deaths_can_be_left_to_others(store):
    suspect, innocent = put(store, priority=5), put(store)
    store.kernel.writer.run(lambda db: db.rows("UPDATE litequeue_jobs SET deaths = 2 WHERE id = ?", (int(suspect),)))
    hands = Hands(store)
    shunned = store.runs.claim(hands.number, [Demand(frozenset({"add"}), 5, 1)], None)
    assert ids(shunned.claimed) == [innocent]
    assert ids(hands.claim(5)) == [suspect]


def test_the_next_look_is_when_the_first_job_expires(store):
    put(store, "elsewhere", expires_at=START + 10)
    assert Hands(store).turn().next_at == START + 10


def test_no_expired_job_is_claimed_when_more_expire_than_one_transaction_marks(store, clock):
    store.jobs.submit([new(expires_at=START + 1) for _ in range(1200)])
    alive = put(store)
    clock.advance(2)
    hands = Hands(store)
    claimed = [ids(hands.claim(1000)) for _ in range(4)]
    assert sorted(claimed) == [[], [], [], [alive]]
    assert {str(job.status) for job in store.jobs.list(limit=2000)} == {"expired", "running"}


def test_after_expiring_the_next_look_is_not_in_the_past(store, clock):
    put(store, expires_at=START + 1)
    hands = Hands(store)
    clock.advance(2)
    assert hands.turn().next_at is None


# Look


def test_an_unknown_job_is_not_found(store):
    for wrong in ("999", "", "x", "1; DROP TABLE litequeue_jobs"):
        with pytest.raises(JobNotFound, match="never existed, or it has been pruned"):
            store.jobs.look_up(wrong)


def test_a_store_says_what_it_is(store, driver):
    assert repr(store) == f"<SqliteStore {store.path} driver={driver}>"


def test_jobs_are_listed_newest_first_and_paged(store):
    made = [put(store) for _ in range(5)]
    assert ids(store.jobs.list(limit=2)) == [made[4], made[3]]
    assert ids(store.jobs.list(limit=2, before=made[3])) == [made[2], made[1]]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"task": "b"}, 1),
        ({"queue": "q"}, 2),
        ({"tag": "t"}, 1),
        ({"tag": "nothing"}, 0),
        ({"status": Status.QUEUED}, 2),
        ({"status": Status.CANCELLED}, 1),
        ({"status": Status.CANCELLED, "tag": "t"}, 1),
        ({"status": Status.FAILED}, 0),
        ({"task": "a", "queue": "q"}, 1),
    ],
)
def test_jobs_are_listed_by_what_they_are(store, where, expected):
    put(store, "a", queue="q")
    put(store, "b", queue="q")
    store.jobs.cancel(put(store, "a", tags=("t", "u")))
    assert len(store.jobs.list(**where)) == expected


def test_jobs_are_counted_by_queue_and_state(store):
    store.jobs.submit([new(queue="a"), new(queue="a"), new(queue="b", run_at=START + 60)])
    found = {(count.queue, str(count.status), count.jobs) for count in store.jobs.counts()}
    assert found == {("a", "queued", 2), ("b", "scheduled", 1)}


def test_ready_jobs_are_counted_by_task_with_the_age_of_the_oldest(store):
    store.jobs.submit([new("x", created_at=START - 50), new("x"), new("y"), new("y", run_at=START + 60)])
    assert sorted(store.admin.ready()) == [("default", "x", 2, START - 50, True), ("default", "y", 1, START, True)]


def test_ready_jobs_are_counted_over_queues_tasks_and_priorities(store):
    store.jobs.submit([new(task, queue=queue, priority=n) for queue in "pq" for task in "xyz" for n in (-100, 0, 0, 7)])
    assert store.admin.ready() == [(queue, task, 4, START, True) for queue in "pq" for task in "xyz"]


def test_no_jobs_are_ready_in_an_empty_file(store):
    assert store.admin.ready() == []


def test_the_oldest_ready_job_is_seen_behind_many_of_a_higher_priority(store):
    store.jobs.submit([new(priority=5)] * 200 + [new(priority=-5, created_at=START - 50)])
    assert store.admin.ready() == [("default", "add", 201, START - 50, True)]


def test_the_oldest_ready_job_is_looked_for_among_the_first_hundred(store):
    store.jobs.submit([new()] * 100 + [new(created_at=START - 50)])
    assert store.admin.ready() == [("default", "add", 101, START, True)]


def test_the_last_runs_are_timed_by_task(store, clock):
    put(store)
    hands = Hands(store)
    job = hands.take()
    clock.advance(3)
    hands.settle((job, SUCCEEDED))
    assert store.admin.durations() == {"add": [3.0]}


def test_workers_are_listed_with_what_they_run(store):
    put(store)
    hands = Hands(store, "add", "b", queues=("default",))
    hands.take()
    [worker] = store.workers.list()
    assert (worker.id, worker.tasks, worker.queues, worker.running) == (hands.number, ("add", "b"), ("default",), 1)


def test_a_beat_moves_the_count_and_says_whether_the_worker_is_on_record(store, clock):
    hands = Hands(store)
    clock.advance(15)
    assert store.workers.beat(hands.number).known
    [worker] = store.workers.list()
    assert (worker.beats, worker.beat_at) == (1, START + 15)
    assert not store.workers.beat(hands.number + 1).known


def test_a_beat_tells_of_other_workers_and_of_jobs_that_nobody_has(store, connect):
    first = Hands(store)
    assert not store.workers.beat(first.number).others
    second = Hands(store)
    assert store.workers.beat(first.number).others
    put(store)
    second.take()
    connect(store.path).execute("DELETE FROM litequeue_workers WHERE id = ?", (second.number,))
    assert store.workers.beat(first.number).others
    store.runs.rescue(second.number, None, blame=False)
    assert not store.workers.beat(first.number).others


def test_the_version_changes_with_what_is_written_by_another_store_and_by_this_one(store, open_store):
    other = open_store()
    before = other.maintenance.version()
    assert other.maintenance.version() == before
    put(store)
    after = other.maintenance.version()
    assert after != before
    put(other)
    assert other.maintenance.version() != after


@pytest.mark.parametrize("outcome", [retried(0), RELEASED, SUCCEEDED])
def test_the_version_changes_with_what_this_process_settles_as_its_other_workers_may_run_it(store, outcome):
    put(store)
    hands = Hands(store)
    job, before = hands.take(), store.maintenance.version()
    hands.settle((job, outcome))
    assert store.maintenance.version() != before


def test_the_version_changes_with_what_is_written_within_a_transaction_of_our_own(store):
    before = store.maintenance.version()
    with store.transactions.transaction() as db:
        store.jobs.submit([new()], db)
    assert (len(store.jobs.list()), store.maintenance.version() == before) == (1, False)


def test_the_version_does_not_change_with_a_workers_own_beats_and_claims(store):
    put(store)
    hands, before = Hands(store), store.maintenance.version()
    store.workers.beat(hands.number)
    hands.take()
    store.maintenance.checkpoint()
    assert store.maintenance.version() == before


def test_the_version_cannot_be_told_while_a_transaction_is_open(store):
    with store.transactions.transaction():
        assert store.maintenance.version() is None
    assert store.maintenance.version() is not None


def test_a_write_is_seen_also_when_the_connection_was_opened_anew(store, open_store):
    other = open_store()
    before = other.maintenance.version()
    other.close()
    put(store)
    assert other.maintenance.version() != before


def test_released_jobs_go_back_to_their_place_in_line(store):
    wanted = [put(store), put(store)]
    hands = Hands(store)
    hands.settle((hands.take(), RELEASED))
    assert ids(hands.claim(2)) == wanted
    assert states(store, wanted) == ["running", "running"]


def test_jobs_that_could_begin_and_have_not_are_told_from_all_others(store):
    begun, hands = put(store), Hands(store)
    hands.take()
    queued, later = put(store), put(store, run_at=START + 60)
    assert store.runs.queued_among([later, begun, queued, "99", "none"]) == [queued]
    assert store.runs.queued_among([]) == []
