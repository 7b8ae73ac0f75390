"""Arguments of an older version: by name, upgraded, and decoded by the annotations of the present one."""

from datetime import date

import pytest

from litequeue.errors import DecodeError, JobTimeout
from litequeue.serialization.json_codec import JsonCodec
from litequeue.serialization.signature import Signature
from litequeue.serialization.upgrading import names_in_order, upgraded


def keep(_version, arguments):
    return arguments


def call(function, data, upgrade=keep, names=None, version=1):
    signature = Signature(function, JsonCodec(), "send")
    return upgraded(signature, signature.stored.call(data), version, upgrade, names)


def send(to: str, on: date, *copies: str, urgent: bool = False, **headers: int): ...


def only(to: str, /, text: str = ""): ...


def test_what_was_given_by_position_has_the_names_on_record():
    seen = []
    call(send, b'[["a","2026-01-02"],{"urgent":true}]', lambda *given: seen.append(given) or given[1], ["to", "on"], 3)
    assert seen == [(3, {"to": "a", "on": "2026-01-02", "urgent": True})]


def test_without_names_on_record_they_are_those_of_the_present_function():
    seen = []
    call(send, b'[["a","2026-01-02","b","c"],{"x":1}]', lambda _, given: seen.append(dict(given)) or given)
    assert seen == [{"to": "a", "on": "2026-01-02", "copies": ["b", "c"], "x": 1}]


@pytest.mark.parametrize(
    ("function", "upgrade", "wanted"),
    [
        (send, lambda _, a: {"on": "2026-01-02", "to": a["address"]}, (("a", date(2026, 1, 2)), {})),
        (send, lambda _, a: {"to": "b", "on": "2026-01-02", "copies": ["c"]}, (("b", date(2026, 1, 2), "c"), {})),
        (send, lambda _, a: {"to": "b", "on": "2026-01-02", "x": 1}, (("b", date(2026, 1, 2)), {"x": 1})),
        (only, lambda _, a: {"text": "t", "to": a["address"]}, (("a", "t"), {})),
    ],
)
def test_what_upgrade_returns_is_passed_as_the_function_takes_it_and_decoded(function, upgrade, wanted):
    assert call(function, b'[["a"],{}]', upgrade, ["address"]) == wanted


def test_names_in_order_are_those_of_what_can_be_given_by_position():
    assert names_in_order(Signature(send, JsonCodec(), "send").calling.parameters) == ("to", "on", "*copies")


@pytest.mark.parametrize(
    ("upgrade", "words"),
    [
        (lambda _, a: a["nothing"], "upgrade= of send raised for a call of version 1: KeyError: 'nothing'"),
        (lambda _, a: [a], "upgrade= of send must return the arguments as a dict by name, got list"),
        (lambda _, a: {1: a}, "must return the arguments as a dict by name"),
        (lambda _, a: {"to": "a"}, "does not fit the present signature of send"),
        (lambda _, a: {"to": "a", "on": "soon"}, "does not fit the present signature of send"),
        (lambda _, a: {"to": "a", "on": "2026-01-02", "copies": "a"}, "must give copies as a list, got str"),
        (lambda _, a: {"on": "2026-01-02", "copies": ["a"]}, "does not fit the present signature of send"),
    ],
)
def test_an_upgrade_that_fails_or_does_not_fit_is_an_error_after_which_nothing_is_tried_again(upgrade, words):
    with pytest.raises(DecodeError, match=words):
        call(send, b'[["a"],{}]', upgrade)


def test_more_arguments_than_there_are_names_for_are_refused():
    with pytest.raises(DecodeError, match=r"names of 2 of the arguments .* a worker of version 1 notes them"):
        call(send, b"[[1,2,3],{}]", names=["to"])


def test_a_time_limit_in_an_upgrade_is_a_time_limit():
    def slow(_version, _arguments):
        raise JobTimeout("too long")

    with pytest.raises(JobTimeout):
        call(send, b'[["a"],{}]', slow)
