"""What runs after what, on the store: begun, cancelled, revived, cancelled as a whole, kept and forgotten."""

import asyncio
import pickle
import sqlite3

import apsw
import pytest

from contract import composed_module
from contract.composed import BOOM, Work
from contract.jobs import CANCELLED, new
from contract.test_store_dispatch import Resting
from litequeue import JobFailed, JobNotFound, KeyConflict, Queue, Unsupported, chain, chord, group
from litequeue.compose import builder
from litequeue.core.compositions import Failure, Lost
from litequeue.core.duration import utc
from litequeue.core.outcome import Released, Succeeded
from litequeue.core.plan import MOST_MEMBERS
from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.jobs.settle import settle

DAY = 86_400.0


@pytest.fixture
def work(queue):
    return Work(queue)


def ids(count, after=0):
    return [str(number) for number in range(after + 1, after + count + 1)]


# ---- chains


def test_a_link_waits_until_the_one_before_has_succeeded(work):
    last = (work.add.s(1) | work.add.s(2) | work.add.si(5)).enqueue()
    assert work.status("1", "2", "3") == ["queued", "waiting", "waiting"]
    assert last.id == "3"
    assert last.status == "waiting"
    assert work.run() == ["1"]
    assert work.status("1", "2", "3") == ["succeeded", "queued", "waiting"]
    assert work.run() == ["2"]
    assert work.run() == ["3"]


def test_what_follows_is_claimed_in_the_transaction_of_the_end(work):
    (work.add.s(1) | work.add.s(2)).enqueue()
    [first] = work.claim()
    cycle = work.hands.turn(10, [work.hands.end(first, _ok())])
    assert [job.id for job in cycle.claimed] == ["2"]
    assert cycle.claimed[0].handed == b"7"


def _ok():
    return Succeeded(b"7")


def test_the_result_is_handed_on_as_it_is_stored(work):
    (work.add.s(1) | work.add.s(2)).enqueue()
    [first] = work.claim()
    work.end((first, b"41"))
    assert work.store.runs.handed_to("2") == b"41"


def test_a_failed_link_cancels_what_comes_after_level_by_level(work):
    jobs = (work.add.s(1) | work.add.s() | work.add.s() | work.add.s()).enqueue()
    work.run(BOOM)
    assert work.status(*ids(4)) == ["failed", "cancelled", "cancelled", "cancelled"]
    assert [work.reason(job) for job in ids(4)] == [
        "ValueError: boom",
        "parent 1 failed",
        "parent 2 cancelled",
        "parent 3 cancelled",
    ]
    assert jobs.refresh().reason == "parent 3 cancelled"


def test_a_run_that_goes_back_lets_nothing_begin(work):
    (work.add.s(1) | work.add.s()).enqueue()
    [first] = work.claim()
    work.end((first, Released(begun=True)))
    assert work.status("1", "2") == ["queued", "waiting"]


def test_a_chain_of_a_thousand_is_stored_and_run_in_as_many_steps(work):
    last = chain(work.note.si() for _ in range(1000)).enqueue()
    assert work.run_all() == ids(1000)
    assert last.refresh().status == "succeeded"
    assert set(work.unended().values()) == {0}


# ---- groups and chords


def test_a_body_begins_when_the_last_member_has_ended_and_gets_the_results_in_order(work):
    body = (group(work.add.s(n) for n in range(3)) | work.total.s()).enqueue()
    jobs = work.claim()
    work.end((jobs[2], b"30"), (jobs[0], b"10"))
    assert work.status(body) == ["waiting"]
    work.end((jobs[1], b"20"))
    assert work.ready() == [body.id]
    assert work.store.runs.handed_to(body.id) == [b"10", b"20", b"30"]


def test_the_first_failed_member_cancels_the_body_and_not_the_others(work):
    body = (group(work.add.s(n) for n in range(3)) | work.total.s() | work.note.s()).enqueue()
    jobs = work.claim()
    work.end((jobs[1], BOOM))
    assert work.status("1", "3", "4", body) == ["running", "running", "cancelled", "cancelled"]
    assert work.reason("4") == "parent 2 failed"
    work.end((jobs[0], b"1"), (jobs[2], b"1"))
    assert work.status("1", "3", "4") == ["succeeded", "succeeded", "cancelled"]


def test_a_body_that_always_runs_waits_for_all_and_is_told_who_failed(work):
    body = chord([work.add.s(1), work.add.s(2), work.add.s(3)], work.total.s(), on="always").enqueue()
    first, second, third = work.claim()
    work.end((second, BOOM))
    work.store.jobs.cancel(third.id)
    work.end((third, CANCELLED))
    assert work.status(body) == ["waiting"]
    work.end((first, b"1"))
    assert work.ready() == [body.id]
    result, failed, cancelled = work.store.runs.handed_to(body.id)
    assert result == b"1"
    assert failed == Lost(Failure("2", "add", "failed", "ValueError", "boom", 1), "its traceback")
    assert (cancelled.failure.job_id, cancelled.failure.error_type) == ("3", "JobCancelled")


def test_every_member_of_a_second_group_gets_the_list_of_the_first_by_as_many_edges_as_members(work):
    both = (group(work.add.s(n) for n in range(20)) | group(work.total.s() for _ in range(20))).enqueue()
    [(edges,)] = work.rows("SELECT count(*) FROM litequeue_edges")
    assert edges == 60
    assert work.run(b"1") == ids(20)
    assert work.ready() == [job.id for job in both]
    assert work.store.runs.handed_to(both[19].id) == [b"1"] * 20


def test_groups_in_groups_hand_on_lists_in_lists(work):
    inner = group(work.add.s(1), work.add.s(2) | work.add.s())
    body = (group(inner, work.add.s(3), group([])) | work.total.s()).enqueue()
    work.run_all()
    assert work.status(body) == ["succeeded"]
    assert work.store.runs.handed_to(body.id) == [[b"1", b"1"], b"1", []]


def test_an_empty_group_has_ended_at_once(work):
    body = (group([]) | work.total.s()).enqueue()
    assert work.ready() == [body.id]
    assert work.store.runs.handed_to(body.id) == []
    assert group([]).enqueue().results(0) == []


def test_an_empty_group_behind_a_call_ends_with_it(work):
    body = (work.add.s(1) | group([]) | work.total.s()).enqueue()
    assert work.status(body) == ["waiting"]
    assert work.run() == ["1"]
    assert work.ready() == [body.id]


def test_a_group_of_chains_is_over_when_their_last_jobs_are(work):
    body = (group(work.add.s(1) | work.add.s(), work.add.s(2)) | work.total.s()).enqueue()
    assert work.run() == ["1", "3"]
    assert work.status(body) == ["waiting"]
    assert work.run() == ["2"]
    assert work.ready() == [body.id]


def test_progress_counts_the_jobs_of_all_groups_inside(work):
    jobs = group(work.add.s(1), group(work.add.s(2), work.add.s(3))).enqueue()
    assert jobs.progress.to_dict() == {"done": 0, "total": 3, "note": None}
    first, second, _ = work.claim()
    work.end((first, b"1"), (second, BOOM))
    assert jobs.progress.to_dict() == {"done": 2, "total": 3, "note": "1 not succeeded"}
    assert work.queue.group(jobs.id).progress.done == 2
    with pytest.raises(JobNotFound, match="no group g99 in this file"):
        work.queue.group("g99")


# ---- after, and callbacks


def test_a_job_runs_after_others_that_exist(work):
    first, second = work.add.enqueue(1), work.add.enqueue(2)
    third = work.note.using(after=[first, second.id]).enqueue()
    assert third.status == "waiting"
    a, b = work.claim()
    work.end((a, b"1"))
    assert work.status(third) == ["waiting"]
    work.end((b, b"1"))
    assert work.ready() == [third.id]


@pytest.mark.parametrize("after_failed", ["cancel", "run"])
def test_after_failed_says_what_a_parent_that_failed_does(work, after_failed):
    first = work.add.enqueue(1)
    second = work.note.using(after=first, after_failed=after_failed).enqueue()
    work.run(BOOM)
    assert work.status(second) == ["cancelled" if after_failed == "cancel" else "queued"]


def test_after_counts_what_has_succeeded_at_once_and_what_has_failed_cancels_at_once(work):
    good, bad = work.add.enqueue(1), work.add.enqueue(2)
    one, other = work.claim()
    work.end((one, b"1"), (other, BOOM))
    assert work.status(work.note.using(after=good).enqueue()) == ["queued"]
    late = work.note.using(after=[good, bad]).enqueue()
    assert (work.status(late), work.reason(late)) == (["cancelled"], f"parent {bad.id} failed")
    assert work.status(work.note.using(after=bad, after_failed="run").enqueue()) == ["queued"]
    with pytest.raises(JobNotFound, match="after= names job 999"):
        work.note.using(after="999").enqueue()


def test_one_of_two_callbacks_runs_and_the_other_is_gone(work):
    job = work.add.using(on_success=work.note.s("well"), on_failure=work.note.s("ill")).enqueue(1)
    assert work.status("2", "3") == ["waiting", "waiting"]
    work.run(b"7")
    assert work.status("1", "2") == ["succeeded", "queued"]
    assert work.store.runs.handed_to("2") == b"7"
    with pytest.raises(JobNotFound):
        work.queue.job("3")
    assert job.refresh().status == "succeeded"


def test_a_failure_is_told_to_its_callback(work):
    work.add.using(on_success=work.note.s(), on_failure=work.note.s()).enqueue(1)
    work.run(BOOM)
    assert work.status("2", "3") == ["cancelled", "queued"]
    assert work.reason("2") == "parent 1 failed"
    assert work.store.runs.handed_to("3") == Failure("1", "add", "failed", "ValueError", "boom", 1)


def test_a_cancelled_job_calls_neither(work):
    job = work.add.using(on_success=work.note.s(), on_failure=work.note.si()).enqueue(1)
    job.cancel()
    assert work.status("2", "3") == ["cancelled", "cancelled"]
    assert work.reason("3") == "parent 1 cancelled"


def test_an_expired_job_calls_on_failure(work, clock):
    work.add.using(expires=5, on_failure=work.note.s()).enqueue(1)
    clock.advance(6)
    work.claim(0)
    assert work.hands.turn(5).claimed[0].id == "2"
    assert work.store.runs.handed_to("2").status == "expired"


def test_a_task_has_callbacks_for_all_of_its_calls(queue):
    work = Work(queue)
    task = queue.task(name="send", on_failure=work.note.s("x"))(lambda n: n)
    jobs = task.enqueue_many([(1,), (2,)])
    assert [job.id for job in jobs] == ["1", "3"]
    assert work.status(*ids(4)) == ["queued", "waiting", "queued", "waiting"]
    assert task.using(on_failure=None).enqueue(3).id == "5"


# ---- times


def test_a_delay_and_an_expiry_count_from_the_end_of_the_last_parent(work, clock):
    (work.add.s(1) | work.add.using(delay=10, expires=30).s()).enqueue()
    clock.advance(100)
    work.run()
    assert work.status("2") == ["scheduled"]
    record = work.store.jobs.look_up("2")
    assert (record.run_at, record.expires_at) == (clock.now() + 10, clock.now() + 30)
    clock.advance(11)
    assert work.ready() == ["2"]


def test_what_expires_as_a_job_is_given_to_an_idle_worker_is_told_at_once(work, clock):
    last = work.note.using(after=work.add.using(expires=5).enqueue(1)).enqueue()
    told = []
    stop = work.store.kernel.waiters.watch([last.id], told.extend)
    clock.advance(6)
    Resting(work.store, "add")
    work.add.enqueue(2)
    stop()
    assert (work.status("1", last), told) == (["expired", "cancelled"], [last.id])


def test_what_waits_for_others_expires_at_its_moment(work, clock):
    (work.add.s(1) | work.add.using(expires=utc(clock.now() + 20)).s() | work.add.s()).enqueue()
    clock.advance(21)
    work.claim(1)
    assert work.status("2", "3") == ["expired", "cancelled"]
    assert work.reason("3") == "parent 2 expired"


def test_a_clock_that_was_set_back_delays_nothing_that_follows(work, clock):
    (work.add.s(1) | work.add.s()).enqueue()
    clock.step(-1000)
    work.run()
    assert work.ready() == ["2"]


# ---- retries


def test_a_retry_lets_wait_again_what_the_failure_had_cancelled(work):
    (work.add.s(1) | work.add.s() | work.add.s()).enqueue()
    work.run(BOOM)
    assert work.queue.job("1").retry() == ()
    assert work.status(*ids(3)) == ["queued", "waiting", "waiting"]
    assert work.run_all() == ids(3)


def test_what_somebody_cancelled_stays_cancelled(work):
    (group(work.add.s(1)) | work.add.s()).enqueue()
    other = work.note.using(after="1").enqueue()
    other.cancel()
    work.run(BOOM)
    work.queue.job("1").retry()
    assert work.status("2", other) == ["waiting", "cancelled"]


def test_a_body_waits_again_when_its_last_failed_member_is_retried(work):
    body = (group(work.add.s(n) for n in range(3)) | work.total.s() | work.note.s()).enqueue()
    jobs = work.claim()
    work.end((jobs[0], BOOM), (jobs[1], BOOM), (jobs[2], b"1"))
    work.queue.job("1").retry()
    assert work.status("4", body) == ["cancelled", "cancelled"]
    assert work.reason("4") == "parent 2 failed"  # the one that is left
    work.queue.job("2").retry()
    assert work.status("4", body) == ["waiting", "waiting"]
    assert sorted(work.run_all()) == ["1", "2", "4", body.id]


def test_a_member_that_is_retried_while_others_run_heals_its_group(work):
    body = (group(group(work.add.s(n) for n in range(2)), work.add.s(5)) | work.total.s()).enqueue()
    jobs = work.claim()
    work.end((jobs[0], BOOM))
    assert work.status(body) == ["cancelled"]
    work.queue.job("1").retry()
    assert work.status(body) == ["waiting"]
    work.end((jobs[1], b"1"), (jobs[2], b"1"))
    assert work.status(body) == ["waiting"]
    work.run()
    assert work.ready() == [body.id]
    assert set(work.unended().values()) == {0}


def test_a_diamond_waits_again_as_a_whole(work):
    top = work.add.enqueue(1)
    left = work.add.using(after=top).enqueue(2)
    far = work.add.using(after=top).enqueue(3)
    right = work.add.using(after=far).enqueue(4)
    bottom = work.add.using(after=[left, right]).enqueue(5)
    work.run(BOOM)
    assert work.status(left, far, right, bottom) == ["cancelled"] * 4
    top.retry()
    assert work.status(left, far, right, bottom) == ["waiting"] * 4
    assert len(work.run_all()) == 5
    assert work.status(bottom) == ["succeeded"]


def test_a_dependent_whose_key_was_taken_meanwhile_stays_cancelled_and_is_named(work):
    first = work.add.enqueue(1)
    second = work.add.using(after=first, key="k", key_scope="unfinished").enqueue(2)
    third = work.add.using(after=second).enqueue(3)
    work.run(BOOM)
    work.add.using(key="k", key_scope="unfinished").enqueue(9)
    assert first.retry() == (second.id,)
    assert work.status(first, second, third) == ["queued", "cancelled", "cancelled"]


def test_of_two_dependents_with_one_key_the_first_waits_again(work):
    first = work.add.enqueue(1)
    work.run(BOOM)
    keyed = work.add.using(after=first, key="k", key_scope="unfinished")
    one, other = keyed.enqueue(2), keyed.enqueue(2)
    assert work.status(one, other) == ["cancelled", "cancelled"]
    assert first.retry() == (other.id,)
    assert work.status(one, other) == ["waiting", "cancelled"]


def test_a_dependent_is_not_retried_before_its_parent(work):
    last = (work.add.s(1) | work.add.s() | work.add.s()).enqueue()
    work.run(BOOM)
    with pytest.raises(Unsupported, match="waits for job 2, which is cancelled"):
        last.retry()
    with pytest.raises(Unsupported, match="waits for job 1, which is failed"):
        work.queue.job("2").retry()


def test_a_dependent_that_was_cancelled_waits_again_when_it_is_retried(work):
    first = work.add.enqueue(1)
    second = work.add.using(after=first).enqueue(2)
    second.cancel()
    second.retry()
    assert work.status(second) == ["waiting"]
    assert work.run_all() == [first.id, second.id]


def test_a_job_that_is_retried_by_itself_forgets_why_it_was_cancelled(work):
    first = work.add.using(key="k").enqueue(1)
    last = work.add.using(after=first, key="l", key_scope="unfinished").enqueue(2)
    work.run(BOOM)
    work.add.using(key="l", key_scope="unfinished").enqueue(3)
    assert first.retry() == (last.id,)
    work.run()
    last.retry()
    last.cancel()
    assert (work.status(last), work.reason(last)) == (["cancelled"], None)


def test_a_callback_of_a_failure_is_told_of_it_though_the_job_was_retried_since(work):
    job = work.add.using(on_failure=work.note.using(delay=60).s()).enqueue(1)
    work.run(BOOM)
    job.retry()
    work.run(b"5")
    work.store.clock.advance(60)
    [claimed] = work.claim()
    assert claimed.handed is None
    handed = work.store.runs.handed_to(claimed.id)
    assert (handed.job_id, handed.status, handed.message) == ("1", "failed", "boom")


def test_a_callback_that_has_run_is_not_called_again(work):
    job = work.add.using(on_failure=work.note.s()).enqueue(1)
    work.run(BOOM)
    work.run()
    job.retry()
    work.run(BOOM)
    assert work.status("2") == ["succeeded"]
    assert work.claim() == []


# ---- cancels


def test_a_cancel_of_the_last_call_ends_the_whole_chain(work):
    last = (work.add.s(1) | group(work.add.s(), work.add.s()) | work.total.s()).enqueue()
    assert last.cancel()
    assert work.status(*ids(4)) == ["cancelled"] * 4
    assert not last.cancel()
    assert work.claim() == []


def test_a_cancel_in_the_middle_ends_what_follows(work):
    (work.add.s(1) | work.add.s() | work.add.s()).enqueue()
    work.queue.job("2").cancel()
    assert work.status(*ids(3)) == ["queued", "cancelled", "cancelled"]


def test_a_cancel_of_a_group_ends_what_has_not_ended_and_asks_what_runs(work):
    jobs = (work.add.s(1) | group(work.add.s() | work.add.s(), work.add.s())).enqueue()
    other = work.note.using(after=jobs[1], after_failed="run").enqueue()
    work.run()
    [running] = work.claim(1)
    assert jobs.cancel()
    assert work.status(*ids(4)) == ["succeeded", "running", "cancelled", "cancelled"]
    assert work.store.runs.requested_cancels(work.hands.number) == [(running.id, 1)]
    work.end((running, CANCELLED))
    assert work.status("2", other) == ["cancelled", "queued"]
    assert not jobs.cancel()


def test_what_depends_by_after_alone_is_no_part_of_the_whole(work):
    first = work.add.enqueue(1)
    second = work.add.using(after=first).enqueue(2)
    second.cancel()
    assert work.status(first) == ["queued"]


# ---- many


def test_what_follows_an_end_is_put_off_beyond_so_many_steps_and_goes_on(work, monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.compose.ended.MOST", 7)
    first = work.add.enqueue(1)
    jobs = [work.note.using(after=first).enqueue(n) for n in range(20)]
    body = (group(work.add.using(after=first).s(n) for n in range(5)) | work.total.s()).enqueue()
    [claimed] = work.claim()
    work.store.runs._writer.run(lambda db: _settle_alone(db, work, claimed))
    assert work.rows("SELECT count(*) FROM litequeue_unspread") == [(1,)]
    assert work.status(*jobs).count("queued") == 7
    work.store.maintenance.spread()
    assert work.status(*jobs) == ["queued"] * 20
    assert work.status(body) == ["waiting"]
    assert len(work.run_all()) == 26
    assert work.status(body) == ["succeeded"]


@pytest.mark.parametrize("most", [1, 2, 3, 5, 8, 13])
def test_a_failure_is_spread_to_all_levels_however_small_the_steps(work, monkeypatch, most):
    monkeypatch.setattr("litequeue.sqlite.compose.ended.MOST", most)
    last = (work.add.s(1) | group(work.add.s() | work.add.s() for _ in range(5)) | work.total.s()).enqueue()
    work.run(BOOM)
    work.store.maintenance.spread()
    assert work.status(*ids(12)) == ["failed"] + ["cancelled"] * 11
    assert set(work.unended().values()) == {0}
    work.queue.job("1").retry()
    assert work.status(*ids(12)) == ["queued"] + ["waiting"] * 11
    while work.run():
        work.store.maintenance.spread()
    assert work.status(last) == ["succeeded"]


def test_a_retry_is_refused_while_the_end_is_being_told(work, monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.compose.ended.MOST", 2)
    first = work.add.enqueue(1)
    for n in range(5):
        work.note.using(after=first).enqueue(n)
    [claimed] = work.claim()
    work.store.runs._writer.run(lambda db: _settle_alone(db, work, claimed, BOOM))
    with pytest.raises(Unsupported, match="retry it in a moment"):
        first.retry()
    late = work.note.using(after=first, after_failed="run").enqueue(9)
    assert work.status(late) == ["waiting"]
    work.store.maintenance.spread()
    assert work.status(late) == ["queued"]
    assert first.retry() == ()


def _settle_alone(db, work, claimed, outcome=None):
    return settle(db, [work.hands.end(claimed, outcome or _ok())], Consequences())


# ---- keys


def test_a_key_names_a_whole_composition(work):
    made = chain(work.add.s(1), work.add.s()).using(key="order-42")
    first = made.enqueue()
    assert made.enqueue().id == first.id
    assert work.rows("SELECT count(*) FROM litequeue_jobs") == [(2,)]
    with pytest.raises(KeyConflict, match="has other calls"):
        chain(work.add.s(2), work.add.s()).using(key="order-42").enqueue()
    with pytest.raises(KeyConflict):
        made.using(on_conflict="raise").enqueue()
    grouped = group(work.add.s(1), group(work.add.s(2))).using(key="g")
    jobs = grouped.enqueue()
    assert [job.id for job in grouped.enqueue()] == [job.id for job in jobs]
    with pytest.raises(ValueError, match="the whole has one"):
        chain(work.add.using(key="k").s(1), work.add.s()).using(key="j").enqueue()


def test_the_key_of_a_whole_is_free_when_its_scope_says_so(work, clock):
    made = chain(work.add.s(1), work.add.s()).using(key="k", key_scope="unfinished")
    first = made.enqueue()
    work.run_all()
    assert made.enqueue().id != first.id
    timed = group(work.add.s(1)).using(key="t", key_scope="10s")
    jobs = timed.enqueue()
    clock.advance(9)
    assert timed.enqueue().id == jobs.id
    clock.advance(2)
    assert timed.enqueue().id != jobs.id
    kept = chain(work.note.si(), work.note.si()).using(key="kept")
    second = kept.enqueue()
    work.run_all()
    assert kept.enqueue().id == second.id
    clock.advance(DAY + 1)
    assert kept.enqueue().id != second.id


def test_a_call_whose_key_is_held_is_that_job(work):
    first = work.add.using(key="k").enqueue(1)
    body = (group(work.add.using(key="k").s(1), work.add.s(2)) | work.total.s()).enqueue()
    assert work.run() == [first.id, "2"]
    assert work.ready() == [body.id]
    again = (group(work.add.using(key="k").s(1)) | work.total.s()).enqueue()
    assert work.ready() == [again.id]  # it has succeeded already


def test_a_key_that_is_given_twice_in_a_composition_is_one_job_which_waits_for_what_came_first(work):
    keyed = work.add.using(key="k")
    (work.add.s(1) | group(keyed.s(), keyed.s()) | keyed.s() | work.total.si([])).enqueue()
    assert work.run_all() == ["1", "2", "3"]
    assert work.unended() == {2: 0, 3: 0, -1: 0}


def test_a_parent_that_is_named_twice_by_its_key_and_by_after_is_waited_for_once(work):
    first = work.add.using(key="k").enqueue(1)
    (work.add.using(key="k").s(1) | work.add.using(after=first).si(2)).enqueue()
    assert work.run_all() == ["1", "2"]


# ---- transactions


def test_a_composition_commits_with_the_callers_rows_or_not_at_all(work, connect):
    db = connect()
    db.execute("BEGIN IMMEDIATE")
    job = (work.add.s(1) | work.add.s()).using(within=db).enqueue()
    db.execute("ROLLBACK")
    with pytest.raises(JobNotFound):
        job.refresh()
    db.execute("BEGIN IMMEDIATE")
    jobs = group(work.add.s(n) for n in range(3)).using(within=db).enqueue()
    db.execute("COMMIT")
    assert work.run() == [job.id for job in jobs]
    with pytest.raises(ZeroDivisionError), work.queue.transaction():
        (work.add.s(1) | work.add.s()).enqueue()
        raise ZeroDivisionError
    assert work.claim() == []


def test_completing_lets_the_next_one_begin_in_its_own_commit(work):
    (work.add.s(1) | work.add.s()).enqueue()
    [first] = work.claim()
    with work.store.runs.completing(first, b"5", DAY):
        assert work.status("2") == ["waiting"]
    assert work.status("1", "2") == ["succeeded", "queued"]


def test_async_twins_store_look_up_count_and_cancel(work):
    async def main():
        jobs = await (work.add.s(1) | group(work.add.s(), work.add.s())).aenqueue()
        found = await work.queue.agroup(jobs.id)
        assert [job.id for job in found] == ["2", "3"]
        assert (await found.aprogress()).total == 2
        async with work.queue.atransaction():
            await (work.add.s(1) | work.add.s()).aenqueue()
        assert await found.acancel()
        assert work.status(*ids(5)) == ["cancelled"] * 3 + ["queued", "waiting"]
        assert [job.id for job in await work.add.amap([1, 2])] == ["6", "7"]
        assert len(await work.add.achunks(range(5), 2)) == 3

    asyncio.run(main())


# ---- what is kept


def test_a_parent_is_kept_while_a_job_that_takes_its_result_has_not_succeeded(work, clock):
    body = (group(work.add.s(1), work.add.s(2)) | work.total.using(delay=3 * DAY).s()).enqueue()
    work.run(b"1")
    clock.advance(2 * DAY)
    assert work.status("1") == ["succeeded"]
    work.store.maintenance.prune()
    clock.advance(DAY + 1)
    [claimed] = work.claim()
    assert work.store.runs.handed_to(claimed.id) == [b"1", b"1"]
    work.end((claimed, b"2"))
    work.store.jobs.submit([_filler(work)])
    clock.advance(2 * DAY)
    while work.store.maintenance.prune():
        pass
    for table in ("edges", "dependents", "groups"):
        assert work.rows(f"SELECT count(*) FROM litequeue_{table}") == [(0,)], table
    with pytest.raises(JobNotFound):
        body.refresh()


def test_members_of_a_group_that_has_not_ended_are_not_pruned(work, clock):
    jobs = group(work.add.s(1), work.add.using(delay=3 * DAY).s(2)).enqueue()
    work.run(b"5")
    clock.advance(2 * DAY)
    work.store.maintenance.prune()
    assert jobs[0].refresh().status == "succeeded"


def test_a_cancelled_dependent_is_kept_as_long_as_its_parent(work, clock):
    (work.add.s(1) | work.add.s()).enqueue()
    [claimed] = work.claim()
    work.hands.settle((claimed, BOOM), keep_for=30 * DAY)
    clock.advance(20 * DAY)
    work.store.maintenance.prune()
    assert work.status("1", "2") == ["failed", "cancelled"]
    work.store.jobs.submit([_filler(work)])
    clock.advance(11 * DAY)
    work.store.maintenance.prune()
    clock.advance(DAY)
    while work.store.maintenance.prune():
        pass
    assert work.rows("SELECT count(*) FROM litequeue_jobs WHERE state > 3") == [(0,)]


def test_what_another_parent_has_ended_from_now_on_is_kept_as_long_as_that(work, clock):
    one, other = work.add.enqueue(1), work.add.enqueue(2)
    last = work.add.using(after=[one, other]).enqueue(3)
    [first, second] = work.claim()
    work.hands.settle((first, BOOM), keep_for=DAY)
    work.hands.settle((second, BOOM), keep_for=30 * DAY)
    one.retry()
    clock.advance(20 * DAY)
    work.store.maintenance.prune()
    other.retry()
    work.run()
    assert (work.status(last), work.run()) == (["queued"], [last.id])


def test_what_a_failed_member_has_ended_does_not_begin_once_that_is_pruned(work, clock):
    body = (group(work.add.s(1), work.add.s(2)) | work.total.si([])).enqueue()
    [first, second] = work.claim()
    work.hands.settle((first, BOOM), keep_for=30 * DAY)
    work.hands.settle((second, BOOM), keep_for=DAY)
    work.store.kernel.writer.run(lambda db: db.rows("UPDATE litequeue_jobs SET delete_at = ? WHERE id = 3", (9e9,)))
    clock.advance(2 * DAY)
    work.store.maintenance.prune()
    work.store.jobs.retry("1")
    work.run()
    assert (work.status(body), work.reason(body)) == (["cancelled"], "parent 2 failed")


def test_groups_go_with_the_last_job_in_them_and_around_them(work, clock):
    (work.add.s(1) | group(group(group([])), group(work.add.s(2), group([])))).enqueue()
    work.run_all(fails={"1"})
    clock.advance(30 * DAY)
    while work.store.maintenance.prune():
        pass
    tables = ("groups", "edges", "dependents")
    assert [work.rows(f"SELECT * FROM litequeue_{table}") for table in tables] == [[], [], []]


def _filler(work):
    """A newer job: the newest keeps its id."""
    return new(task="other", created_at=work.store.clock.now())


# ---- calls as values


def test_a_call_equals_another_of_the_same_task_arguments_and_options(work):
    assert work.add.s(1, y={"a": 1, "b": 2}) == work.add.s(1, {"b": 2, "a": 1})
    assert hash(work.add.s(1, y={"a": 1, "b": 2})) == hash(work.add.s(1, {"b": 2, "a": 1}))
    assert work.add.s(1) != work.add.s(2)
    assert work.add.s(1) != work.add.si(1)
    assert work.add.using(priority=1).s(1) != work.add.s(1)
    assert work.add.s(1).using(priority=1) == work.add.using(priority=1).s(1)
    assert (work.add.s(1) | work.add.s()) == chain(work.add.s(1), work.add.s())
    assert group(work.add.s(1)) != group(work.add.s(2))


def test_what_cannot_be_joined_is_refused_with_a_way_out(work, tmp_path, driver):
    with pytest.raises(TypeError, match=r"write add\.s\(\.\.\.\)"):
        chain(work.add)
    with pytest.raises(TypeError, match="lacks its first argument"):
        (work.total.s() | work.total.s()).enqueue()
    with pytest.raises(TypeError):
        (work.add.s(1) | work.total.s(2)).enqueue()
    with pytest.raises(ValueError, match="at least one call"):
        chain()
    with pytest.raises(ValueError, match="part of one"):
        chain(chain(work.add.s(1)).using(key="k"), work.add.s())
    with pytest.raises(TypeError, match=r"on_failure= takes a call, such as task\.s\(\.\.\.\)"):
        work.add.using(on_failure=work.note)
    with pytest.raises(TypeError, match="after= takes jobs"):
        work.add.using(after=[work.note.s()])
    with pytest.raises(Unsupported, match="keeps no within="):
        work.add.using(within=object()).s(1)
    other = Queue(tmp_path / "other.db", driver=driver)
    far = other.task(name="far")(lambda x: x)
    with pytest.raises(ValueError, match="another queue"):
        (work.add.s(1) | far.s()).enqueue()
    assert work.claim() == []
    other.close()


def test_options_of_a_whole_go_to_each_call_or_to_the_first(work, clock):
    made = chain(work.add.using(queue="own").s(1), group(work.add.s(), work.add.s()))
    made.using(queue="slow", priority=5, delay=60).enqueue()
    records = [work.store.jobs.look_up(job) for job in ids(3)]
    assert [(each.queue, each.priority) for each in records] == [("own", 5), ("slow", 5), ("slow", 5)]
    assert [str(each.status) for each in records] == ["scheduled", "waiting", "waiting"]


def test_a_result_that_there_is_not_is_a_value_where_errors_are_returned(work):
    jobs = group(work.add.s(1), work.add.s(2)).enqueue()
    one, other = work.claim()
    work.end((one, b"1"), (other, BOOM))
    result, failed = jobs.results(5, on_error="return")
    assert (result, type(failed)) == (1, JobFailed)
    with pytest.raises(JobFailed, match="boom"):
        jobs.results(5)
    with pytest.raises(ValueError, match='"raise" or "return"'):
        jobs.results(5, on_error="ignore")


@pytest.mark.parametrize("made", ["call", "chain"])
def test_a_call_is_pickled_by_the_name_of_its_task(made):
    value = composed_module.double.s(2) if made == "call" else composed_module.double.s(2) | composed_module.double.s()
    assert pickle.loads(pickle.dumps(value)) == value


# ---- what others have found


def test_a_call_that_waits_replaces_no_job_that_does_not(work):
    first = work.add.using(key="k").enqueue(1)
    replacing = work.add.using(key="k", on_conflict="replace")
    with pytest.raises(ValueError, match="on_conflict='replace' gives a job"):
        (work.add.s(1) | replacing.s(2)).enqueue()
    with pytest.raises(ValueError, match="on_conflict='replace' gives a job"):
        replacing.using(after=work.add.enqueue(5)).enqueue(2)
    assert first.id in work.run_all()


def test_a_group_of_one_job_in_more_places_than_one_transaction_follows_is_over(work, monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.compose.ended.MOST", 3)
    body = (group(work.add.using(key="k").s(1) for _ in range(20)) | work.total.s()).enqueue()
    assert work.run() == ["1"]
    work.store.maintenance.spread()
    assert work.ready() == [body.id]
    assert work.store.runs.handed_to(body.id) == [b"5"] * 20


def test_many_ends_that_were_put_off_are_gone_on_with_together(work, monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.compose.ended.MOST", 5)
    last = (work.add.s(1) | group(work.add.s(n) for n in range(30)) | work.total.s()).enqueue()
    work.run(BOOM)
    assert work.status(last) == ["cancelled"]
    assert work.rows("SELECT count(*) FROM litequeue_unspread") == [(0,)]  # by the settle itself
    assert set(work.unended().values()) == {0}


def test_a_group_that_was_rolled_back_is_not_the_one_that_has_its_id_now(work, clock):
    with pytest.raises(ZeroDivisionError), work.queue.transaction():
        lost = group(work.add.s(1), work.add.s(2)).enqueue()
        job = work.add.enqueue(3)
        raise ZeroDivisionError
    clock.advance(1)
    found = group(work.add.s(n) for n in range(4)).enqueue()
    assert found.id == lost.id
    assert found != lost
    for ask in (lost.cancel, lambda: lost.progress, lambda: asyncio.run(lost.acancel())):
        with pytest.raises(JobNotFound, match="rolled back"):
            ask()
    with pytest.raises(JobNotFound, match="rolled back"):
        work.queue.jobs(group=lost)
    with pytest.raises(JobNotFound, match="rolled back"):
        work.note.using(after=job).enqueue()
    assert work.status(*found) == ["queued"] * 4


def test_a_job_in_an_open_transaction_says_how_it_stands(work):
    done = work.add.enqueue(1)
    work.run(b"1")
    with work.queue.transaction():
        parent = work.add.enqueue(2)
        assert work.note.using(after=parent).enqueue().status == "waiting"
        assert work.note.using(after=done).enqueue().status == "queued"


def test_jobs_and_groups_of_another_queue_are_refused(work, tmp_path, driver):
    other = Queue(tmp_path / "other.db", driver=driver)
    far = other.task(name="far")(lambda x: x)
    job, jobs = far.enqueue(1), group(far.s(1)).enqueue()
    work.add.enqueue(1)
    for after in (job, jobs, [job]):
        with pytest.raises(ValueError, match="another queue"):
            work.note.using(after=after).enqueue()
    with pytest.raises(ValueError, match="another queue"):
        work.queue.jobs(group=jobs)
    other.close()


def test_a_key_tells_compositions_apart_by_what_runs_on_which_end(work):
    members = [work.add.s(1), work.add.s(2)]
    chord(members, work.total.s()).using(key="k").enqueue()
    with pytest.raises(KeyConflict, match="other calls"):
        chord(members, work.total.s(), on="always").using(key="k").enqueue()


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_cancel_of_a_whole_goes_on_until_all_of_it_has_ended(work, monkeypatch, most):
    for module in ("ended", "cancel"):
        monkeypatch.setattr(f"litequeue.sqlite.compose.{module}.MOST", most)
    jobs = group(work.add.s(n) | work.add.s() for n in range(5)).enqueue()
    assert jobs.cancel()
    last = chain(work.note.si() for _ in range(7)).enqueue()
    assert last.cancel()
    work.store.maintenance.spread()
    assert work.status(*ids(17)) == ["cancelled"] * 17


def test_an_expiry_holds_no_dependent_any_more(work, clock):
    first = work.add.enqueue(1)
    second = work.note.using(after=first, expires=utc(clock.now() + 5)).enqueue()
    clock.advance(6)
    [claimed] = work.claim()
    assert work.status(second) == ["expired"]
    assert work.rows("SELECT waits FROM litequeue_dependents") == [(0,)]
    work.end((claimed, b"1"))
    assert work.status(second) == ["expired"]


def test_a_member_that_is_gone_has_its_place_in_the_results(work, clock):
    jobs = group(work.add.using(tags=["soon"]).s(1), work.add.s(2)).enqueue()
    one, other = work.claim()
    work.hands.settle((one, Succeeded(b"1")), keep_for=1.0)
    work.hands.settle((other, Succeeded(b"2")), keep_for=10 * DAY)
    work.store.jobs.submit([_filler(work)])
    clock.advance(DAY)
    work.store.maintenance.prune()
    found = work.queue.group(jobs.id)
    assert [job.id for job in found] == ["pruned", "2"]
    with pytest.raises(JobNotFound):
        found.results(0)


def test_retries_of_the_members_of_a_group_one_after_another_each_look_at_one_more(work):
    body = (group(work.add.s(n) for n in range(30)) | work.total.s()).enqueue()
    work.run(BOOM)
    for number in range(1, 30):
        work.queue.job(str(number)).retry()
        assert work.reason(body) == f"parent {number + 1} failed"
    work.queue.job("30").retry()
    assert work.status(body) == ["waiting"]
    assert work.run_all() == [*ids(30), body.id]


def test_values_are_never_changed(work):
    for value in (work.add.s(1), chain(work.add.s(1)), group(work.add.s(1))):
        with pytest.raises(AttributeError, match="never changed"):
            value.whole = None
    with pytest.raises(TypeError, match=r"write total\.s"):
        work.add.s(1) | work.total


def test_a_group_of_more_members_than_a_reader_can_list_is_refused_by_the_call_and_by_the_file(queue, monkeypatch):
    add = queue.task(name="add")(lambda: None)
    with monkeypatch.context() as patched:
        patched.setattr(builder, "MOST_MEMBERS", 2)
        group(add.s(), add.s()).enqueue()
        with pytest.raises(ValueError, match="at most 2 members, this one 3; make several"):
            group(add.s(), add.s(), add.s()).enqueue()
    assert len(queue.jobs()) == 2
    for change in (f"groups SET members = {MOST_MEMBERS + 1}", f"edges SET place = {MOST_MEMBERS}"):
        with pytest.raises((apsw.ConstraintError, sqlite3.IntegrityError)), queue.transaction() as db:
            db.execute(f"UPDATE litequeue_{change}")
    with queue.transaction() as db:  # as many as the call allows
        db.execute(f"UPDATE litequeue_groups SET members = {MOST_MEMBERS}")
