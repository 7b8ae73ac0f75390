"""Versions of a task are lanes of their own; keys, listings and bulk changes go by the task."""

import pytest

from contract.jobs import SUCCEEDED, Hands, new, put
from litequeue.core.engine import Submitted
from litequeue.core.records import Status
from litequeue.core.store import NewWorker
from litequeue.errors import KeyConflict

VERSIONS = ["add", "add@2", "add@17"]
NEAR = ["add.x", "add!", "adda", "ad", "addA@2", "add:2"]  # names that sort beside those of versions


def keyed(store, task, payload=b"[1]", **fields):
    [submitted] = store.jobs.submit([new(task, key="k", payload=payload, **fields)])
    return submitted


def test_a_worker_claims_the_versions_that_it_serves_alone(store):
    ids = {task: put(store, task) for task in VERSIONS}
    assert [job.task for job in Hands(store, "add@2").claim(9)] == ["add@2"]
    assert [job.id for job in Hands(store, "add", "add@17").claim(9)] == [ids["add"], ids["add@17"]]


@pytest.mark.parametrize("first", VERSIONS)
@pytest.mark.parametrize("second", VERSIONS)
def test_a_key_is_one_for_all_versions_of_a_task(store, first, second):
    for task in NEAR:
        keyed(store, task)
    held = keyed(store, first)
    assert keyed(store, second) == Submitted(held.id, False)
    with pytest.raises(KeyConflict, match=f"key 'k' of task 'add' is held by job {held.id}"):
        keyed(store, second, on_conflict="raise")


def test_arguments_of_another_version_are_not_compared(store):
    held = keyed(store, "add", b"[1]")
    assert keyed(store, "add@2", b"[2]") == Submitted(held.id, False)
    with pytest.raises(KeyConflict, match="other arguments"):
        keyed(store, "add", b"[2]")


@pytest.mark.parametrize("former", [(), ("sum",)])
def test_a_key_is_one_for_the_names_that_a_task_had_before(store, former):
    held = keyed(store, "sum@2")
    assert keyed(store, "add", former_names=former).fresh is not bool(former)
    assert store.jobs.look_up(held.id).status is Status.QUEUED


def test_with_replace_the_job_becomes_one_of_the_new_version(store):
    held = keyed(store, "add")
    assert keyed(store, "add@2", b"[2]", on_conflict="replace") == Submitted(held.id, False)
    assert (store.jobs.look_up(held.id).task, store.jobs.look_up(held.id).payload) == ("add@2", b"[2]")
    assert Hands(store, "add").claim() == []
    hands = Hands(store, "add@2")
    assert hands.take().id == held.id
    with pytest.raises(KeyConflict, match="already begun"):
        keyed(store, "add", b"[3]", on_conflict="replace")


def test_a_key_that_another_versions_job_holds_no_more_is_free(store):
    hands = Hands(store, *VERSIONS)
    for task in [*VERSIONS, "add"]:
        submitted = keyed(store, task, key_scope="unfinished")
        assert submitted.fresh
        hands.settle((hands.take(), SUCCEEDED))
    held = keyed(store, "add@2")
    assert keyed(store, "add@17") == Submitted(held.id, False)


def test_retry_is_refused_while_another_version_has_the_key(store):
    ended = keyed(store, "add", key_scope="unfinished")
    store.jobs.cancel(ended.id)
    held = keyed(store, "add@2")
    with pytest.raises(KeyConflict, match=f"key 'k' of task 'add' is held by job {held.id} now"):
        store.jobs.retry(ended.id)


@pytest.mark.parametrize("status", [None, Status.QUEUED])
@pytest.mark.parametrize("queue", [None, "default"])
def test_a_listing_by_task_has_the_jobs_of_all_versions(store, monkeypatch, status, queue):
    monkeypatch.setattr("litequeue.sqlite.jobs.listing.FIRST_BLOCK", 2)
    monkeypatch.setattr("litequeue.sqlite.jobs.listing.BLOCK", 2)
    ids = [put(store, task) for task in VERSIONS]
    for task in NEAR:
        put(store, task)
    put(store, "add", queue="other")
    found = store.jobs.list(task="add", status=status, queue=queue)
    assert [job.id for job in found if job.queue == "default"] == ids[::-1]
    assert {(job.task_name, job.version) for job in found} == {("add", 1), ("add", 2), ("add", 17)}


def test_bulk_changes_by_task_take_all_versions(store):
    ids = [put(store, task) for task in VERSIONS]
    for task in NEAR:
        put(store, task)
    assert list(store.bulk.unfinished(task="add")) == ids[::-1]
    for job_id in ids:
        store.jobs.cancel(job_id)
    assert list(store.bulk.dead(Status.CANCELLED, task="add")) == ids[::-1]


def test_the_last_worker_says_how_a_version_calls_its_arguments(store):
    def register(**parameters):
        given = {"queues": None, "tasks": (), "threads": 1, "coroutines": 1, "identity": "{}"}
        return store.workers.register(NewWorker(token=str(len(store.workers.list())), parameters=parameters, **given))

    number = register(add=("a", "b"))
    register(sub=("a",))
    assert store.runs.parameters_of("add") == ("a", "b")
    store.workers.serve(number, frozenset(["add"]), (), {"add": ("a", "*rest"), "mul": ()})
    assert [store.runs.parameters_of(name) for name in ("add", "sub", "mul", "div")] == [
        ("a", "*rest"),
        ("a",),
        (),
        None,
    ]


@pytest.mark.parametrize("text", ["", "7", "[7]", "{", "null"])
def test_names_of_arguments_that_someone_else_wrote_are_none(store, text):
    insert = "INSERT INTO litequeue_parameters VALUES ('add', ?)"
    store.kernel.writer.run(lambda db: db.rows(insert, (text,)))
    assert store.runs.parameters_of("add") is None
