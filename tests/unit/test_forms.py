"""Calls that are stored before all of their arguments are known, or for many items: links and chunks."""

import pickle
import sys
import warnings
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from litequeue import DecodeError, EncodeError, JobFailed
from litequeue.core.compositions import Failure, Lost
from litequeue.core.records import Status
from litequeue.serialization.encryption import EncryptedCodec, new_key
from litequeue.serialization.forms import CHUNK, LINK
from litequeue.serialization.json_codec import JsonCodec
from litequeue.serialization.signature import NameAlone, Signature

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]


class PickleCodec:
    name = "pickle"

    def encode(self, value):
        return pickle.dumps(value)

    def decode(self, data):
        return pickle.loads(data)


class Salted(JsonCodec):
    """Never writes the same bytes twice, as ciphers with a nonce do."""

    name = "salted"
    count = 0

    def encode(self, value):
        Salted.count += 1
        return b"%08d" % self.count + super().encode(value)

    def decode(self, data):
        return super().decode(data[8:])


CODECS = [JsonCodec, lambda: EncryptedCodec(KEY), Salted, PickleCodec]
NAMES = ["json", "encrypted", "salted", "pickle"]
KEY = new_key()
FAILURE = Failure("41", "fetch", Status.FAILED, "ValueError", "no", 3)
LOST = Lost(FAILURE, "Traceback")


@dataclass
class Item:
    name: str
    on: date


@pytest.fixture(params=CODECS, ids=NAMES)
def codec(request):
    return request.param()


def notify(what: str = "all", to: str = "", *more: int, urgent: bool = False): ...


def of(function, codec=None, mask=()):
    return Signature(function, codec or JsonCodec(), "f", mask)


def taking(hint):
    def f(x): ...

    f.__annotations__ = {"x": hint, "return": hint}
    return of(f)


def linked(signature, handed, args=(), kwargs=None):
    """The arguments of a link, once its parents hand on these results."""
    call = signature.decode_call(signature.encode_link(args, kwargs or {}))
    assert call.form == LINK
    return signature.restored_call([signature.stored.handed(handed), *call.args[1:]], call.kwargs)


# Links


@pytest.mark.parametrize(
    ("args", "kwargs", "stored"),
    [
        ((), {}, b"[[null],{},[],1]"),
        (("ada",), {}, b'[[null,"ada"],{},[],1]'),
        ((), {"to": "ada"}, b'[[null,"ada"],{},[],1]'),
        (("ada", 1), {"urgent": True}, b'[[null,"ada",1],{"urgent":true},[],1]'),
    ],
)
def test_a_link_has_one_argument_more_in_front(args, kwargs, stored):
    assert of(notify).encode_link(args, kwargs) == stored


def test_what_is_handed_on_comes_first_with_every_codec(codec):
    def f(items: list[Item], to: str): ...

    signature = of(f, codec)
    results = [codec.encode({"name": "a", "on": "2026-01-02"}), codec.encode({"name": "b", "on": "2026-01-03"})]
    items, to = linked(signature, results, ("ada",))[0]
    assert to == "ada"
    if isinstance(codec, PickleCodec):
        assert items == [{"name": "a", "on": "2026-01-02"}, {"name": "b", "on": "2026-01-03"}]
    else:
        assert items == [Item("a", date(2026, 1, 2)), Item("b", date(2026, 1, 3))]


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "says"),
    [
        (
            lambda: 0,
            (),
            {},
            r"f\(\) too many positional arguments; its first argument is the result of what runs before",
        ),
        (lambda x: 0, (1,), {}, "too many positional arguments; .* unless it is si"),
        (lambda *, x: 0, (), {"x": 1}, "too many positional arguments; "),
        (lambda x, y: 0, (), {"x": 1}, "multiple values for argument 'x'; "),
        (lambda x, y: 0, (), {}, "missing a required argument: 'y'; "),
        (notify, (1,), {}, r"f\(\) argument to must be str, got int$"),
        (notify, ("a", "b"), {}, r"f\(\) argument more\[0\] must be int, got str"),
    ],
)
def test_a_link_that_could_not_be_called_is_refused(function, args, kwargs, says):
    with pytest.raises(TypeError, match=says):
        of(function).encode_link(args, kwargs)


def test_a_value_that_a_link_cannot_carry_is_named_by_its_path():
    with pytest.raises(EncodeError) as caught:
        of(lambda x, y: 0).encode_link(({"a": [object()]},), {})
    assert caught.value.path == "y['a'][0]"


@pytest.mark.parametrize(
    ("args", "kwargs", "keywords", "stored"),
    [
        (("done",), {}, (), b'[[null,"done"],{},[],1]'),
        ((), {"to": "ada"}, ("to",), b'[[null,"ada"],{},[],1]'),
        (("done",), {"urgent": True}, ("urgent",), b'[[null,"done"],{"urgent":true},[],1]'),
    ],
)
def test_a_complete_call_becomes_a_link(args, kwargs, keywords, stored):
    signature = of(notify)
    assert signature.as_link(signature.encode_call(args, kwargs), keywords) == stored


def test_an_argument_that_was_given_by_name_does_not_move_to_another_parameter():
    signature = of(notify)
    with pytest.raises(TypeError, match="multiple values for argument 'what'"):
        signature.as_link(signature.encode_call((), {"what": "done"}), ["what"])
    with pytest.raises(TypeError, match="multiple values for argument 'what'"):
        signature.as_link(signature.encode_call((), {"what": "done", "to": "ada"}), ["to", "what"])


def test_an_argument_that_does_not_fit_the_next_parameter_is_refused():
    def f(when: date = date.min, text: str = ""): ...

    signature = of(f)
    with pytest.raises(TypeError, match="cannot store text: date would come back as str"):
        signature.as_link(signature.encode_call((date(2026, 1, 2),), {}))


def test_what_is_no_complete_call_does_not_become_a_link():
    with pytest.raises(DecodeError, match="not a complete call"):
        of(notify).as_link(of(notify).encode_link((), {}))


def test_the_form_of_a_call_is_known(codec):
    signature = of(notify, codec, mask=["to"])
    given = [signature.encode_call(("a",), {}), signature.encode_link(("a",), {}), signature.encode_chunk(["a", "b"])]
    assert list(map(signature.form_of, given)) == [None, LINK, CHUNK]


def test_a_task_known_by_its_name_alone_has_links():
    signature = NameAlone(JsonCodec(), "send")
    assert signature.encode_link((1,), {"b": 2}) == b'[[null,1],{"b":2},[],1]'


def test_a_mask_covers_what_is_handed_on():
    signature = of(notify, mask=["what", "urgent"])
    assert signature.encode_link(("ada",), {"urgent": True}) == b'[[null,"ada"],{"urgent":true},[0,"urgent"],1]'
    with pytest.raises(DecodeError) as caught:
        linked(signature, b'{"secret":1}')
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"[[],{},[],1]", b"[[1],{},[],1]", b"[[null],{},[],3]", b"[[],{},[],2]", b'[[1],{"a":1},[],2]', b"[[],{},1]"],
)
def test_a_form_that_makes_no_sense_is_a_decode_error(data):
    with pytest.raises(DecodeError, match=r"not a call of f\(\)"):
        of(notify).decode_call(data)


# What is handed on


@pytest.mark.parametrize(
    ("hint", "handed", "value"),
    [
        (date, b'"2026-01-02"', date(2026, 1, 2)),
        (Any, b'"2026-01-02"', "2026-01-02"),
        (list[date], [b'"2026-01-02"'], [date(2026, 1, 2)]),
        (list[list[date]], [[b'"2026-01-02"'], []], [[date(2026, 1, 2)], []]),
        (tuple[int, date], [b"1", b'"2026-01-02"'], (1, date(2026, 1, 2))),
        (set[int], [b"1", b"1"], {1}),
        (list[int | JobFailed], [b"1", b"2"], [1, 2]),
        (list, [b"1", b'"a"'], [1, "a"]),
    ],
)
def test_results_come_as_the_parameter_says(hint, handed, value):
    assert linked(taking(hint), handed) == ((value,), {})


def test_results_reach_a_function_of_any_arguments():
    def f(*parts: list[date]): ...

    assert linked(of(f), [b'"2026-01-02"'])[0] == ([date(2026, 1, 2)],)


@pytest.mark.parametrize("hint", [list[int], list[int | JobFailed], list[date | int], list, Any, list[int] | None])
def test_what_stands_for_a_lost_result_comes_whatever_the_hint_says(hint):
    (values,), _ = linked(taking(hint), [b"1", LOST, b"3"])
    first, failed, last = values
    assert (first, last) == (1, 3)
    assert isinstance(failed, JobFailed)
    assert (failed.job_id, failed.error_type, failed.message, failed.traceback) == (
        "41",
        "ValueError",
        "no",
        "Traceback",
    )


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (list[list[date]], [[date(2026, 1, 2)], [date(2026, 1, 3), None]]),
        (list[tuple[date, ...]], [(date(2026, 1, 2),), (date(2026, 1, 3), None)]),
        (tuple[list[date], list[date | JobFailed]], ([date(2026, 1, 2)], [date(2026, 1, 3), None])),
    ],
)
def test_results_beside_a_lost_one_come_as_the_parameter_says(hint, value):
    (found,), _ = linked(taking(hint), [[b'"2026-01-02"'], [b'"2026-01-03"', LOST]])
    assert type(found[1][1]) is JobFailed
    shown = [[None if isinstance(each, JobFailed) else each for each in part] for part in found]
    assert shown == [list(part) for part in value]
    assert (type(found), type(found[1])) == (type(value), type(value[1]))


def test_a_lost_result_is_not_made_text():
    class Name(str):
        __slots__ = ()

    (values,), _ = linked(taking(list[Name]), [b'"a"', LOST])
    assert type(values[0]) is Name
    assert type(values[1]) is JobFailed
    (paths,), _ = linked(taking(list[PurePath]), [b'"a"', LOST])
    assert paths[0] == PurePath("a")


@pytest.mark.parametrize("hint", [Failure, Any, str, int, dict[str, int], JobFailed])
def test_a_failure_is_handed_on_whatever_the_hint_says(hint):
    assert linked(taking(hint), FAILURE)[0] == (FAILURE,)


@pytest.mark.parametrize(
    ("hint", "handed", "says"),
    [
        (int, b'"a"', r"argument x must be int, got str"),
        (list[int], [b"1", b'"a"'], r"argument x\[1\] must be int, got str 'a'"),
        (list[int | JobFailed], [b"1", b'"a"'], r"argument x\[1\] must be int, got str 'a'"),
        (list[int], [b"1", LOST, b'"a"'], r"argument x\[2\] must be int, got str"),
        (dict[str, int], [b"1", LOST], r"argument x must be dict\[str, int\], got a list of 2 with a JobFailed in it"),
        (tuple[int, int], [b"1", LOST, b"2"], r"got a list of 3 with a JobFailed in it"),
    ],
)
def test_results_that_do_not_fit_are_a_decode_error(hint, handed, says):
    with pytest.raises(DecodeError, match=says):
        linked(taking(hint), handed)


def test_a_result_that_the_codec_cannot_read_is_a_decode_error():
    signature = of(notify, EncryptedCodec(new_key()))
    with pytest.raises(DecodeError, match="none of the 1 keys"):
        signature.stored.handed([b"1234567890123456789"])


def test_a_hint_may_name_our_classes_that_are_imported_for_type_checkers_alone():
    def f(results: "list[int | JobFailed]", failure: "Failure | None" = None): ...

    scope = {"__name__": "elsewhere"}
    exec("def f(results: 'list[int | JobFailed]'): ...", scope)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert linked(of(scope["f"]), [b"1", LOST])[0][0][0] == 1
    with pytest.raises(DecodeError):
        linked(of(scope["f"]), [b'"a"'])


def test_a_class_of_the_module_goes_before_ours():
    scope = {"__name__": "elsewhere", "Failure": date}
    exec("def f(x: 'Failure'): ...", scope)
    assert linked(of(scope["f"]), b'"2026-01-02"')[0] == (date(2026, 1, 2),)


def test_a_link_whose_result_stays_plain_for_want_of_a_hint_is_warned_of():
    def f(x: "Unknown"): ...

    with pytest.warns(UserWarning, match="gets plain data: the hint 'Unknown' of x cannot be resolved"):
        of(f).encode_link((), {})


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")
def test_a_named_type_of_results_is_looked_into():
    scope: dict[str, Any] = {"JobFailed": JobFailed}
    exec("type Results = list[int | JobFailed]\ntype Tree = list[Tree | int]", scope)
    assert linked(taking(scope["Results"]), [b"1", b"2"])[0] == ([1, 2],)
    (values,), _ = linked(taking(scope["Results"]), [b"1", LOST])
    assert values[0] == 1
    with pytest.raises(DecodeError):
        linked(taking(scope["Results"]), [b'"a"'])
    taking(scope["Tree"]).encode_link((), {})


# Chunks


def test_a_chunk_holds_its_items(codec):
    signature = of(lambda x, y=1: 0, codec)
    call = signature.decode_call(signature.encode_chunk([1, "a", [None]]))
    assert (list(call.args), call.kwargs, call.form) == ([1, "a", [None]], {}, CHUNK)


@pytest.mark.parametrize(
    ("function", "items", "error", "says"),
    [
        (notify, ["a", 1], TypeError, r"item 1 of a chunk: f\(\) argument what must be str, got int"),
        (lambda x: 0, [1, object()], EncodeError, r"item 1 of a chunk: cannot store x: "),
        (lambda x: 0, ["a", "\ud800"], EncodeError, "item 1 of a chunk: cannot store x: .* lone surrogate"),
        (lambda x, y: 0, [1], TypeError, "item 0 of a chunk: .* missing a required argument: 'y'"),
        (lambda: 0, [1], TypeError, "item 0 of a chunk: .* too many positional arguments"),
        (lambda x: 0, [], ValueError, "at least one item"),
    ],
)
def test_an_item_that_cannot_be_called_with_is_named(function, items, error, says):
    with pytest.raises(error, match=says):
        of(function).encode_chunk(items)


def test_a_mask_covers_each_item_of_a_chunk():
    assert of(notify, mask=["what"]).encode_chunk(["a", "b"]) == b'[["a","b"],{},[0],2]'
    assert of(notify, mask=["to"]).encode_chunk(["a"]) == b'[["a"],{},[],2]'


def test_each_result_of_a_chunk_comes_as_annotated(codec):
    def f(x) -> date: ...

    signature = of(f, codec, mask=["x"])
    data = signature.encode_result([date(2026, 1, 2), "no date"])
    assert signature.decode_result(data, signature.encode_chunk([1, 2])) == [date(2026, 1, 2), "no date"]


def test_a_list_that_one_call_returned_is_no_result_of_a_chunk(codec):
    def f(x) -> list[date]: ...

    signature = of(f, codec)
    data = signature.encode_result([date(2026, 1, 2)])
    for call in (signature.encode_call((2,), {}), signature.encode_link((), {}), b"unreadable,2]"):
        assert signature.decode_result(data, call) == [date(2026, 1, 2)]


# Which calls are equal


def test_equal_calls_have_equal_canonical_bytes(codec):
    def f(x, y, **more): ...

    one, other = of(f, codec), of(f, codec, mask=["x"])
    for encode in ("encode_call", "encode_link"):
        given = {"a": 1, "b": 2}, {"b": 2, "a": 1}
        found = [
            getattr(each, encode)((y,), {"z": 1} | ({"y": 0} if encode == "encode_call" else {}))
            for y in given
            for each in (one, other)
        ]
        assert len(set(map(one.stored.canonical, found))) == 1
    chunks = [each.encode_chunk([y]) for y in given for each in (of(lambda x: 0, codec), of(lambda x: 0, codec, ["x"]))]
    assert len(set(map(one.stored.canonical, chunks))) == 1


def test_calls_of_different_forms_or_arguments_are_not_equal(codec):
    signature = of(lambda x=None, y=None: 0, codec)
    given = [
        signature.encode_call((None,), {}),
        signature.encode_link((), {}),
        signature.encode_chunk([None]),
        signature.encode_call((1,), {}),
        signature.encode_call(("1",), {}),
    ]
    assert len(set(map(signature.stored.canonical, given))) == len(given)


def test_what_json_would_change_is_equal_by_its_bytes_alone():
    signature = of(lambda x: 0, PickleCodec())
    given = [
        signature.encode_call((value,), {})
        for value in ((1, 2), [1, 2], {1: 2}, {"1": 2}, datetime(2026, 1, 2, tzinfo=timezone.utc))
    ]
    assert len(set(map(signature.stored.canonical, given))) == len(given)


def test_a_failure_is_a_value_of_its_own():
    assert msgspec.json.decode(msgspec.json.encode(FAILURE), type=Failure) == FAILURE
    assert pickle.loads(pickle.dumps(FAILURE)) == FAILURE
