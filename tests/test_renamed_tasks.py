"""A task that was renamed, or whose arguments have changed, while jobs of the old kind are in the file."""

import logging
import signal
import threading

import pytest

from command_line import DEADLINE, Command
from crash.watching import until
from litequeue import JobFailed, JobTimeout, Queue, current_job, every


@pytest.fixture
def queue(database, driver):
    """The queue of the present release."""
    with Queue(database, driver=driver, durability="normal") as queue:
        yield queue


@pytest.fixture
def earlier(database, driver, queue):
    """The same queue in an earlier release, in which `send` has other arguments, and `old` another name."""
    with Queue(database, driver=driver, durability="normal") as other:
        other.task(name="old")(lambda number: number)

        @other.task(name="send")
        def send(address: str, text: str = "") -> str:
            return f"{text} to {address}"

        yield other


def up(version, arguments):
    """Make of the arguments of `send` before those of now."""
    subject = f"{arguments.get('text', '')} (of version {version})"
    return {"subject": subject, "to": [arguments["address"]]}


@pytest.fixture
def start():
    """Start a `litequeue` process in a folder; killed after the test."""
    started = []

    def starting(folder, *arguments):
        started.append(Command(folder, *arguments))
        return started[-1]

    yield starting
    for command in started:
        command.clean_up()


def newer(queue, **options):
    def send(*, to: list[str], subject: str) -> str:
        return f"{subject} to {to[0]}"

    return queue.task(**{"name": "send", "version": 2, "upgrade": up} | options)(send)


def newer_coroutine(queue, **options):
    async def send(*, to: list[str], subject: str) -> str:
        return f"{subject} to {to[0]}"

    return queue.task(**{"name": "send", "version": 2, "upgrade": up} | options)(send)


RELEASES = pytest.mark.parametrize("declare", [newer, newer_coroutine])


@RELEASES
def test_a_version_with_upgrade_runs_the_calls_of_older_ones(queue, earlier, declare):
    earlier.worker().run(until_idle=True)  # so that the names of its arguments are on record
    task = earlier.tasks["send"]
    jobs = [task.enqueue("a", "hi"), task.enqueue(text="hi", address="a"), *task.enqueue_many([("a", "hi")], chunk=1)]
    present = declare(queue).enqueue(to=["b"], subject="hi")
    with queue.worker():
        assert {job.result(DEADLINE) for job in jobs} == {"hi (of version 1) to a"}
        assert present.result(DEADLINE) == "hi to b"
    assert [(job.task, job.version) for job in queue.jobs(task="send")] == [("send", 2), *[("send", 1)] * 3]


@RELEASES
def test_an_older_call_that_comes_while_the_worker_is_idle_is_upgraded_too(queue, earlier, declare):
    declare(queue)
    with queue.worker():
        by_name = [queue.enqueue("send@1", address="a", text="hi") for _ in range(5)]  # dispatched
        unnamed = earlier.tasks["send"].enqueue("a", "hi")
        assert by_name[-1].result(DEADLINE) == "hi (of version 1) to a"
        with pytest.raises(JobFailed, match="names of 2 of the arguments are not known"):
            unnamed.result(DEADLINE)


@RELEASES
def test_an_error_in_upgrade_fails_the_job_without_a_retry(queue, declare):
    declare(queue, retries=5, upgrade=lambda version, arguments: arguments["nothing"])
    job = queue.enqueue("send@1", address="a")
    with queue.worker(), pytest.raises(JobFailed, match="upgrade= of send raised for a call of version 1: KeyError"):
        job.result(DEADLINE)
    assert job.refresh().tries == 1


def test_an_upgrade_sees_its_job_and_the_time_limit_ends_it(queue):
    seen, over = [], threading.Event()

    def slow(_version, _arguments):
        seen.append(current_job().id)
        while not over.wait(0.01):
            pass

    newer(queue, upgrade=slow, timeout=0.1)
    job = queue.enqueue("send@1")
    with queue.worker():
        with pytest.raises(JobFailed, match=JobTimeout.__name__):
            job.result(DEADLINE)
        over.set()
    assert seen == [job.id]


def test_a_version_without_upgrade_leaves_other_versions_and_says_what_they_need(queue, earlier, caplog, monkeypatch):
    monkeypatch.setattr("litequeue.worker.maintenance.FIRST_LOOK", 0.0)
    newer(queue, upgrade=None)
    old, new = earlier.tasks["send"].enqueue("a"), queue.enqueue("send", to=["b"], subject="hi")
    needs = "version 1 of send needs a worker of that version, or a newer one with upgrade="
    with caplog.at_level(logging.WARNING, "litequeue"), queue.worker():
        assert new.result(DEADLINE) == "hi to b"
        until(lambda: needs in caplog.text, "it is logged")
        with pytest.raises(TimeoutError, match=needs):
            old.result(0.01)
    earlier.worker().run(until_idle=True)
    assert old.result(0) == " to a"


def test_an_older_worker_leaves_the_calls_of_a_newer_version(queue, earlier):
    new = newer(queue).enqueue(to=["b"], subject="hi")
    earlier.worker().run(until_idle=True)
    assert new.refresh().status == "queued"
    with earlier.worker(), pytest.raises(TimeoutError, match="version 2 of send needs a worker of that version"):
        new.result(0.01)


@pytest.mark.parametrize("version", [1, 3])
def test_jobs_and_schedules_that_name_an_alias_run_the_task(queue, earlier, version):
    task = queue.task(
        name="new", aliases=["old", "older"], version=version, upgrade=up_number if version > 1 else None
    )(lambda number: number * 10)
    jobs = [earlier.tasks["old"].enqueue(1), queue.enqueue("older@1", number=2), queue.enqueue("old", 3)]
    earlier.schedules.add("often", earlier.tasks["old"].s(4), every("0.05s"))
    fired = lambda: [job for job in queue.jobs(schedule="often") if job.status == "succeeded"]  # noqa: E731
    with queue.worker():
        assert [job.result(DEADLINE) for job in jobs] == [10, 20, 30]
        until(fired, "the schedule has fired")
    assert [job.refresh().task for job in jobs] == ["old", "older", "new"]  # as it was enqueued
    assert {job.result(0) for job in fired()} == {40}
    assert queue.tasks["old"] is task


def up_number(version, arguments):
    """Leave them as they are."""
    assert version == 1
    return arguments


def test_an_alias_is_served_and_unserved_is_what_no_name_of_a_task_is(queue, earlier):
    queue.task(name="new", aliases=["old"])(lambda number: number)
    job = earlier.tasks["old"].using(queue="elsewhere").enqueue(1)
    with queue.worker(queues=["default"]):
        with pytest.raises(TimeoutError, match="serves its queue 'elsewhere'"):
            job.result(0.01)
        [worker] = queue.engine.workers.list()
        assert queue.engine.runs.ready_without(frozenset(worker.tasks), None) == []


def test_a_key_of_an_alias_is_the_tasks_own(queue, earlier):
    task = queue.task(name="new", aliases=["old"])(lambda number: number)
    held = earlier.tasks["old"].using(key="k").enqueue(1)
    assert task.using(key="k").enqueue(1).id == queue.using(key="k").enqueue("old", 1).id == held.id


def test_a_schedule_keeps_the_version_of_its_call(queue, earlier):
    earlier.worker().run(until_idle=True)
    earlier.schedules.add("s", earlier.tasks["send"].s("a", "hi"), every("1h"))
    newer(queue)
    queue.schedules.add("t", queue.tasks["send"].s(to=["b"], subject="hi"), every("1h"))
    assert {schedule.task for schedule in queue.schedules} == {"send"}
    jobs = [queue.schedules.trigger_now(name) for name in ("s", "t")]
    assert [job.refresh().version for job in jobs] == [1, 2]
    with queue.worker():
        assert [job.result(DEADLINE) for job in jobs] == ["hi (of version 1) to a", "hi to b"]


def test_a_version_that_is_declared_while_the_worker_runs_is_served(queue, earlier):
    earlier.worker().run(until_idle=True)
    job = earlier.tasks["send"].enqueue("a", "hi")
    with queue.worker():
        newer(queue)
        assert job.result(DEADLINE) == "hi (of version 1) to a"
        assert queue.engine.runs.parameters_of("send@2") == ()


RELEASE = """
from litequeue import Queue

queue = Queue("app.db", durability="normal")

"""
FIRST = (
    RELEASE
    + """
@queue.task
def send(address: str, text: str) -> str:
    return f"first: {text} to {address}"

@queue.task
def tidy(days: int) -> str:
    return f"first: {days}"
"""
)
SECOND = (
    RELEASE
    + """
def upgrade(version: int, arguments: dict) -> dict:
    return {"to": [arguments["address"]], "subject": arguments["text"]}

@queue.task(version=2, upgrade=upgrade)
def send(subject: str, to: list[str]) -> str:
    return f"second: {subject} to {to[0]}"

@queue.task(aliases=["tidy"])
def clean(days: int) -> str:
    return f"second: {days}"
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [[], ["--processes", "2"]])
def test_two_releases_on_one_file_run_what_they_can_and_the_newer_one_finishes_the_rest(tmp_path, start, processes):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, code in ((first, FIRST), (second, SECOND)):
        folder.mkdir()
        (folder / "app.py").write_text(code.replace("app.db", str(tmp_path / "app.db")))
    with Queue(tmp_path / "app.db") as queue:
        oldest = start(first, "run", "app:queue", *processes)
        oldest.wait_for("serving")
        old = [queue.enqueue("send", "a", "hi"), queue.enqueue("tidy", 3)]
        assert [job.result(DEADLINE) for job in old] == ["first: hi to a", "first: 3"]
        newest = start(second, "run", "app:queue", *processes)
        newest.wait_for("serving")
        newest.wait_for(r"clean \(before: tidy, queue default\).*send \(version 2, queue default\)")
        new = [queue.enqueue("send@2", "hi", ["b"]), queue.enqueue("clean", 3)]
        assert [job.result(DEADLINE) for job in new] == ["second: hi to b", "second: 3"]
        shared = [queue.enqueue("send", "a", str(number)) for number in range(20)]
        both = {f"{release}: {number} to a" for release in ("first", "second") for number in range(20)}
        assert {job.result(DEADLINE) for job in shared} <= both
        oldest.signal(signal.SIGTERM)
        assert oldest.ends() == 0
        rest = [queue.enqueue("send", "a", "hi"), queue.enqueue("tidy", 3)]
        assert [job.result(DEADLINE) for job in rest] == ["second: hi to a", "second: 3"]


# ---- limits


def gated(queue, gate, **options):
    """A task of which one runs at once, until the gate is opened."""
    running = []

    def work(user: str) -> int:
        running.append(user)
        most = running.count(user) if "limit_key" in options else len(running)
        gate.wait(DEADLINE)
        running.remove(user)
        return most

    return queue.task(**{"name": "work", "concurrency": 1} | options)(work)


OPTIONS = {"version": 2, "upgrade": lambda version, arguments: {"user": arguments["of"]}, "aliases": ["before"]}


@pytest.mark.parametrize("limited", [{}, {"limit_key": "{user}"}])
def test_a_limit_holds_for_all_versions_and_names_of_a_task_together(queue, limited):
    gate = threading.Event()
    task = gated(queue, gate, **OPTIONS, **limited)
    with queue.worker(threads=4):  # registered, so that its limits are in the file
        jobs = [task.enqueue("ada"), queue.enqueue("work@1", of="ada"), queue.enqueue("before@1", of="ada")]
        until(lambda: [job.refresh().status for job in jobs].count("running") == 1, "one runs")
        jobs.append(task.enqueue("ada"))
        other = task.enqueue("bob")
        if limited:
            until(lambda: other.refresh().status == "running", "another key's job runs")
        gate.set()
        assert [job.result(DEADLINE) for job in [*jobs, other]] == [1] * 5


def test_an_upgrade_that_fails_while_a_key_is_worked_out_fails_the_job(queue):
    task = gated(queue, threading.Event(), **OPTIONS, limit_key="{user}")
    with queue.worker():
        job = queue.enqueue("work@1", nothing="ada")
        with pytest.raises(JobFailed, match="upgrade= of work raised for a call of version 1: KeyError: 'of'"):
            job.result(DEADLINE)
    assert task.options.version == 2
