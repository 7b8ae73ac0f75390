"""litequeue in a Django project: commits, connections, and which queue `manage.py litequeue_worker` serves."""

import asyncio
import io
import threading
from types import ModuleType

import pytest

from litequeue import DriverConflict, Queue, StoreError
from litequeue.core import after_commit
from litequeue.core.around_jobs import around
from litequeue.errors import JobNotFound
from litequeue.integrations import django as integration

django = pytest.importorskip("django")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Django set up with two databases, once a process: its settings cannot be changed afterwards."""
    from django.conf import settings

    folder = tmp_path_factory.mktemp("django")
    kind = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"transaction_mode": "IMMEDIATE"}}
    names = {"default": folder / "default.db", "other": folder / "other.db"}
    settings.configure(
        DATABASES={alias: kind | {"NAME": name} for alias, name in names.items()},
        INSTALLED_APPS=["litequeue.integrations.django"],
        USE_TZ=True,
        TIME_ZONE=None,
    )
    django.setup()
    yield folder
    around.clear()
    after_commit._installed.clear()


@pytest.fixture
def atomic(project):
    from django.db import connections, transaction

    yield transaction.atomic
    connections.close_all()


@pytest.fixture
def add(queue):
    @queue.task(name="add")
    def add(a=0): ...

    return add


def test_a_call_is_stored_after_the_commit(atomic, queue, add):
    with atomic():
        job = integration.on_commit(add).enqueue(1)
        with atomic():
            many = add.using(on_commit=True).enqueue_many([(2,), (3,)])
        assert queue.jobs() == []
    assert [each.id for each in reversed(queue.jobs())] == [each.id for each in [job, *many]]


def test_a_call_outside_of_a_transaction_is_stored_at_once(atomic, queue, add):
    assert [integration.on_commit(add).enqueue(1)] == queue.jobs()


def test_a_call_goes_with_its_transaction_or_savepoint(atomic, queue, add):
    task = integration.on_commit(add)
    with pytest.raises(ZeroDivisionError), atomic():
        task.enqueue(1)
        raise ZeroDivisionError
    with atomic():
        with pytest.raises(ZeroDivisionError), atomic():
            lost = task.enqueue(2)
            raise ZeroDivisionError
        kept = task.enqueue(3)
    assert queue.jobs() == [kept]
    with pytest.raises(JobNotFound, match="rolled back"):
        lost.refresh()


def test_the_commit_is_that_of_the_database_that_is_named(atomic, queue, add):
    with atomic(using="other"):
        job = integration.on_commit(add).enqueue(1)
        assert queue.jobs() == [job]
        integration.on_commit(add, using="other").enqueue(2)
        assert len(queue.jobs()) == 1
    assert len(queue.jobs()) == 2


def test_a_coroutine_enqueues_too(atomic, queue, add):
    async def view():
        return await integration.on_commit(add).aenqueue(1)

    assert [asyncio.run(view())] == queue.jobs()


# within= Django's connection


@pytest.fixture
def shared(atomic, project):
    """A queue in the file of Django's other database."""
    with Queue(project / "other.db", driver="sqlite3") as queue:
        queue.task(name="add")(lambda a=0: a)
        yield queue
    for name in project.glob("other.db*"):
        if name.is_file():
            name.unlink()


def test_a_job_commits_with_djangos_own_rows(shared, atomic, monkeypatch):
    from django.db import connections

    connection, add, told = connections["other"], shared.tasks["add"], []
    monkeypatch.setattr(shared.engine.jobs._kernel.notifier, "notify", lambda message, **_: told.append(message))
    with atomic(using="other"):
        with pytest.raises(ZeroDivisionError), atomic(using="other"):
            add.using(within=connection).enqueue(1)
            raise ZeroDivisionError
        assert told == []
    with atomic(using="other"):
        job = add.using(within=connection).enqueue(2)
        assert (shared.jobs(), told) == ([], [])
    assert (shared.jobs(), len(told)) == ([job], 1)
    with pytest.raises(StoreError, match=r"transaction\.atomic\(\)"):
        add.using(within=connection).enqueue(3)


def test_djangos_default_connection_is_of_another_file(shared, atomic):
    from django.db import connection

    with atomic(), pytest.raises(StoreError, match="but the queue's file is"):
        shared.tasks["add"].using(within=connection).enqueue(1)


@pytest.mark.parametrize("driver", ["apsw"], indirect=True)
def test_djangos_connection_is_not_apsws(atomic, add):
    from django.db import connection

    with atomic(), pytest.raises(DriverConflict, match=r"driver='sqlite3'.*Queue\(path, on_commit="):
        add.using(within=connection).enqueue(1)


# connections around jobs


def test_old_connections_are_closed_before_and_after_each_job(atomic, queue, monkeypatch):
    closed, sync = [], []
    monkeypatch.setattr("django.db.close_old_connections", lambda: closed.append(threading.current_thread()))

    @queue.task(name="plain")
    def plain():
        sync.append(threading.current_thread())

    @queue.task(name="coroutine")
    async def coroutine():
        from asgiref.sync import sync_to_async

        await sync_to_async(plain.function)()

    for task in (plain, coroutine):
        job = task.enqueue()
        queue.worker(threads=1, coroutines=1).run(until_idle=True)
        assert job.refresh().status == "succeeded"
        [thread] = sync
        assert closed == [thread, thread]
        closed.clear()
        sync.clear()


# manage.py litequeue_worker


def module(monkeypatch, name, **values):
    made = ModuleType(name)
    vars(made).update(values)
    monkeypatch.setitem(__import__("sys").modules, name, made)
    return name


def run_worker(monkeypatch, *modules):
    from django.core.management import call_command

    command = "litequeue.integrations.django.management.commands.litequeue_worker"
    monkeypatch.setattr(f"{command}.task_modules", lambda: list(modules))
    call_command("litequeue_worker", "--until-idle", stderr=io.StringIO())


def test_what_cannot_tell_a_queue_is_refused_with_what_to_set(atomic, queue, open_queue, monkeypatch):
    from django.core.management import CommandError
    from django.test import override_settings

    monkeypatch.setattr("litequeue.integrations.django.worker_target.default_queue", Queue())  # no task of other tests
    one = module(monkeypatch, "one_tasks", queue=queue)
    two = module(monkeypatch, "two_tasks", second=open_queue(path=queue.path.with_name("b.db")))
    with pytest.raises(CommandError, match=r"no queue was found.*LITEQUEUE = "):
        run_worker(monkeypatch)
    with pytest.raises(CommandError, match=r"one_tasks:queue, two_tasks:second.*LITEQUEUE = "):
        run_worker(monkeypatch, one, two)
    for wrong in ("app:queue", {"QUEU": "app:queue"}, {"QUEUE": queue}):
        with override_settings(LITEQUEUE=wrong), pytest.raises(CommandError, match=r'LITEQUEUE = \{"QUEUE"'):
            run_worker(monkeypatch, one)
    with override_settings(LITEQUEUE={"QUEUE": "one_tasks:missing"}), pytest.raises(CommandError, match="missing"):
        run_worker(monkeypatch, one)


def test_the_queue_is_the_one_of_the_tasks_modules_or_of_the_setting(atomic, queue, open_queue, monkeypatch):
    from django.test import override_settings

    from litequeue.integrations.django.worker_target import target_of

    one = module(monkeypatch, "one_tasks", queue=queue, again=queue)
    two = module(monkeypatch, "two_tasks", queue=queue)
    assert target_of([one, two]) == "one_tasks:queue"
    with override_settings(LITEQUEUE={"QUEUE": "shop.queue:queue"}):
        assert target_of([one, two]) == "shop.queue:queue"


def test_a_call_as_a_value_is_stored_after_the_commit(atomic, add):
    with atomic():
        job = integration.on_commit(add).s(1).enqueue()
        with pytest.raises(JobNotFound, match="not stored yet"):
            _ = job.id
    assert job.status == "queued"
