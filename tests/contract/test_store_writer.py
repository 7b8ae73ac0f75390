"""Group commit: many callers share transactions, and none of them harms or blocks another."""

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import threading
import types
from collections import Counter

import msgspec
import pytest

from contract.jobs import Hands, new, put
from contract.writing import is_taken, until_backlog
from crash.watching import until
from litequeue.core.owner_process import NOBODY
from litequeue.errors import Fenced, KeyConflict, StoreBusy, StoreError, StoreReplaced
from litequeue.ipc.process_lock import directory_of
from litequeue.sqlite.commit import commit_queue as line
from litequeue.sqlite.commit import fair_lock
from litequeue.sqlite.commit.fair_lock import FairLock
from litequeue.sqlite.commit.writer import LARGEST_BATCH, WAITED, Writer
from litequeue.sqlite.drivers import connection

DEADLINE = 30.0


@pytest.fixture
def add(queue):
    @queue.task(name="add")
    def add(a=0): ...

    return add


@pytest.fixture
def threads():
    """Run functions at once, each in a thread; return what each returned or raised, in their order."""

    def running(*functions):
        ends: list = [None] * len(functions)

        def run(place):
            try:
                ends[place] = functions[place]()
            except BaseException as error:
                ends[place] = error

        started = [threading.Thread(target=run, args=(place,), daemon=True) for place in range(len(functions))]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join(DEADLINE)
        assert not any(thread.is_alive() for thread in started)
        return ends

    return running


@pytest.fixture
def writer(store):
    return store.kernel.writer


@pytest.fixture
def line_up(writer, threads):
    """Let these works, and so many others, line up behind a caller that holds the lead: they make one batch."""

    def lining(*works, beside=0):
        begun, go = threading.Event(), threading.Event()

        def first(db):
            begun.set()
            assert go.wait(DEADLINE)
            return "first"

        def later(work):
            def run():
                begun.wait(DEADLINE)
                return writer.run(work)

            return run

        def open_the_gate():
            begun.wait(DEADLINE)
            until_backlog(writer, len(works) + beside)
            go.set()

        first_end, *ends, _ = threads(lambda: writer.run(first), *map(later, works), open_the_gate)
        assert first_end == "first"
        return ends

    return lining


def insert(task="add", payload=b"[]", key=None):
    from litequeue.sqlite.jobs import enqueue

    return lambda db: connection.perform(db, enqueue.submit(new(task, payload=payload, key=key))).id


def boom(db):
    raise ZeroDivisionError


def test_a_write_beside_a_first_import_of_asyncio_in_another_thread_goes_through(queue, add, monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncio", types.ModuleType("asyncio"))
    with queue.transaction():
        job = add.enqueue(1)
    assert queue.jobs() == [job]


# Many callers


def test_sixteen_threads_enqueue_at_once(queue, add, threads):
    ends = threads(*[lambda: [add.enqueue(1).id for _ in range(20)]] * 16)
    ids = [job_id for end in ends for job_id in end]
    assert len(set(ids)) == 320 == len(queue.jobs(limit=1000))


def test_sixty_four_coroutines_enqueue_at_once(queue, add):
    async def main():
        return await asyncio.gather(*[add.aenqueue(number) for number in range(64)])

    jobs = asyncio.run(main())
    assert len(set(jobs)) == 64 == len(queue.jobs())


def test_coroutines_whose_jobs_share_a_commit_ring_once_and_each_commit_is_notified_for(queue, add, monkeypatch):
    add.enqueue(0)
    store, notified = queue.engine, []
    monkeypatch.setattr(store.kernel.notifier, "notify", lambda _: notified.append(store.kernel.writer.commits))

    async def main():
        before = store.kernel.writer.commits
        await asyncio.gather(*[add.aenqueue(number) for number in range(64)])
        assert notified[-1] == store.kernel.writer.commits
        assert len(notified) <= store.kernel.writer.commits - before < 32

    asyncio.run(main())
    for _ in range(2):
        notified.clear()
        add.enqueue(1)
        assert notified == [store.kernel.writer.commits]


def test_threads_and_loops_enqueue_at_once(queue, add, threads):
    async def main():
        return [job.id for job in await asyncio.gather(*[add.aenqueue(number) for number in range(16)])]

    ends = threads(*[lambda: asyncio.run(main())] * 4, *[lambda: [add.enqueue(1).id for _ in range(16)]] * 4)
    assert len({job_id for end in ends for job_id in end}) == 128


def test_one_refused_coroutine_does_not_harm_the_others(queue, add):
    add.using(key="k").enqueue(1)

    async def main():
        calls = [add.aenqueue(number) for number in range(63)]
        calls.insert(30, add.using(key="k").aenqueue(2))
        return await asyncio.gather(*calls, return_exceptions=True)

    ends = asyncio.run(main())
    assert isinstance(ends.pop(30), KeyConflict)
    assert len({job.id for job in ends}) == 63


def test_callers_that_wait_share_one_transaction(store, line_up):
    seen = []
    ends = line_up(*[lambda db: seen.append(db.rows("PRAGMA data_version")) or db.raw.in_transaction] * 8)
    assert ends == [True] * 8
    assert len(seen) == 8


def test_one_refused_caller_does_not_harm_its_batch(store, line_up):
    put(store, key="k")
    ends = line_up(insert(), insert(payload=b"[2]", key="k"), insert(), boom, insert())
    assert [type(end) for end in ends] == [str, KeyConflict, str, ZeroDivisionError, str]
    assert len({end for end in ends if isinstance(end, str)}) == 3
    assert len(store.jobs.list()) == 4


def test_a_fenced_caller_does_not_harm_its_batch(store, line_up):
    put(store)
    job = Hands(store).take()
    late = msgspec.structs.replace(job, attempt=9)
    from litequeue.sqlite.jobs import settle

    fenced, stored = line_up(lambda db: connection.perform(db, settle.note_progress(late, "{}")), insert())
    assert isinstance(fenced, Fenced)
    assert isinstance(stored, str)


def test_a_line_longer_than_a_batch_is_led_in_parts(store, writer):
    async def main():
        return await asyncio.gather(*[writer.arun(insert()) for _ in range(LARGEST_BATCH + 100)])

    assert len(set(asyncio.run(main()))) == LARGEST_BATCH + 100


def test_a_locked_file_refuses_the_whole_batch_after_one_wait(open_store, connect):
    longer = fair_lock.LONGEST + 50  # milliseconds: a short wait, and a long one with the fair lock
    writer = open_store(on_connect=lambda raw: raw.execute(f"PRAGMA busy_timeout = {longer}")).kernel.writer
    begun = []
    other = connect()
    other.execute("BEGIN IMMEDIATE")
    ends = _all_behind_a_held_lead(writer, [lambda db: begun.append(1)] * 5)
    other.execute("COMMIT")
    assert [type(end) for end in ends] == [StoreBusy] * 5
    assert len(set(map(id, ends))) == 1
    assert begun == []


def _all_behind_a_held_lead(writer, works):
    """Hand in works from a loop while the lead is held, so that they make one batch."""

    async def main():
        async with writer.aexclusive():
            tasks = [asyncio.ensure_future(writer.arun(work)) for work in works]
            for _ in range(3):
                await asyncio.sleep(0)
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(main())


def test_a_file_that_cannot_be_opened_refuses_the_whole_batch(store, database):
    store.close()
    database.rename(database.with_suffix(".away"))
    ends = _all_behind_a_held_lead(store.kernel.writer, [insert()] * 3)
    assert [type(end) for end in ends] == [StoreReplaced] * 3
    database.with_suffix(".away").rename(database)
    assert put(store)


# Other processes


def test_a_caller_that_waits_long_for_another_process_has_all_processes_write_in_turn(store, connect, threads):
    put(store)
    other = connect()
    other.execute("BEGIN IMMEDIATE")
    third = FairLock(store.path)

    def would_wait():
        try:
            return not third.enter_at_once()
        finally:
            third.leave()

    def let_go():
        until(would_wait)
        written.append(len(store.jobs.list()))
        other.execute("COMMIT")

    written = []
    _, end = threads(let_go, lambda: put(store))
    assert isinstance(end, str)
    assert written == [1]  # it has waited with the kernel's lock in hand
    third.close()


def leaves_the_fair_lock_aside(database):
    """Tell whether a process that comes now goes on though the kernel's lock is another's: none has asked for it."""
    holder = os.open(directory_of(database) / fair_lock.NAME, os.O_RDWR)
    newcomer = FairLock(database)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return newcomer.enter_at_once()
    finally:
        newcomer.leave()
        newcomer.close()
        os.close(holder)


def test_a_short_wait_for_another_process_makes_nobody_write_in_turn(store, writer, connect, threads, monkeypatch):
    monkeypatch.setattr(fair_lock, "SHORT", 5000)
    monkeypatch.setattr(fair_lock, "LONGEST", 5000)
    put(store)  # and how long the next one waits is found
    other = connect()
    other.execute("BEGIN IMMEDIATE")

    def let_go():
        until(lambda: is_taken(writer))
        threading.Event().wait(5 * WAITED)
        other.execute("COMMIT")

    threads(let_go, lambda: put(store))
    assert len(store.jobs.list()) == 2
    assert leaves_the_fair_lock_aside(store.path)


@pytest.mark.parametrize("milliseconds", [0, 250])
def test_a_busy_timeout_of_on_connect_holds_for_our_writes_and_in_blocks(open_store, connect, milliseconds):
    store = open_store(on_connect=lambda raw: raw.execute(f"PRAGMA busy_timeout = {milliseconds}"))
    put(store)
    other = connect()
    other.execute("BEGIN IMMEDIATE")
    for write in (lambda: put(store), lambda: store.transactions.transaction().__enter__()):
        with pytest.raises(StoreBusy):
            write()
    other.execute("COMMIT")
    assert put(store)
    with store.transactions.transaction() as db:
        assert [tuple(row) for row in db.execute("PRAGMA busy_timeout")] == [(milliseconds,)]
    assert put(store)


# Interruptions


def test_a_caller_interrupted_in_line_does_not_block_the_others(store, writer):
    """Ctrl-C while the main thread waits for another's transaction."""
    leading, go = threading.Event(), threading.Event()

    def hold():
        with writer.exclusive():
            leading.set()
            until_backlog(writer, 1)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            assert go.wait(DEADLINE)

    thread = threading.Thread(target=hold)
    thread.start()
    leading.wait(DEADLINE)
    with pytest.raises(KeyboardInterrupt):
        writer.run(insert("interrupted"))
    go.set()
    thread.join(DEADLINE)
    assert [put(store)] == [job.id for job in store.jobs.list()]


def test_a_ctrl_c_at_a_caller_whose_work_is_being_committed_is_raised_there_alone(store, writer, line_up):
    """No caller's thread commits for another: in the thread that does, no Ctrl-C is raised."""
    stored = Counter()

    def committing(db):
        stored["begun"] += 1
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        until(lambda: stored["interrupted"])
        return insert()(db)

    def line_up_in_another_thread():
        ends.extend(line_up(insert(), committing, beside=1))

    ends = []
    thread = threading.Thread(target=line_up_in_another_thread)
    thread.start()
    until_backlog(writer, 2)
    with pytest.raises(KeyboardInterrupt):
        writer.run(insert("main"))
    stored["interrupted"] += 1
    thread.join(DEADLINE)
    assert stored["begun"] == 1
    jobs = {job.id: job.task for job in store.jobs.list()}
    assert set(ends) <= jobs.keys()
    assert sorted(jobs.values()) == ["add", "add", "main"]


def test_work_of_callers_that_find_the_connection_busy_is_done_by_the_writer_thread(line_up):
    names = line_up(*[lambda db: threading.current_thread().name] * 3)
    assert names == ["litequeue-writer"] * 3


def test_an_interrupt_in_the_thread_that_commits_is_raised_at_each_caller_and_work_is_not_done_twice(store, line_up):
    """As where gevent makes that thread a greenlet of the main one."""
    ctrl_c = iter([KeyboardInterrupt])

    def interrupted(db):
        for error in ctrl_c:
            raise error
        return insert()(db)

    ends = line_up(insert(), interrupted, insert())
    assert [type(end) for end in ends] == [KeyboardInterrupt] * 3
    assert store.jobs.list() == []
    assert put(store)


def test_what_on_connect_raises_in_the_thread_that_commits_is_raised_at_the_callers(open_store):
    def refuse(raw):
        for error in errors:
            raise error

    class Odd(BaseException): ...

    errors = iter([Odd])
    store = open_store(on_connect=refuse)
    writer = store.kernel.writer
    ends = _all_behind_a_held_lead(writer, [insert()] * 2)
    assert [type(end) for end in ends] == [Odd] * 2
    assert put(store)


@pytest.fixture
def at_second_commit(writer, monkeypatch):
    """Have this called instead of the batch's COMMIT: the first one is of whoever holds the lead."""

    def calling(instead):
        commits = iter([script, lambda db, _sql: instead(db)])

        def watched(db, sql):
            return next(commits, script)(db, sql) if sql == "COMMIT" else script(db, sql)

        monkeypatch.setattr(kind, "script", watched)

    kind = type(writer.ready(durable=True))
    script = kind.script
    return calling


def test_after_an_interrupt_between_commit_and_word_nothing_is_stored_twice(store, line_up, at_second_commit):
    def instead(db):
        db.rows("COMMIT")
        raise KeyboardInterrupt

    at_second_commit(instead)
    ends = line_up(insert(), insert(), insert())
    assert [type(end) for end in ends] == [KeyboardInterrupt] * 3
    assert len(store.jobs.list()) == 3


def test_after_an_interrupt_as_the_commit_fails_nobody_is_told_of_success(store, line_up, at_second_commit):
    """At a full disk SQLite rolls back by itself: nothing is open any more, and nothing is stored."""

    def instead(db):
        db.rows("ROLLBACK")
        try:
            boom(db)
        except ZeroDivisionError:
            raise KeyboardInterrupt  # noqa: B904 - as it comes amid the handling of an error

    at_second_commit(instead)
    ends = line_up(insert(), insert(), insert())
    assert [type(end) for end in ends] == [KeyboardInterrupt] * 3
    assert store.jobs.list() == []
    assert put(store)


def test_an_interrupt_while_one_runs_alone_is_raised_there_and_nothing_is_stored(store, writer):
    def interrupted(db):
        insert()(db)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.run(interrupted)
    assert store.jobs.list() == []
    assert put(store)


def test_a_cancelled_coroutine_takes_its_work_back_before_it_is_begun(store, writer):
    async def main():
        async with writer.aexclusive():
            task = asyncio.ensure_future(writer.arun(insert()))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return await writer.arun(insert("b"))

    asyncio.run(main())
    assert [job.task for job in store.jobs.list()] == ["b"]


def test_a_coroutine_cancelled_as_it_is_given_the_lead_passes_it_on(store, writer):
    async def use():
        async with writer.aexclusive():
            pytest.fail("it was cancelled")

    async def main():
        async with writer.aexclusive():
            task = asyncio.ensure_future(use())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        task.cancel()  # the lead is on its way to it
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert put(store)


def test_a_lead_offered_to_a_loop_that_is_closed_is_passed_on(store, writer):
    loop = asyncio.new_event_loop()
    try:
        with writer.exclusive():
            waiting = loop.create_task(_enter(writer))
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(asyncio.sleep(0))
            loop.stop()
            loop.set_exception_handler(lambda *_: None)  # which is told of a task that never ended
            loop.close()
        assert put(store)
    finally:
        with contextlib.suppress(RuntimeError, GeneratorExit):
            waiting.get_coro().close()


async def _enter(writer):
    async with writer.aexclusive():
        pass


def test_work_of_a_loop_that_is_closed_is_still_done(store, writer):
    loop = asyncio.new_event_loop()
    with writer.exclusive():
        waiting = loop.create_task(writer.arun(insert()))
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        loop.set_exception_handler(lambda *_: None)  # which is told of a task that never ended
        loop.close()
    until(lambda: len(store.jobs.list()) == 1)
    with contextlib.suppress(RuntimeError, GeneratorExit):
        waiting.get_coro().close()


def test_a_sync_call_on_the_loop_that_holds_a_transaction_is_refused_and_does_not_hang(store):
    async def application():
        async with store.transactions.atransaction():
            return await asyncio.gather(asyncio.create_task(sync_call()), return_exceptions=True)

    async def sync_call():
        put(store)

    [error] = asyncio.run(application())
    assert isinstance(error, StoreError)
    assert "use the async method" in str(error)
    put(store)
    assert len(store.jobs.list()) == 1


# What would wait for ever


@pytest.fixture
def soon(monkeypatch):
    """One who waits for the lead gives up after a tenth of a second."""
    monkeypatch.setattr(line, "LOOK_EVERY", 0.01)


@pytest.fixture
def often(monkeypatch):
    """One who waits for the lead looks again soon, and does not give up."""
    monkeypatch.setattr(line, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(line, "LOOKS", 10**6)


def test_a_coroutine_started_inside_a_transaction_that_waits_for_it_is_refused(store, writer, soon):
    async def application():
        async with store.transactions.atransaction():
            return await asyncio.gather(asyncio.create_task(writer.arun(insert())), return_exceptions=True)

    [error] = asyncio.run(application())
    assert isinstance(error, StoreBusy)
    assert "only from the thread or coroutine that opened it" in str(error)
    assert store.jobs.list() == []
    assert put(store)


def test_a_thread_started_inside_a_transaction_that_waits_for_it_is_refused(store, writer, threads, soon):
    with store.transactions.transaction():
        [error] = threads(lambda: writer.run(insert()))
    assert isinstance(error, StoreBusy)
    assert put(store)
    assert len(store.jobs.list()) == 1


def test_one_whose_work_has_begun_is_not_refused_however_long_it_takes(writer, line_up, threads, monkeypatch):
    monkeypatch.setattr(line, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(line, "LOOKS", 10**6)  # none is refused before all are in line

    def slow(db):
        monkeypatch.setattr(line, "LOOKS", 10)
        for _ in range(3):
            [late] = threads(lambda: writer.run(insert()))  # which waits as long as the two, and is refused
            assert isinstance(late, StoreBusy)
        return "slow"

    assert line_up(slow, lambda db: "neighbour") == ["slow", "neighbour"]


def test_a_lead_refused_to_one_who_waited_too_long_goes_to_the_next(store, writer, threads, soon):
    with writer.exclusive():
        threads(lambda: writer.run(insert()))
    assert asyncio.run(writer.arun(insert()))


@pytest.fixture
def no_writer_thread(monkeypatch):
    """The system starts no more threads, as far as the writer is concerned; undone, it does."""
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "litequeue-writer":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return lambda: monkeypatch.setattr(threading.Thread, "start", start)


def test_when_no_thread_can_be_started_a_caller_commits_by_itself_in_its_turn(store, line_up, no_writer_thread):
    ends = line_up(insert(), boom, insert())
    assert [type(end) for end in ends] == [str, ZeroDivisionError, str]
    assert {ends[0], ends[2]} == {job.id for job in store.jobs.list()}


def test_when_no_thread_can_be_started_coroutines_are_refused_and_others_go_on(store, writer, no_writer_thread):
    with pytest.raises(StoreError, match=r"no thread to write with .can't start new thread."):
        asyncio.run(writer.arun(insert()))
    no_writer_thread()
    assert store.jobs.list() == []
    assert {put(store), asyncio.run(writer.arun(insert()))} == {job.id for job in store.jobs.list()}


# Ends


def test_what_is_closed_opens_anew(store):
    put(store)
    store.close()
    store.close()
    assert len({put(store), *[job.id for job in store.jobs.list()]}) == 2


def test_close_leaves_a_connection_amid_a_long_transaction_to_the_thread_that_has_it(store, writer, soon):
    put(store)
    store.jobs.list()
    began, go = threading.Event(), threading.Event()

    def hold():
        with store.transactions.transaction():
            began.set()
            assert go.wait(DEADLINE)
            put(store)

    thread = threading.Thread(target=hold)
    thread.start()
    assert began.wait(DEADLINE)
    store.close()
    assert store.kernel.look_ups.connection is None
    assert not store.kernel.owner.is_another
    assert store.kernel.owner.pid != NOBODY  # one connection is still open
    go.set()
    thread.join(DEADLINE)
    assert writer.connection is None
    assert len(store.jobs.list()) == 2
    assert put(store)
    assert writer.connection is not None


@pytest.mark.parametrize("work", [lambda writer, hold: writer.run(hold), lambda writer, hold: writer.run_outside(hold)])
def test_close_leaves_a_connection_that_is_in_use_to_the_thread_that_uses_it(store, writer, soon, work):
    began, go = threading.Event(), threading.Event()

    def hold(_db):
        began.set()
        assert go.wait(DEADLINE)

    thread = threading.Thread(target=work, args=(writer, hold))
    thread.start()
    assert began.wait(DEADLINE)
    store.close()
    go.set()
    thread.join(DEADLINE)
    assert writer.connection is None


def test_close_inside_a_transaction_is_refused_and_closes_the_rest(store):
    put(store)
    store.jobs.list()
    with store.transactions.transaction(), pytest.raises(StoreError, match="open already"):
        store.close()
    assert store.kernel.look_ups.connection is None
    assert put(store)


def test_a_closed_writer_serves_coroutines_again(store, writer):
    asyncio.run(writer.arun(insert()))
    store.close()
    asyncio.run(writer.arun(insert()))
    assert len(store.jobs.list()) == 2


def test_what_need_not_survive_power_loss_is_not_synced(store, writer):
    def level(db):
        return db.rows("PRAGMA synchronous")[0][0]

    assert [writer.run(level, durable=durable) for durable in (True, False, True)] == [2, 1, 2]


def test_with_durability_normal_nothing_is_synced(open_store):
    writer = open_store(durability="normal").kernel.writer
    assert writer.run(lambda db: db.rows("PRAGMA synchronous")) == [(1,)]


def test_one_durable_caller_makes_its_batch_durable(store, writer):
    put(store)
    levels = _all_behind_a_held_lead(writer, [lambda db: db.rows("PRAGMA synchronous")[0][0]] * 2)
    assert levels == [2, 2]


def test_a_callers_long_transaction_is_logged(store, clock, caplog):
    caplog.set_level("INFO", "litequeue")
    with store.transactions.transaction():
        clock.advance(1)
    assert "took 1000 ms" in caplog.text
    assert "transaction() or completing() block" in caplog.text


def test_a_long_transaction_is_logged_with_what_it_was(store, clock, caplog):
    connect, disconnect = store.kernel.file.connect, store.kernel.file.disconnect
    fair_lock = FairLock(store.path)
    writer = Writer(connect, disconnect, full=True, monotonic=clock.monotonic, fair_lock=fair_lock)
    caplog.set_level("INFO", "litequeue")

    def slow(db):
        clock.advance(1)

    writer.run(slow)
    writer.close()
    assert "took 1000 ms" in caplog.text
    assert "a_long_transaction" in caplog.text


def test_one_who_waited_for_seconds_leaves_no_timer_behind(writer, often, monkeypatch):
    async def main():
        loop = asyncio.get_running_loop()
        set_timer, timers, rung = loop.call_later, [], set()

        def noted(delay, call, *arguments):
            def ring():
                rung.add(timer)
                call(*arguments)

            timers.append(timer := set_timer(delay, ring))
            return timer

        monkeypatch.setattr(loop, "call_later", noted)
        async with writer.aexclusive():
            waiting = asyncio.ensure_future(_enter(writer))
            while len(rung) < 3:
                await asyncio.sleep(0)
        await waiting
        assert len(timers) > 3
        return [timer for timer in timers if timer not in rung and not timer.cancelled()]

    assert asyncio.run(main()) == []


# The lead has one holder


def test_a_coroutine_that_waits_in_vain_for_a_transaction_is_refused_and_the_holder_loses_nothing(store, writer, soon):
    holding, go = threading.Event(), threading.Event()

    def hold():
        with store.transactions.transaction():
            put(store, "held")
            holding.set()
            assert go.wait(DEADLINE)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(DEADLINE)

    async def intrude():
        async with store.transactions.atransaction():
            put(store, "intruder")

    with pytest.raises(StoreBusy):
        asyncio.run(intrude())
    go.set()
    thread.join(DEADLINE)
    assert [job.task for job in store.jobs.list()] == ["held"]
    assert put(store)


def test_work_that_is_cancelled_as_a_thread_is_called_for_it_blocks_no_transaction(store, writer):
    async def main():
        for _ in range(50):
            work = asyncio.ensure_future(writer.arun(insert("cancelled")))
            await asyncio.sleep(0)
            work.cancel()
            async with store.transactions.atransaction():
                await store.jobs.asubmit([new("inside")])

    asyncio.run(asyncio.wait_for(main(), DEADLINE))
    assert sum(job.task == "inside" for job in store.jobs.list(limit=200)) == 50


def test_a_sync_call_goes_before_a_coroutine_of_its_own_loop_that_waits_for_the_lead(store, writer, often):
    holding, go = threading.Event(), threading.Event()

    def hold():
        with writer.exclusive():
            holding.set()
            assert go.wait(DEADLINE)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(DEADLINE)

    async def main():
        waiting = asyncio.ensure_future(_enter(writer))
        await asyncio.sleep(0)
        threading.Thread(target=lambda: (until_backlog(writer, 2), go.set())).start()
        job_id = put(store)
        await waiting
        return job_id

    assert asyncio.run(main()) in {job.id for job in store.jobs.list()}
    thread.join(DEADLINE)


def test_a_coroutine_in_line_whose_loop_stands_still_holds_up_nobody(store, writer, often):
    loop = asyncio.new_event_loop()
    with writer.exclusive():
        waiting = loop.create_task(_enter(writer))
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
    assert put(store)
    assert asyncio.run(writer.arun(insert()))
    loop.run_until_complete(waiting)  # and it has its turn
    loop.close()
