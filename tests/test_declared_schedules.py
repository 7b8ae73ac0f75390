"""Schedules declared in code: several per task, by a queue's own word, and removed with the line that declared them."""

import asyncio
import json
import sys
import threading
import types
from weakref import WeakSet

import pytest

from crash.watching import until
from litequeue import Queue, Schedule, Unsupported, every
from litequeue.scheduling import declared


@pytest.fixture(params=["apsw", "sqlite3"])
def queue(request, database):
    with Queue(database, driver=request.param, durability="normal") as queue:
        yield queue


def start(queue):
    """Let a worker start and stop, as a new process does."""
    queue.worker().run(until_idle=True)


def names(queue):
    return [schedule.name for schedule in queue.schedules]


@pytest.fixture
def another_process(monkeypatch):
    """From now on this process knows of no other queue."""
    return lambda: monkeypatch.setattr(declared, "_all", WeakSet())


@pytest.fixture
def module(monkeypatch):
    """Make a module that executes this text, with `queue` in it."""

    def importing(queue, text, name="shop_tasks"):
        made = types.ModuleType(name)
        made.__dict__["queue"] = queue
        monkeypatch.setitem(sys.modules, name, made)
        exec("from litequeue import Schedule, every\n" + text, made.__dict__)
        return made

    return importing


def test_a_task_has_several_schedules_with_arguments_and_names_of_their_own(queue):
    eu, us = (
        Schedule(every("1h"), args=("eu",), name="eu", expires="5m"),
        Schedule(every("2h"), kwargs={"region": "us"}),
    )

    @queue.task(name="report", schedule=[eu, us])
    def report(region): ...

    start(queue)
    first, second = queue.schedules
    assert (first.name, first.expires, first.trigger) == ("eu", 300.0, every("1h"))
    assert second.name.startswith("report:")
    jobs = [queue.schedules.trigger_now(name).id for name in ("eu", second.name)]
    payloads = [queue.engine.jobs.look_up(job).payload for job in jobs]
    assert [b'"eu"' in payloads[0], b'"us"' in payloads[1]] == [True, True]


def test_a_name_that_was_not_given_stays_when_a_line_moves(queue, database):
    one, other = Schedule(every("1h"), args=(1,)), Schedule(every("1h"), args=(2,))
    queue.task(name="report", schedule=[one, other])(lambda n: None)
    start(queue)
    before = names(queue)
    with Queue(database, driver=queue.engine.driver_name) as release:
        release.task(name="report", schedule=[other, one])(lambda n: None)
        start(release)
        assert names(release) == before


def test_one_schedule_alone_has_the_name_of_its_task(queue):
    queue.task(name="report", schedule=[every("1h")])(lambda: None)
    start(queue)
    assert names(queue) == ["report"]


def test_the_expires_of_a_task_holds_for_its_ticks(queue):
    queue.task(name="report", schedule=every("1h"), expires="5m")(lambda: None)
    start(queue)
    assert queue.schedules["report"].expires == 300.0


def test_a_queue_declares_a_schedule_of_any_call(queue):
    report = queue.task(name="report")(lambda kind: None)
    queue.schedule("weekly", report.s("weekly"), every("1w"), overlap="queue", catch_up="all", max_runs=3)
    start(queue)
    [schedule] = queue.schedules
    assert (schedule.overlap, schedule.catch_up, schedule.max_runs, schedule.declared) == ("queue", "all", 3, True)


def test_a_schedule_that_is_declared_while_a_worker_runs_is_followed(queue):
    report = queue.task(name="report")(lambda kind: None)
    with queue.worker():
        queue.schedule("weekly", report.s("weekly"), every("1w"))
        until(lambda: names(queue) == ["weekly"])


def test_a_name_that_is_declared_twice_is_refused(queue):
    report = queue.task(name="report", schedule=every("1h"))(lambda kind="daily": None)
    with pytest.raises(ValueError, match="'report' is already declared on this queue"):
        queue.schedule("report", report.s(), every("1h"))
    queue.schedule("weekly", report.s(), every("1w"))
    queue.schedule("weekly", report.s(), every("1w"))  # the same again, as by a function that is called twice
    with pytest.raises(ValueError, match="'weekly' is already declared"):
        queue.schedule("weekly", report.s(), every("2w"))
    with pytest.raises(ValueError, match="the same schedule twice"):
        queue.task(name="other", schedule=[every("1h"), every("1h")])(lambda: None)


def test_a_call_that_does_not_fit_is_refused_where_it_is_declared(queue):
    with pytest.raises(TypeError, match=r"args=\(\.\.\.\)"):
        queue.task(name="report", schedule=every("1h"))(lambda kind: None)
    with pytest.raises(TypeError, match="write args="):
        Schedule(every("1h"), args="eu")
    with pytest.raises(TypeError, match=r"made by task\.s"):
        queue.schedule("weekly", "report", every("1h"))
    with pytest.raises(ValueError, match='overlap="allow"'):
        Schedule(every("1h"), catch_up="all")
    with pytest.raises(Unsupported, match="give key_scope='unfinished'"):
        queue.task(name="report", unique=True, key_scope="kept", schedule=every("1h"))(lambda: None)
    with pytest.raises(ValueError, match=r"within 5 s of its tick .* first 10 s"):
        queue.task(name="report", delay=10, schedule=Schedule(every("1h"), expires=5))(lambda: None)


@pytest.mark.parametrize("change", [{"tags": ["b"]}, {"on_success": "other"}, {"key": "k", "key_scope": "queued"}])
def test_options_of_a_call_that_change_in_the_code_are_written(queue, database, change):
    def declare(queue, **options):
        other = queue.task(name="other")(lambda said: None)
        options |= {name: other.si(1) for name in options if name == "on_success"}
        queue.schedule("s", queue.task(name="report")(lambda: None).using(**options).s(), every("1h"))
        queue.engine.ticks.declare(queue.declared.code(["report"]))
        return queue.schedules["s"].options

    assert declare(queue, tags=["a"]) == {"tags": ["a"]}
    with Queue(database, driver=queue.engine.driver_name) as release:
        assert set(declare(release, **change)) >= set(change)


def test_a_schedule_without_options_of_its_call_is_declared_as_it_was(queue):
    """Else an operator's changes to all schedules would be undone by the release that brought options."""
    queue.task(name="report", schedule=Schedule(every("1h"), args=(1,)))(lambda kind: None)
    [record] = queue.declared.records()
    assert record.declared == "4b1a7f1896608e1d412c75cd2e3412d85ef7e5e00402a62e8b12d09239b8dd24"


# Removed with the line

ONE = "@queue.task(name='report', schedule=every('1h'))\ndef report(): ...\n"
TWO = ONE + "queue.schedule('weekly', report.s(), every('1w'))"
NONE = "@queue.task(name='other')\ndef other(): ..."


@pytest.mark.parametrize(("text", "left"), [(ONE, ["report"]), (NONE, [])], ids=["a line", "a task"])
def test_what_a_module_no_longer_declares_is_removed(queue, database, module, another_process, text, left):
    module(queue, TWO)
    start(queue)
    assert [(schedule.name, schedule.module) for schedule in queue.schedules] == [
        ("report", "shop_tasks"),
        ("weekly", "shop_tasks"),
    ]
    another_process()
    with Queue(database, driver=queue.engine.driver_name) as release:
        module(release, text)
        start(release)
        assert names(release) == left


def test_what_a_module_declared_that_is_not_imported_here_stays(queue, database, module, monkeypatch):
    module(queue, TWO)
    start(queue)
    monkeypatch.delitem(sys.modules, "shop_tasks")
    with Queue(database, driver=queue.engine.driver_name) as other:
        module(other, NONE, name="mail_tasks")
        start(other)
        assert names(other) == ["report", "weekly"]


def test_a_worker_leaves_the_schedules_of_another_queue_of_its_module_alone(queue, database, module):
    module(queue, TWO)
    start(queue)
    with Queue(database, driver=queue.engine.driver_name) as other:
        module(other, NONE)  # in the same module, and both are there
        start(other)
        assert names(other) == ["report", "weekly"]


def test_programs_without_a_file_leave_the_schedules_of_each_other_alone(queue, database, module, another_process):
    module(queue, TWO, name="__main__")  # a session, a notebook, or python -c
    start(queue)
    another_process()
    with Queue(database, driver=queue.engine.driver_name) as other:
        module(other, NONE, name="__main__")
        start(other)
        assert names(other) == ["report", "weekly"]


SCRIPT = (
    f"__file__ = '/srv/shop.py'\n{ONE}with queue.worker():\n    queue.schedule('weekly', report.s(), every('1w'))\n    "
)


@pytest.mark.parametrize("name", ["__main__", "shop_tasks"])
def test_a_script_may_declare_beside_its_worker(queue, database, module, another_process, name):
    queue.declares = lambda: until(lambda: names(queue) == ["report", "weekly"])
    module(queue, SCRIPT + "queue.declares()", name=name)
    queue.schedules.pause("weekly")
    another_process()
    with Queue(database, driver=queue.engine.driver_name) as restarted:
        restarted.has_declared = lambda: until(restarted.engine.workers.list)
        module(restarted, SCRIPT + "queue.has_declared()", name=name)
        assert restarted.schedules["weekly"].paused


def test_a_script_that_works_at_its_end_removes_what_it_no_longer_declares(queue, database, module, another_process):
    module(queue, "__file__ = '/srv/shop.py'\n" + TWO, name="__main__")
    start(queue)
    another_process()
    with Queue(database, driver=queue.engine.driver_name) as restarted:
        worker = restarted.at_work = restarted.worker()
        watching = threading.Thread(target=lambda: (until(lambda: names(restarted) == ["report"]), worker.stop()))
        watching.start()
        module(restarted, f"__file__ = '/srv/shop.py'\n{ONE}queue.at_work.run()", name="__main__")
        watching.join()


@pytest.mark.parametrize("name", ["__main__", "shop_tasks"])
def test_a_script_removes_what_it_no_longer_declares_at_the_end_of_its_workers_block(
    queue, database, module, another_process, name
):
    script = "__file__ = '/srv/shop.py'\n{}\ndef main():\n    with queue.worker():\n        queue.look()\nmain()\n"
    queue.look = lambda: until(lambda: names(queue) == ["report", "weekly"])
    module(queue, script.format(TWO), name=name)
    another_process()
    with Queue(database, driver=queue.engine.driver_name) as restarted:
        restarted.look = lambda: until(restarted.engine.workers.list)
        module(restarted, script.format(ONE), name=name)
        assert names(restarted) == ["report"]


def test_a_module_that_is_being_imported_is_waited_for(queue, module):
    text = "import types\n__spec__ = types.SimpleNamespace(_initializing=True)\n" + TWO
    made = module(queue, text)
    with queue.worker():
        until(lambda: queue.engine.workers.list())
        assert names(queue) == []
        made.__spec__._initializing = False
        queue.task(name="another")(lambda: None)  # wakes it
        until(lambda: names(queue) == ["report", "weekly"])


# The operator and the code


def test_what_an_operator_changes_holds_until_the_code_differs(queue, database):
    report = queue.task(name="report", schedule=every("1h"))(lambda: None)
    start(queue)
    queue.schedules.add("report", report.s(), every("5m"), overlap="replace")
    queue.schedules.pause("report")
    start(queue)
    kept = queue.schedules["report"]
    assert (kept.trigger, kept.overlap, kept.declared, kept.paused) == (every("5m"), "replace", True, True)
    with Queue(database, driver=queue.engine.driver_name) as release:
        release.task(name="report", schedule=every("2h"))(lambda: None)
        start(release)
        kept = release.schedules["report"]
        assert (kept.trigger, kept.overlap, kept.paused) == (every("2h"), "skip", True)


class Salted:
    """A codec whose bytes differ each time, as those of one that encrypts."""

    def __init__(self):
        self.count = 0

    def encode(self, value):
        self.count += 1
        return json.dumps([self.count, value]).encode()

    def decode(self, data):
        return json.loads(data)[1]


def test_a_codec_whose_bytes_differ_each_time_changes_no_schedule(database):
    with Queue(database, codec=Salted()) as queue:
        task = queue.task(name="report", schedule=Schedule(every("1h"), args=(1,)))(lambda n: None)
        queue.schedule("told", task.using(on_success=task.si(2)).s(1), every("1h"))
        start(queue)
        before = queue.engine.kernel.writer.commits
        queue.engine.ticks.declare(queue.declared.code(["report"]))
        assert queue.engine.kernel.writer.commits == before


# From coroutines


def test_every_method_of_schedules_has_an_async_twin(queue):
    report = queue.task(name="report")(lambda: None)
    schedules = queue.schedules

    async def main():
        added = await schedules.aadd("hourly", report.s(), every("1h"), overlap="queue")
        assert (added.name, added.overlap) == ("hourly", "queue")
        await schedules.apause("hourly")
        assert (await schedules.aget("hourly")).paused
        await schedules.aresume("hourly", run_missed=True)
        assert (await schedules.atrigger_now("hourly")).schedule == "hourly"
        assert [schedule.name async for schedule in schedules] == ["hourly"]
        async with queue.atransaction():
            await schedules.aadd("daily", report.s(), every("1d"))
        await schedules.aremove("hourly")

    asyncio.run(main())
    assert names(queue) == ["daily"]
