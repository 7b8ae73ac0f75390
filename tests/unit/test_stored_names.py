"""Names of tasks with a version, routes by name, and what may be a name, an alias, a version or an upgrade."""

import pytest

from litequeue import Queue
from litequeue.core.routes import Routes
from litequeue.core.stored_names import other_version, stored_name, task_of, version_of


@pytest.mark.parametrize("task", ["send", "shop.tasks.send", "a@b", "@", "send@", "send@x", "send@02", "senden\n"])
@pytest.mark.parametrize("version", [1, 2, 17, 1000])
def test_a_stored_name_tells_the_task_and_its_version(task, version):
    stored = stored_name(task, version)
    assert (task_of(stored), version_of(stored)) == (task, version)


def test_a_task_of_which_another_version_is_served_is_told_from_an_unknown_one():
    assert other_version("send", ["add", "send@2"]).startswith("version 1 of send needs a worker of that version")
    assert other_version("send@3", ["send"]).startswith("version 3 of send needs")
    assert other_version("send", ["sender", "add"]) is None


def test_the_first_route_that_matches_counts():
    routes = Routes({"send_*": "email", "*": "rest", "send_sms": "phone"})
    assert [routes.queue_of(task) for task in ("send_mail", "send_sms", "Send_mail", "add")] == [
        *("email", "email", "rest", "rest"),
    ]
    assert Routes(None).queue_of("add") == "default"


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ([("a", "b")], "routes must map"),
        ("send_*", "routes must map"),
        ({"": "q"}, "patterns of tasks' names"),
        ({7: "q"}, "patterns of tasks' names"),
        ({"send@2": "q"}, "leave out the @"),
        ({"send": ""}, "queue of the route 'send'"),
        ({"send": "a,b"}, "queue of the route 'send'"),
        ({"send": None}, "queue of the route 'send'"),
    ],
)
def test_invalid_routes_are_refused(database, routes, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Queue(database, routes=routes)
    assert not database.exists()


def do(n: int) -> int:
    return n


async def coroutine(version, arguments):
    return arguments


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "send@2"}, "must be without @"),
        ({"aliases": ["send@2"]}, "each of the aliases must be without @"),
        ({"aliases": "send"}, "aliases must be a list"),
        ({"aliases": 7}, "aliases must be a list"),
        ({"aliases": [""]}, "each of the aliases must be a name"),
        ({"aliases": ["do"]}, "its own name"),
        ({"aliases": ["other"]}, "which is the task 'other'"),
        ({"aliases": ["earlier"]}, "which is the task 'other'"),
        ({"name": "earlier"}, "'earlier' is an alias of the task 'other'"),
        ({"version": 0}, "version must be a whole number from 1"),
        ({"version": True}, "version must be a whole number from 1"),
        ({"version": "2"}, "version must be a whole number from 1"),
        ({"version": 1001}, "version must be a whole number from 1 to 1000"),
        ({"version": 2, "upgrade": 7}, "upgrade must be a plain function"),
        ({"version": 2, "upgrade": coroutine}, "upgrade must be a plain function"),
        ({"upgrade": lambda version, arguments: arguments}, "give version=2 or more"),
    ],
)
def test_what_cannot_be_a_name_an_alias_a_version_or_an_upgrade_is_refused_where_it_is_declared(queue, options, words):
    queue.task(name="other", aliases=["earlier"])(do)
    with pytest.raises((TypeError, ValueError), match=words):
        queue.task(**{"name": "do"} | options)(do)
    assert list(queue.tasks) == ["other"]


def test_a_task_is_found_by_its_aliases_and_listed_once(queue):
    task = queue.task(name="other", aliases=["earlier", "first", "earlier"])(do)
    assert (queue.tasks["first"], queue.tasks.get("earlier"), "first" in queue.tasks) == (task, task, True)
    assert (list(queue.tasks), len(queue.tasks), queue.tasks.get("none")) == (["other"], 1, None)


def test_an_alias_that_is_left_out_when_the_task_is_declared_again_is_free(queue):
    queue.task(name="other", aliases=["earlier"])(do)
    queue.task(name="other")(do)
    assert "earlier" not in queue.tasks
    queue.task(name="earlier")(do)


@pytest.mark.parametrize(
    ("options", "call", "where"),
    [({}, {}, "routed"), ({"queue": "own"}, {}, "own"), ({"queue": "own"}, {"queue": "given"}, "given")],
)
def test_using_goes_before_the_declaration_and_that_before_the_routes(open_queue, options, call, where):
    queue = open_queue(routes={"send_*": "routed"})
    task = queue.task(name="send_mail", **options)(do)
    assert task.using(**call).enqueue(1).queue == where
    assert queue.using(**call).enqueue("send_mail", 1).queue == where


def test_a_schedule_goes_by_the_routes_too(open_queue):
    queue = open_queue(routes={"send_*": "routed"})
    assert queue.task(name="send_mail")(do).s(1).scheduled().queue == "routed"
