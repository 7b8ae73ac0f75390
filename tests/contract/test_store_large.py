"""Large payloads and results, which are kept apart from their jobs' rows, and read as if they were not."""

import asyncio
import gc
import itertools
import weakref
from contextlib import suppress

import pytest

from contract.jobs import FAILED, LARGE, START, SUCCEEDED, Hands, new, put, retried
from litequeue.core.budget import BUDGET
from litequeue.core.outcome import ErrorInfo, Failed, Retried, Succeeded
from litequeue.core.records import NewJobs
from litequeue.errors import KeyConflict, StoreError
from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.jobs import large_values

OTHER = LARGE.replace(b"7", b"8")
ROWS = """
SELECT (SELECT count(*) FROM litequeue_jobs WHERE payload IS NOT NULL),
       (SELECT count(*) FROM litequeue_payloads), (SELECT count(*) FROM litequeue_results)
"""


@pytest.fixture
def hands(store):
    return Hands(store)


def rows(store):
    """How many payloads stand in a job's row, how many apart, and how many results apart."""
    return store.kernel.read(lambda db: db.rows(ROWS))[0]


def within(store, *jobs):
    with store.transactions.transaction():
        return store.jobs.submit(jobs)


WAYS = {
    "one": lambda store: store.jobs.submit([new(payload=LARGE)]),
    "one with a key": lambda store: store.jobs.submit([new(payload=LARGE, key="k")]),
    "one by a coroutine": lambda store: asyncio.run(store.jobs.asubmit([new(payload=LARGE)])),
    "one of many": lambda store: store.jobs.submit([new(), new(payload=LARGE), new()])[1:2],
    "one of many with a key": lambda store: store.jobs.submit([new(key="j"), new(payload=LARGE, key="k")])[1:],
    "in a transaction": lambda store: within(store, new(payload=LARGE)),
    "many in a transaction": lambda store: within(store, new(), new(payload=LARGE), new())[1:2],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_large_payload_is_kept_apart_however_it_is_stored(store, hands, way):
    [submitted] = WAYS[way](store)
    assert store.jobs.look_up(submitted.id).payload == LARGE
    in_rows, payloads, _ = rows(store)
    assert payloads == 1
    assert [job.payload for job in hands.claim(9) if job.id == submitted.id] == [LARGE]
    assert rows(store) == (in_rows, 1, 0)


def test_a_large_payload_is_kept_apart_on_a_connection_of_the_callers(store, hands, connect):
    db = connect()
    db.execute("BEGIN IMMEDIATE")
    store.jobs.submit([new(payload=LARGE)], within=db)
    db.execute("COMMIT")
    assert (hands.take().payload, rows(store)) == (LARGE, (0, 1, 0))


def test_a_large_payload_is_claimed_from_several_queues(store, hands):
    jobs = store.jobs.submit([new(payload=LARGE), new(queue="other", payload=OTHER), new(queue="other")])
    claimed = {job.id: job.payload for job in hands.claim(3)}
    assert claimed == {job.id: payload for job, payload in zip(jobs, [LARGE, OTHER, b"[]"], strict=True)}
    assert {job.id: job.payload for job in store.runs.claims_of(hands.number)} == claimed


def test_a_small_job_is_in_its_row_alone(store, hands):
    at_most = b"7" * large_values.INLINE
    put(store, payload=at_most)
    hands.settle((hands.take(), Succeeded(at_most)))
    assert rows(store) == (1, 0, 0)


@pytest.mark.parametrize("first", [LARGE, b"[]"])
@pytest.mark.parametrize("second", [OTHER, b"[1]"])
def test_the_payload_of_a_job_that_has_not_begun_is_replaced(store, hands, first, second):
    put(store, payload=first, key="k")
    put(store, payload=second, key="k", on_conflict="replace")
    assert hands.take().payload == second
    assert rows(store) == ((0, 1, 0) if second is OTHER else (1, 0, 0))


def test_calls_of_one_key_are_compared_by_their_whole_payloads(store):
    job_id = put(store, payload=LARGE, key="k")
    assert put(store, payload=LARGE, key="k") == job_id
    with pytest.raises(KeyConflict, match="other arguments"):
        put(store, payload=OTHER, key="k")


def succeed_at_once(store, hands, job):
    assert hands.settle((job, Succeeded(LARGE))) == []


def succeed_beside_others(store, hands, job):
    others = [(each, SUCCEEDED) for each in hands.claim(9)]
    assert hands.settle(*others, (job, Succeeded(LARGE))) == []


def succeed_in_a_transaction(store, hands, job):
    with store.runs.completing(job, LARGE, 60.0):
        pass


def succeed_in_a_coroutine(store, hands, job):
    async def completing():
        async with store.runs.acompleting(job, LARGE, 60.0):
            pass

    asyncio.run(completing())


@pytest.mark.parametrize(
    "succeed", [succeed_at_once, succeed_beside_others, succeed_in_a_transaction, succeed_in_a_coroutine]
)
def test_a_large_result_is_kept_apart_however_the_job_succeeds(store, hands, succeed):
    job_ids = [put(store) for _ in range(3)]
    succeed(store, hands, hands.take())
    assert store.jobs.look_up(job_ids[0]).result == LARGE
    assert rows(store) == (3, 0, 1)


def test_a_late_worker_leaves_no_large_result(store, hands):
    put(store)
    first = hands.take()
    store.runs.rescue(hands.number, frozenset(), blame=False)
    again = Hands(store).take()
    assert hands.settle((first, Succeeded(LARGE)), (again, SUCCEEDED)) == [first]
    assert (store.jobs.look_up(first.id).result, rows(store)) == (b"5", (1, 0, 0))


def test_ends_that_are_on_record_already_did_not_come_too_late(store, hands):
    """The worker settles them again where it could not tell whether a commit was made."""
    store.jobs.submit([new(), new()])
    small, large = hands.claim(2)
    ends = (small, SUCCEEDED), (large, Succeeded(LARGE))
    assert [hands.settle(*ends), hands.settle(*ends)] == [[], []]


def test_each_end_that_came_too_late_is_told_once(store, hands):
    store.jobs.submit([new(), new()])
    small, large = hands.claim(2)
    store.runs.rescue(hands.number, frozenset(), blame=False)
    assert hands.settle((small, SUCCEEDED), (large, Succeeded(LARGE))) == [small, large]


def test_a_large_result_is_read_by_a_shell(store, hands):
    put(store, payload=LARGE)
    hands.settle((hands.take(), Succeeded(OTHER)))
    sql = "SELECT payload, result FROM litequeue_jobs_view"
    assert store.kernel.read(lambda db: db.rows(sql)) == [(LARGE.decode(), OTHER.decode())]


def test_what_is_kept_apart_is_pruned_with_its_job(store, hands):
    store.jobs.submit([new(payload=LARGE) for _ in range(3)])
    hands.settle(*((job, Succeeded(LARGE)) for job in hands.claim(3)), keep_for=0.0)
    assert store.maintenance.prune() == 3
    assert rows(store) == (1, 0, 0)  # of the newest, all but its id is gone


@pytest.mark.parametrize("outcome", [retried(), FAILED, SUCCEEDED])
def test_no_change_of_state_writes_the_payload_again(store, hands, outcome):
    store.kernel.writer.run_outside(lambda db: db.rows("PRAGMA wal_autocheckpoint = 0"))
    job_id = put(store, payload=b"7" * 1_000_000)
    before = store.admin.wal_size()
    hands.settle((hands.take(), outcome))
    if outcome is not SUCCEEDED:
        store.jobs.retry(job_id)
    store.jobs.cancel(job_id)
    assert 0 < store.admin.wal_size() - before < 200_000


def test_large_jobs_of_many_callers_are_stored_in_several_transactions(store):
    """So that the lock of each is short."""

    async def main():
        jobs = [new(payload=b"7" * (BUDGET // 2)), new(payload=b"7" * (BUDGET // 2), key="k")] * 3
        await asyncio.gather(*(store.jobs.asubmit([job]) for job in jobs))

    before = store.kernel.writer.commits
    asyncio.run(main())
    assert store.kernel.writer.commits - before >= 3


# Errors


def failing(store, hands, times, error):
    """Fail a job so often; return the numbers of the attempts whose errors are kept."""
    job_id = put(store)
    for _ in range(times - 1):
        hands.settle((hands.take(), Retried(START, error)))
        store.runs.claim(hands.number, [], None)  # makes it ready
    hands.settle((hands.take(), Failed(error)))
    return [error.attempt for error in store.jobs.look_up(job_id).errors]


@pytest.mark.parametrize("times", [10, 11, 25])
def test_of_many_errors_the_first_and_the_last_are_kept(store, hands, monkeypatch, times):
    monkeypatch.setattr("litequeue.sqlite.jobs.finish.MOST_ERRORS", 10)
    kept = failing(store, hands, times, ErrorInfo("E", "", ""))
    assert kept == [1, 2, 3, 4, 5, *range(times - 4, times + 1)]


def test_an_error_of_more_than_a_kilobyte_takes_no_page_of_its_own(store, hands):
    pages = "SELECT page_count FROM pragma_page_count"
    failing(store, hands, 1, ErrorInfo("E", "", ""))
    [(before,)] = store.kernel.read(lambda db: db.rows(pages))
    failing(store, hands, 40, ErrorInfo("E", "m", "t" * 1_200))
    [(after,)] = store.kernel.read(lambda db: db.rows(pages))
    assert after - before < 20


CALLS = {
    "one": [new(payload=OTHER)],
    "one with a key": [new(payload=OTHER, key="other")],
    "many": NewJobs(new(payload=b""), [OTHER] * 25),
    "many with keys": [new(payload=OTHER, key="other"), new(payload=b"1", key="another")],
    "replace": [new(payload=OTHER, key="k", on_conflict="replace")],
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_call_that_is_interrupted_at_any_statement_of_a_transaction_stores_nothing(store, monkeypatch, call, after):
    """Its owner may catch that, and commit: a job would have no payload, or the one that was replaced."""
    put(store, payload=LARGE, key="k")
    at_first = records(store)
    number, came = 0, True
    while came:
        number += 1
        with store.transactions.transaction(), monkeypatch.context() as patched:
            came = interrupt(patched, store.kernel.writer.connection, number, after=after)
            with suppress(KeyboardInterrupt):
                store.jobs.submit(CALLS[call])
            came = bool(came)
        if came:
            assert records(store) == at_first
    assert number > 3
    assert records(store) != at_first


def interrupt(patched, connection, number, *, after):
    """Let a Ctrl-C fall before, or after, a statement of that number; tell, later, whether there was such a one."""
    plain, seen, came = type(connection).rows, itertools.count(1), []

    def rows(self, sql, parameters=None):
        falls = not sql.startswith(("ROLLBACK", "RELEASE")) and next(seen) == number
        came.extend([True] * falls)
        if falls and not after:
            raise KeyboardInterrupt
        found = plain(self, sql, parameters)
        if falls:
            raise KeyboardInterrupt
        return found

    patched.setattr(type(connection), "rows", rows)
    return came


def records(store):
    """Every job, with its payload, or the fault that it has none."""
    return store.kernel.read(
        lambda db: db.rows(
            "SELECT id, run_at, coalesce(payload, (SELECT payload FROM litequeue_payloads WHERE job = id), 'none') "
            "FROM litequeue_jobs"
        )
    )


def test_an_error_of_a_statement_is_freed_without_a_collection(store):
    """Its traceback keeps what was interrupted, and so locks and connections."""
    seen = []

    def steps():
        yield "SELECT what_is_not_there", ()

    gc.disable()
    try:
        try:
            store.kernel.read(lambda db: perform(db, steps()))
        except StoreError as error:
            seen.append(weakref.ref(error))
        assert [each() for each in seen] == [None]
    finally:
        gc.enable()
