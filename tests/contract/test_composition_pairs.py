"""Dependents, groups and callbacks, each with what else litequeue does: the cells of docs/design/composition_pairs.md.

A worker's side is played by hand, so that each end comes when the test says. The first word of each test is the row.
"""

import pytest

from contract.jobs import BOOM, FAILED, RELEASED, SUCCEEDED, Hands, retried, to_the_end
from contract.test_store_limits import declare
from litequeue import Failure, Unsupported, every, group
from litequeue.core.outcome import Cancelled
from litequeue.limits.limit import Allowed
from litequeue.limits.task_rules import LimitUse

DAY = 86_400.0


@pytest.fixture
def tasks(queue):
    """`make` has no parents, `use` gets what they return, and `told` is what a callback calls."""
    queue.task(name="make")(lambda number=0: number)
    queue.task(name="use")(lambda value=None, more=None: value)
    queue.task(name="told")(lambda what=None, more=None: what)
    return queue.tasks


@pytest.fixture
def make(tasks):
    return tasks["make"]


@pytest.fixture
def use(tasks):
    return tasks["use"]


@pytest.fixture
def told(tasks):
    return tasks["told"]


@pytest.fixture
def hands(queue, tasks):
    return Hands(queue.engine, "make", "use", "told")


def run(hands, outcome=SUCCEEDED, limit=100):
    """Run what may start, let all of it end in the same way, and return its ids."""
    claimed = hands.claim(limit)
    assert hands.settle(*[(job, outcome) for job in claimed]) == []
    return [job.id for job in claimed]


def states(*jobs):
    return [str(job.refresh().status) for job in jobs]


def handed(queue, job):
    return queue.engine.runs.handed_to(job.id)


def one_at_once(queue, name):
    declare(queue.engine, {name: Allowed(concurrency=1)}, **{name: [LimitUse(name, False, 1)]})


def die(queue, hands):
    """Let the worker die under what it runs, and another one take its place."""
    queue.engine.runs.rescue(hands.number, None, blame=True)
    return Hands(queue.engine, "make", "use", "told")


# ---- limits


def test_dependents_wait_for_room_once_their_parents_have_ended(queue, hands, make, use):
    one_at_once(queue, "use")
    other, last = use.enqueue(), (make.s(1) | use.s()).enqueue()
    claimed = {job.id: job for job in hands.claim(9)}
    assert other.id in claimed
    parent = next(job for job in claimed.values() if job.id != other.id)
    hands.settle((parent, SUCCEEDED))
    assert (states(last), hands.claim(9)) == (["queued"], [])
    hands.settle((claimed[other.id], SUCCEEDED))
    assert run(hands) == [last.id]


def test_groups_with_members_of_a_full_key_have_not_ended(queue, hands, use):
    keyed = queue.task(name="keyed", limit_key="{key}", concurrency=1)(lambda key: None)
    declare(queue.engine, {"keyed": Allowed(concurrency=1)}, keyed=[LimitUse("keyed", True, 1)])
    body = (group(keyed.s("a") for _ in range(3)) | use.s()).enqueue()
    worker = Hands(queue.engine, "keyed")
    for _ in range(3):
        assert states(body) == ["waiting"]
        [member] = worker.claim(9) or worker.claim(9)  # the first claim sets aside what the key has no room for
        worker.settle((member, SUCCEEDED))
    assert run(hands) == [body.id]


def test_callbacks_take_of_the_limits_of_their_own_task(queue, hands, make, told):
    one_at_once(queue, "told")
    told.enqueue()
    job = make.using(on_success=told.s()).enqueue()
    [first, other] = sorted(hands.claim(9), key=lambda claimed: claimed.task)
    hands.settle((first, SUCCEEDED))
    assert (states(job), hands.claim(9)) == (["succeeded"], [])
    hands.settle((other, SUCCEEDED))
    assert len(run(hands)) == 1


# ---- retries


def test_dependents_wait_while_a_parent_is_tried_again(queue, hands, clock, make, use):
    last = (make.s(1) | use.s()).enqueue()
    run(hands, retried(10))
    assert states(last) == ["waiting"]
    clock.advance(60)
    run(hands)
    assert states(last) == ["queued"]


def test_groups_count_a_member_that_is_tried_again_as_not_ended(queue, hands, clock, make, use):
    batch = group(make.s(1), make.s(2)).enqueue()
    body = use.using(after=batch).enqueue()
    first, second = hands.claim(2)
    hands.settle((first, SUCCEEDED), (second, retried(10)))
    assert (batch.progress.done, states(body)) == (1, ["waiting"])
    clock.advance(60)
    run(hands)
    assert (batch.progress.done, states(body)) == (2, ["queued"])


def test_callbacks_are_not_for_a_try_but_for_the_end(queue, hands, clock, make, told):
    make.using(retries=1, on_failure=told.s()).enqueue()
    [alert] = queue.jobs(task="told")
    run(hands, retried(10))
    assert states(alert) == ["waiting"]
    clock.advance(60)
    run(hands, FAILED)
    failure = handed(queue, alert)
    assert (states(alert), failure.tries, failure.error_type) == (["queued"], 2, BOOM.type)


# ---- priorities


def test_dependents_begin_by_their_own_priority(hands, make, use):
    last = (make.s(1) | use.using(priority=5).s()).enqueue()
    run(hands)
    use.enqueue()
    assert hands.take().id == last.id


def test_groups_hand_their_priority_to_members_that_say_none(hands, make):
    batch = group(make.s(1), make.using(priority=-5).s(2)).using(priority=5).enqueue()
    plain = make.enqueue()
    low, high = sorted(batch.jobs, key=lambda job: job.priority)
    assert [hands.take().id for _ in range(3)] == [high.id, plain.id, low.id]


def test_callbacks_have_their_own_priority_and_not_that_of_their_job(queue, make, told):
    make.using(priority=50, on_success=told.s(), on_failure=told.using(priority=5).s()).enqueue()
    assert sorted(job.priority for job in queue.jobs(task="told")) == [0, 5]


# ---- within=


def test_dependents_start_in_the_commit_of_completing(queue, hands, make, use):
    last = (make.s(1) | use.s()).enqueue()
    with queue.engine.runs.completing(hands.take(), b"7", DAY):
        assert states(last) == ["waiting"]
    assert (states(last), handed(queue, last)) == (["queued"], b"7")


def test_groups_are_stored_whole_or_not_at_all(queue, connect, make, use):
    with pytest.raises(ZeroDivisionError), queue.transaction():
        (group(make.s(number) for number in range(3)) | use.s()).enqueue()
        raise ZeroDivisionError
    connection = connect()
    connection.execute("BEGIN IMMEDIATE")
    batch = group(make.s(1), make.s(2)).using(within=connection).enqueue()
    assert queue.jobs() == []
    connection.execute("COMMIT")
    assert len(queue.group(batch.id).jobs) == 2


def test_callbacks_are_stored_with_their_job_in_the_callers_transaction(queue, connect, make, told):
    connection = connect()
    for end, stored in (("ROLLBACK", 0), ("COMMIT", 2)):
        connection.execute("BEGIN IMMEDIATE")
        make.using(within=connection, on_success=told.s()).enqueue()
        connection.execute(end)
        assert len(queue.jobs()) == stored


# ---- schedules


def test_dependents_of_a_tick_wait_for_its_job(queue, hands, make, use):
    queue.schedules.add("s", make.s(1), every("1m"), overlap="queue")
    first, second = queue.schedules.trigger_now("s"), queue.schedules.trigger_now("s")
    last = use.using(after=[second]).enqueue()
    assert run(hands) == [first.id]
    assert states(second, last) == ["queued", "waiting"]
    assert run(hands) == [second.id]
    assert run(hands) == [last.id]


def test_groups_are_refused_by_a_schedule_with_what_to_do(queue, make):
    with pytest.raises((TypeError, Unsupported), match="task that enqueues"):
        queue.schedules.add("s", group(make.s(1)), every("1m"))


def test_callbacks_of_a_schedules_call_come_with_each_tick(queue, hands, clock, make, told):
    queue.schedules.add("s", make.using(on_success=told.s()).s(1), every("1m"))
    for tick in (1, 2):
        clock.advance(60)
        to_the_end(queue.engine, "fire", frozenset({"make"}))
        assert len(run(hands)) == 1
        assert len(run(hands)) == 1
        assert len(queue.jobs(task="told", status="succeeded")) == tick


# ---- pruning


def test_dependents_keep_the_parent_whose_result_they_take(queue, hands, clock, make, use):
    last = (make.s(1) | use.using(delay="30d").s()).enqueue()
    [parent] = run(hands)
    clock.advance(10 * DAY)
    queue.engine.maintenance.prune()
    assert queue.job(parent).status.finished
    clock.advance(21 * DAY)
    assert run(hands) == [last.id]
    clock.advance(2 * DAY)
    while queue.engine.maintenance.prune():
        pass
    assert queue.jobs() == []


def test_groups_keep_their_members_until_all_have_ended(queue, hands, clock, make):
    batch = group(make.s(1), make.using(delay="10d").s(2)).enqueue()
    run(hands)
    clock.advance(5 * DAY)
    queue.engine.maintenance.prune()
    assert len(queue.group(batch.id).jobs) == 2
    clock.advance(6 * DAY)
    run(hands)
    make.enqueue()  # the newest job is never deleted
    clock.advance(2 * DAY)
    while queue.engine.maintenance.prune():
        pass
    assert rows(queue, "litequeue_groups") == rows(queue, "litequeue_edges") == []


def rows(queue, table):
    return queue.engine.kernel.read(lambda db: db.rows(f"SELECT * FROM {table}"))


def test_callbacks_that_do_not_apply_are_gone_at_once(queue, hands, make, told):
    make.using(on_success=told.s("well"), on_failure=told.s("ill")).enqueue()
    run(hands)
    assert [str(job.status) for job in queue.jobs(task="told")] == ["queued"]


# ---- encryption


@pytest.fixture
def encrypted(open_queue):
    encryption = pytest.importorskip("litequeue.serialization.encryption")
    pytest.importorskip("cryptography")
    queue = open_queue(codec=encryption.EncryptedCodec(encryption.new_key()))
    queue.task(name="make")(lambda text="": text + "secret")
    queue.task(name="use")(lambda value, more=None: value)
    queue.task(name="told")(lambda what: what.message if isinstance(what, Failure) else what)
    queue.task(name="fail")(_fail)
    return queue


def _fail():
    raise ValueError("in plain words")


def done(queue, job):
    queue.worker(threads=1).run(until_idle=True)
    return job.result(timeout=0)


def test_dependents_get_an_encrypted_result_decrypted(encrypted, database):
    make, use = encrypted.tasks["make"], encrypted.tasks["use"]
    assert done(encrypted, (make.s("a") | use.s()).enqueue()) == "asecret"
    encrypted.close()
    assert b"secret" not in database.read_bytes()


def test_groups_hand_on_encrypted_results_in_order(encrypted):
    make, use = encrypted.tasks["make"], encrypted.tasks["use"]
    assert done(encrypted, (group(make.s("a"), make.s("b")) | use.s()).enqueue()) == ["asecret", "bsecret"]


def test_callbacks_get_results_decrypted_and_errors_as_the_text_they_are(encrypted):
    make, told, fail = encrypted.tasks["make"], encrypted.tasks["told"], encrypted.tasks["fail"]
    make.using(on_success=told.s()).enqueue("a")
    fail.using(on_failure=told.s()).enqueue()
    encrypted.worker(threads=1).run(until_idle=True)
    assert {job.result(0) for job in encrypted.jobs(task="told")} == {"asecret", "in plain words"}


# ---- cancel


def test_dependents_are_cancelled_with_their_parent_level_by_level(queue, hands, make, use):
    first = make.enqueue()
    second = use.using(after=[first]).enqueue()
    third, anyway = use.using(after=[second]).enqueue(), use.using(after=[second], after_failed="run").enqueue()
    first.cancel()
    assert states(second, third, anyway) == ["cancelled", "cancelled", "queued"]
    assert second.reason == f"parent {first.id} cancelled"


def test_groups_are_cancelled_with_their_body_and_what_runs_is_asked(queue, hands, make, use):
    body = (group(make.s(1), make.s(2)) | use.s()).enqueue()
    running = hands.take()
    assert body.cancel()
    assert queue.engine.runs.requested_cancels(hands.number) == [(running.id, running.attempt)]
    hands.settle((running, Cancelled()))
    assert {str(job.status) for job in queue.jobs()} == {"cancelled"}


def test_callbacks_are_not_for_a_job_that_was_cancelled(queue, hands, make, told):
    make.using(on_success=told.s(), on_failure=told.s()).enqueue().cancel()
    assert (hands.claim(9), {str(job.status) for job in queue.jobs(task="told")}) == ([], {"cancelled"})


# ---- pause


def test_dependents_of_a_paused_queue_become_queued_and_do_not_start(queue, hands, make, use):
    last = (make.s(1) | use.using(queue="slow").s()).enqueue()
    queue.pause("slow")
    run(hands)
    assert (states(last), hands.claim(9)) == (["queued"], [])
    queue.resume("slow")
    assert run(hands) == [last.id]


def test_groups_with_a_paused_member_have_not_ended_and_can_be_cancelled(queue, hands, make, use):
    queue.pause(task="use")
    batch = group(make.s(1), use.s(2)).enqueue()
    run(hands)
    assert batch.progress.done == 1
    batch.cancel()
    assert batch.progress.done == 2


def test_callbacks_that_are_paused_do_not_hold_up_their_job(queue, hands, make, told):
    queue.pause(task="told")
    job = make.using(on_success=told.s()).enqueue()
    run(hands)
    assert (states(job, *queue.jobs(task="told")), hands.claim(9)) == (["succeeded", "queued"], [])


# ---- stop


def test_dependents_wait_while_a_stop_has_released_their_parent(hands, make, use):
    last = (make.s(1) | use.s()).enqueue()
    run(hands, RELEASED)
    assert states(last) == ["waiting"]
    run(hands)
    assert states(last) == ["queued"]


def test_groups_count_a_released_member_once(hands, make, use):
    body = (group(make.s(1), make.s(2)) | use.s()).enqueue()
    run(hands, RELEASED)
    first = hands.take()
    hands.settle((first, SUCCEEDED))
    assert states(body) == ["waiting"]
    run(hands)
    assert run(hands) == [body.id]


def test_callbacks_are_not_for_a_run_that_a_stop_has_released(queue, hands, make, told):
    make.using(on_success=told.s(), on_failure=told.s()).enqueue()
    run(hands, RELEASED)
    assert {str(job.status) for job in queue.jobs(task="told")} == {"waiting"}


# ---- death


def test_dependents_are_cancelled_only_at_the_third_death_of_their_parent(queue, hands, make, use):
    last = (make.s(1) | use.s()).enqueue()
    for status in ("waiting", "waiting", "cancelled"):
        parent = hands.take()
        hands = die(queue, hands)
        assert states(last) == [status]
    assert last.reason == f"parent {parent.id} failed"


def test_groups_count_no_late_end_of_a_dead_workers_run(queue, hands, make, use):
    body = (group(make.s(1), make.s(2)) | use.s()).enqueue()
    late = hands.claim(2)
    other = die(queue, hands)
    assert len(hands.settle(*[(job, SUCCEEDED) for job in late])) == 2
    assert states(body) == ["waiting"]
    assert len(run(other)) == 2
    assert run(other) == [body.id]


def test_callbacks_are_told_of_a_third_death(queue, hands, make, told):
    make.using(on_failure=told.s()).enqueue()
    for _ in range(3):
        hands.take()
        hands = die(queue, hands)
    [alert] = queue.jobs(task="told")
    failure = handed(queue, alert)
    assert (states(alert), failure.task, failure.error_type) == (["queued"], "make", "WorkerDied")
