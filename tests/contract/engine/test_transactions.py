"""Transactions: jobs that commit with the caller's own rows."""

import asyncio

import pytest

from litequeue.core.engine import Feature

NEEDS = {Feature.TRANSACTION}


def test_a_job_is_there_when_the_transaction_commits(rig):
    with rig.queue.transaction():
        job = rig.tasks.add.enqueue(1)
    rig.work()
    assert job.result(5) == 2


def test_a_transaction_that_raises_leaves_no_job(rig):
    with pytest.raises(ZeroDivisionError), rig.queue.transaction():
        rig.tasks.add.enqueue(1)
        raise ZeroDivisionError
    assert rig.stored() == 0


def test_within_names_the_transaction(rig):
    with rig.queue.transaction() as connection:
        job = rig.tasks.add.using(within=connection).enqueue(1)
    rig.work()
    assert job.result(5) == 2


def test_a_coroutine_has_the_same(rig):
    async def main():
        async with rig.queue.atransaction():
            kept = await rig.tasks.add.aenqueue(1)
        with pytest.raises(ZeroDivisionError):
            async with rig.queue.atransaction():
                await rig.tasks.add.aenqueue(2)
                raise ZeroDivisionError
        return kept

    kept = asyncio.run(main())
    assert rig.stored() == 1
    rig.work()
    assert kept.result(5) == 2
