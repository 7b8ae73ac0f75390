"""Options of a call: the later one counts, and each is checked where it is given."""

from datetime import datetime, timezone

import pytest

from litequeue import Queue, Unsupported, chain, every, group
from litequeue.core.scheduled_call import CallOptions
from litequeue.options import Using

THEN = datetime(2100, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def task(database):
    with Queue(database) as queue:
        yield queue.task(name="t")(lambda: None)


def test_of_delay_and_at_the_later_given_counts(task):
    before = datetime.now(timezone.utc)
    assert task.using(delay=1).using(at=THEN).enqueue().run_at == THEN
    assert (task.using(at=THEN).using(delay=60).enqueue().run_at - before).total_seconds() == pytest.approx(60, abs=30)
    assert task.using(delay=60).using(delay=None).enqueue().status == "queued"


def test_delay_and_at_together_are_refused(task):
    with pytest.raises(ValueError, match="delay= or at=, not both"):
        task.using(delay=1, at=THEN)


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ({"at": THEN}, "delay="),
        ({"expires": THEN}, "a duration"),
        ({"after": "1"}, "a task that enqueues it"),
        ({"after_failed": "run"}, "a task that enqueues it"),
        ({"key": "k"}, "'unfinished'"),
        ({"key": "k", "key_scope": "kept"}, "'unfinished'"),
        ({"key": "k", "key_scope": "1h"}, "'queued'"),
        ({"on_commit": True}, "leave it out"),
    ],
    ids=str,
)
def test_a_scheduled_call_names_the_option_that_it_cannot_keep(task, option, instead):
    with pytest.raises(Unsupported, match=rf"a scheduled call, t\.s\(\.\.\.\), .*{instead}"):
        task.using(**option).s().scheduled()
    if "after" in option:
        return  # refused of every callback
    with pytest.raises(Unsupported, match=rf"on_failure= of a scheduled call, t\.si\(\.\.\.\), .*{instead}"):
        task.using(on_failure=task.using(**option).si()).s().scheduled()


def test_of_every_option_of_a_call_is_known_what_a_schedule_does_with_it():
    kept = {"queue", "priority", "expires"} | set(CallOptions.__struct_fields__) - {"aliases", "former_names"}
    refused = {"at", "after", "after_failed", "wait_for_room", "within", "on_commit"}
    assert kept | refused == set(Using.__annotations__)


def test_a_scheduled_call_waits_for_no_room_and_no_transaction(database):
    with Queue(database) as queue:
        task = queue.task(name="t", max_pending=1)(lambda: None)
        with pytest.raises(Unsupported, match="wait_for_room="):
            task.using(wait_for_room=1).s().scheduled()
        with pytest.raises(Unsupported, match="within="):
            task.s().using(within=object()).scheduled()
        stored_later = queue.task(name="u", on_commit=True)(lambda: None)
        assert stored_later.s().scheduled().task == "u"


def test_a_scheduled_call_keeps_queue_priority_and_how_long_it_may_wait(database):
    with Queue(database) as queue:
        task = queue.task(name="t", expires="1h")(lambda: None)
        call = task.using(queue="q", priority=3).s().scheduled()
        assert (call.queue, call.priority, call.expires) == ("q", 3, 3600)
        assert task.using(expires="2h").s().scheduled().expires == 7200


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        (lambda task: task, r"write t\.s\("),
        (lambda task: chain(task.s(), task.si()), "schedule a task that enqueues it"),
        (lambda task: group([task.s()]), "on_success="),
        (lambda _: "t", "got 't'"),
    ],
)
def test_what_is_no_single_call_cannot_be_scheduled(database, given, instead):
    with Queue(database) as queue, pytest.raises(TypeError, match=instead):
        queue.schedules.add("s", given(queue.task(name="t")(lambda: None)), every("1h"))
