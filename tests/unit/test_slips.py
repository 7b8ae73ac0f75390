"""What users get wrong, and what they are told at once."""

import pickle
import re

import pytest

from litequeue import Queue, cron, every, first_of
from unit import picklable


@pytest.fixture
def queue(database):
    with Queue(database) as queue:
        yield queue


@pytest.fixture
def task(queue):
    return queue.task(name="t")(lambda x=0: None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key_scope": "queued"}, "give key= as well"),
        ({"on_conflict": "raise"}, "give key= as well"),
        ({"key": "\ud800"}, "encoded as UTF-8"),
        ({"key": "k", "key_scope": "keept"}, "'kept' or 'unfinished' or 'queued', or a duration such as"),
        ({"key": "k", "key_scope": 0}, "longer than nothing"),
        ({"key": "k", "key_scope": -1}, "or a duration such as"),
        ({"queue": "\ud800"}, "queue must be a name"),
        ({"tags": ["\ud800"]}, "tag must be a name"),
        ({"retries": 2**63}, "from 0 to 1,000,000"),
    ],
    ids=str,
)
def test_a_call_with_an_option_that_can_mean_nothing_is_refused_and_nothing_stored(queue, task, options, message):
    with pytest.raises(ValueError, match=message):
        task.using(**options).enqueue(1)
    assert queue.jobs() == []


def test_a_key_may_be_given_after_what_to_do_about_it(task):
    assert task.using(on_conflict="raise").using(key="k").enqueue(1).key == "k"


def test_a_scope_without_a_key_is_refused_where_the_task_is_declared(queue):
    with pytest.raises(ValueError, match="give unique= as well"):
        queue.task(name="u", key_scope="queued")


def test_a_name_that_is_no_text_is_refused(queue):
    with pytest.raises(ValueError, match="a task's name must be a name"):
        queue.task(name=3)(lambda: None)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"unique": ""}, "unique must be True, a format"), ({"expires": 0}, "expires must be positive")],
)
def test_an_option_that_can_mean_nothing_is_refused_where_the_task_is_declared(queue, options, message):
    with pytest.raises(ValueError, match=message):
        queue.task(name="u", **options)


def test_many_calls_that_are_no_list_are_refused(task):
    with pytest.raises(TypeError, match=r"takes the calls in a list .* got 5"):
        task.enqueue_many(5)


@pytest.mark.parametrize("where", [{"task": 10**30}, {"queue": float("nan")}, {"tag": b"x"}])
def test_a_list_of_what_can_have_no_such_name_is_refused(queue, where):
    with pytest.raises(TypeError, match=f"{next(iter(where))} must be a name"):
        queue.jobs(**where)


def test_a_page_before_what_no_id_can_be_is_refused(queue):
    with pytest.raises(ValueError, match="before must be a job's id"):
        queue.jobs(before="9" * 30)


def test_a_task_is_pickled_by_name_as_its_function_would_be():
    assert pickle.loads(pickle.dumps(picklable.double)) is picklable.double


@pytest.mark.parametrize("template", ["{nope}", "{x", "{}", "{0}", "{x}:{nope.y[1]}"])
def test_a_key_format_that_no_call_can_fill_is_refused_where_the_task_is_declared(queue, template):
    with pytest.raises(ValueError, match="unique="):
        queue.task(name="u", unique=template)(lambda x: x)


def test_a_key_format_may_look_into_arguments_and_defaults(queue):
    task = queue.task(name="u", unique="{x[0]}/{mode!r:>5}/{{}}")(lambda x, mode=None: x)
    assert task.enqueue([7]).key == "7/ None/{}"


def test_a_method_that_takes_an_instance_is_refused_where_it_is_declared(queue):
    with pytest.raises(TypeError, match=r"send\(\) is a method that takes self.*@staticmethod below the decorator"):

        class Mail:
            @queue.task
            def send(self, to): ...


def test_a_function_in_a_method_may_take_what_it_calls_self(queue):
    class Mail:
        def declare(self):
            @queue.task(name="send")
            def send(self): ...

            return send

    assert Mail().declare().enqueue(1).status == "queued"


def test_a_date_alone_gets_a_time_with_its_advice(task):
    with pytest.raises(ValueError, match=r'at is a date without a time: .*write such as "2027-01-01T00:00\+01:00"'):
        task.using(at="2027-01-01")
    task.using(at="2027-01-01T00:00+01:00")


def test_a_list_of_triggers_is_refused_with_what_to_write():
    with pytest.raises(TypeError, match=r"not a list of them: write first_of\(a, b\)"):
        first_of([every("1h"), every("2h")])


@pytest.mark.parametrize(
    ("expression", "advice"),
    [
        ("R * * * *", "write H"),
        ("0 0 LW * *", "write L, the last day, or L5"),
        ("0 0 * * 5L", "write L5"),
        ("0 0 * * friL", "write L5"),
        ("0 0 * * sunl", "write L0"),
        ("0 0 L-3 * *", "write L, the last day"),
        ("@reboot", 'first_at="now"'),
    ],
)
def test_words_of_other_crons_are_refused_with_what_to_write(expression, advice):
    with pytest.raises(ValueError, match=re.escape(advice)):
        cron(expression)


def test_a_schedule_that_is_added_after_its_end_is_warned_of(queue, task):
    with pytest.warns(UserWarning, match=r"'late' has no tick any more: its until= was 2020-01-01T00:00:00"):
        queue.schedules.add("late", task.s(1), every("1h"), until="2020-01-01T00:00Z")
