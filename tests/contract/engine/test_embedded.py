"""Embedded: a worker inside the program."""

import asyncio

from litequeue.core.engine import Feature

NEEDS = {Feature.EMBEDDED}


def test_a_worker_runs_beside_the_block(rig):
    with rig.queue.worker(threads=2):
        assert rig.tasks.add.enqueue(1).result(10) == 2


def test_a_worker_runs_beside_a_coroutine(rig):
    async def main():
        async with rig.queue.worker(threads=2):
            return await (await rig.tasks.aadd.aenqueue(1)).aresult(10)

    assert asyncio.run(main()) == 2
