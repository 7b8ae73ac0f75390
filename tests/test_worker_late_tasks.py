"""Tasks that are declared while a worker runs."""

import asyncio
import itertools
import sys
import textwrap
import threading
import types

import pytest

from crash.watching import ended, until
from litequeue import Queue, StoreBusy, Unsupported, every

DEADLINE = 20


@pytest.fixture(params=["apsw", "sqlite3"])
def queue(request, database):
    with Queue(database, driver=request.param, durability="normal") as queue:
        yield queue


def early(queue):
    return queue.task(name="early")(lambda: "early")


def plain(queue, name="late", value="late"):
    return queue.task(name=name)(lambda: value)


def coroutine(queue, name="late_coroutine", value="late coroutine"):
    async def late():
        return value

    return queue.task(name=name)(late)


def known(queue):
    """The names of the tasks that the one worker on record runs."""
    [worker] = queue.engine.workers.list()
    return set(worker.tasks)


def notebook(queue):
    """Return what runs a cell and returns its `tick`."""
    count, space = itertools.count(), {"queue": queue, "every": every, "__name__": "__main__"}

    def cell(source):
        exec(compile(source, f"<cell {next(count)}>", "exec"), space)
        return space["tick"]

    return cell


@pytest.mark.parametrize("first", [early, coroutine, None])
def test_a_worker_runs_what_is_declared_after_it_has_started(queue, first):
    if first is not None:
        first(queue)
    with queue.worker(threads=1):
        assert plain(queue).enqueue().result(DEADLINE) == "late"
        assert coroutine(queue, "another").enqueue().result(DEADLINE) == "late coroutine"


def test_a_worker_on_the_applications_loop_does(queue):
    early(queue)

    async def main():
        async with queue.worker():
            loop = asyncio.get_running_loop()

            @queue.task
            async def here():
                return asyncio.get_running_loop() is loop

            assert await here.enqueue().aresult(DEADLINE)
            assert await plain(queue).enqueue().aresult(DEADLINE) == "late"

    asyncio.run(main())


def test_a_worker_that_runs_in_a_thread_of_the_applications_own_does(queue):
    early(queue)
    worker = queue.worker(threads=1)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        until(lambda: queue.engine.workers.list())
        assert plain(queue).enqueue().result(DEADLINE) == "late"
    finally:
        worker.stop()
        thread.join(DEADLINE)


def test_jobs_that_waited_in_vain_are_run_once_their_task_is_declared(queue, database):
    early(queue)
    with queue.worker(threads=1), Queue(database, driver=queue.engine.driver_name) as other:
        job = plain(other).enqueue()
        early(queue).enqueue().result(DEADLINE)
        plain(queue)
        assert job.result(DEADLINE) == "late"


def test_a_task_that_a_job_declares_is_run(queue):
    @queue.task
    def declares():
        plain(queue)

    with queue.worker(threads=1):
        declares.enqueue().result(DEADLINE)
        assert queue.tasks["late"].enqueue().result(DEADLINE) == "late"


def test_the_worker_on_record_has_them_for_others_to_see(queue):
    early(queue)
    with queue.worker(threads=1):
        plain(queue)
        coroutine(queue)
        until(lambda: known(queue) == {"early", "late", "late_coroutine"})


def test_their_schedules_fire(queue):
    early(queue)
    with queue.worker(threads=1):
        queue.task(name="tick", schedule=every(0.05))(lambda: None)
        assert ended(until(lambda: queue.jobs(task="tick"))[0]).status == "succeeded"


def test_the_schedule_of_a_task_declared_anew_without_one_is_removed(queue):
    cell = notebook(queue)
    cell("@queue.task(schedule=every('1h'))\ndef tick(): ...")
    with queue.worker(threads=1):
        assert [schedule.name for schedule in queue.schedules] == ["tick"]
        cell("@queue.task\ndef tick(): ...")
        until(lambda: not list(queue.schedules))


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_of_a_task_that_is_declared_anew_the_new_function_is_run(queue, kind):
    """As by a cell of a notebook that is edited and run again, beside an embedded worker."""
    cell = notebook(queue)
    old = cell("@queue.task\ndef tick(): return 'old'")
    with queue.worker(threads=1):
        assert old.enqueue().result(DEADLINE) == "old"
        new = cell(f"@queue.task\n{kind} tick(): return 'new'")
        until(lambda: new.enqueue().result(DEADLINE) == "new")


def test_a_task_is_not_run_before_its_module_is_imported_to_the_end(queue, database, tmp_path, monkeypatch):
    """Its function may use what is defined further below."""
    source = """
    from late_helpers import half_way, queue

    @queue.task
    def late():
        return helper()

    half_way()

    def helper():
        return "helped"
    """
    (tmp_path / "late_module.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    early(queue)
    with Queue(database, driver=queue.engine.driver_name) as other:
        job = queue.job(plain(other).enqueue().id)
    begun, go_on = threading.Event(), threading.Event()
    helpers = types.ModuleType("late_helpers")
    helpers.queue, helpers.half_way = queue, lambda: begun.set() or go_on.wait(DEADLINE)
    monkeypatch.setitem(sys.modules, "late_helpers", helpers)
    with queue.worker(threads=1):
        importing = threading.Thread(target=__import__, args=("late_module",))
        importing.start()
        assert begun.wait(DEADLINE)
        early(queue).enqueue().result(DEADLINE)  # the worker has looked
        assert "late" not in known(queue)
        go_on.set()
        assert job.result(DEADLINE) == "helped"
        importing.join()
    del sys.modules["late_module"]


def test_what_the_store_refuses_is_done_at_the_next_look(queue, monkeypatch):
    monkeypatch.setattr("litequeue.worker.loop.BACK_OFF", 0.01)
    early(queue)
    refusals, serve = [], queue.engine.workers.serve

    def refusing(*arguments):
        if len(refusals) < 2:
            refusals.append(arguments)
            raise StoreBusy("in use")
        serve(*arguments)

    monkeypatch.setattr(queue.engine.workers, "serve", refusing)
    with queue.worker(threads=1):
        assert plain(queue).enqueue().result(DEADLINE) == "late"
    assert len(refusals) == 2


@pytest.fixture
def greenlets(monkeypatch):
    """Have gevent take the place of threads from now on, as far as anybody can see: then no coroutines run."""
    library = types.SimpleNamespace(is_module_patched=lambda _name: True)
    return lambda: monkeypatch.setitem(sys.modules, "gevent.monkey", library)


def test_a_kind_of_task_that_cannot_run_here_is_said_once_and_keeps_no_other_from_it(queue, greenlets, caplog):
    early(queue)
    with queue.worker(threads=1):
        greenlets()
        coroutine(queue)
        assert plain(queue).enqueue().result(DEADLINE) == "late"
        assert known(queue) == {"early", "late"}
    [message] = [record.message for record in caplog.records if "gevent" in record.message]
    assert message.startswith("late_coroutine is not run here: ")


@pytest.mark.parametrize("fails", [False, True])
def test_a_worker_that_has_ended_follows_its_queue_no_more(queue, fails, greenlets):
    early(queue)
    if fails:
        coroutine(queue)
        greenlets()
        with pytest.raises(Unsupported), queue.worker(threads=1):
            pass
    else:
        with queue.worker(threads=1):
            assert len(queue.tasks.followers) == 1
    assert queue.tasks.followers == []
