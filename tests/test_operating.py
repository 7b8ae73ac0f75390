"""Limits and pauses at run time as an application and the command line use them."""

import asyncio
import threading

import pytest

from contract.jobs import Hands
from crash.watching import until
from litequeue import LimitNotFound, Queue
from litequeue.cli.closing import say_stopped


@pytest.fixture
def queue(database):
    with Queue(database, durability="normal") as queue:
        yield queue


def test_a_process_that_declares_nothing_sees_and_changes_the_limits(queue, database):
    @queue.task(limits=[queue.limit("openai", concurrency=8, rate="500/m")], concurrency=2)
    def ask() -> None: ...

    with queue.worker(), Queue(database) as bare:
        until(lambda: len(bare.limits) == 2)
        assert [limit.name for limit in bare.limits] == ["openai", ask.name]
        assert "openai" in bare.limits
        assert "other" not in bare.limits
        limit = bare.limits["openai"]
        assert (limit.concurrency, limit.rate, limit.smooth, limit.tasks) == (8, "500/m", False, (ask.name,))
        assert limit.set(rate="250/m")
        again = queue.limits["openai"]
        assert (again.rate, again.operator, again.declared["rate"]) == (
            "250/m",
            {"rate": "250/m", "smooth": False},
            "500/m",
        )
        assert again.operator_at is not None
        assert repr(again) == "<StoredLimit openai 8 at once, 250/m running=0>"
        assert again.reset()
        assert bare.limits["openai"].operator is None
        with pytest.raises(LimitNotFound, match="did you mean 'openai'"):
            bare.limits["open_ai"]


def test_coroutines_see_and_change_the_same(queue):
    queue.task(concurrency=2, name="ask")(lambda: None)

    async def operate():
        async with queue.worker():
            [limit] = [limit async for limit in queue.limits]
            assert await limit.aset(concurrency=1)
            assert (await queue.limits.aget("ask")).concurrency == 1
            assert await limit.areset()
            assert await queue.apause("email")
            assert [(each.kind, each.name) for each in await queue.apauses()] == [("queue", "email")]
            assert await queue.aresume("email")

    asyncio.run(operate())


@pytest.mark.parametrize("settings", [{}, {"many": 3}, {"concurrency": 0}, {"rate": 5}, {"smooth": "yes"}])
def test_what_no_limit_takes_is_refused_with_what_to_give(queue, settings):
    queue.task(concurrency=2, name="ask")(lambda: None)
    with queue.worker():
        limit = queue.limits["ask"]
    with pytest.raises((TypeError, ValueError), match=r"give concurrency=|pause the queue|rate must be|smooth must be"):
        limit.set(**settings)


def test_a_paused_task_starts_nothing_until_it_is_resumed_from_elsewhere(queue, database):
    ran = threading.Event()
    paused = queue.task(name="paused")(ran.set)
    other = queue.task(name="other")(lambda: None)
    assert queue.pause(task=paused)
    assert not queue.pause(task="paused")
    with queue.worker(threads=1):
        job = paused.enqueue()
        other.enqueue().result(10)
        assert not ran.is_set()
        assert job.why().startswith("its task 'paused' is paused, since ")
        with pytest.raises(TimeoutError, match="is still queued: its task 'paused' is paused"):
            job.result(0)
        with Queue(database) as bare:
            assert bare.resume(task="paused")
        assert ran.wait(10)


@pytest.mark.parametrize(
    ("given", "error"),
    [((), TypeError), (("a", "b"), TypeError), (("",), ValueError), (("a,b",), ValueError)],
)
def test_a_pause_is_of_one_queue_or_one_task(queue, given, error):
    names = dict(zip(("queue", "task"), given, strict=False))
    with pytest.raises(error):
        queue.pause(**names)
    assert queue.pauses == []


def test_the_closing_line_counts_what_is_paused_and_what_waits_for_a_limit(queue, caplog):
    alone = queue.task(name="alone", concurrency=1)(lambda: None)
    keyed = queue.task(name="keyed", concurrency=1, limit_key="{user}")(lambda user: None)
    paused = queue.task(name="paused", queue="email")(lambda: None)
    worker = queue.worker()
    with worker:
        pass
    for job in (alone, alone, paused):
        job.enqueue()
    keyed.enqueue_many([("a",), ("a",)])
    queue.pause("email")
    hands = Hands(queue.engine, "alone", "keyed")
    assert len(hands.claim(10)) == 2
    with caplog.at_level("INFO", "litequeue"):
        say_stopped(worker, queue, queue.engine, counts_left=True)
    assert "left: 1 paused, 2 waiting for a limit" in caplog.text
