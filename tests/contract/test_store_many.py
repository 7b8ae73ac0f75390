"""Many calls at once: enqueue_many() in one transaction, and chunk by chunk."""

import asyncio
import pickle
import tracemalloc
import warnings

import pytest

from litequeue import JobNotFound, JobTimeout, KeyConflict, PartlyEnqueued
from litequeue.core.records import NewJobs
from litequeue.sqlite.sql import SQL


@pytest.fixture
def add(queue):
    @queue.task(name="add")
    def add(a, b=0): ...

    return add


@pytest.fixture
def transactions(queue):
    """Count the write transactions since the last call."""
    writer, seen = queue.engine.kernel.writer, [0]

    def count():
        new, seen[0] = writer.commits - seen[0], writer.commits
        return new

    count()
    return count


def calls(count, first=0):
    return ((number,) for number in range(first, first + count))


def stored(queue):
    """The arguments of every job, in the order of their ids."""
    found = queue.engine.jobs.list(limit=10_000)
    return [queue.engine.jobs.look_up(job.id).payload for job in found][::-1]


def payloads(count):
    return [b"[[%d],{}]" % number for number in range(count)]


# in one transaction


def rows_of(queue):
    [(columns,)] = queue.engine.kernel.read(
        lambda db: db.rows("SELECT group_concat(name) FROM pragma_table_info('litequeue_jobs') WHERE name <> 'id'")
    )
    return queue.engine.kernel.read(lambda db: db.rows(f"SELECT {columns} FROM litequeue_jobs ORDER BY id"))


@pytest.mark.parametrize(
    "options",
    [{}, {"delay": 60, "expires": 90, "tags": ["x", "y"]}, {"priority": 7, "retries": 3, "timeout": 5, "queue": "q"}],
)
@pytest.mark.parametrize("inside", ["", "transaction", "atransaction"])
def test_many_calls_are_stored_as_one_by_one(queue, add, options, inside):
    task = add.using(**options)
    for call in calls(47):
        task.enqueue(*call)
    one_by_one = rows_of(queue)

    async def in_coroutine():
        async with queue.atransaction():
            return await task.aenqueue_many(calls(47))

    if inside == "atransaction":
        jobs = asyncio.run(in_coroutine())
    elif inside:
        with queue.transaction():
            jobs = task.enqueue_many(calls(47))
    else:
        jobs = task.enqueue_many(calls(47))
    assert rows_of(queue)[47:] == one_by_one
    assert [queue.job(job.id).id for job in jobs] == [job.id for job in queue.jobs()[:47][::-1]]
    assert [(job.status, job.tags, job.run_at) for job in jobs] == [
        (job.status, job.tags, job.run_at) for job in queue.jobs()[:47][::-1]
    ]


def test_many_calls_take_one_transaction_and_a_statement_for_each_20(queue, add, transactions):
    add.enqueue_many(calls(3))
    transactions()
    seen = []
    db = queue.engine.kernel.writer.connection
    many, db.many = db.many, lambda sql, values: many(sql, (seen.append(sql) or each for each in values))
    add.enqueue_many(calls(107))
    assert transactions() == 1
    assert [sql == SQL["insert"] for sql in seen] == [False] * 5 + [True] * 7


def test_a_job_of_many_keeps_no_arguments_in_memory(queue, add):
    add.enqueue_many(calls(2))
    tracemalloc.start()
    jobs = add.enqueue_many(("x" * 10_000,) for _ in range(300))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(jobs), jobs[0].status) == (300, "queued")
    assert kept < 1_000_000


def test_new_jobs_are_a_sequence_of_new_jobs(queue, add):
    given = []
    submit = queue.engine.jobs.submit
    queue.engine.jobs.submit = lambda jobs, within: given.extend(jobs) or submit(jobs, within)
    add.enqueue_many(calls(3))
    del queue.engine.jobs.submit
    assert [new.payload for new in given] == payloads(3)
    many = NewJobs(given[0], payloads(5))
    assert [new.payload for new in many[1:3]] == payloads(5)[1:3]
    assert (many[-1].payload, repr(many)) == (payloads(5)[-1], "<NewJobs add 5>")


def test_a_key_scope_without_a_key_is_refused_for_many_as_for_one(queue, add):
    with pytest.raises(ValueError, match="apply to a key"):
        add.using(on_conflict="raise").enqueue_many(calls(2))
    assert stored(queue) == []


def test_more_than_10000_calls_in_one_transaction_are_warned_of_at_the_callers_line(queue, add, monkeypatch):
    monkeypatch.setattr("litequeue.calls.MANY", 5)
    add.enqueue_many(calls(5))
    add.enqueue_many(calls(20), chunk=5)
    with pytest.warns(UserWarning, match=r"stores 6 calls in one transaction.* pass chunk=1000") as seen:
        add.enqueue_many(calls(6))
    with pytest.warns(UserWarning, match="stores 7 calls") as seen_async:
        asyncio.run(later(add, 7))
    assert {seen[0].filename, seen_async[0].filename} == {__file__}
    with pytest.raises(UserWarning, match="stores 8 calls"):  # an error, as pytest here has it
        add.enqueue_many(calls(8))
    assert len(stored(queue)) == 5 + 20 + 6 + 7


async def later(task, count, **options):
    return await task.aenqueue_many(calls(count), **options)


def test_large_arguments_are_warned_of_at_the_callers_line(add):
    for call in (lambda: add.enqueue("x" * 70_000), lambda: add.enqueue_many([("x" * 70_000,)])):
        with pytest.warns(UserWarning, match="take 70,009 bytes") as seen:
            call()
        assert seen[0].filename == __file__


# chunk by chunk


def test_chunks_are_a_transaction_each_and_take_the_calls_as_they_are_needed(queue, add, transactions):
    taken = []

    def lazily():
        for number in range(25):
            taken.append(len(stored(queue)))
            yield (number,)

    jobs = add.enqueue_many(lazily(), chunk=10)
    assert transactions() == 3
    assert taken == [0] * 10 + [10] * 10 + [20] * 5
    assert stored(queue) == payloads(25)
    assert list(jobs) == queue.jobs()[::-1]
    assert (len(jobs), [jobs[0], jobs[-1]], jobs[9:11]) == (25, [*jobs][::24], [*jobs][9:11])
    assert repr(jobs) == "<EnqueuedJobs 25>"
    with pytest.raises(IndexError):
        jobs[25]


def test_of_no_calls_there_are_no_chunks(add, transactions):
    jobs = add.enqueue_many([], chunk=10)
    assert (len(jobs), list(jobs), transactions()) == (0, [], 0)


def test_many_bytes_end_a_chunk_too(queue, add, transactions, monkeypatch):
    monkeypatch.setattr("litequeue.calls.BUDGET", 1_000)
    add.enqueue_many((("x" * 600,) for _ in range(7)), chunk=100)
    assert transactions() == 4


def test_chunks_take_the_memory_of_one(add):
    add.enqueue_many(calls(2))
    tracemalloc.start()
    jobs = add.enqueue_many((("x" * 2_000,) for _ in range(2_000)), chunk=100)
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(jobs) == 2_000
    assert (kept < 50_000, most < 1_000_000) == (True, True)


def test_a_chunk_must_be_a_number_of_calls(queue, add):
    for chunk in (0, -1, True, 1.5, "10"):
        with pytest.raises(ValueError, match="chunk must be a positive number of calls"):
            add.enqueue_many(calls(3), chunk=chunk)
    with pytest.raises(TypeError, match="in a list or another iterable, got 5"):
        add.enqueue_many(5, chunk=10)
    assert stored(queue) == []


def bad_call(number):
    return ((each,) if each != number else (1, 2, 3) for each in range(30))


def failing(number):
    for each in range(30):
        if each == number:
            raise OSError("the line broke")
        yield (each,)


@pytest.mark.parametrize(("given", "kind"), [(bad_call, TypeError), (failing, OSError)])
@pytest.mark.parametrize("is_async", [False, True])
def test_an_error_amid_chunks_says_what_is_stored(queue, add, given, kind, is_async):
    many = (lambda *a, **b: asyncio.run(add.aenqueue_many(*a, **b))) if is_async else add.enqueue_many
    with pytest.raises(kind):
        many(given(9), chunk=10)
    assert stored(queue) == []
    with pytest.raises(PartlyEnqueued, match=rf"^the first 20 calls are stored .*{kind.__name__}.*calls, 20") as raised:
        many(given(25), chunk=10)
    assert isinstance(raised.value.__cause__, kind)
    assert (stored(queue), list(raised.value.jobs)) == (payloads(20), queue.jobs()[::-1])
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_transaction_undoes_is_not_told_as_stored(queue, add, is_async):
    async def in_coroutine():
        async with queue.atransaction():
            await add.aenqueue_many(failing(25), chunk=10)

    with pytest.raises(OSError, match=r"^the line broke$"):  # no word of 20 jobs to go on after
        if is_async:
            asyncio.run(in_coroutine())
        else:
            with queue.transaction():
                add.enqueue_many(failing(25), chunk=10)
    assert stored(queue) == []


def test_a_chunk_with_a_conflict_is_not_stored(queue):
    @queue.task(name="keyed", unique="{key}")
    def keyed(key, value): ...

    keyed.enqueue(7, 0)
    with pytest.raises(PartlyEnqueued, match="first 5 calls") as raised:
        keyed.enqueue_many(((number, 1) for number in range(20)), chunk=5)
    assert isinstance(raised.value.__cause__, KeyConflict)
    assert sorted(job.key for job in queue.jobs()) == list("012347")


def test_a_chunk_counts_calls_that_found_their_job(queue):
    @queue.task(name="keyed", unique=True)
    def keyed(key): ...

    jobs = keyed.enqueue_many(((number % 3,) for number in range(10)), chunk=4)
    assert [job.id for job in jobs] == list("1231231231")
    assert jobs[5].key == queue.job("3").key


def test_the_end_of_the_run_that_enqueues_is_no_error_of_a_chunk(add):
    def too_late():
        yield from calls(10)
        raise JobTimeout("over")

    with pytest.raises(JobTimeout):
        add.enqueue_many(too_late(), chunk=5)


@pytest.mark.parametrize("is_async", [False, True])
def test_chunks_in_a_transaction_are_committed_or_undone_with_it(queue, add, is_async):
    async def in_coroutine():
        async with queue.atransaction():
            jobs.append(await add.aenqueue_many(calls(8), chunk=3))
            raise ZeroDivisionError

    jobs = []
    with pytest.raises(ZeroDivisionError):
        if is_async:
            asyncio.run(in_coroutine())
        else:
            with queue.transaction():
                jobs.append(add.enqueue_many(calls(8), chunk=3))
                raise ZeroDivisionError
    queue.clock.advance(1)
    with queue.transaction():
        others = add.enqueue_many(calls(8), chunk=3)
    assert (len(jobs[0]), stored(queue)) == (8, payloads(8))
    assert [job.id for job in jobs[0]] == [job.id for job in others]
    with pytest.raises(JobNotFound, match="was rolled back"):
        jobs[0][4].refresh()
    assert others[4].refresh().status == "queued"


def test_chunks_within_a_transaction_of_ones_own(queue, add, connect):
    connection = connect()
    connection.execute("BEGIN IMMEDIATE")
    jobs = add.using(within=connection).enqueue_many(calls(45), chunk=21)
    connection.execute("COMMIT")
    assert [job.refresh().id for job in jobs] == [str(number) for number in range(1, 46)]
    assert stored(queue) == payloads(45)


# from a coroutine


@pytest.mark.parametrize("chunk", [{}, {"chunk": 7}])
def test_the_loop_goes_on_while_calls_are_encoded(queue, add, monkeypatch, chunk):
    monkeypatch.setattr("litequeue.core.slices.SLICE", -1.0)
    others = []

    async def main():
        async def other():
            while True:
                others.append(len(encoded))
                await asyncio.sleep(0)

        going = asyncio.create_task(other())
        jobs = await add.aenqueue_many(watched(), **chunk)
        going.cancel()
        return jobs

    encoded = []

    def watched():
        for call in calls(30):
            encoded.append(call)
            yield call

    jobs = asyncio.run(main())
    assert set(range(1, 31)) <= set(others)
    assert (len(jobs), stored(queue)) == (30, payloads(30))


def test_a_list_is_taken_as_it_was_when_the_coroutine_was_called(queue, add, monkeypatch):
    monkeypatch.setattr("litequeue.core.slices.SLICE", -1.0)

    async def main():
        given = list(calls(10))

        async def change():
            given.clear()

        changing = asyncio.create_task(change())
        await add.aenqueue_many(given)
        await changing

    asyncio.run(main())
    assert stored(queue) == payloads(10)


@pytest.mark.parametrize(("chunk", "expected"), [({}, 1), ({"chunk": 4}, 3)])
def test_calls_may_come_from_an_async_iterable(queue, add, transactions, chunk, expected):
    async def arriving():
        for call in calls(10):
            await asyncio.sleep(0)
            yield call

    jobs = asyncio.run(add.aenqueue_many(arriving(), **chunk))
    assert (transactions(), stored(queue)) == (expected, payloads(10))
    assert [job.id for job in jobs] == [str(number) for number in range(1, 11)]
    with pytest.raises(TypeError, match=r"async iterable is for aenqueue_many\(\)"):
        add.enqueue_many(arriving())
    with pytest.raises(TypeError, match="in a list or another iterable, got 5"):
        asyncio.run(add.aenqueue_many(5))


def test_a_coroutine_that_is_cancelled_while_it_encodes_stores_nothing(queue, add, monkeypatch):
    monkeypatch.setattr("litequeue.core.slices.SLICE", -1.0)

    async def main():
        going = asyncio.create_task(add.aenqueue_many(calls(50)))
        for _ in range(20):
            await asyncio.sleep(0)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going

    with warnings.catch_warnings():
        asyncio.run(main())
    assert stored(queue) == []
