"""The newest job is never deleted but emptied, so that no id is used twice, and is then seen by nobody."""

import asyncio
import re
from pathlib import Path

import pytest

from contract.jobs import FAILED, LARGE, START, SUCCEEDED, Hands, new, put, status
from litequeue.core.outcome import Succeeded
from litequeue.errors import JobNotFound, StoreError
from litequeue.sqlite.admin import repair

VIEWS = ("litequeue_jobs_view", "litequeue_errors_view")


@pytest.fixture
def write(store):
    """Change the file past litequeue."""
    return lambda sql, *values: store.kernel.writer.run(lambda db: db.rows(sql, values))


@pytest.fixture
def deleted(store):
    """The id of the newest of three jobs, all of them pruned."""
    jobs = [put(store) for _ in range(3)]
    hands = Hands(store)
    hands.settle(*((job, SUCCEEDED) for job in hands.claim(3)), keep_for=0.0)
    assert store.maintenance.prune() == 3
    return jobs[-1]


def rows(store, sql):
    return store.kernel.read(lambda db: db.rows(sql))


def test_it_is_not_found(store, deleted):
    for ask in (store.jobs.look_up, store.jobs.has_ended, store.jobs.cancel, store.jobs.retry):
        with pytest.raises(JobNotFound, match=f"no job {deleted} in this file"):
            ask(deleted)
    for ask in (store.jobs.alook_up, store.jobs.acancel, store.jobs.aretry):
        with pytest.raises(JobNotFound):
            asyncio.run(ask(deleted))


def test_it_is_not_listed_and_not_counted(store, deleted):
    assert (store.jobs.list(), store.jobs.counts(), Hands(store).claim(9)) == ([], [], [])
    assert [rows(store, f"SELECT * FROM {view}") for view in VIEWS] == [[], []]


def test_nothing_of_it_is_left_but_the_number(store, deleted):
    assert rows(store, "SELECT CAST(id AS TEXT), task, queue, payload, key, result FROM litequeue_jobs") == [
        (deleted, "", "", b"", None, None)
    ]


def test_it_is_not_pruned_again_until_there_is_a_newer_one(store, deleted):
    assert (store.maintenance.next_prune(), store.maintenance.prune()) == (None, 0)
    newer = put(store)
    assert int(newer) == int(deleted) + 1
    assert store.maintenance.prune() == 0
    assert rows(store, "SELECT CAST(id AS TEXT) FROM litequeue_jobs") == [(newer,)]


def test_the_newest_is_emptied_once_and_does_not_keep_others_from_being_pruned(store, deleted):
    """It is the first of those whose time has passed, and stays."""
    store.jobs.submit([new(), new()])
    hands = Hands(store)
    hands.settle(*((job, FAILED) for job in hands.claim(2)), keep_for=0.0)
    assert store.maintenance.next_prune() == 0
    assert [store.maintenance.prune(1) for _ in range(3)] == [1, 1, 0]
    assert store.maintenance.next_prune() is None
    assert rows(store, "SELECT id, payload FROM litequeue_jobs") == [(int(deleted) + 2, b"")]
    assert store.admin.orphans() == {}


def test_an_id_is_not_used_again_though_every_job_is_pruned_at_once(store):
    """Before the fence: a late worker would end the job that was given its id."""
    late = []
    for _ in range(3):
        put(store)
        hands = Hands(store)
        late.append(hands.take())
        hands.settle((late[-1], SUCCEEDED), keep_for=0.0)
        store.maintenance.prune()
    put(store)
    mine = Hands(store).take()
    assert Hands(store).settle(*[(job, FAILED) for job in late]) == late
    assert (status(store, mine.id), len({mine.id, *(job.id for job in late)})) == ("running", 4)


def test_the_key_of_the_newest_is_free_once_it_is_emptied(store):
    put(store, key="k", payload=b"[1]")
    hands = Hands(store)
    hands.settle((hands.take(), SUCCEEDED), keep_for=0.0)
    assert store.maintenance.prune() == 1
    assert status(store, put(store, key="k", payload=b"[2]")) == "queued"


def test_what_it_left_in_other_tables_is_of_jobs_that_are_gone(store, write):
    store.jobs.submit([new(payload=LARGE), new(payload=LARGE)])
    hands = Hands(store)
    failed, succeeded = hands.claim(2)
    hands.settle((failed, FAILED), (succeeded, Succeeded(LARGE)))
    write("DELETE FROM litequeue_payloads WHERE job = ?", failed.id)
    assert store.admin.orphans() == {}
    write("DELETE FROM litequeue_jobs")
    assert store.admin.orphans() == {"errors": 1, "payloads": 1, "results": 1}
    assert (
        store.admin.repair(lambda db: repair.drop_orphans(db, START, None)) == "1 errors, 1 payloads, 1 results deleted"
    )
    assert store.admin.orphans() == {}


def test_whoever_deletes_jobs_by_hand_as_the_docs_say_frees_no_number(store, write):
    text = (Path(__file__).parents[2] / "docs" / "file.md").read_text()
    [recipe] = re.findall(r"^```\nBEGIN IMMEDIATE;\n(DELETE .*?;)\nCOMMIT;\n```$", text, re.MULTILINE | re.DOTALL)
    newest = [put(store, payload=LARGE) for _ in range(3)][-1]
    hands = Hands(store)
    hands.settle(*((job, FAILED) for job in hands.claim(3)))
    for _ in range(2):
        for statement in recipe.split(";\n"):
            write(statement)
        assert [job.id for job in store.jobs.list()] == [newest]
        assert store.admin.orphans() == {}
    assert int(put(store)) == int(newest) + 1


def test_whoever_writes_jobs_by_hand_is_told_the_right_number(store, write, deleted):
    [(number,)] = write(
        "INSERT INTO litequeue_jobs (task, queue, payload, state, priority, run_at, created_at)"
        " VALUES ('add', 'default', x'5b5d', 1, 0, 0, 0) RETURNING CAST(id AS TEXT)"
    )
    assert int(number) == int(deleted) + 1
    assert store.jobs.look_up(number).task == "add"


def test_several_jobs_after_it_are_given_their_own_numbers(store, deleted):
    assert [int(put(store)) - int(deleted) for _ in range(3)] == [1, 2, 3]


def test_no_number_is_taken_after_which_sqlite_would_choose_any(store, write):
    put(store)
    with pytest.raises(StoreError, match="CHECK constraint"):
        write("UPDATE litequeue_jobs SET id = ?", 2**63 - 1)
    write("UPDATE litequeue_jobs SET id = ?", 2**63 - 2)
    with pytest.raises(StoreError, match="used up; start a new file"):
        put(store)
    assert len(store.jobs.list()) == 1
