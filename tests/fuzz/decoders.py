"""The decoders: hostile bytes, texts and options raise the errors that are promised, and no other."""

from __future__ import annotations

import base64
import enum
import inspect
import math
import tempfile
import typing
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache, partial
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import croniter  # noqa: F401  it asks the system for the machine when it is imported
import msgspec
import pydantic
from hypothesis import strategies as st

from fuzz import hostile
from fuzz.hostile import NOW
from fuzz.limit_texts import ALL_OF_LIMITS
from fuzz.targets import Target
from litequeue import Queue
from litequeue.core import duration
from litequeue.core.compositions import Failure, Lost
from litequeue.core.records import Claimed, Status
from litequeue.errors import DecodeError, JobNotFound, LiteQueueError
from litequeue.ipc.process_identity import Identity, alive, cpu_seconds
from litequeue.limits import settings, task_rules
from litequeue.limits.held import stored_takes
from litequeue.limits.rate import rate_of
from litequeue.options import Using
from litequeue.scheduling import triggers as schedule
from litequeue.scheduling.words import words
from litequeue.serialization.encryption import EncryptedCodec, new_key
from litequeue.serialization.forms import FormedCall
from litequeue.serialization.json_codec import JsonCodec
from litequeue.serialization.signature import Signature
from litequeue.serialization.upgrading import call_of, calls_of
from litequeue.sqlite.compose import groups
from litequeue.sqlite.jobs import row_values

REFUSED = (ValueError, TypeError)
LOST = Lost(Failure("1", "it", Status.FAILED, "ValueError", "no", 1))


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    when: date


class Node(msgspec.Struct):
    name: str
    below: list[Node] = []


class Film(TypedDict):
    name: str
    at: datetime


class Pair(NamedTuple):
    a: int
    b: Decimal


class Model(pydantic.BaseModel):
    id: UUID
    parts: tuple[int, ...] = ()


HINTS = (
    Any, object, None, bool, int, float, str, bytes, bytearray, complex, list, list[int], dict, dict[str, int],
    dict[int, Point],
    set[int], frozenset[str], tuple[int, ...], tuple[int, str], int | None, int | str, datetime, date, time, timedelta,
    Decimal, UUID, PurePath, Colour, Literal["a", 1], Point, Node, Film, Pair, Model, list[Model], Callable,
    typing.Never if
    hasattr(typing, "Never") else typing.NoReturn,
)  # fmt: skip


@cache
def _signatures() -> list[Signature]:
    codecs = [JsonCodec(), _encrypted()]
    return [Signature(_taking(hint), codec, "it") for hint in HINTS for codec in codecs]


def _taking(hint: Any) -> Callable[..., Any]:
    def it(n, *rest, m=None, **more): ...

    it.__annotations__ = dict.fromkeys(("n", "rest", "m", "more", "return"), hint)
    return it


@cache
def _keys() -> tuple[str, str]:
    return new_key(), new_key()


@cache
def _encrypted() -> EncryptedCodec:
    return EncryptedCodec(_keys())


def _sealed(data: bytes) -> bytes:
    """What is in the file where the owner of the key has encrypted this, whatever it is."""
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(base64.urlsafe_b64decode(_keys()[0])).encrypt(data, None) if data else data


def _as_it_is(_version: int, arguments: dict[str, Any]) -> dict[str, Any]:
    return arguments


def decode_payload(data: bytes) -> None:
    for signature in _signatures():
        for given in (data, _sealed(data)):
            result = partial(signature.decode_result, call=given)
            for read in (partial(_called, signature, 2), partial(_called, signature, 1), result):
                try:
                    read(given)
                except DecodeError:
                    continue


def _called(signature: Signature, version: int, data: bytes) -> None:
    """Read a call as the worker of a task of version 2 does, whatever its form."""
    made = signature, 2, _as_it_is, ("n", "*rest")
    job = Claimed("1", 1, f"it@{version}", "default", data, 0, 0, 0, None, None, None, 0.0)
    call = call_of(job, *made)
    if isinstance(call, FormedCall):
        calls_of(call, signature.stored.handed([data, LOST]), job, *made)
    signature.stored.canonical(data)


def open_sealed(case: tuple[bytes, int, Any]) -> None:
    data, place, key = case
    codec = _encrypted()
    sealed = bytearray(codec.encode(1))
    sealed[place % len(sealed)] ^= 1
    for wrong in (data, bytes(sealed), bytes(sealed[: place % len(sealed)])):
        try:
            codec.decode(wrong)
        except DecodeError:
            continue
        raise AssertionError(f"{wrong!r} was opened")
    _refuses(EncryptedCodec, key)


def read_trigger(case: tuple[str, float]) -> None:
    text, next_at = case
    try:
        trigger = schedule.decode(text)
    except ValueError:
        return
    assert schedule.decode(schedule.encode(trigger)) == trigger
    schedule.describe(trigger)
    words(trigger)
    schedule.upcoming(trigger, schedule.first(trigger, NOW))
    try:
        due = schedule.due(trigger, next_at, NOW, "one")
    except ValueError:  # what keeps one schedule from firing, and no other
        return
    assert due.next_at is None or not due.ticks or due.next_at > next_at, "it would fire for ever"
    assert not due.ticks or due.next_at is None or due.next_at > NOW


def read_identity(case: tuple[str, Any]) -> None:
    text, pid = case
    ours = Identity.current()
    forged = msgspec.json.encode(msgspec.to_builtins(ours) | {"pid": pid}).decode() if _is_json(pid) else text
    for written in (text, forged):
        identity = Identity.from_text(written)
        alive(identity)
        cpu_seconds(identity)
        identity.same_boot(ours)
        Identity.from_text(identity.to_text())


def _is_json(value: Any) -> bool:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError):
        return False
    return True


def read_columns(text: str) -> None:
    row_values._tags(text)
    row_values._progress(text)


def _refuses(make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call it; ValueError and TypeError (and what is under LiteQueueError) are clear refusals, all else is a defect."""
    try:
        return make(*arguments, **options)
    except (*REFUSED, LiteQueueError) as error:
        if not str(error):
            raise AssertionError("it does not say what is wrong") from error
        return None


def read_limits(case: tuple[str, str, str]) -> None:
    """Rules as they are stored: what can be read can be reckoned with, by numbers that SQLite holds."""
    limit, rules, takes = case
    for allowed in (settings.effective(limit, None), settings.effective(None, limit), settings.effective(limit, rules)):
        rate = allowed.rate
        assert allowed.most > 0
        if rate is not None:
            assert rate.stamp(NOW) < math.inf
            assert rate.opens_at([(NOW, 1)] * 3, 1, NOW) < math.inf
            assert str(rate)
            rate.room([(NOW, 1)], NOW)
    for take in task_rules.takes_of(task_rules.decode(rules), takes).takes:
        assert 0 <= take.cost <= hostile.LARGEST
    for text in case:
        assert all(0 <= cost <= hostile.LARGEST for _, cost in stored_takes(text).values())
        _refuses(rate_of, text)


def read_time(case: tuple[Any, Any, Any, Any]) -> None:
    span, when, expression, zone = case
    length = _refuses(duration.seconds, span)
    if length is not None:
        duration.text(length)
        _refuses(schedule.every, span, jitter=span)
    moment = _refuses(duration.instant, when)
    if moment is not None:
        schedule.describe(schedule.at(when))
    trigger = _refuses(schedule.cron, expression, tz=zone)
    if trigger is not None:
        schedule.describe(trigger)
        assert schedule.first(trigger, NOW) > NOW


def read_group_id(text: str) -> None:
    with suppress(JobNotFound):
        assert 0 < groups.number_of(text) <= hostile.LARGEST


def show_span(seconds: float) -> None:
    duration.text(seconds)


@cache
def _queue() -> Queue:
    queue = Queue(Path(_folder()) / "options.db", durability="normal")
    queue.task(name="it")(_taking(Any))
    return queue


@cache
def _folder() -> str:
    holder = tempfile.TemporaryDirectory()
    _queue.holder = holder  # type: ignore[attr-defined]  # as long as the queue
    return holder.name


def give_option(case: tuple[str, str, Any]) -> None:
    """Options of calls, tasks, workers and listings, as their signatures have them."""
    where, name, value = case
    queue = _queue()
    if where == "using":
        task = _refuses(queue.tasks["it"].using, **{name: value})
        if task is not None and name != "within":
            job = _refuses(task.enqueue, 1)
            if job is not None:
                job.refresh()
                queue.jobs(limit=1)
                queue.engine.kernel.writer.run(lambda db: db.rows("DELETE FROM litequeue_jobs"))
    elif where == "task":
        queue.tasks.pop("other", None)
        _refuses(lambda: queue.task(**{"name": "other"} | {name: value})(_taking(int)))
    elif where == "worker":
        _refuses(queue.worker, **{name: value})
    else:
        _refuses(queue.jobs, **{name: value})


def _options() -> list[tuple[str, str]]:
    found = [("using", name) for name in Using.__annotations__]
    for where, method in (("task", Queue.task), ("worker", Queue.worker), ("jobs", Queue.jobs)):
        found += [(where, p.name) for p in inspect.signature(method).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return found


def make_key(case: tuple[str, Any]) -> None:
    """Formats of `unique=`: refused where they are declared, or where a call cannot fill them."""
    template, value = case
    queue = _queue()

    def work(n, m=None): ...

    queue.tasks.pop("keyed", None)
    task = _refuses(lambda: queue.task(name="keyed", unique=template)(work))
    if task is not None:
        _refuses(task.enqueue, value)


templates = st.lists(
    st.sampled_from(
        ["{", "}", "{n}", "{m}", "{n.x}", "{n[0]}", "{n!r}", "{n:>20}", "{n:%Y}", "{n:{m}}", "{n:d}", "{n!x}", "{n."]
    )
    | hostile.texts,
    max_size=4,
).map("".join)

TARGETS = (
    Target("payloads and results", hostile.blobs, decode_payload),
    Target("encrypted codec", st.tuples(hostile.blobs, st.integers(0, 99), hostile.anything), open_sealed),
    Target("triggers", st.tuples(hostile.trigger_texts(), hostile.reals), read_trigger),
    Target("identities", st.tuples(hostile.texts, hostile.integers | hostile.plain), read_identity),
    Target("tags and progress", hostile.texts.filter(hostile.decodable), read_columns),
    Target(
        "durations, instants, cron", st.tuples(hostile.spans, hostile.whens, hostile.crons, hostile.zones), read_time
    ),
    Target(
        "limits",
        st.tuples(*[st.sampled_from(ALL_OF_LIMITS) | hostile.texts.filter(hostile.decodable)] * 3),
        read_limits,
    ),
    Target("durations shown", hostile.reals, show_span),
    Target("ids of groups", hostile.texts | st.integers().map("g{}".format), read_group_id),
    Target(
        "options",
        st.builds(lambda option, value: (*option, value), st.sampled_from(_options()), hostile.anything),
        give_option,
    ),
    Target("key formats", st.tuples(templates, hostile.plain), make_key),
)
