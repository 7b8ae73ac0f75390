"""The newest job, once deleted, leaves its number behind, so that no id is used twice, and can be seen by nobody."""

import asyncio

import pytest

from contract.jobs import FAILED, SUCCEEDED, Hands, put
from litequeue.errors import JobNotFound, StoreError
from litequeue.sqlite.admin import repair

VIEWS = ("litequeue_jobs_view", "litequeue_errors_view")


@pytest.fixture
def write(store):
    """Change the file past litequeue."""
    return lambda sql, *values: store._writer.run(lambda db: db.rows(sql, values))


@pytest.fixture
def deleted(store):
    """The id of the newest of three jobs, all of them pruned."""
    jobs = [put(store) for _ in range(3)]
    hands = Hands(store)
    hands.settle(*((job, SUCCEEDED) for job in hands.claim(3)), keep_for=0.0)
    assert store.prune() == 3
    return jobs[-1]


def rows(store, sql):
    return store.read(lambda db: db.rows(sql))


def test_it_is_not_found(store, deleted):
    for ask in (store.look_up, store.has_ended, store.cancel, store.retry):
        with pytest.raises(JobNotFound, match=f"no job {deleted} in this file"):
            ask(deleted)
    for ask in (store.alook_up, store.acancel, store.aretry):
        with pytest.raises(JobNotFound):
            asyncio.run(ask(deleted))


def test_it_is_not_listed_and_not_counted(store, deleted):
    assert (store.list_jobs(), store.counts(), Hands(store).claim(9)) == ([], [], [])
    assert [rows(store, f"SELECT * FROM {view}") for view in VIEWS] == [[], []]


def test_nothing_of_it_is_left_but_the_number(store, deleted):
    assert rows(store, "SELECT CAST(id AS TEXT), task, queue, payload, key, result FROM litequeue_jobs") == [
        (deleted, "", "", b"", None, None)
    ]


def test_it_is_not_pruned_again_until_there_is_a_newer_one(store, deleted):
    assert (store.next_prune(), store.prune()) == (None, 0)
    newer = put(store)
    assert int(newer) == int(deleted) + 1
    assert store.prune() == 0
    assert rows(store, "SELECT CAST(id AS TEXT) FROM litequeue_jobs") == [(newer,)]


def test_what_is_left_behind_is_deleted_in_chunks(store, write):
    for _ in range(4):
        put(store)
        write("DELETE FROM litequeue_jobs WHERE state < 8")
    left = []
    for _ in range(3):
        store.prune(2)
        left.append(rows(store, "SELECT count(*), max(id) FROM litequeue_jobs"))
    assert left == [[(2, 4)], [(1, 4)], [(1, 4)]]


def test_errors_that_it_left_are_of_a_job_that_is_gone(store, write):
    put(store)
    hands = Hands(store)
    hands.settle((hands.take(), FAILED))
    assert store.orphans() == 0
    write("DELETE FROM litequeue_jobs")
    assert store.orphans() == 1
    assert store.mend(repair.drop_orphans) == "1 of them were deleted"
    assert store.orphans() == 0


@pytest.mark.parametrize("order", ["", "ORDER BY id DESC"])
def test_whoever_deletes_jobs_by_hand_frees_no_number(store, write, order):
    newest = [put(store) for _ in range(3)][-1]
    for (number,) in rows(store, f"SELECT id FROM litequeue_jobs {order}"):
        write("DELETE FROM litequeue_jobs WHERE id = ?", number)
    assert int(put(store)) == int(newest) + 1
    write("DELETE FROM litequeue_jobs")
    write("DELETE FROM litequeue_jobs")
    assert int(put(store)) == int(newest) + 2


def test_whoever_writes_jobs_by_hand_is_told_the_right_number(store, write, deleted):
    [(number,)] = write(
        "INSERT INTO litequeue_jobs (task, queue, payload, state, priority, run_at, created_at)"
        " VALUES ('add', 'default', x'5b5d', 1, 0, 0, 0) RETURNING CAST(id AS TEXT)"
    )
    assert int(number) == int(deleted) + 1
    assert store.look_up(number).task == "add"


def test_several_jobs_after_it_are_given_their_own_numbers(store, deleted):
    assert [int(put(store)) - int(deleted) for _ in range(3)] == [1, 2, 3]


def test_no_number_is_taken_after_which_sqlite_would_choose_any(store, write):
    put(store)
    with pytest.raises(StoreError, match="CHECK constraint"):
        write("UPDATE litequeue_jobs SET id = ?", 2**63 - 1)
    write("UPDATE litequeue_jobs SET id = ?", 2**63 - 2)
    with pytest.raises(StoreError, match="used up; go on in a new one"):
        put(store)
    assert len(store.list_jobs()) == 1
