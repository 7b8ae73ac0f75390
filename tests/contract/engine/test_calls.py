"""Calls: what is enqueued arrives, and what cannot be is refused before anything is stored."""

import asyncio
import re
from datetime import date
from uuid import UUID

import pytest

from contract.engine.app import Point
from contract.engine.needing import needs
from litequeue import EncodeError, PayloadTooLarge
from litequeue.core.engine import Feature

WHO = UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize("name", ["add", "aadd"])
def test_a_call_is_run_and_its_result_comes_back(rig, name):
    task = getattr(rig.tasks, name)
    jobs = [task.enqueue(2, 3), task.enqueue(2), task.enqueue(b=5, a=1)]
    rig.work()
    assert [job.result(5) for job in jobs] == [5, 3, 6]


@pytest.mark.parametrize(
    "value",
    [None, True, -7, 2**60, 1.5, "", "Grüße, 世界 🦜\n\t\\\"'\x7f", [1, [2, []]], {"a": {"b": [None]}}, {}],
    ids=str,
)
def test_a_plain_value_comes_back_as_it_was(rig, value):
    job = rig.tasks.echo.enqueue(value)
    rig.work()
    assert job.result(5) == value


def test_arguments_and_results_have_the_types_of_the_signature(rig):
    job = rig.tasks.point.enqueue(Point(1, 2), date(2024, 2, 28), who=WHO)
    rig.work()
    assert job.result(5) == (Point(1, 2), date(2024, 2, 29), WHO)


def test_a_masked_argument_reaches_the_function(rig):
    job = rig.tasks.login.enqueue("ann", password="secret")
    rig.work()
    assert job.result(5) == "ann:6"
    assert "secret" not in repr(job)


@pytest.mark.parametrize("call", [((), {}), ((1, 2, 3), {}), ((1,), {"c": 2})], ids=str)
def test_arguments_that_do_not_fit_the_signature_are_refused(rig, call):
    with pytest.raises(TypeError):
        rig.tasks.add.enqueue(*call[0], **call[1])
    assert rig.stored() == 0


def test_a_value_that_cannot_be_encoded_is_refused(rig):
    with pytest.raises(EncodeError):
        rig.tasks.echo.enqueue(object())
    assert rig.stored() == 0


def test_a_call_that_is_too_large_is_refused_and_a_large_one_arrives(open_rig):
    rig = open_rig(max_payload=300_000)
    with pytest.raises(PayloadTooLarge):
        rig.tasks.echo.enqueue("x" * 300_001)
    assert rig.stored() == 0
    with pytest.warns(UserWarning, match="pass an id or a path"):
        job = rig.tasks.echo.enqueue("x" * 290_000)
    rig.work()
    assert job.result(5) == "x" * 290_000


def test_a_limit_that_is_smaller_than_what_is_warned_of_holds_too(open_rig):
    rig = open_rig(max_payload=100)
    with pytest.raises(PayloadTooLarge, match="more than max_payload=100"):
        rig.tasks.echo.enqueue("x" * 101)
    with pytest.raises(PayloadTooLarge):
        rig.tasks.echo.enqueue_many([("x",), ("x" * 101,)])
    assert rig.stored() == 0


def test_a_codec_of_the_applications_own_is_used(open_rig):
    class Hexadecimal:
        def encode(self, value):
            import json

            return json.dumps(value).encode().hex().encode()

        def decode(self, data):
            import json

            return json.loads(bytes.fromhex(data.decode()))

    rig = open_rig(codec=Hexadecimal())
    job = rig.tasks.echo.enqueue(["ü", 1])
    rig.work()
    assert job.result(5) == ["ü", 1]
    assert b"\xc3" not in rig.engine.jobs.look_up(job.id).payload


def test_a_call_from_a_coroutine_is_the_same(rig):
    async def enqueue():
        return [await rig.tasks.add.aenqueue(1), *await rig.tasks.add.aenqueue_many([(2,), {"a": 3, "b": 0}])]

    jobs = asyncio.run(enqueue())
    rig.work()
    assert [job.result(5) for job in jobs] == [2, 3, 3]


@needs(Feature.ATOMIC_BATCH)
def test_of_many_calls_all_are_stored_or_none(rig):
    with pytest.raises(TypeError):
        rig.tasks.add.enqueue_many([(1,), (1, 2, 3)])
    assert rig.stored() == 0
    jobs = rig.tasks.add.enqueue_many([(number,) for number in range(20)])
    rig.work()
    assert [job.result(5) for job in jobs] == list(range(1, 21))
    assert rig.tasks.add.enqueue_many([]) == []


def test_ids_are_words_that_are_never_given_twice(rig):
    ids = [rig.tasks.add.enqueue(1).id for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9._:~-]{1,200}", job_id) for job_id in ids)


def test_a_run_knows_which_job_it_is(rig):
    job = rig.tasks.identity.enqueue()
    other = rig.tasks.identity.enqueue()
    rig.work()
    job_id, attempt, key, idempotency_key = job.result(5)
    assert (job_id, attempt, key) == (job.id, 1, None)
    assert idempotency_key != other.result(5)[3]
