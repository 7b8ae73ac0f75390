"""What the command line says of a schedule, and of the arguments of a call. Without a store."""

import pytest

from litequeue.cli.job_report import call_fields, call_text
from litequeue.cli.report import Crew, upcoming
from litequeue.core.schedules import ScheduleRecord
from litequeue.core.store import WorkerRecord

EVERY_MINUTE = '{"every": 60.0, "jitter": 0.0}'


def schedule(**fields):
    record = {"name": "s", "task": "t", "queue": "q", "payload": b"[]", "priority": 0, "trigger": EVERY_MINUTE}
    return ScheduleRecord(**record | {"next_at": 60.0} | fields)


def crew(*modules):
    fields = {"queues": None, "tasks": ("t",), "threads": 1, "coroutines": 1, "beats": 0, "running": 0}
    times = {"started_at": 0.0, "beat_at": 0.0}
    return Crew((WorkerRecord(id=1, token="a", identity="{}", modules=modules, **fields, **times),), ())


def test_a_schedule_whose_module_no_running_worker_has_is_an_orphan():
    why = crew("shop.tasks").orphan(schedule(module="shop.old", declared="x"))
    assert why is not None
    assert "litequeue schedules remove s" in why


@pytest.mark.parametrize(
    ("workers", "module"),
    [(crew("shop.tasks"), "shop.tasks"), (crew("shop.tasks"), None), (Crew((), ()), "shop.old")],
    ids=["imported", "not declared", "no worker"],
)
def test_another_is_none(workers, module):
    assert workers.orphan(schedule(module=module, declared=module)) is None


@pytest.mark.parametrize(
    ("fields", "times"),
    [
        ({}, [60.0, 120.0, 180.0, 240.0, 300.0]),
        ({"until": 130.0}, [60.0, 120.0]),
        ({"max_runs": 5, "runs": 4}, [60.0]),
        ({"paused": True}, []),
        ({"next_at": None}, []),
        ({"trigger": "unknown"}, []),
    ],
)
def test_the_next_times_end_where_the_schedule_does(fields, times):
    assert upcoming(schedule(**fields)) == times


@pytest.mark.parametrize(
    ("payload", "args", "form", "text"),
    [
        (b'[["a",1],{"b":2}]', ["a", 1], "call", '("a", 1, b=2)'),
        (b'[["a",1],{"b":2},[0,"b"]]', ["***", 1], "call", '("***", 1, b="***")'),
        (b'[[null,1],{"b":2},[],1]', [None, 1], "link", "(<result>, 1, b=2)"),
        (b'[[null,1],{"b":2},[0,1],1]', ["***", "***"], "link", '(<result>, "***", b=2)'),
        (b'[["a",1],{},[],2]', ["a", 1], "chunk", 'each of ["a", 1]'),
        (b'[["a",1],{},[0],2]', ["***", "***"], "chunk", 'each of ["***", "***"]'),
        (b"[1]", None, None, "not JSON: name the app (app:queue), whose codec reads them"),
    ],
)
def test_the_arguments_of_a_call_are_shown_in_its_form(payload, args, form, text):
    fields = call_fields(payload, None)
    assert (fields["args"], fields["form"]) == (args, form)
    assert call_text(fields) == text
