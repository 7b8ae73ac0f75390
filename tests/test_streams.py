"""`current_job().emit()` and `job.stream()`: what a running job says, and what its readers hear."""

import asyncio
import contextvars
import subprocess
import sys
import threading
from datetime import datetime, timezone

import pytest

from crash.watching import DEADLINE, ended, until
from litequeue import (
    DecodeError,
    EmitLimit,
    EncodeError,
    Fenced,
    JobFailed,
    JobNotFound,
    Queue,
    StreamEvent,
    Unsupported,
    current_job,
)
from litequeue.core import streams
from litequeue.sqlite.streams import emitter


@pytest.fixture(params=["apsw", "sqlite3"])
def queue(request, database):
    with Queue(database, driver=request.param, durability="normal") as queue:
        yield queue


@pytest.fixture
def count(queue):
    @queue.task
    def count(to: int) -> int:
        for n in range(to):
            current_job().emit(n)
        return to

    return count


def values(events):
    return [event.value for event in events]


def test_values_come_in_their_order_and_the_stream_ends_with_the_job(queue, count):
    with queue.worker():
        assert values(count.enqueue(3).stream(timeout=DEADLINE)) == [0, 1, 2]


def test_an_event_has_a_number_a_kind_an_attempt_a_value_and_a_time(queue, count):
    with queue.worker():
        [event] = count.enqueue(1).stream(timeout=DEADLINE)
    assert isinstance(event, StreamEvent)
    assert (event.number, event.kind, event.attempt, event.value) == (1, "value", 1, 0)
    assert isinstance(event.at, datetime)
    assert event.at.tzinfo is timezone.utc


def test_a_coroutine_emits_and_a_coroutine_reads(queue):
    @queue.task
    async def count():
        for n in range(3):
            current_job().emit(n)
            await asyncio.sleep(0)

    async def read():
        return [event.value async for event in (await count.aenqueue()).stream(timeout=DEADLINE)]

    with queue.worker():
        assert asyncio.run(read()) == [0, 1, 2]


def test_a_reader_goes_on_behind_the_number_it_has(queue, count):
    with queue.worker():
        job = count.enqueue(5)
        stream = job.stream(timeout=DEADLINE)
        assert [next(stream).value, next(stream).value] == [0, 1]
        assert values(job.stream(stream.number, timeout=DEADLINE)) == [2, 3, 4]
        assert values(queue.job(job.id).stream(after=99)) == []


def test_one_stream_may_be_read_by_for_and_async_for(queue, count):
    with queue.worker():
        stream = count.enqueue(3).stream(timeout=DEADLINE)
        first = next(stream).value

        async def rest():
            return [event.value async for event in stream]

        assert (first, asyncio.run(rest())) == (0, [1, 2])


def test_values_of_many_pages_come_whole(queue, count, monkeypatch):
    monkeypatch.setattr("litequeue.sqlite.streams.reading.PAGE", 7)
    with queue.worker():
        assert values(count.enqueue(50).stream(timeout=DEADLINE)) == list(range(50))


def test_a_value_is_there_before_the_job_has_ended(queue):
    go = threading.Event()

    @queue.task
    def one():
        current_job().emit("here")
        go.wait(DEADLINE)

    with queue.worker():
        stream = one.enqueue().stream(timeout=DEADLINE)
        try:
            assert next(stream).value == "here"
        finally:
            go.set()
        assert list(stream) == []


def test_another_try_that_emits_is_an_event(queue, soon):
    @queue.task(retries=1, backoff=0)
    def flaky():
        current_job().emit(current_job().attempt)
        if current_job().attempt == 1:
            raise ValueError("no")

    with queue.worker():
        events = list(flaky.enqueue().stream(timeout=DEADLINE))
    assert [(event.number, event.kind, event.attempt, event.value) for event in events] == [
        (1, "value", 1, 1),
        (2, "attempt", 2, None),
        (3, "value", 2, 2),
    ]


def test_a_stream_waits_for_a_job_that_has_not_begun(queue, count):
    job, found = count.enqueue(2), []
    reader = threading.Thread(target=lambda: found.extend(values(job.stream(timeout=DEADLINE))))
    reader.start()
    with queue.worker():
        reader.join(DEADLINE)
    assert found == [0, 1]


def test_the_stream_of_a_job_that_is_cancelled_ends(queue, count):
    job, found = count.enqueue(2), []
    reader = threading.Thread(target=lambda: found.append(list(job.stream(timeout=DEADLINE))))
    reader.start()
    until(lambda: queue.engine.kernel.waiters.listener)
    job.cancel()
    reader.join(DEADLINE)
    assert found == [[]]


def test_a_stream_of_no_job_is_an_error(queue, count):
    job = count.enqueue(1)
    job.id = "77"
    with pytest.raises(JobNotFound, match="no job 77"):
        next(job.stream())


def test_a_timeout_covers_the_waiting_and_tells_what_the_job_does(queue, count):
    with pytest.raises(TimeoutError, match=r"job 1 .* is still queued: .*; waited 0.05 s"):
        list(count.enqueue(1).stream(timeout=0.05))

    async def read():
        return [event async for event in queue.job("1").stream(timeout="50ms")]

    with pytest.raises(TimeoutError, match=r"waited 0.05 s"):
        asyncio.run(read())


@pytest.mark.parametrize("after", [-1, 1.5, "3", True, None])
def test_a_number_that_is_none_is_refused(queue, count, after):
    with pytest.raises(ValueError, match="after must be the number of an event"):
        count.enqueue(1).stream(after)


def test_a_stream_that_is_left_leaves_nothing_behind(queue, count):
    with queue.worker():
        job = count.enqueue(3)
        for _event in job.stream(timeout=DEADLINE):
            break
        waiters = queue.engine.kernel.waiters
        assert waiters.waits(waiters._reads.directory) == []

        async def leave():
            reader = asyncio.ensure_future(anext_of(count.using(delay=60).enqueue(1).stream()))
            await asyncio.sleep(0.01)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

        asyncio.run(leave())
        assert waiters.waits(waiters._reads.directory) == []


async def anext_of(stream):
    return await stream.__anext__()


def test_many_readers_of_one_process_share_one_thread(queue, count):
    async def read():
        jobs = [count.using(delay=0.2).enqueue(2) for _ in range(5)]

        async def one(job):
            return [event.value async for event in job.stream(timeout=DEADLINE)]

        readers = [asyncio.ensure_future(one(job)) for job in jobs * 10]
        await asyncio.sleep(0.05)
        listening = [each for each in threading.enumerate() if each.name == "litequeue-listener"]
        return len(listening), await asyncio.gather(*readers)

    with queue.worker():
        listening, found = asyncio.run(read())
    assert (listening, found) == (1, [[0, 1]] * 50)


# ---- what may be emitted


def test_a_value_may_be_what_a_result_may_be(queue):
    @queue.task
    def some():
        for value in (None, 1.5, "ä", [1, {"a": None}], (1, 2), datetime(2026, 1, 2, tzinfo=timezone.utc)):
            current_job().emit(value)

    with queue.worker():
        found = values(some.enqueue().stream(timeout=DEADLINE))
    assert found == [None, 1.5, "ä", [1, {"a": None}], [1, 2], "2026-01-02T00:00:00Z"]


def test_a_value_that_cannot_be_stored_is_refused_where_it_is_emitted(queue):
    @queue.task
    def bad():
        with pytest.raises(EncodeError, match=r"cannot store value\['f'\]: builtin_function_or_method is not"):
            current_job().emit({"f": print})
        current_job().emit("good")

    with queue.worker():
        job = bad.enqueue()
        assert values(job.stream(timeout=DEADLINE)) == ["good"]
        assert ended(job).status == "succeeded"


def test_a_run_emits_so_many_values_and_no_more(queue, monkeypatch):
    monkeypatch.setattr(streams, "MOST_VALUES", 3)

    @queue.task
    def much():
        for n in range(3):
            current_job().emit(n)
        with pytest.raises(EmitLimit, match="run 1 of job 1 has emitted 3 values, as many as a run may; emit several"):
            current_job().emit(3)

    with queue.worker():
        job = much.enqueue()
        assert values(job.stream(timeout=DEADLINE)) == [0, 1, 2]
        assert ended(job).status == "succeeded"


def test_a_run_emits_so_many_bytes_and_no_more(queue):
    @queue.task
    def much():
        current_job().emit("x" * 1_000_000)
        with pytest.raises(EmitLimit, match=r"1,000,002 bytes, and 100,002 more would pass the 1,048,576 of a run; st"):
            current_job().emit("x" * 100_000)
        current_job().emit("fits")

    with queue.worker():
        job = much.enqueue()
        assert values(job.stream(timeout=DEADLINE)) == ["x" * 1_000_000, "fits"]
        assert ended(job).status == "succeeded"


def test_another_run_may_emit_as_much_again(queue, soon, monkeypatch):
    monkeypatch.setattr(streams, "MOST_VALUES", 2)

    @queue.task(retries=1, backoff=0)
    def again():
        current_job().emit(1)
        current_job().emit(2)
        if current_job().attempt == 1:
            raise ValueError

    with queue.worker():
        assert len(list(again.enqueue().stream(timeout=DEADLINE))) == 5


def test_threads_of_a_run_emit_together(queue):
    @queue.task
    def threads():
        copies = [contextvars.copy_context() for _ in range(4)]

        def some():
            for n in range(50):
                current_job().emit(n)

        started = [threading.Thread(target=copy.run, args=(some,)) for copy in copies]
        for each in started:
            each.start()
        for each in started:
            each.join()

    with queue.worker():
        events = list(threads.enqueue().stream(timeout=DEADLINE))
    assert [event.number for event in events] == list(range(1, 201))
    assert sorted(values(events)) == sorted(list(range(50)) * 4)


def test_a_run_that_has_lost_its_job_may_not_emit(queue, monkeypatch):
    monkeypatch.setattr(emitter, "GATHER", 0.001)
    fenced = []

    @queue.task
    def slow():
        if current_job().attempt == 1:
            queue.engine.runs.rescue(int(queue.engine.jobs.look_up(current_job().id).worker), None, blame=False)
            try:
                until(lambda: current_job().emit("late"))
            except Fenced as error:
                fenced.append(str(error))
                raise
        current_job().emit("in time")

    job = slow.enqueue()
    with queue.worker(threads=2):
        assert values(job.stream(timeout=DEADLINE)) == ["in time"]
        until(lambda: fenced)
    assert fenced == ["another worker has job 1 by now; run 1 may not emit any more"]


def test_nothing_can_be_emitted_after_completing(queue):
    @queue.task
    def pay():
        with current_job().completing("receipt"):
            current_job().emit("paid")
        with pytest.raises(Unsupported, match=r"has ended with completing\(\); emit before the end of that block"):
            current_job().emit("late")
        raise ValueError("is not told: the job has ended")

    with queue.worker():
        job = pay.enqueue()
        assert values(job.stream(timeout=DEADLINE)) == ["paid"]
        assert job.result(DEADLINE) == "receipt"


def test_a_codec_reads_what_it_has_written(database):
    class Reversed:
        name = "reversed"

        def encode(self, value):
            return repr(value).encode()[::-1]

        def decode(self, data):
            return eval(data[::-1].decode())

    with Queue(database, codec=Reversed()) as queue, queue.worker():

        @queue.task
        def some():
            current_job().emit({(1, 2)})

        job = some.enqueue()
        assert values(job.stream(timeout=DEADLINE)) == [{(1, 2)}]
    with Queue(database) as plain, pytest.raises(DecodeError):
        list(plain.job(job.id).stream())


def test_a_value_that_cannot_be_read_is_no_loss_of_its_place(database, queue, count):
    with queue.worker():
        job = count.enqueue(2)
        stream = job.stream(timeout=DEADLINE)
        stream._values = None
        with pytest.raises(AttributeError):
            next(stream)
        assert stream.number == 0


def test_an_error_of_the_limit_fails_the_job(queue, monkeypatch):
    monkeypatch.setattr(streams, "MOST_VALUES", 1)

    @queue.task
    def much():
        current_job().emit(1)
        current_job().emit(2)

    with queue.worker(), pytest.raises(JobFailed, match=r"litequeue.EmitLimit: run 1 of job 1 has emitted 1 values"):
        much.enqueue().result(DEADLINE)


# ---- other processes


PROGRAM = """
import sys, time
from litequeue import Queue, current_job
queue = Queue(sys.argv[1], durability="normal")
@queue.task
def tick(to: int):
    for n in range(to):
        current_job().emit(n)
        time.sleep(0.01)
if __name__ == "__main__":
    queue.worker().run()
"""


@pytest.fixture
def ticking(tmp_path, database):
    """A worker in a process of its own."""
    (tmp_path / "ticking.py").write_text(PROGRAM)
    process = subprocess.Popen([sys.executable, "ticking.py", str(database)], cwd=tmp_path)
    yield process
    process.kill()
    process.wait()


def test_a_reader_in_another_process_follows_as_it_is_emitted(database, ticking):
    with Queue(database, durability="normal") as queue:
        job = queue.enqueue("tick", 20)
        seen = [(event.value, queue.job(job.id).status) for event in job.stream(timeout=DEADLINE)]
    assert [value for value, _ in seen] == list(range(20))
    assert "running" in {status for _, status in seen}


def test_what_a_reader_has_seen_stays_when_the_process_is_killed(database, ticking):
    with Queue(database, durability="normal") as queue:
        job = queue.enqueue("tick", 100_000)
        stream = job.stream(timeout=DEADLINE)
        seen = [next(stream) for _ in range(5)]
        ticking.kill()
        ticking.wait()
        again = job.stream(timeout=DEADLINE)
        assert [next(again) for _ in range(5)] == seen


def test_a_stream_of_a_job_that_is_deleted_at_its_end_ends_though_it_was_silent(queue):
    go = threading.Event()

    @queue.task(result_ttl=0)
    def silent() -> None:
        go.wait(20)

    async def areads(job):
        return [event async for event in job.stream(timeout=20)]

    for reads in (lambda job: list(job.stream(timeout=20)), lambda job: asyncio.run(areads(job))):
        go.clear()
        with queue.worker(threads=1):
            job, found = silent.enqueue(), []
            reader = threading.Thread(target=lambda reads=reads, job=job, found=found: found.append(reads(job)))
            reader.start()
            until(lambda: queue.engine.kernel.waiters._table)
            go.set()
            reader.join(20)
        assert found == [[]]


def test_nothing_is_told_after_the_end_of_completing(queue):
    told = []

    @queue.task
    def pays() -> None:
        with current_job().completing("paid"):
            pass
        for late in (lambda: current_job().progress(1), lambda: current_job().completing("again")):
            try:
                late()
            except Unsupported as error:
                told.append(str(error))

    with queue.worker(threads=1):
        assert pays.enqueue().result(timeout=20) == "paid"
    assert len(told) == 2
    assert all("has ended with completing(); " in text for text in told)
