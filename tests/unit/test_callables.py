"""The outermost callable decides how it is called; what it wraps lends names and hints."""

from __future__ import annotations

import contextlib
import functools
import sys
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pydantic
import pytest

from litequeue.errors import EncodeError
from litequeue.serialization.json_codec import JsonCodec
from litequeue.serialization.signature import Signature

DAY = date(2026, 1, 2)


def passing(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def with_dry_run(function):
    @functools.wraps(function)
    def wrapper(*args, dry_run=False, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def made_async(function):
    @functools.wraps(function)
    async def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def plain(day: date, n: int = 1) -> date: ...


async def later(day: date) -> date: ...


class Wrapping:
    def __init__(self, function):
        functools.update_wrapper(self, function)

    def __call__(self, *args, **kwargs):
        return self.__wrapped__(*args, **kwargs)


class Thing:
    def __call__(self, day: date): ...

    @passing
    def method(self, day: date): ...

    async def slow(self, day: date): ...

    @staticmethod
    @passing
    def static(day: date): ...

    @classmethod
    @passing
    def of_class(cls, day: date): ...

    first = functools.partialmethod(method)
    later = functools.partialmethod(slow)


@contextlib.contextmanager
def opened():
    yield


class Counting:
    async def __call__(self, day: date): ...


def signed(function, **options):
    return Signature(function, JsonCodec(), "f", **options)


def through(it, *args, **kwargs):
    return it.decode_call(it.encode_call(args, kwargs))


TAKING_A_DAY = [
    (plain, False),
    (later, True),
    (passing(plain), False),
    (passing(later), False),
    (made_async(plain), True),
    (with_dry_run(passing(plain)), False),
    (functools.partial(plain), False),
    (functools.partial(later), True),
    (functools.partial(passing(later)), False),
    (functools.lru_cache(plain), False),
    (functools.lru_cache(later), True),
    (Wrapping(plain), False),
    (Wrapping(later), False),
    (Thing(), False),
    (Counting(), True),
    (Thing().method, False),
    (Thing().slow, True),
    (Thing().first, False),
    (Thing().later, True),
    (Thing.static, False),
    (Thing.__dict__["static"], False),
    (Thing.of_class, False),
    (opened()(plain), False),
    (functools.singledispatch(plain), False),
]


@pytest.mark.parametrize(("function", "is_coroutine"), TAKING_A_DAY)
def test_the_outermost_callable_says_whether_it_is_a_coroutine_and_the_inner_one_lends_its_hints(
    function, is_coroutine
):
    it = signed(function)
    assert it.is_coroutine is is_coroutine
    assert through(it, DAY) == ((DAY,), {})
    assert it.decode_call(it.encode_call((), {"day": DAY})) in [((DAY,), {}), ((), {"day": DAY})]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")
def test_a_function_may_be_marked_as_a_coroutine_function():
    import inspect

    assert signed(inspect.markcoroutinefunction(passing(later))).is_coroutine


def test_what_pydantic_validates_keeps_its_hints():
    assert through(signed(pydantic.validate_call(plain)), DAY, n=2) == ((DAY,), {"n": 2})


def test_a_wrapper_may_supply_an_argument_and_take_one():
    def report(day: date, session): ...

    assert through(signed(passing(report)), DAY) == ((DAY,), {})
    assert through(signed(with_dry_run(plain)), DAY, dry_run=True) == ((DAY,), {"dry_run": True})


def test_a_hint_that_a_wrapper_makes_a_guess_is_not_forced_on_a_value():
    def report(count: int, day: str, *, name: str = ""): ...

    assert through(signed(passing(report)), "monday") == (("monday",), {})


def test_a_wrapper_gets_the_call_as_it_is_given():
    assert through(signed(passing(plain)), n=2, day=DAY) == ((), {"day": DAY, "n": 2})
    assert through(signed(plain), n=2, day=DAY) == ((DAY, 2), {})


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "says"),
    [
        (passing(plain), ("x",), {}, "argument day must be date, got str"),
        (plain, (DAY,), {"dry_run": True}, "unexpected keyword argument 'dry_run'"),
    ],
)
def test_what_can_be_decided_is_refused_at_the_enqueue(function, args, kwargs, says):
    with pytest.raises(TypeError, match=says):
        signed(function).encode_call(args, kwargs)


def test_a_wrapper_without_keywords_takes_none():
    @functools.wraps(plain)
    def wrapper(*args):
        return plain(*args)

    with pytest.raises(TypeError, match="unexpected keyword argument 'n'"):
        signed(wrapper).encode_call((DAY,), {"n": 2})


def test_a_keyword_that_the_wrapper_requires_is_missed():
    @functools.wraps(plain)
    def wrapper(*args, token, **kwargs): ...

    with pytest.raises(TypeError, match="'token'"):
        signed(wrapper).encode_call((DAY,), {})
    assert through(signed(wrapper), DAY, token="t") == ((DAY,), {"token": "t"})


def test_a_signature_set_by_hand_counts_and_a_copied_one_does_not():
    import inspect

    by_hand = passing(plain)
    by_hand.__signature__ = inspect.signature(lambda day: None)
    with pytest.raises(TypeError, match="too many positional"):
        signed(by_hand).encode_call((DAY, 2), {})
    assert through(signed(with_dry_run(by_hand)), DAY, dry_run=True) == ((DAY,), {"dry_run": True})


def test_a_decorator_may_change_annotations():
    @functools.wraps(plain)
    def wrapper(day, n=1): ...

    wrapper.__annotations__ = {"day": UUID}
    assert through(signed(wrapper), UUID(int=1)) == ((UUID(int=1),), {})


def test_a_masked_argument_stays_masked_where_a_wrapper_may_shift_the_arguments():
    def pay(account, card: str, cents: int): ...

    assert signed(passing(pay), mask=["card"]).encode_call(("4111", 5), {}) == b'[["4111",5],{},[0,1]]'


@pytest.mark.parametrize("wrap", [passing, Wrapping, functools.lru_cache, functools.partial, made_async])
def test_a_generator_is_refused_behind_any_wrapper(wrap):
    def numbers():
        yield 1

    async def later_numbers():
        yield 1

    for function in (numbers, later_numbers):
        with pytest.raises(TypeError, match=r"f\(\) (is|wraps) a generator function"):
            signed(wrap(function))


def test_a_circle_of_wrappers_ends():
    def one(*args): ...

    def other(*args): ...

    one.__wrapped__, other.__wrapped__ = other, one
    assert through(signed(one), 1) == ((1,), {})


# ---- hints


def test_a_hint_may_name_a_class_of_the_function_in_which_the_task_is_declared():
    @dataclass
    class Order:
        day: date

    def ship(order: Order, many: list[Order]): ...

    assert through(signed(ship), Order(DAY), [Order(DAY)]) == ((Order(DAY), [Order(DAY)]), {})


def unresolvable(order: Nowhere) -> Nowhere: ...  # noqa: F821


def test_a_hint_that_cannot_be_resolved_is_named_where_it_is_needed():
    it = signed(unresolvable)
    assert through(it, 5) == ((5,), {})
    with pytest.raises(EncodeError, match=r"the hint 'Nowhere' of order cannot be resolved \(NameError: .*TYPE_CHECK"):
        it.encode_call((DAY,), {})
    with pytest.warns(UserWarning, match=r"f\(\) gets plain data: the hint 'Nowhere' of order cannot be resolved"):
        it.encode_call(({"a": 1},), {})


def test_a_result_whose_hint_cannot_be_resolved_is_warned_of():
    with pytest.warns(UserWarning, match=r"the result of f\(\) is plain data: the hint 'Nowhere' of result"):
        assert signed(unresolvable).decode_result(b'{"a":1}') == {"a": 1}


class Cat(pydantic.BaseModel):
    name: str
    lives: int = 9


class Dog(pydantic.BaseModel):
    name: str


@dataclass
class Point:
    x: int


def of(hint):
    def f(x): ...

    f.__annotations__ = {"x": hint, "return": hint}
    return signed(f)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (date | str, DAY),
        (str | date, DAY),
        (date | str, "monday"),
        (date | str | None, None),
        (UUID | str, UUID(int=7)),
        (Decimal | int | str, Decimal("1.50")),
        (Decimal | int | str, 7),
        (Path | str, "/tmp/x"),
        (bytes | str, "test"),
        (Cat | Dog, Cat(name="a")),
        (Cat | Dog, Dog(name="a")),
        (Cat | Dog | None, None),
        (Cat | Point | dict, Point(1)),
        (Cat | Point | dict, {"y": 1}),
        (list[Cat | Dog], [Dog(name="a"), Cat(name="b")]),
        (dict[str, date | str], {"a": DAY, "b": "x"}),
        (tuple[Cat | Dog, ...], (Dog(name="a"),)),
    ],
    ids=str,
)
def test_a_member_of_a_union_comes_back_as_it_was_given(hint, value):
    it = of(hint)
    (back,), _ = through(it, value)
    assert (back, type(back)) == (value, type(value))
    result = it.decode_result(it.encode_result(value))
    assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (date | str, "2026-01-02", "cannot store x: str would come back as date"),
        (list[date | str], ["a", "2026-01-02"], r"cannot store x\[1\]: str would come back as date"),
        (Path | str, Path("a"), "cannot store x: PosixPath would come back as str"),
    ],
    ids=str,
)
def test_a_member_that_would_come_back_as_another_is_refused(hint, value, says):
    with pytest.raises(EncodeError, match=says):
        of(hint).encode_call((value,), {})


def test_what_is_no_member_of_a_union_is_refused():
    with pytest.raises(TypeError, match=r"argument x must be .*Cat.* got int"):
        of(Cat | Dog).encode_call((5,), {})


# ---- places


@dataclass
class Line:
    due: Any = None


@pytest.mark.parametrize(
    ("hint", "value", "path"),
    [
        (Any, {"lines": [{}, {"due": datetime(2026, 1, 2, tzinfo=timezone.utc)}]}, "x['lines'][1]['due']"),
        (dict, {"lines": [{"due": DAY}]}, "x['lines'][0]['due']"),
        (list[Line], [Line(1), Line(DAY)], "x[1].due"),
        (dict[str, Line], {"a": Line({"b": {1: 2}})}, "x['a'].due['b']"),
        (Any, [{"a": {1j}}], "x[0]['a']{1j}"),
        (Any, {"a": {(1, 2): 3}}, "x['a']"),
        (Any, [10**5000], "x[0]"),
    ],
    ids=range(7),
)
def test_a_value_that_does_not_come_back_is_named_by_its_place(hint, value, path):
    with pytest.raises(EncodeError) as caught:
        of(hint).encode_call((value,), {})
    assert caught.value.path == path
    assert str(caught.value).startswith(f"cannot store {path}: ")


def test_a_key_that_does_not_come_back_is_named():
    with pytest.raises(EncodeError, match="cannot store x: its key 1 would come back as str '1'"):
        of(dict).encode_call(({1: 2},), {})
