"""What an operator does to many jobs: in chunks, each a transaction, with one notification."""

import asyncio
import contextlib

import pytest

from contract.jobs import FAILED, START, Hands, new, put, states
from litequeue.core.records import Status
from litequeue.errors import JobNotFound, KeyConflict, Unsupported
from litequeue.ipc.notifier import CANCEL, DONE, JOBS, WORK, Listener


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.parts.bulk.CHUNK", 10)


class Ears:
    """Five listening sockets of each topic, as of five workers and of five processes that wait for results."""

    def __init__(self, directory):
        self.all = {topic: [Listener(directory, topic) for _ in range(5)] for topic in (WORK, DONE)}

    def heard(self, topic):
        """What each of them has heard since the last call: the same."""
        heard = [[message for message in one.wait(0) if message] for one in self.all[topic]]
        assert heard == [heard[0]] * 5
        return heard[0]

    def close(self):
        for one in [*self.all[WORK], *self.all[DONE]]:
            one.close()


@pytest.fixture
def ears(store):
    found = Ears(store.kernel.directory)
    yield found
    found.close()


def commits(store):
    return store.kernel.writer.commits


def many(store, count, **fields):
    return [each.id for each in store.jobs.submit([new(**fields) for _ in range(count)])]


def failed(store, **fields):
    """A job that has failed."""
    job_id = put(store, **fields)
    hands = Hands(store)
    hands.settle((hands.take(), FAILED))
    return job_id


# notifications


def test_a_chunk_of_cancels_is_one_transaction_and_one_message(store, small, ears):
    ids = many(store, 25)
    ears.heard(WORK)
    before = commits(store)
    chunks = list(store.bulk.cancel(iter(ids)))
    assert (commits(store) - before, [len(chunk.done) for chunk in chunks]) == (3, [10, 10, 5])
    assert [message.decode().split() for message in ears.heard(DONE)] == [ids[:10], ids[10:20], ids[20:]]
    assert ears.heard(WORK) == []
    assert set(states(store, ids)) == {"cancelled"}


def test_workers_are_told_once_a_chunk_that_a_job_of_theirs_is_to_end(store, small, ears):
    ids = many(store, 12)
    Hands(store).claim(4)
    ears.heard(WORK)
    list(store.bulk.cancel(ids))
    assert ears.heard(WORK) == [CANCEL]
    assert [message.decode().split() for message in ears.heard(DONE)] == [ids[4:10], ids[10:]]


def test_a_single_cancel_tells_workers_of_a_running_job_only_and_waiters_of_an_ended_one_only(store, ears):
    running, queued = many(store, 2)
    Hands(store).claim(1)
    ears.heard(WORK)
    assert (store.jobs.cancel(queued), ears.heard(WORK), ears.heard(DONE)) == (True, [], [queued.encode()])
    assert (store.jobs.cancel(running), ears.heard(WORK), ears.heard(DONE)) == (True, [CANCEL], [])
    assert (store.jobs.cancel(queued), ears.heard(WORK), ears.heard(DONE)) == (False, [], [])


@pytest.mark.parametrize("is_async", [False, True])
def test_cancels_of_one_transaction_are_told_of_together_after_its_commit(store, ears, is_async):
    ids = many(store, 7)
    ears.heard(WORK)

    async def in_coroutine():
        async with store.transactions.atransaction():
            for job_id in ids:
                await store.jobs.acancel(job_id)
            assert ears.heard(DONE) == []

    if is_async:
        asyncio.run(in_coroutine())
    else:
        with store.transactions.transaction():
            for job_id in ids[:5]:
                store.jobs.cancel(job_id)
            list(store.bulk.cancel(ids[5:]))
            assert ears.heard(DONE) == []
    assert [message.decode().split() for message in ears.heard(DONE)] == [ids]


def test_cancels_that_are_rolled_back_are_not_told_of(store, ears):
    ids = many(store, 2)
    with contextlib.suppress(ZeroDivisionError), store.transactions.transaction():
        list(store.bulk.cancel(ids))
        raise ZeroDivisionError
    assert (ears.heard(DONE), states(store, ids)) == ([], ["queued"] * 2)


def test_a_chunk_of_retries_is_one_transaction_and_one_message(store, small, ears):
    ids = many(store, 25)
    list(store.bulk.cancel(ids))
    ears.heard(WORK)
    before = commits(store)
    chunks = list(store.bulk.retry(ids))
    assert (commits(store) - before, [len(chunk.done) for chunk in chunks]) == (3, [10, 10, 5])
    assert ears.heard(WORK) == [JOBS] * 3
    assert set(states(store, ids)) == {"queued"}


# chunks


def test_a_chunk_begins_when_it_is_asked_for_and_stays_done(store, small):
    ids = many(store, 25)
    next(store.bulk.cancel(store.bulk.unfinished()))
    assert states(store, ids) == ["queued"] * 15 + ["cancelled"] * 10
    assert [chunk.done for chunk in store.bulk.cancel(store.bulk.unfinished())] == [ids[14:4:-1], ids[4::-1]]


def test_what_is_refused_does_not_keep_the_rest_of_its_chunk(store):
    holder = failed(store, key="k", key_scope="unfinished")
    put(store, key="k", key_scope="unfinished")
    again, queued = failed(store, task="add", priority=9), put(store)
    [chunk] = store.bulk.retry([holder, "99", queued, again])
    assert chunk.done == [again]
    assert {job_id: type(error) for job_id, error in chunk.refused.items()} == {
        holder: KeyConflict,
        "99": JobNotFound,
        queued: Unsupported,
    }
    [chunk] = store.bulk.cancel([holder, queued, "98"])
    assert chunk.done == [queued]
    assert [str(error) for error in chunk.refused.values()] == [
        f"job {holder} has already ended",
        "no job 98 in this file: it never existed, or it has been pruned",
    ]


# which jobs


def test_unfinished_jobs_are_chosen_by_status_task_and_queue(store, small, clock):
    running = put(store)
    Hands(store).claim(1)
    ended = failed(store, priority=50)
    queued = many(store, 12, task="other")
    later = put(store, queue="q", run_at=START + 60)
    assert list(store.bulk.unfinished()) == [later, *queued[::-1], running]
    assert list(store.bulk.unfinished(Status.QUEUED)) == queued[::-1]
    assert list(store.bulk.unfinished(task="add")) == [later, running]
    assert list(store.bulk.unfinished(queue="q")) == [later]
    assert list(store.bulk.dead(Status.FAILED)) == [ended]
    assert list(store.bulk.dead(Status.FAILED, task="other")) == list(store.bulk.dead(Status.EXPIRED)) == []
    clock.advance("31d")
    assert list(store.bulk.dead(Status.FAILED)) == []
