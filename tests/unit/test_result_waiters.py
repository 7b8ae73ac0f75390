"""Who waits for a job's end, in a process that hears others end it."""

import asyncio
import gc
import threading
from collections import Counter

import pytest

from contract.jobs import SUCCEEDED, Hands
from crash.watching import until
from litequeue import Queue, StoreReplaced
from litequeue.ipc import result_waiters
from litequeue.ipc.notifier import Listener
from litequeue.ipc.result_waiter import AsyncWaiter, Waiter
from litequeue.ipc.result_waiters import ALL
from litequeue.sqlite.compose.consequences import Consequences
from litequeue.sqlite.jobs import settle

DEADLINE = 20


@pytest.fixture
def listeners():
    """The threads that listen since the test began; one of a test before may yet wait for a job left behind."""

    def listening():
        return {thread for thread in threading.enumerate() if thread.name == "litequeue-listener"}

    others = listening()
    return lambda: listening() - others


@pytest.fixture
def names(database):
    """The names by which this process hears of ends."""
    return lambda: list(database.with_name("app.db-litequeue").glob("done-*"))


def wait_for_end(queue):
    @queue.task(name="never")
    def never(): ...

    with pytest.raises(TimeoutError):
        never.enqueue().result(0.01)


def await_end(queue):
    async def main():
        with pytest.raises(TimeoutError):
            await queue.task(name="awaited")(lambda: None).enqueue().aresult(0.01)

    asyncio.run(main())


def test_a_thread_that_waits_listens_itself(database, listeners, names):
    with Queue(database) as queue:
        wait_for_end(queue)
        assert listeners() == set()
        assert len(names()) == 1
    assert names() == []


def test_the_name_goes_with_a_queue_that_is_dropped(database, names):
    queue = Queue(database)
    wait_for_end(queue)
    del queue
    gc.collect()
    assert names() == []


def test_the_thread_that_listens_for_coroutines_ends_with_a_queue_that_is_dropped(database, listeners, names):
    queue = Queue(database)
    await_end(queue)
    [listener] = listeners()
    del queue
    # the thread may hold what it listens for at a collection's moment, amid a message: the next one takes it
    until(lambda: gc.collect() is not None and not listener.is_alive(), "the thread ends")
    assert names() == []


def test_the_thread_that_listens_for_coroutines_ends_with_a_queue_that_is_closed(database, listeners):
    with Queue(database) as queue:
        await_end(queue)
        [listener] = listeners()
    listener.join(DEADLINE)
    assert not listener.is_alive()


def test_a_stray_message_wakes_nobody_and_ends_nothing(database, names):
    with Queue(database) as queue:
        wait_for_end(queue)
        queue.engine.kernel.done_notifier.notify(b"\xff\xfe no text")
        queue.engine.kernel.done_notifier.notify(b"12 13")
        with pytest.raises(TimeoutError):
            queue.tasks["never"].enqueue().result(0.01)
        assert len(names()) == 1


# ---- who listens, with nothing but the notifier to rely on


def counted(queue, monkeypatch):
    """Count by name what the waits on this queue ask its file."""
    asked = Counter()

    def count(part, name):
        plain = getattr(part, name)

        def counting(*arguments):
            asked[name] += 1
            return plain(*arguments)

        monkeypatch.setattr(part, name, counting)

    for name in ("look_up", "has_ended"):
        count(queue.engine.jobs, name)
    for name in ("file_version", "ended_among", "end_of"):
        count(queue.engine.kernel.reads, name)
    return asked


def looks(asked):
    """How many waits have begun, each of which looks at its job once; and looks at jobs that may have ended."""
    return asked["look_up"] + asked["has_ended"] + asked["end_of"]


@pytest.fixture
def waiting(open_queue, monkeypatch):
    """Enqueue four jobs, and let another store, as another process would, end them one by one."""
    monkeypatch.setattr("litequeue.ipc.result_waiters.SAFETY_POLL", 3600.0)
    queue, other = open_queue(), open_queue()
    jobs = queue.task(name="add")(lambda: 5).enqueue_many([()] * 4)
    hands = Hands(other.engine)

    def end_next():
        hands.settle((hands.take(), SUCCEEDED))

    return queue, jobs, end_next, counted(queue, monkeypatch)


@pytest.fixture
def heard(monkeypatch):
    """The listeners that waits have made, and how long each listened at a time."""

    class Noted(Listener):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.spans = []
            made.append(self)

        def wait(self, timeout):
            self.spans.append(timeout)
            return super().wait(timeout)

    made = []
    monkeypatch.setattr(result_waiters, "Listener", Noted)
    return made


def listening(queue):
    return queue.engine.kernel.waiters.listener


def waits_left(jobs):
    """The waits for these jobs that are not over."""
    ids = {job.id for job in jobs}
    return [one for one in gc.get_objects() if type(one) in (Waiter, AsyncWaiter) and one.job_id in ids]


def start(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def test_when_the_thread_that_listens_leaves_another_one_does(waiting):
    _, jobs, end_next, asked = waiting
    ends = []
    started = []

    def begin(job):
        started.append(start(lambda: ends.append(job.result(DEADLINE))))
        until(lambda: looks(asked) == len(started))

    def end_each():
        for thread in started:
            end_next()
            thread.join(DEADLINE)
            assert not thread.is_alive()

    for job in jobs[:3]:
        begin(job)
    end_each()
    assert ends == [5, 5, 5]
    asked.clear()
    started.clear()
    begin(jobs[3])  # nobody listens by now: this one does
    end_each()


def test_a_thread_listens_for_the_coroutines_of_its_process_and_leaves_them_one_that_does(waiting, listeners):
    queue, jobs, end_next, asked = waiting

    async def main():
        thread = start(jobs[0].result, DEADLINE)
        until(lambda: listening(queue))
        rest = [asyncio.ensure_future(job.aresult(DEADLINE)) for job in jobs[1:3]]
        await asyncio.to_thread(until, lambda: looks(asked) == 3)
        assert listeners() == set()
        for waits in (asyncio.to_thread(thread.join, DEADLINE), *rest):
            await asyncio.to_thread(end_next)
            await waits
        assert len(listeners()) == 1

    asyncio.run(main())


def test_a_thread_that_is_told_just_before_it_listens_does_not_sleep(waiting):
    _, jobs, _, _ = waiting
    waiter = Waiter(jobs[0].id)
    waiter.wake()
    assert waiter.listen(None, 3600.0) == []


def test_a_wait_goes_on_by_looking_when_the_listener_is_closed_under_it(waiting, heard, monkeypatch):
    _, jobs, end_next, _ = waiting
    monkeypatch.setattr("litequeue.ipc.result_waiters.SAFETY_POLL", 0.01)
    thread = start(jobs[0].result, DEADLINE)
    until(lambda: heard and heard[0].spans)
    heard[0].close()
    end_next()
    thread.join(DEADLINE)
    assert not thread.is_alive()


@pytest.mark.parametrize("number", [1, 2])
def test_threads_that_wait_hear_on_when_the_queue_is_closed_under_them(waiting, number):
    queue, jobs, end_next, asked = waiting
    threads = [start(job.result, DEADLINE) for job in jobs[:number]]
    until(lambda: looks(asked) == number)
    listener = listening(queue)
    queue.close()
    until(lambda: listening(queue) not in ("", listener))
    for thread in threads:
        end_next()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_coroutines_that_wait_hear_on_when_the_queue_is_closed_under_them(waiting):
    queue, jobs, end_next, _ = waiting

    async def main():
        waits = asyncio.ensure_future(jobs[0].aresult(DEADLINE))
        await asyncio.to_thread(until, lambda: listening(queue))
        listener = listening(queue)
        await asyncio.to_thread(queue.close)
        await asyncio.to_thread(until, lambda: listening(queue) not in ("", listener))
        await asyncio.to_thread(end_next)
        assert await waits == 5

    asyncio.run(main())


@pytest.mark.parametrize("turns", range(5))
def test_a_wait_that_is_cancelled_as_it_is_told_of_something_is_cancelled(waiting, turns):
    queue, jobs, _, asked = waiting

    async def main():
        waits = asyncio.ensure_future(jobs[0].aresult(DEADLINE))
        await asyncio.to_thread(until, lambda: looks(asked) == 1)
        await queue.engine.kernel.soon(int)  # in the thread that has looked: the wait knows by now, and sleeps
        queue.engine.kernel.waiters.ended([jobs[0].id])
        for _ in range(turns):  # until what waits for the event is done, the wait is resumed, and looks again
            await asyncio.sleep(0)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waits, 5)

    asyncio.run(main())


def test_a_thread_that_waits_looks_seldom(database, driver, monkeypatch):
    with Queue(database, driver=driver) as queue:
        asked = counted(queue, monkeypatch)
        with pytest.raises(TimeoutError):
            queue.task(name="never")(lambda: None).enqueue().result(0.3)
        assert asked["has_ended"] <= 5


# ---- the look behind the notifier: one for all


@pytest.fixture
def polled(open_queue, monkeypatch):
    """A queue that looks often, and what it asks its file: the calls, by name."""
    monkeypatch.setattr("litequeue.ipc.result_waiters.SAFETY_POLL", 0.01)
    queue = open_queue()
    return queue, counted(queue, monkeypatch)


def waits_of(queue, jobs, threads):
    """Wait for the last jobs in threads, for the others in coroutines."""
    for job in jobs[len(jobs) - threads :]:
        start(lambda job=job: job.result(DEADLINE))
    return [asyncio.ensure_future(job.aresult(DEADLINE)) for job in jobs[: len(jobs) - threads]]


@pytest.mark.parametrize("threads", [0, 3, 10])
def test_waits_in_which_nothing_happens_share_one_look_at_the_version_of_the_file(polled, threads):
    queue, asked = polled
    jobs = queue.task(name="t")(lambda: 5).enqueue_many([()] * 10)

    async def main():
        waits = waits_of(queue, jobs, threads)
        await asyncio.to_thread(until, lambda: looks(asked) >= 10)
        await asyncio.to_thread(until, lambda: asked["ended_among"])
        before, seen = asked.copy(), asked["file_version"]
        await asyncio.to_thread(until, lambda: asked["file_version"] >= seen + 10)
        assert {name: asked[name] for name in before if name != "file_version"} == {
            name: before[name] for name in before if name != "file_version"
        }
        queue.worker(threads=1).run(until_idle=True)
        assert [await wait for wait in waits] == [5] * (10 - threads)

    asyncio.run(main())
    until(lambda: not waits_left(jobs))


@pytest.mark.parametrize("by", ["this store", "another"])
@pytest.mark.parametrize("threads", [0, 1, 2])
def test_an_end_of_which_nobody_was_told_is_found_by_those_who_wait_for_it(polled, open_queue, by, threads):
    queue, asked = polled
    jobs = queue.task(name="add")(lambda: 5).enqueue_many([()] * 2)
    writes = queue if by == "this store" else open_queue()
    hands = Hands(writes.engine)

    async def main():
        waits = waits_of(queue, jobs, threads)
        await asyncio.to_thread(until, lambda: looks(asked) >= 2)
        await asyncio.to_thread(until, lambda: asked["file_version"] >= 5)
        ends = [hands.end(job, SUCCEEDED) for job in hands.claim(2)]
        writes.engine.kernel.writer.run(lambda db: settle.settle(db, ends, Consequences()))
        assert [await wait for wait in waits] == [5] * (2 - threads)

    asyncio.run(main())
    until(lambda: not waits_left(jobs))


@pytest.mark.parametrize("threads", [0, 1])
def test_messages_that_were_lost_wake_those_alone_whose_jobs_have_ended(polled, open_queue, threads):
    queue, asked = polled
    jobs = queue.task(name="add")(lambda: 5).enqueue_many([()] * 10)
    hands = Hands(open_queue().engine)

    async def main():
        waits = waits_of(queue, jobs, threads)
        await asyncio.to_thread(until, lambda: looks(asked) >= 10)
        await asyncio.to_thread(until, lambda: asked["ended_among"])
        before, seen = looks(asked), asked["ended_among"]
        hands.settle((hands.take(), SUCCEEDED))
        hands.store.kernel.done_notifier.notify(ALL)
        await waits[0]
        await asyncio.to_thread(until, lambda: asked["ended_among"] > seen)
        assert looks(asked) - before == 1
        hands.settle(*((job, SUCCEEDED) for job in hands.claim(10)))
        await asyncio.gather(*waits)

    asyncio.run(main())
    until(lambda: not waits_left(jobs))


@pytest.mark.parametrize("way", ["result", "aresult"])
def test_a_wait_in_which_the_file_is_replaced_ends_with_that_error(polled, way, tmp_path):
    queue, asked = polled
    job = queue.task(name="t")(lambda: 5).enqueue()
    errors = []

    def waits():
        try:
            job.result(DEADLINE) if way == "result" else asyncio.run(job.aresult(DEADLINE))
        except StoreReplaced as error:
            errors.append(error)

    thread = start(waits)
    until(lambda: asked["file_version"] >= 2)
    queue.path.rename(tmp_path / "elsewhere.db")
    thread.join(DEADLINE)
    assert len(errors) == 1
    (tmp_path / "elsewhere.db").rename(queue.path)


def test_coroutines_go_on_by_looking_when_the_listener_is_closed_under_them(polled, heard, open_queue):
    queue, asked = polled
    job = queue.task(name="add")(lambda: 5).enqueue()
    hands = Hands(open_queue().engine)

    async def main():
        wait = asyncio.ensure_future(job.aresult(DEADLINE))
        await asyncio.to_thread(until, lambda: asked["ended_among"])
        heard[0].close()
        await asyncio.to_thread(lambda: hands.settle((hands.take(), SUCCEEDED)))
        assert await wait == 5

    asyncio.run(main())


def test_the_thread_that_listens_sleeps_when_nobody_waits_and_looks_again_when_somebody_does(polled, heard, open_queue):
    queue, asked = polled
    task = queue.task(name="add")(lambda: 5)
    hands = Hands(open_queue().engine)

    async def wait_and_end(told):
        wait = asyncio.ensure_future(task.enqueue().aresult(DEADLINE))
        seen = asked["file_version"]
        await asyncio.to_thread(until, lambda: asked["file_version"] > seen)
        end = hands.end(hands.take(), SUCCEEDED)
        if told:
            hands.store.runs.settle([end])
        else:
            hands.store.kernel.writer.run(lambda db: settle.settle(db, [end], Consequences()))
        assert await wait == 5

    asyncio.run(wait_and_end(told=True))
    until(lambda: heard[0].spans[-1] is None)
    asyncio.run(wait_and_end(told=False))
