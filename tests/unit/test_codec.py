"""What goes in comes back as annotated, and what cannot is refused by name."""

import enum
import functools
import inspect
import itertools
import math
import pickle
import re
import sys
import typing
import zoneinfo
from collections import Counter, OrderedDict, namedtuple
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litequeue.errors import DecodeError, EncodeError
from litequeue.serialization.json_codec import JsonCodec, digest
from litequeue.serialization.signature import Signature


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


class Right(enum.IntFlag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: int
    when: date
    tags: set[str] = field(default_factory=set)


@dataclass
class Other:
    x: int


class Node(msgspec.Struct):
    name: str
    below: "list[Node]" = []


class Film(TypedDict):
    name: str
    at: datetime


class Pair(NamedTuple):
    a: int
    b: Decimal


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    id: UUID
    day: date = pydantic.Field(alias="theDay")
    parts: tuple[int, ...] = ()


class Name(str):
    __slots__ = ()


class Unknown:
    pass


UserId = NewType("UserId", int)
MODEL = Model(id=UUID(int=5), theDay=date(2024, 2, 29), parts=(1, 2))
NOON = datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=-3, minutes=30)))


class PickleCodec:
    name = "pickle"

    def encode(self, value):
        return pickle.dumps(value)

    def decode(self, data):
        return pickle.loads(data)


def signature(function, codec=None):
    return Signature(function, codec or JsonCodec(), function.__name__)


def taking(hint):
    def it(x):
        return x

    it.__annotations__ = {"x": hint, "return": hint}
    return signature(it)


def add(a: int, b: int) -> int:
    return a + b


def mixed(a, /, b=1, *rest: int, c: date | None = None, **others: Path):
    return a, b, rest, c, others


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 2**200),
        (int, -(2**63) - 1),
        (int, True),
        (float, 0.1),
        (float, 3),
        (float, -0.0),
        (str, "é\0\u2028𐐷"),
        (str, "null"),
        (bool, False),
        (None, None),
        (bytes, b"\0\xff"),
        (bytearray, bytearray(b"x")),
        (date, date(1, 1, 1)),
        (time, time(1, 2, 3, 4)),
        (datetime, NOON),
        (datetime, datetime(2024, 1, 1, 0, 0)),  # noqa: DTZ001 - naive in, naive out
        (timedelta, timedelta(-1, 5, 7)),
        (timedelta, timedelta.max),
        (Decimal, Decimal("1.10")),
        (UUID, UUID(int=1)),
        (Colour, Colour.RED),
        (Size, Size.BIG),
        (Right, Right.READ | Right.WRITE),
        (Literal["a", 1], "a"),
        (Path, Path("/tmp/ü")),
        (PurePosixPath, PurePosixPath("a/b")),
        (list, [1, [None, {"a": "null"}]]),
        (dict, {"a": [1.5, None]}),
        (dict[str, Any], {"a": 1}),
        (dict[int, Decimal], {1: Decimal(1)}),
        (dict[date, list[UUID]], {date(2024, 1, 1): [UUID(int=1)]}),
        (set[int], {1, 2}),
        (frozenset[date], frozenset({date(2024, 1, 1)})),
        (tuple, (1, 2)),
        (tuple[int, date], (1, date(2024, 1, 1))),
        (tuple[Path, ...], (Path("a"), Path("b"))),
        (typing.Optional[datetime], None),  # noqa: UP045 - the old spelling is under test
        (datetime | None, NOON),
        (int | str, "x"),
        (int | None, None),
        (Point, Point(1, date(2024, 1, 1), {"a"})),
        (list[Point | None], [Point(1, date(2024, 1, 1)), None]),
        (Node, Node("a", [Node("b")])),
        (Film, {"name": "x", "at": NOON}),
        (Pair, Pair(1, Decimal(2))),
        (Model, MODEL),
        (Model | None, MODEL),
        (dict[str, list[Model]], {"a": [MODEL]}),
        (pydantic.RootModel[list[int]], pydantic.RootModel[list[int]]([1])),
        (Name, Name("x")),
        (Counter, Counter("aab")),
        (OrderedDict, OrderedDict(b=1, a=2)),
        (UserId, 7),
        (Annotated[date, "any", {}], date(2024, 1, 1)),
        (Annotated[int, msgspec.Meta(gt=0)], 7),
        (Any, [1, "a", None]),
        (object, 1),
        (list[Unknown], ["as it came"]),
        (typing.TypeVar("T"), 1),
        (typing.Callable[[], int] | None, None),
        (typing.NoReturn, 1),
        ("no such name", 1),
        ("not python at all", 1),
        (5, 1),
        ({}, 1),
    ],
    ids=str,
)
def test_an_argument_and_a_result_come_back_as_annotated(hint, value):
    it = taking(hint)
    (back,), kwargs = it.decode_call(it.encode_call((value,), {}))
    assert (back, type(back), kwargs) == (value, type(value), {})
    assert it.decode_call(it.encode_call((), {"x": value})) == ((value,), {})
    result = it.decode_result(it.encode_result(value))
    assert (result, type(result)) == (value, type(value))


def test_an_attrs_class_comes_back():
    attrs = pytest.importorskip("attrs")
    made = attrs.make_class("Made", {"when": attrs.field(type=date)})
    it = taking(made)
    assert it.decode_call(it.encode_call((made(date(2024, 1, 1)),), {})) == ((made(date(2024, 1, 1)),), {})


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(plain)
def test_plain_data_comes_back_equal(value):
    codec = JsonCodec()
    assert codec.decode(codec.encode(value)) == value
    it = taking(Any)
    assert it.decode_call(it.encode_call((value,), {})) == ((value,), {})
    assert it.decode_result(it.encode_result(value)) == value


# Binding


@pytest.mark.parametrize(
    ("args", "kwargs"), [((1, 2), {}), ((1,), {"b": 2}), ((), {"a": 1, "b": 2}), ((), {"b": 2, "a": 1})]
)
def test_one_call_has_the_same_bytes_however_it_is_spelled(args, kwargs):
    assert signature(add).encode_call(args, kwargs) == b"[[1,2],{}]"


def test_keywords_are_sorted():
    calls = [dict(order) for order in itertools.permutations({"z": "1", "c": None, "y": "2"}.items())]
    assert {signature(mixed).encode_call((0,), call) for call in calls} == {b'[[0],{"c":null,"y":"2","z":"1"}]'}


def test_defaults_are_left_to_the_day_the_job_runs():
    assert signature(mixed).encode_call((0,), {}) == b"[[0],{}]"


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((1,), {}, r"add\(\) missing a required argument: 'b'"),
        ((1, 2, 3), {}, r"add\(\) too many positional arguments"),
        ((1, 2), {"c": 3}, r"add\(\) got an unexpected keyword argument 'c'"),
        ((1, 2), {"b": 3}, r"add\(\) multiple values for argument 'b'"),
    ],
)
def test_a_call_that_does_not_bind_is_refused_as_python_would(args, kwargs, says):
    with pytest.raises(TypeError, match=says):
        signature(add).encode_call(args, kwargs)


def test_a_required_keyword_is_missed():
    def need(a, *, k): ...

    with pytest.raises(TypeError, match=r"need\(\) missing a required .*'k'"):
        signature(need).encode_call((1,), {})


def test_a_call_of_every_kind_of_parameter_comes_back_converted():
    it = signature(mixed)
    call = (0, 1, 2, 3), {"c": date(2024, 1, 1), "a": Path("x"), "rest": Path("y")}
    assert it.decode_call(it.encode_call(*call)) == call


# Types


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (int, "x", "int, got str"),
        (int, 3.0, "int, got float"),
        (int, None, "int, got NoneType"),
        (int, NOON, "int, got datetime"),
        (bool, 1, "bool, got int"),
        (str, 1, "str, got int"),
        (datetime, "soon", "datetime, got str: Invalid RFC3339 encoded datetime"),
        (int | None, "x", "int | None, got str"),
        (Literal["a"], "b", "Literal['a'], got str: Invalid enum value 'b'"),
        (Path, 5, "Path, got int: "),
        (Model, {"id": 1}, "Model, got dict: 2 validation errors for Model"),
        (Point, Other(1), "Point, got Other: Object missing required field `when`"),
    ],
    ids=str,
)
def test_an_argument_of_another_type_is_refused_with_both_types(hint, value, says):
    if (hint, value) == (str, b"x"):
        pytest.skip("bytes are base64 text in JSON, and a text is what was asked for")
    with pytest.raises(TypeError) as caught:
        taking(hint).encode_call((value,), {})
    assert str(caught.value).startswith(f"it() argument x must be {says}")


def test_none_is_accepted_where_it_is_the_default():
    def it(x: int = None, y: list[int] = None): ...  # noqa: RUF013 - what people write

    assert signature(it).decode_call(signature(it).encode_call((None, None), {})) == ((None, None), {})


def test_items_of_star_args_are_checked_one_by_one():
    with pytest.raises(TypeError, match=r"mixed\(\) argument rest\[1\] must be int, got str"):
        signature(mixed).encode_call((0, 1, 2, "x"), {})


@dataclass
class Nested:
    sub: list[date]
    many: dict[str, dict[int, int]] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (Nested, Nested([date(2026, 1, 1), "x"]), "x.sub[1]: 'x' does not fit: Invalid RFC3339 encoded date"),
        (Nested, Nested([3]), "x.sub[0] must be date, got int 3"),
        (Nested, Nested([], {"a": {1: 1}, "b": {2: "z"}}), "x.many['b']['2'] must be int, got str 'z'"),
        (Nested, Nested([], {"a": {"q": 1}}), "x.many['a']: its key must be int, got str 'q'"),
        (dict[str, int], {"c": 1, "a": "b"}, "x['a'] must be int, got str 'b'"),
        (dict[str, int], {"a": None}, "x['a'] must be int, got None"),
        (list[int], ["x"], "x[0] must be int, got str 'x'"),
        (list[dict[str, int]], [{"a": 1}, {"a": "b"}], "x[1]['a'] must be int, got str 'b'"),
    ],
)
def test_the_error_of_a_wrong_type_names_the_place(hint, value, says):
    with pytest.raises(TypeError) as caught:
        taking(hint).encode_call((value,), {})
    assert str(caught.value) == f"it() argument {says}"


def test_a_hint_may_name_what_is_defined_later():
    scope = {}
    exec("def f(x: 'Late') -> 'Late': ...", scope)
    it = signature(scope["f"])
    scope["Late"] = date
    assert it.decode_call(it.encode_call((date(2024, 1, 1),), {})) == ((date(2024, 1, 1),), {})


def test_one_hint_that_cannot_be_resolved_leaves_the_others_in_force():
    def it(x: "Nowhere", y: date): ...  # noqa: F821

    assert signature(it).decode_call(b'[["x","2024-01-01"],{}]') == (("x", date(2024, 1, 1)), {})


@pytest.mark.parametrize(
    ("hint", "value", "kept"),
    [
        (list[date] | list[str], ["2020-01-01"], [date(2020, 1, 1)]),
        (dict[str, date] | dict[str, str], {"k": "2020-01-01"}, {"k": date(2020, 1, 1)}),
        (list[bytes] | list[str], ["YWJj"], [b"abc"]),
        (date | str, "2020-01-01", date(2020, 1, 1)),
    ],
    ids=str,
)
def test_text_in_a_union_that_would_come_back_as_another_type_is_refused(hint, value, kept):
    it = taking(hint)
    with pytest.raises(EncodeError, match="would come back as"):
        it.encode_call((value,), {})
    assert it.decode_call(it.encode_call((kept,), {})) == ((kept,), {})


def test_a_hint_that_msgspec_refuses_counts_as_any_and_the_error_says_why():
    @dataclass
    class Odd:
        when: date | str

    assert taking(Odd).decode_call(b'[[{"when":"x"}],{}]') == (({"when": "x"},), {})
    with pytest.raises(EncodeError, match=r"Odd would come back as dict .*; its hint Odd cannot be converted to \("):
        taking(Odd).encode_call((Odd("x"),), {})


# Refusals of values


@pytest.mark.parametrize(
    ("value", "path", "says"),
    [
        ({"cb": [print]}, "a['cb'][0]", "builtin_function_or_method is not a JSON type; pass plain data or an id"),
        ([1, {"x": (2, 1j)}], "a[1]['x'][1]", "complex is not a JSON type"),
        (object(), "a", "object is not a JSON type"),
        ([1.5, None, math.nan], "a[2]", "nan is not JSON; pass None or text"),
        ({"x": -math.inf}, "a['x']", "-inf is not JSON"),
        (math.nan, "a", "nan is not JSON"),
        (Point(math.nan, date(2024, 1, 1)), "a.x", "nan is not JSON"),
        (Node("a", [Node(print)]), "a.below[0].name", "builtin_function_or_method is not a JSON type"),
        (Model.model_construct(id=print), "a.id", "builtin_function_or_method is not a JSON type"),
        (["\ud800"], "a[0]", "the text contains a lone surrogate"),
        ({"\ud800": 1}, "a", "its keys must be text or numbers that JSON can hold, not '\\ud800'"),
        ({"x": {(1, 2): 3}}, "a['x']", "its keys must be text or numbers"),
        ([10**5000], "a[0]", "Exceeds the limit"),
        (Unknown, "a", "type is not a JSON type"),
        (namedtuple("N", "a b")(1, {2j}), "a[1]{2j}", "complex is not a JSON type"),  # noqa: PYI024
    ],
)
def test_a_value_that_cannot_be_stored_is_named_by_its_path(value, path, says):
    def f(a): ...

    with pytest.raises(EncodeError) as caught:
        signature(f).encode_call((value,), {})
    assert caught.value.path == path
    assert str(caught.value).startswith(f"cannot store {path}: {says}")


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((1, 1j), {}, "b"),
        ((1,), {"b": [1j]}, "b[0]"),
        ((1, 2, 3, {"x": 1j}), {}, "rest[1]['x']"),
        ((1,), {"c": 1j}, "c"),
        ((1,), {"cb": [1j]}, "others['cb'][0]"),
    ],
)
def test_the_path_starts_with_the_name_of_the_parameter(args, kwargs, path):
    with pytest.raises(EncodeError) as caught:
        signature(mixed).encode_call(args, kwargs)
    assert caught.value.path == path


def test_the_path_of_a_result_starts_with_result():
    with pytest.raises(EncodeError, match=r"cannot store result\['a'\]\[0\]: complex is not a JSON type") as caught:
        signature(add).encode_result({"a": [1j]})
    assert caught.value.path == "result['a'][0]"
    with pytest.raises(EncodeError, match=r"cannot store value\[0\]: nan"):
        JsonCodec().encode([math.nan])


def test_a_list_that_contains_itself_is_refused():
    loop: dict[str, Any] = {"x": [1]}
    loop["x"].append(loop)
    with pytest.raises(EncodeError, match=r"cannot store result\['x'\]\[1\]: it contains itself"):
        signature(add).encode_result(loop)


@pytest.mark.parametrize("depth", [sys.getrecursionlimit(), 20_000, 200_000])
def test_a_list_that_is_nested_too_deeply_is_refused_or_comes_back(depth):
    deep: list[Any] = []
    for _ in range(depth):
        deep = [deep]
    try:
        data = taking(Any).encode_call((deep,), {})
    except EncodeError:
        return
    assert taking(Any).decode_call(data)


# Reading what is stored


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[1],{}]", "does not fit the present signature of add(): add() missing a required argument: 'b'"),
        ("[[1,2,3],{}]", "too many positional arguments"),
        ('[[1],{"c":2}]', "missing a required argument: 'b'"),
        ('[[1,"x"],{}]', "does not fit the present signature of add(): argument b must be int, got str"),
        ("[1,2]", "not a call of add()"),
        ("[[],{},1]", "not a call of add()"),
        ("[[", "not JSON that litequeue wrote"),
        ("", "not JSON that litequeue wrote"),
        ("[" * 200_000, "not JSON that litequeue wrote"),
    ],
    ids=lambda text: text[:20],
)
def test_a_stored_call_that_does_not_fit_is_refused(text, says):
    with pytest.raises(DecodeError) as caught:
        signature(add).decode_call(text.encode())
    assert says in str(caught.value)


def test_a_class_that_raises_while_it_is_built_is_a_decode_error():
    @dataclass
    class Picky:
        x: int

        def __post_init__(self):
            raise KeyError("x")

    with pytest.raises(DecodeError, match=r"argument x must be .*Picky"):
        taking(Picky).decode_call(b'[[{"x":1}],{}]')


def every(a: Point, b: Model, c: dict[int, Pair], d: Path = Path(), *e: datetime, f: Decimal | None = None): ...


calls = st.tuples(st.lists(plain), st.dictionaries(st.sampled_from("abcdefg"), plain)).map(JsonCodec().encode)


@given(st.binary() | calls)
def test_arbitrary_bytes_raise_nothing_but_decode_error(data):
    for function in (add, mixed, every):
        try:
            args, kwargs = signature(function).decode_call(data)
        except DecodeError:
            continue
        inspect.signature(function).bind(*args, **kwargs)


def test_a_wrong_return_annotation_does_not_hide_a_result():
    assert signature(add).decode_result(b'"text"') == "text"
    assert signature(add).decode_result(None) is None
    with pytest.raises(DecodeError):
        signature(add).decode_result(b"{")


# Other codecs


def test_another_codec_returns_what_it_was_given_unchecked():
    it = signature(add, PickleCodec())
    assert it.decode_call(it.encode_call(("x", 1j), {})) == (("x", 1j), {})
    assert it.decode_result(it.encode_result({1: 2})) == {1: 2}
    with pytest.raises(TypeError, match=r"add\(\) missing a required argument: 'b'"):
        it.encode_call((1,), {})


def test_what_another_codec_refuses_is_named_too():
    with pytest.raises(EncodeError) as caught:
        signature(add, PickleCodec()).encode_call((1, {"f": [lambda: 1]}), {})
    assert caught.value.path == "b['f'][0]"


@given(st.binary())
def test_what_another_codec_cannot_read_is_a_decode_error(data):
    class Broken:
        name = "broken"
        encode = staticmethod(bytes)

        def decode(self, data):
            return 1 / (len(data) * 0)

    with pytest.raises(DecodeError, match="the codec 'broken' cannot read"):
        signature(add, Broken()).decode_call(data)


# Functions


async def wait(x: date) -> date:
    return x


class Caller:
    async def __call__(self, x: date) -> date:
        return x

    def method(self, x: date) -> date:
        return x


@functools.wraps(wait)
def wrapped(*args, **kwargs):
    return wait(*args, **kwargs)


@pytest.mark.parametrize(
    ("function", "is_coroutine"),
    [
        (add, False),
        (wait, True),
        (functools.partial(wait), True),
        (functools.partial(functools.partial(add, 1), b=2), False),
        (wrapped, False),
        (functools.lru_cache(add), False),
        (Caller(), True),
        (Caller().method, False),
        (lambda x: x, False),
        (len, False),
        (Point, False),
    ],
)
def test_a_coroutine_function_is_known_through_what_stands_for_it(function, is_coroutine):
    assert Signature(function, JsonCodec(), "f").is_coroutine is is_coroutine


@pytest.mark.parametrize("function", [wait, functools.partial(wait), wrapped, Caller(), Caller().method])
def test_hints_are_found_through_what_wraps_the_function(function):
    it = Signature(function, JsonCodec(), "f")
    assert it.decode_call(b'[["2024-01-01"],{}]') == ((date(2024, 1, 1),), {})
    assert it.decode_result(b'"2024-01-01"') == date(2024, 1, 1)


def test_a_generator_function_is_refused_where_it_is_declared():
    def numbers():
        yield 1

    async def later():
        yield 1

    for function in (numbers, later, functools.partial(numbers)):
        with pytest.raises(TypeError, match=r"f\(\) is a generator function"):
            Signature(function, JsonCodec(), "f")


def test_a_signature_shows_itself():
    assert repr(signature(add)) == "<Signature add(a: int, b: int) -> int codec=json>"


def test_a_digest_is_short_and_the_same_everywhere():
    assert digest(b"[[1,2],{}]") == "b6204424e51bd0e1b4ffad1f0459e631"
    assert digest(b"") != digest(b" ")


# What would come back as something else is refused


class Secret(pydantic.BaseModel):
    password: pydantic.SecretStr


class Hiding(pydantic.BaseModel):
    a: int
    hidden: int = pydantic.Field(default=7, exclude=True)


class Cat(pydantic.BaseModel):
    meow: int


class Dog(pydantic.BaseModel):
    bark: int


class Rate(enum.Enum):
    LOW = 0.5


@dataclass
class Longer(Other):
    y: int


def one_argument(hint):
    def f(x): ...

    f.__annotations__ = {} if hint is None else {"x": hint}
    return Signature(f, JsonCodec(), "f")


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Secret, Secret(password="hunter2")),
        (Hiding, Hiding(a=1, hidden=9)),
        (Rate, Rate.LOW),
        (dict[Rate, int], {Rate.LOW: 1}),
        (Other, Longer(1, 2)),
        (bytes | str, b"x"),
        (list, [b"x"]),
        (None, b"x"),
        (None, {1: 2}),
        (None, [{"deep": (b"x",)}]),
        (None, datetime(2026, 1, 1, tzinfo=timezone.utc)),
        (None, Decimal("1.5")),
        (None, Other(1)),
        (None, Node("n")),
        (None, {frozenset({1})}),
    ],
    ids=str,
)
def test_a_value_that_would_come_back_as_another_is_refused(hint, value):
    with pytest.raises(EncodeError, match=r"cannot store x.*: .* would come back as .*; .* plain data") as caught:
        one_argument(hint).encode_call((value,), {})
    assert re.split(r"\W", caught.value.path)[0] == "x"


@pytest.mark.parametrize(
    ("hint", "value", "got"),
    [
        (None, (1, (2, "x")), [1, [2, "x"]]),
        (None, {"a": (1,)}, {"a": [1]}),
        (None, OrderedDict(a=1), {"a": 1}),
        (list[int], {1}, [1]),
        (None, {(1, 2)}, [[1, 2]]),
        (Other, {"x": 1}, Other(1)),
        (datetime, "2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=timezone.utc)),
        (Path, "x", Path("x")),
        (Cat | None, Cat(meow=1), Cat(meow=1)),
        (Hiding, Hiding(a=1), Hiding(a=1)),
    ],
)
def test_lists_for_tuples_and_plain_data_for_the_annotated_type_will_do(hint, value, got):
    signature = one_argument(hint)
    [back], _ = signature.decode_call(signature.encode_call((value,), {}))
    assert back == got


def test_another_codec_may_give_back_what_it_likes():
    class Words:
        name = "words"

        def encode(self, value):
            return repr(value).encode()

        def decode(self, data):
            return [[data], {}]

    assert Signature(lambda x: x, Words(), "f").encode_call((b"x",), {}) == b"[(b'x',), {}]"


def test_calls_with_equal_dicts_are_one_call_where_they_are_compared():
    signature = one_argument(None)
    one, other = ({"x": 1, "y": [2]},), ({"y": [2], "x": 1},)
    assert signature.encode_call(one, {}, canonical=True) == signature.encode_call(other, {}, canonical=True)


PARIS_MEAN_TIME = timezone(timedelta(minutes=9, seconds=21))


@pytest.mark.parametrize(
    "value",
    [datetime(1900, 1, 1, tzinfo=PARIS_MEAN_TIME), time(1, 2, tzinfo=PARIS_MEAN_TIME)],
    ids=["datetime", "time"],
)
def test_a_moment_whose_offset_has_seconds_is_refused_and_not_moved(value):
    def function(when: type(value)): ...

    with pytest.raises(EncodeError, match="would come back as"):
        Signature(function, JsonCodec(), "function").encode_call((value,), {})


class Meeting(NamedTuple):
    when: datetime


class Visit(pydantic.BaseModel):
    when: datetime
    _room: int = pydantic.PrivateAttr(default=1)


@dataclass
class Night:
    hours: list[datetime]


PARIS = zoneinfo.ZoneInfo("Europe/Paris")
WHERE_CLOCKS_CHANGE = [
    datetime(2026, 10, 25, 2, 30, tzinfo=PARIS),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=PARIS),
    datetime(2026, 3, 29, 2, 30, tzinfo=PARIS),
]


@pytest.mark.parametrize("when", WHERE_CLOCKS_CHANGE, ids=["first", "second", "never"])
def test_a_time_that_comes_twice_or_never_where_clocks_change_is_kept_as_the_moment_it_is(when):
    def function(a: datetime, b: dict[str, datetime], c: Meeting, d: Visit, e: Night | None): ...

    signature = Signature(function, JsonCodec(), "function")
    call = (when, {"x": when}, Meeting(when), Visit(when=when), Night([when]))
    (a, b, c, d, e), _ = signature.decode_call(signature.encode_call(call, {}))
    assert {each.astimezone(timezone.utc) for each in (a, b["x"], c.when, d.when, *e.hours)} == {
        when.astimezone(timezone.utc)
    }


def test_what_else_would_be_lost_beside_such_a_time_is_refused():
    visit = Visit(when=WHERE_CLOCKS_CHANGE[0])
    visit._room = 2
    with pytest.raises(EncodeError, match="would come back as"):
        one_argument(Visit).encode_call((visit,), {})


class Address(TypedDict):
    street: str


def test_a_key_that_a_typed_dict_does_not_have_is_refused_and_not_dropped():
    def function(one: Address, many: list[Address]): ...

    signature = Signature(function, JsonCodec(), "function")
    more = {"street": "a", "number": 5}
    for arguments in ((more, []), ({"street": "a"}, [{"street": "b"}, more])):
        with pytest.raises(EncodeError, match="its key 'number' would be dropped"):
            signature.encode_call(arguments, {})
    signature.encode_call(({"street": "a"}, [{"street": "b"}]), {})
