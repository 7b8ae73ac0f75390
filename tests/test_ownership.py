"""Whose a transaction is: the block's own context's, and nobody's who was started inside it."""

import asyncio
import contextlib
import sys
import threading
from collections import deque
from contextvars import Context, copy_context

import pytest

from litequeue import StoreError, Unsupported, current_job

DEADLINE = 20.0
COPIED = r"copy of the context.*using\(within=db\)"


@pytest.fixture
def add(queue):
    @queue.task(name="add")
    def add(a=0): ...

    return add


class Scheduler:
    """Runs generators in turn in this thread, each in a copy of the context it was started in, as trio does."""

    def __init__(self):
        self._ready = deque()

    def start(self, generator):
        self._ready.append((copy_context(), generator))

    def run(self):
        while self._ready:
            context, generator = self._ready.popleft()
            with contextlib.suppress(StopIteration):
                context.run(next, generator)
                self._ready.append((context, generator))


def test_a_task_started_in_a_block_is_refused_there_and_not_lost_with_its_rollback(queue, add):
    scheduler, told = Scheduler(), []

    def child():
        with pytest.raises(StoreError, match=COPIED):
            add.enqueue("child")
        told.append("child was refused")
        yield

    def parent():
        with contextlib.suppress(ZeroDivisionError), queue.transaction():
            add.enqueue("parent")
            scheduler.start(child())
            yield
            yield
            raise ZeroDivisionError

    scheduler.start(parent())
    scheduler.run()
    assert told == ["child was refused"]
    assert queue.jobs() == []
    assert add.enqueue("after") == queue.jobs()[0]


def test_a_task_that_was_there_before_the_block_and_others_like_it_are_not_in_it(queue, add):
    """It inherits nothing: on another thread it waits for its turn."""
    jobs, inside = [], threading.Event()

    def other():
        assert inside.wait(DEADLINE)
        jobs.append(add.enqueue("other"))

    thread = threading.Thread(target=Context().run, args=(other,))
    thread.start()
    with contextlib.suppress(ZeroDivisionError), queue.transaction():
        inside.set()
        raise ZeroDivisionError
    thread.join(DEADLINE)
    assert queue.jobs() == jobs


@pytest.mark.parametrize(
    "call",
    [
        lambda queue, add, job: add.enqueue(1),
        lambda queue, add, job: add.enqueue_many([(1,), (2,)]),
        lambda queue, add, job: job.cancel(),
        lambda queue, add, job: job.result(timeout=DEADLINE),
        lambda queue, add, job: queue.transaction().__enter__(),
        lambda queue, add, job: queue.schedules.remove("none"),
        lambda queue, add, job: queue.close(),
    ],
    ids=["enqueue", "enqueue_many", "cancel", "result", "transaction", "schedules", "close"],
)
def test_what_would_wait_for_the_block_in_a_copied_context_is_refused_at_once(queue, add, call):
    job = add.enqueue(0)
    with queue.transaction(), pytest.raises(StoreError, match=r"copy of the context|inside a transaction"):
        copy_context().run(call, queue, add, job)
    assert queue.jobs() == [job]


def test_a_copied_context_is_let_into_the_block_with_the_blocks_own_connection(queue, add):
    with queue.transaction() as db:
        copy_context().run(add.using(within=db).enqueue, 1)
    assert len(queue.jobs()) == 1


def test_a_block_inside_a_copied_context_is_its_own(queue, add):
    def block():
        with queue.transaction():
            return add.enqueue(1)

    assert copy_context().run(block) == queue.jobs()[0]


def test_a_block_that_is_closed_in_another_context_than_it_was_opened_in_ends_as_any(queue, add):
    @contextlib.contextmanager
    def block():
        with queue.transaction() as db:
            yield db

    for _ in range(2):
        scope = contextlib.ExitStack()
        copy_context().run(scope.enter_context, block())
        scope.close()
    scope.enter_context(block())
    add.enqueue("inside")
    copy_context().run(scope.close)
    assert [add.enqueue("after"), *queue.jobs()[1:]] == queue.jobs()
    assert len(queue.jobs()) == 2


def test_a_generator_that_stands_in_a_block_and_is_thrown_away_rolls_back(queue, add):
    def block():
        with queue.transaction():
            add.enqueue(1)
            yield

    generator = block()
    copy_context().run(next, generator)
    generator.close()
    assert queue.jobs() == []
    add.enqueue(2)


# asyncio


def test_coroutines_awaited_in_the_block_are_inside_it(queue, add):
    async def deeper():
        await asyncio.sleep(0)
        return await add.aenqueue(1)

    async def main():
        async with queue.atransaction():
            await deeper()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    assert queue.jobs() == []


def test_a_coroutine_awaited_in_a_plain_block_is_inside_it(queue, add):
    async def main():
        with queue.transaction():
            await asyncio.sleep(0)
            add.enqueue(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    assert queue.jobs() == []


def test_another_coroutine_of_the_loop_of_a_plain_block_is_refused_at_once(queue, add):
    async def main():
        inside, over = asyncio.Event(), asyncio.Event()

        async def holder():
            with queue.transaction():
                inside.set()
                await over.wait()

        holding = asyncio.create_task(holder())
        await inside.wait()
        with pytest.raises(StoreError, match="use the async method"):
            add.enqueue(1)
        other = asyncio.create_task(add.aenqueue(2))  # waits for its turn
        over.set()
        await holding
        return await other

    assert [asyncio.run(main())] == queue.jobs()


def test_a_loop_that_runs_inside_a_plain_block_is_refused_at_once(queue, add):
    async def main():
        await add.aenqueue(1)

    with queue.transaction(), pytest.raises(StoreError, match=COPIED):
        asyncio.run(main())
    assert queue.jobs() == []


def test_a_child_task_waits_for_its_turn_and_is_not_lost(queue, add):
    async def main():
        with contextlib.suppress(ZeroDivisionError):
            async with queue.atransaction():
                child = asyncio.create_task(add.aenqueue("child"))
                await asyncio.sleep(0)
                raise ZeroDivisionError
        return await child

    assert [asyncio.run(main())] == queue.jobs()


def test_a_thread_of_to_thread_waits_for_its_turn_and_is_not_lost(queue, add):
    async def main():
        with contextlib.suppress(ZeroDivisionError):
            async with queue.atransaction():
                child = asyncio.create_task(asyncio.to_thread(add.enqueue, "child"))
                await asyncio.sleep(0)
                raise ZeroDivisionError
        return await child

    assert [asyncio.run(main())] == queue.jobs()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks take a context since 3.11")
def test_of_two_tasks_that_share_a_context_only_the_one_of_the_block_is_inside(queue, add):
    async def main():
        context, inside, over = copy_context(), asyncio.Event(), asyncio.Event()

        async def holder():
            async with queue.atransaction():
                inside.set()
                await over.wait()
                raise ZeroDivisionError

        holding = asyncio.create_task(holder(), context=context)
        await asyncio.wait_for(inside.wait(), DEADLINE)
        other = asyncio.create_task(add.aenqueue(1), context=context)
        over.set()
        with pytest.raises(ZeroDivisionError):
            await holding
        return await other

    assert [asyncio.run(main())] == queue.jobs()


def test_a_callback_of_the_loop_is_not_inside(queue, add):
    async def main():
        told = asyncio.get_running_loop().create_future()

        def call():
            try:
                add.enqueue(1)
            except StoreError as error:
                told.set_result(str(error))

        async with queue.atransaction():
            asyncio.get_running_loop().call_soon(call)
            return await asyncio.wait_for(told, DEADLINE)

    assert "use the async method" in asyncio.run(main())
    assert queue.jobs() == []


def test_a_copied_context_is_not_inside_completing_either(queue):
    @queue.task
    def work():
        with current_job().completing("done"), pytest.raises(StoreError, match=COPIED):
            copy_context().run(work.enqueue)
        return "not stored"

    job = work.enqueue()
    queue.worker(threads=1).run(until_idle=True)
    assert job.result(timeout=0) == "done"
    assert queue.jobs() == [job]


def test_greenlets_are_told_apart_but_share_a_block_where_they_share_its_context(queue, add):
    """As SQLAlchemy's `greenlet_spawn` does."""
    greenlet = pytest.importorskip("greenlet")
    with contextlib.suppress(ZeroDivisionError), queue.transaction():
        sharing = greenlet.greenlet(add.enqueue)
        sharing.gr_context = greenlet.getcurrent().gr_context
        sharing.switch("inside")
        copied = greenlet.greenlet(add.enqueue)
        copied.gr_context = copy_context()
        with pytest.raises(StoreError, match=COPIED):
            copied.switch("outside")
        raise ZeroDivisionError
    assert queue.jobs() == []


# trio and Twisted


def test_under_trio_a_child_of_the_block_is_refused_and_a_thread_waits_for_its_turn(queue, add):
    trio = pytest.importorskip("trio")

    async def child(refused):
        with pytest.raises(StoreError, match=COPIED):
            add.enqueue("child")
        refused.set()

    async def main():
        refused = trio.Event()
        async with trio.open_nursery() as nursery:
            with contextlib.suppress(ZeroDivisionError), queue.transaction():
                add.enqueue("parent")
                nursery.start_soon(child, refused)
                nursery.start_soon(trio.to_thread.run_sync, add.enqueue, "thread")
                with trio.fail_after(DEADLINE):
                    await refused.wait()
                raise ZeroDivisionError

    trio.run(main)
    assert [job.refresh().task for job in queue.jobs()] == ["add"]


@pytest.mark.parametrize(
    "call",
    [
        lambda queue, add, job: add.aenqueue(1),
        lambda queue, add, job: add.using(key="k").aenqueue(1),
        lambda queue, add, job: add.aenqueue_many([(1,)]),
        lambda queue, add, job: job.aresult(timeout=DEADLINE),
        lambda queue, add, job: job,
        lambda queue, add, job: job.acancel(),
        lambda queue, add, job: job.aretry(),
        lambda queue, add, job: job.arefresh(),
        lambda queue, add, job: queue.ajob(job.id),
        lambda queue, add, job: queue.ajobs(),
        lambda queue, add, job: queue.atransaction().__aenter__(),
        lambda queue, add, job: queue.worker().__aenter__(),
    ],
    ids=[
        *("aenqueue", "with a key", "aenqueue_many", "aresult", "await job", "acancel", "aretry", "arefresh", "ajob"),
        *("ajobs", "atransaction", "worker"),
    ],
)
@pytest.mark.parametrize("runner", ["trio", "none"])
def test_an_async_method_without_asyncio_says_so_at_once_and_does_nothing(queue, add, call, runner):
    job = add.enqueue(0)

    async def main():
        await call(queue, add, job)

    with pytest.raises(Unsupported, match=r"task of asyncio.*trio\.to_thread\.run_sync\(task\.enqueue"):
        if runner == "trio":
            pytest.importorskip("trio").run(main)
        else:
            main().send(None)
    assert [str(each.status) for each in queue.jobs()] == ["queued"]


@pytest.mark.parametrize("what", ["aprogress", "acompleting"])
def test_inside_a_job_that_runs_trio_the_async_methods_say_so_too(queue, what):
    trio = pytest.importorskip("trio")

    @queue.task
    def work():
        async def main():
            job = current_job()
            with pytest.raises(Unsupported, match="trio"):
                await (job.aprogress(1, 2) if what == "aprogress" else job.acompleting(1).__aenter__())
            return "refused"

        return trio.run(main)

    job = work.enqueue()
    queue.worker(threads=1).run(until_idle=True)
    assert job.result(timeout=0) == "refused"


def test_in_twisted_a_function_started_inside_the_block_is_refused(queue, add):
    defer = pytest.importorskip("twisted.internet.defer")
    gate, told = defer.Deferred(), []

    @defer.inlineCallbacks
    def child():
        yield gate
        try:
            add.enqueue("child")
        except StoreError as error:
            told.append(str(error))

    with contextlib.suppress(ZeroDivisionError), queue.transaction():
        started = child()
        gate.callback(None)
        raise ZeroDivisionError
    assert started.called
    assert "copy of the context" in told[0]
    assert queue.jobs() == []


def test_a_call_of_the_main_thread_that_did_not_inherit_the_block_is_refused_at_once(queue, add):
    """As a callback of Twisted's reactor, or a task of trio's that began before the block."""
    add.enqueue(0)
    with queue.transaction(), pytest.raises(StoreError, match="main thread has a transaction on this queue open"):
        Context().run(add.enqueue, 1)
    assert len(queue.jobs()) == 1
    assert add.enqueue(2)


def test_a_call_of_a_pools_thread_waits_where_another_thread_ends_the_block(queue, add):
    """As where FastAPI enters a dependency in one thread of its pool, and leaves it in another."""
    block = queue.transaction()
    began, ended = threading.Event(), []

    def pooled():
        copy_context().run(block.__enter__)
        began.set()
        ended.append(Context().run(add.enqueue, 1))

    thread = threading.Thread(target=pooled)
    thread.start()
    assert began.wait(30)
    block.__exit__(None, None, None)
    thread.join(30)
    assert [job.id for job in ended] == [job.id for job in queue.jobs()]
