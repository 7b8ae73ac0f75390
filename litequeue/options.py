"""The options of tasks, calls and workers: checked where they are given. Knows no task."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from string import Formatter
from typing import Any, Final, TypedDict, cast, get_args

import msgspec

from litequeue.core.duration import instant, seconds
from litequeue.core.retry import Backoff, Duration, Errors, Policy, policy
from litequeue.job import FOREVER, KeyScope, OnConflict, Status
from litequeue.scheduling.triggers import Trigger

HIGHEST_PRIORITY = 100
LONGEST_LIST = 10_000
MOST_AT_ONCE = 100_000
_NAME = re.compile(r"[^\s,\x00-\x1f\ud800-\udfff][^,\x00-\x1f\ud800-\udfff]{0,199}")  # no surrogates: it is UTF-8


class Unset:
    """The type of `UNSET`: an option that was not given, where None has a meaning of its own."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()

Unique = bool | str | Callable[..., str]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a task is declared with. Spans are seconds; `timeout` and the ttls are infinite where None was given."""

    queue: str = "default"
    priority: int = 0
    policy: Policy = Policy()
    timeout: float | None = None
    unique: Unique = False
    key_scope: KeyScope | None = None
    expires: float | None = None
    result_ttl: float | None = None
    schedule: Trigger | None = None
    mask: tuple[str, ...] = ()


class Using(TypedDict, total=False):
    """The options of one call; see `Task.using`."""

    delay: Duration | None
    at: datetime | str | None
    priority: int
    queue: str
    key: str | None
    key_scope: KeyScope
    on_conflict: OnConflict
    expires: Duration | datetime | None
    retries: int
    timeout: Duration | None
    tags: Iterable[str]
    within: Any


def call_field(name: str, value: Any) -> dict[str, Any]:
    """Check one option of a call and turn it into the fields of a new job."""
    match name:
        case "at":
            return {"run_at": None if value is None else instant(value, "at")}
        case "priority":
            return {"priority": check_priority(value)}
        case "queue":
            return {"queue": check_name(value, "queue")}
        case "key":
            return {"key": None if value is None else key(value)}
        case "key_scope":
            return {"key_scope": one_of(value, KeyScope, "key_scope")}
        case "on_conflict":
            return {"on_conflict": one_of(value, OnConflict, "on_conflict")}
        case "retries":
            return {"retries": policy(value, None, None, None).retries}
        case "timeout":
            return {"timeout": limit(value, "timeout")}
        case _:
            return {"tags": _tags(value)}


def task_options(
    *,
    queue: str,
    priority: int,
    retries: int,
    backoff: Backoff,
    retry_on: Errors | None,
    give_up_on: Errors | None,
    timeout: Duration | Unset | None,
    unique: Unique,
    key_scope: KeyScope | None,
    schedule: Trigger | None,
    result_ttl: Duration | Unset | None,
    expires: Duration | None,
    mask: Iterable[str],
) -> Options:
    """Check what a task is declared with."""
    if not (isinstance(unique, (bool, str)) or callable(unique)) or unique == "":
        raise ValueError(
            f"unique must be True, a format such as 'user:{{user_id}}', or a function of the arguments, got {unique!r}"
        )
    if key_scope is not None and not unique:
        raise ValueError(
            "key_scope says how long a key is held; give unique= as well, or give it beside key= in using()"
        )
    return Options(
        queue=check_name(queue, "queue"),
        priority=check_priority(priority),
        policy=policy(retries, backoff, retry_on, give_up_on),
        timeout=None if isinstance(timeout, Unset) else limit(timeout, "timeout"),
        unique=unique,
        key_scope=None if key_scope is None else one_of(key_scope, KeyScope, "key_scope"),
        expires=None if expires is None else limit(expires, "expires"),
        result_ttl=None if isinstance(result_ttl, Unset) else span(result_ttl, "result_ttl"),
        schedule=schedule,
        mask=_names(mask),
    )


def _names(mask: Iterable[str]) -> tuple[str, ...]:
    names = None if isinstance(mask, str) or not isinstance(mask, Iterable) else tuple(mask)
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError(f"mask takes a list of the arguments' names, got {mask!r}")
    return names


def check_fits(options: Options, function: Callable[..., Any]) -> None:
    """Refuse options that name what the function does not take."""
    parameters = inspect.signature(function).parameters
    others = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = ", ".join(sorted(set(options.mask) - set(parameters)))
    if unknown and not others:
        raise ValueError(f"mask names {unknown}, which the task does not take ({', '.join(parameters)})")
    if isinstance(options.unique, str):
        named = _check_template(options.unique, set(parameters))
        if shown := ", ".join(sorted(named & set(options.mask))):
            raise ValueError(f"unique={options.unique!r} would show {shown}, which is masked, in the key of each job")


def _check_template(template: str, known: set[str]) -> set[str]:
    """Refuse a format for keys that no call can fill; return what it names."""
    try:
        names = {re.split(r"[.\[]", name)[0] for name in _fields(template)}
    except ValueError as error:
        raise ValueError(f"unique={template!r} is no format: {error}") from None
    if unknown := ", ".join(sorted(f"{{{name}}}" for name in names - known)):
        takes = ", ".join(sorted(known))
        raise ValueError(f"unique={template!r} must name arguments of the task ({takes}), not {unknown}")
    return names


def _fields(template: str) -> Iterator[str]:
    """Give what a format names, also in how a value is to be written: `{user:{width}}` names two."""
    for _, name, how, _ in Formatter().parse(template):
        if name is not None:
            yield name
            yield from _fields(how or "")


def limit(value: Duration | None, what: str) -> float:
    """Turn a time limit into seconds; None is no limit."""
    found = math.inf if value is None else seconds(value, what)
    if found <= 0:
        raise ValueError(f"{what} must be positive, or None for no limit, got {value!r}")
    return found


def span(value: Duration | None, what: str) -> float:
    """Turn a time to keep something into seconds; None is for ever."""
    return FOREVER if value is None else seconds(value, what)


def expiry(value: Duration | datetime | None) -> float | datetime | None:
    """Check an `expires`: seconds from the enqueue, or an aware moment."""
    if isinstance(value, datetime):
        instant(value, "expires")
        return value
    return None if value is None else seconds(value, "expires")


def check_priority(value: int) -> int:
    """Refuse what is no priority."""
    if isinstance(value, bool) or not isinstance(value, int) or not -HIGHEST_PRIORITY <= value <= HIGHEST_PRIORITY:
        raise ValueError(f"priority must be a whole number from -100 to 100 (higher runs first), got {value!r}")
    return value


def flag(value: object, what: str) -> bool:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, got {value!r}")
    return value


def plain_function(value: Any, what: str) -> Callable[..., Any]:
    """Refuse what cannot be called, and a coroutine function: nothing would await it."""
    if not callable(value) or inspect.iscoroutinefunction(value):
        raise TypeError(f"{what} must be a plain function (not async), got {value!r}")
    return cast("Callable[..., Any]", value)


def check_name(value: Any, what: str) -> str:
    """Refuse what cannot be named on a command line or listed."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{what} must be a name of 1 to 200 characters without commas or line breaks, got {value!r}")
    return str.__str__(value)  # a subclass's own repr() would run in a transaction, in an error's message


def one_of(value: Any, choices: Any, what: str) -> Any:
    """Refuse what is not among a Literal's values."""
    if value not in get_args(choices):
        raise ValueError(f"{what} must be one of {', '.join(map(repr, get_args(choices)))}, got {value!r}")
    return value


def key(value: object) -> str:
    """Refuse what is no key."""
    if not isinstance(value, str) or not value or re.search("[\0\ud800-\udfff]", value):
        raise ValueError(f"key must be text that UTF-8 can hold, and not empty, got {value!r}")
    return str.__str__(value)


def _tags(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError(f"tags must be a list of texts, got one text; write [{value!r}]")
    if value is None:
        return ()
    if not isinstance(value, Iterable):
        raise TypeError(f"tags must be a list of texts, got {value!r}")
    tags = tuple(value)
    return tuple(check_name(tag, "tag") for tag in tags)


def at_once(value: int, what: str) -> int:
    """Refuse what is no number of jobs to run at once."""
    return _whole(value, what, MOST_AT_ONCE)


def _whole(value: int, what: str, most: int, advice: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"{what} must be a whole number from 1 to {most:,}, got {value!r}{advice}")
    return value


def queue_names(queues: Sequence[str] | None) -> tuple[str, ...] | None:
    """Check the queues a worker is to serve; None is all."""
    if queues is None:
        return None
    if isinstance(queues, str):
        raise TypeError(f"queues must be a list of names, got one text; write [{queues!r}]")
    if not isinstance(queues, Iterable):
        raise TypeError(f"queues must be a list of names, got {queues!r}")
    names = tuple(dict.fromkeys(check_name(name, "a queue's name") for name in queues))
    if not names:
        raise ValueError("queues must name at least one queue, or be None for all")
    return names


def jobs_where(status: Status | str | None, *, limit: int, before: str | None, **names: str | None) -> dict[str, Any]:
    """Check which jobs are to be listed; `names`: the task, the queue and the tag asked for, or None."""
    _whole(limit, "limit", LONGEST_LIST, "; page on with before=")
    if before is not None and not (str(before).isdecimal() and int(before) < 2**63):
        raise ValueError(f"before must be a job's id, got {before!r}")
    for what, name in names.items():
        if not (name is None or isinstance(name, str)):
            raise TypeError(f"{what} must be a name, got {name!r}")
    try:
        wanted = None if status is None else Status(status)
    except ValueError:
        raise ValueError(f"status must be one of {', '.join(Status)}, got {status!r}") from None
    return {"status": wanted, "limit": limit, "before": before, **names}
