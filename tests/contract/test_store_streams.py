"""What runs emit: written before their ends, numbered without a gap, by the run that has the job alone."""

import asyncio
import threading

import pytest

from contract.jobs import FAILED, SUCCEEDED, Hands, put, retried
from crash.watching import until
from litequeue.core.streams import Events
from litequeue.errors import JobNotFound, StoreError
from litequeue.sqlite.streams import emitter
from litequeue.sqlite.streams.reading import PAGE

DAY = 86_400.0


@pytest.fixture(autouse=True)
def no_timer(monkeypatch):
    """Values are written by what the test does, and not soon after by themselves."""
    monkeypatch.setattr(emitter, "GATHER", 60.0)


@pytest.fixture
def hands(store):
    return Hands(store)


@pytest.fixture
def job(store, hands):
    put(store)
    return hands.take()


def emit(store, job, *values, lost=lambda: None):
    for value in values:
        store.runs.emit(job, value, lost)


def emitted(store, job, after=0):
    """What a reader finds: numbers, attempts and values."""
    try:
        found = store.jobs.events(job.id, after, 0, 0).found
    except TimeoutError:
        return []
    return [(event.number, event.attempt, event.value) for event in found]


def test_values_go_into_the_file_with_the_next_commit(store, job):
    emit(store, job, b"1", b"2")
    assert emitted(store, job) == []
    put(store, takes="[]")  # what is one statement alone carries nothing
    assert emitted(store, job) == [(1, 1, b"1"), (2, 1, b"2")]


def test_values_go_into_the_file_soon_without_any_commit(store, job, monkeypatch):
    monkeypatch.setattr(emitter, "GATHER", 0.001)
    emit(store, job, b"1")
    assert store.jobs.events(job.id, 0, 20.0, 20.0).found[0].value == b"1"


def test_the_end_of_a_run_commits_with_its_values(store, hands, job, open_store):
    emit(store, job, b"1", b"2")
    hands.settle((job, SUCCEEDED))
    found = open_store().jobs.events(job.id, 0, 0, 0)
    assert ([event.value for event in found.found], found.over) == ([b"1", b"2"], True)


def test_a_cycle_that_settles_writes_the_values_before_the_end(store, hands, job):
    emit(store, job, b"1")
    hands.turn(ended=[hands.end(job, SUCCEEDED)])
    assert emitted(store, job) == [(1, 1, b"1")]


def test_completing_writes_what_was_emitted_before_and_in_its_block(store, job):
    emit(store, job, b"1")
    with store.runs.completing(job, b"5", DAY):
        emit(store, job, b"2")
    assert emitted(store, job) == [(1, 1, b"1"), (2, 1, b"2")]


def test_a_block_that_is_rolled_back_loses_no_value_and_doubles_none(store, hands, job):
    emit(store, job, b"1")
    with pytest.raises(ZeroDivisionError), store.runs.completing(job, b"5", DAY):
        emit(store, job, b"2")
        raise ZeroDivisionError
    assert emitted(store, job) == []
    hands.settle((job, FAILED))
    assert emitted(store, job) == [(1, 1, b"1"), (2, 1, b"2")]


def test_a_coroutines_block_writes_what_was_emitted_before_and_in_it(store, job):
    async def run():
        emit(store, job, b"1")
        async with store.runs.acompleting(job, b"5", DAY):
            emit(store, job, b"2")
        assert emitted(store, job) == [(1, 1, b"1"), (2, 1, b"2")]

    asyncio.run(run())


def test_a_coroutines_block_that_is_rolled_back_loses_no_value_and_doubles_none(store, hands, job):
    async def run():
        emit(store, job, b"1")
        with pytest.raises(ZeroDivisionError):
            async with store.runs.acompleting(job, b"5", DAY):
                emit(store, job, b"2")
                raise ZeroDivisionError
        hands.settle((job, FAILED))
        assert emitted(store, job) == [(1, 1, b"1"), (2, 1, b"2")]

    asyncio.run(run())


def test_a_transaction_of_the_callers_that_is_rolled_back_loses_no_value(store, job):
    emit(store, job, b"1")
    with pytest.raises(ZeroDivisionError), store.transactions.transaction():
        raise ZeroDivisionError
    assert emitted(store, job) == []
    store.kernel.emitter.write()
    assert emitted(store, job) == [(1, 1, b"1")]


def test_what_was_committed_is_not_written_again(store, job):
    emit(store, job, b"1")
    with store.transactions.transaction():
        pass
    emit(store, job, b"2")
    store.kernel.emitter.write()
    store.kernel.emitter.write()
    assert emitted(store, job) == [(1, 1, b"1"), (2, 1, b"2")]


def test_another_run_that_emits_is_an_event_and_the_numbers_go_on(store, hands, job, clock):
    emit(store, job, b"1", b"2")
    hands.settle((job, retried(1)))
    clock.advance("2s")
    second = hands.take()
    emit(store, second, b"3")
    hands.settle((second, SUCCEEDED))
    assert emitted(store, job) == [(1, 1, b"1"), (2, 1, b"2"), (3, 2, None), (4, 2, b"3")]


def test_a_run_that_emits_nothing_is_no_event(store, hands, job, clock):
    emit(store, job, b"1")
    hands.settle((job, retried(1)))
    clock.advance("2s")
    hands.settle((hands.take(), SUCCEEDED))
    assert emitted(store, job) == [(1, 1, b"1")]


def test_a_retried_job_keeps_what_it_has_emitted(store, hands, job):
    emit(store, job, b"1")
    hands.settle((job, FAILED))
    store.jobs.retry(job.id)
    second = hands.take()
    emit(store, second, b"2")
    hands.settle((second, SUCCEEDED))
    assert emitted(store, job) == [(1, 1, b"1"), (2, 2, None), (3, 2, b"2")]


def test_a_run_that_lost_its_job_writes_nothing_and_is_told(store, hands, job):
    store.runs.rescue(hands.number, None, blame=False)
    second, lost = Hands(store).take(), []
    emit(store, job, b"old", lost=lambda: lost.append(job))
    emit(store, second, b"new", lost=lambda: lost.append(second))
    store.kernel.emitter.write()
    assert (emitted(store, job), lost) == ([(1, 2, b"new")], [job])


def test_a_run_that_was_released_and_claimed_again_here_is_another_run(store, hands, job):
    emit(store, job, b"1")
    store.runs.rescue(hands.number, None, blame=False)  # commits it with what it does
    second = Hands(store).take()
    emit(store, job, b"late")
    emit(store, second, b"2")
    store.kernel.emitter.write()
    assert emitted(store, job) == [(1, 1, b"1"), (2, 2, None), (3, 2, b"2")]


def test_nothing_is_written_once_the_run_has_ended(store, hands, job):
    lost = []
    hands.settle((job, SUCCEEDED))
    emit(store, job, b"late", lost=lambda: lost.append(1))
    store.kernel.emitter.write()
    store.kernel.emitter.write()
    assert (emitted(store, job), lost, store.kernel.emitter.pending.unwritten) == ([], [1], False)


@pytest.mark.parametrize(
    "error", [StoreError("gone"), ValueError("of on_connect")], ids=lambda error: type(error).__name__
)
def test_a_write_that_fails_is_tried_again_but_not_for_ever_once_the_store_is_closed(
    store, job, monkeypatch, caplog, error
):
    monkeypatch.setattr(emitter, "GATHER", 0.01)
    monkeypatch.setattr(emitter, "AGAIN", 0.01)
    tried = []

    def failing(*_args, **_options):
        tried.append(threading.current_thread())
        raise error

    monkeypatch.setattr(store.kernel.emitter._writer, "run", failing)
    emit(store, job, b"1")
    until(lambda: len(tried) > 2)  # again and again, while it is open
    store.kernel.emitter.close()
    until(lambda: not tried[0].is_alive())
    assert f"what jobs have emitted last is not in the file, and is lost: {error}" in caplog.text


def test_a_write_that_fails_keeps_the_values(store, hands, job, monkeypatch):
    pending = store.kernel.emitter.pending
    emit(store, job, b"1")

    def failing():
        yield "INSERT INTO litequeue_missing VALUES (1)", ()

    with monkeypatch.context() as patched, pytest.raises(StoreError):
        patched.setattr(pending, "more", failing)
        store.kernel.emitter.write()
    emit(store, job, b"2")
    hands.settle((job, SUCCEEDED))
    assert emitted(store, job) == [(1, 1, b"1"), (2, 1, b"2")]


def test_a_number_that_leaves_no_room_ends_the_stream_and_nothing_else(store, hands, job, connect):
    connect().execute("INSERT INTO litequeue_streams VALUES (?, 1000000000000000, 1, 0.0, x'31')", (int(job.id),))
    lost = []
    emit(store, job, b"1", lost=lambda: lost.append(job))
    assert hands.settle((job, SUCCEEDED)) == []
    store.kernel.emitter.write()
    assert (len(emitted(store, job)), lost) == (1, [job])


def test_closing_writes_what_was_emitted(store, job, open_store):
    emit(store, job, b"1")
    store.close()
    assert emitted(open_store(), job) == [(1, 1, b"1")]


def test_a_reader_begins_behind_the_number_it_gives(store, hands, job):
    emit(store, job, *[b"%d" % n for n in range(1, 6)])
    hands.settle((job, SUCCEEDED))
    assert [number for number, *_ in emitted(store, job, after=3)] == [4, 5]
    assert store.jobs.events(job.id, 2**70, None, None) == Events([], over=True)


def test_a_page_is_bounded_and_says_whether_it_is_the_last(store, hands, job):
    emit(store, job, *[b"1"] * PAGE)
    hands.settle((job, SUCCEEDED))
    first = store.jobs.events(job.id, 0, None, None)
    assert (len(first.found), first.over) == (PAGE, False)
    assert store.jobs.events(job.id, PAGE, None, None) == Events([], over=True)


def test_a_job_that_is_not_on_record_has_no_events(store):
    for job_id in ("77", "none"):
        with pytest.raises(JobNotFound, match=f"no job {job_id} in this file"):
            store.jobs.events(job_id, 0, None, None)


def test_a_coroutine_that_asks_for_a_job_that_is_not_on_record_is_told(store):
    async def run():
        with pytest.raises(JobNotFound, match="no job 77 in this file"):
            await store.jobs.aevents("77", 0, None, None)

    asyncio.run(run())


def test_a_reader_of_another_process_is_woken_by_a_message(open_store, monkeypatch):
    monkeypatch.setattr("litequeue.ipc.result_waiters.SAFETY_POLL", 60.0)
    store, elsewhere = open_store(), open_store()
    hands = Hands(store)
    put(store)
    job, found = hands.take(), []
    reader = threading.Thread(target=lambda: found.append(elsewhere.jobs.events(job.id, 0, 20.0, 20.0)))
    reader.start()
    until(lambda: elsewhere.kernel.waiters.listener)
    emit(store, job, b"1")
    store.kernel.emitter.write()
    reader.join(20.0)
    assert [event.value for event in found[0].found] == [b"1"]


def test_a_reader_is_woken_by_the_look_once_a_second_where_the_message_is_lost(open_store, monkeypatch):
    store, elsewhere = open_store(), open_store()
    monkeypatch.setattr(store.kernel, "tell_emitted", lambda _jobs: None)
    monkeypatch.setattr(store.kernel.emitter, "_tell", lambda _jobs: None)
    hands = Hands(store)
    put(store)
    job, found = hands.take(), []
    reader = threading.Thread(target=lambda: found.append(elsewhere.jobs.events(job.id, 0, 20.0, 20.0)))
    reader.start()
    until(lambda: elsewhere.kernel.waiters.listener)
    emit(store, job, b"1")
    store.kernel.emitter.write()
    reader.join(20.0)
    assert [event.value for event in found[0].found] == [b"1"]


def test_a_wait_that_is_over_tells_what_the_job_does(store, job):
    with pytest.raises(TimeoutError, match=f"job {job.id} .add. is still running: .*; waited 5 s"):
        store.jobs.events(job.id, 0, 0, 5.0)
    assert store.kernel.waiters.waits(store.directory) == []


def test_a_coroutines_wait_that_is_over_tells_what_the_job_does(store, job):
    async def run():
        with pytest.raises(TimeoutError, match=f"job {job.id} .add. is still running: .*; waited 5 s"):
            await store.jobs.aevents(job.id, 0, 0, 5.0)
        assert store.kernel.waiters.waits(store.directory) == []

    asyncio.run(run())


def test_nothing_can_be_waited_for_inside_a_transaction(store, job):
    with (
        store.transactions.transaction(),
        pytest.raises(StoreError, match="nothing can be waited for inside a transaction"),
    ):
        store.jobs.events(job.id, 0, None, None)


def test_events_are_deleted_with_their_job(store, hands, job, clock):
    emit(store, job, b"1", b"2")
    hands.settle((job, SUCCEEDED))
    put(store)  # the newest job keeps its row
    clock.advance("2d")
    assert store.maintenance.prune() == 1
    assert store.kernel.read(lambda db: db.rows("SELECT count(*) FROM litequeue_streams")) == [(0,)]
    with pytest.raises(JobNotFound):
        store.jobs.events(job.id, 0, None, None)


def test_the_view_shows_events_as_text(store, hands, job):
    emit(store, job, b'"a"')
    hands.settle((job, SUCCEEDED))
    [row] = store.kernel.read(
        lambda db: db.rows("SELECT job, number, kind, attempt, value FROM litequeue_streams_view")
    )
    assert row == (int(job.id), 1, "value", 1, '"a"')


def test_the_time_of_an_event_is_when_it_was_emitted(store, hands, job, clock):
    began = clock.now()
    emit(store, job, b"1")
    clock.advance("5s")
    hands.settle((job, SUCCEEDED))
    assert store.jobs.events(job.id, 0, 0, 0).found[0].at == began


# ---- heartbeats


def beat(store, job, details, lost=lambda: None):
    store.runs.heartbeat(job, details, lost)


def beaten(store):
    return store.kernel.read(lambda db: db.rows("SELECT job, attempt, details FROM litequeue_heartbeats"))


def test_the_last_details_are_written_with_the_end_and_come_with_the_next_claim(store, hands, job, clock):
    for details in (b"1", b"2"):
        beat(store, job, details)
    beat(store, job, None)
    assert beaten(store) == []
    hands.settle((job, retried(1)))
    assert beaten(store) == [(int(job.id), 1, b"2")]
    clock.advance("2s")
    second = hands.take()
    assert (second.attempt, second.heartbeat) == (2, b"2")
    hands.settle((second, SUCCEEDED))
    store.kernel.emitter.write()
    assert not store.kernel.emitter.pending.unwritten


def test_details_of_a_run_that_lost_its_job_are_not_written_and_it_is_told(store, hands, job):
    store.runs.rescue(hands.number, None, blame=False)
    second, lost = Hands(store).take(), []
    beat(store, second, b"new")
    beat(store, job, b"old", lambda: lost.append(job))
    store.kernel.emitter.write()
    assert (beaten(store), lost) == ([(int(job.id), 2, b"new")], [job])


def test_a_transaction_that_is_rolled_back_loses_no_details(store, job):
    beat(store, job, b"1")
    with pytest.raises(ZeroDivisionError), store.transactions.transaction():
        raise ZeroDivisionError
    assert beaten(store) == []
    beat(store, job, b"2")
    store.kernel.emitter.write()
    assert beaten(store) == [(int(job.id), 1, b"2")]


def test_details_are_deleted_with_their_job_and_orphans_of_them_are_found(store, hands, job, clock, connect):
    beat(store, job, b"1")
    hands.settle((job, SUCCEEDED))
    put(store)
    connect().execute("INSERT INTO litequeue_heartbeats VALUES (77, 1, 0.0, x'31')")
    assert store.admin.orphans() == {"heartbeats": 1}
    assert [
        row[:2] for row in store.kernel.read(lambda db: db.rows("SELECT job, details FROM litequeue_heartbeats_view"))
    ] == [
        (int(job.id), "1"),
        (77, "1"),
    ]
    clock.advance("40d")
    store.maintenance.prune()
    assert [row[0] for row in beaten(store)] == [77]
