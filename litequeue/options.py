"""The options of tasks and calls: checked where they are given. Knows no task."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, get_args

import msgspec

from litequeue.core import hints
from litequeue.core.after_commit import OnCommit
from litequeue.core.after_commit import checked as checked_on_commit
from litequeue.core.attached import ATTACHED, CALLBACKS, AfterFailed, Attached
from litequeue.core.checks import one_of
from litequeue.core.duration import instant, seconds
from litequeue.core.engine import Feature
from litequeue.core.key_scope import checked_key, held
from litequeue.core.names import check_name, check_queue, checked_aliases
from litequeue.core.process_options import checked_flag, heartbeat_timeout, soft_timeout
from litequeue.core.records import FOREVER, KeyScope, OnConflict, Status
from litequeue.core.retry import Backoff, Delivery, Duration, Errors, Policy, policy, policy_of_delivery
from litequeue.core.run_logs import JobLogs, checked_job_logs
from litequeue.core.stored_names import checked_version
from litequeue.core.unset import UNSET, Unset
from litequeue.limits.limit import Limit, checked_limits, fields_of
from litequeue.limits.of_task import ordered, own_limit
from litequeue.limits.resources import checked_resources
from litequeue.scheduling import triggers
from litequeue.scheduling.schedules import Schedule
from litequeue.scheduling.triggers import Trigger
from litequeue.serialization.upgrading import Upgrade, checked_upgrade

HIGHEST_PRIORITY = 100
LONGEST_LIST = 10_000
MOST_AT_ONCE = 100_000
MOST_PENDING = 1_000_000  # each enqueue counts the queued jobs


_RETRYING = ("retries", "backoff", "retry_on", "give_up_on")
_ID = re.compile(r"[\w.:~-]{1,200}", re.ASCII)

Unique = bool | str | Callable[..., str]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a task. Spans are seconds; `timeout` and the ttls are infinite where None was given."""

    queue: str | None = None  # None: as the queue's routes say
    priority: int = 0
    policy: Policy = Policy()
    timeout: float | None = None
    unique: Unique = False
    key_scope: KeyScope | None = None
    key_for: float | None = None
    expires: float | None = None
    delay: float | None = None
    result_ttl: float | None = None
    schedules: tuple[Schedule, ...] = ()
    mask: tuple[str, ...] = ()
    on_commit: OnCommit | None = None
    aliases: tuple[str, ...] = ()
    version: int = 1
    upgrade: Upgrade | None = None
    max_pending: int | None = None
    own_limit: Limit | None = None  # of the task's name
    limits: tuple[Limit, ...] = ()
    ordered: bool = False
    uses: dict[str, int] = {}  # of what a worker offers
    attached: Attached = Attached()
    process: bool = False
    soft_timeout: float | None = None
    heartbeat_timeout: float | None = None
    job_logs: int = 0  # bytes


class TaskOptions(TypedDict, total=False):
    """The options of a task; see `Queue.task`."""

    name: str | None
    queue: str
    priority: int
    retries: int
    backoff: Backoff
    retry_on: Errors | None
    give_up_on: Errors | None
    timeout: Duration | Unset | None
    unique: Unique
    key_scope: KeyScope | Duration | None
    schedule: Trigger | Schedule | Sequence[Trigger | Schedule] | None
    result_ttl: Duration | Unset | None
    expires: Duration | None
    delay: Duration | None
    mask: Iterable[str]
    on_commit: OnCommit | None
    aliases: Iterable[str]
    version: int
    upgrade: Upgrade | None
    max_pending: int | None
    delivery: Delivery
    limits: Limit | Sequence[Limit]
    limit_key: str | None
    concurrency: int | None
    rate: str | None
    smooth: bool
    ordered: bool
    uses: Mapping[str, int] | None
    on_success: Any
    on_failure: Any
    process: bool
    soft_timeout: Duration | None
    heartbeat_timeout: Duration | None
    job_logs: JobLogs | None


class Using(TypedDict, total=False):
    """The options of one call; see `Task.using`."""

    delay: Duration | None
    at: datetime | str | None
    priority: int
    queue: str
    key: str | None
    key_scope: KeyScope | Duration
    on_conflict: OnConflict
    expires: Duration | datetime | None
    retries: int
    timeout: Duration | None
    tags: Iterable[str]
    within: Any
    on_commit: OnCommit
    wait_for_room: Duration | None
    after: Any
    after_failed: AfterFailed
    on_success: Any
    on_failure: Any


def features_asked(options: Using) -> list[Feature]:
    """Return what these options of a call need of an engine, beyond what every engine has."""
    asked = {
        Feature.TRANSACTION: options.get("within") is not None,
        Feature.KEYS: options.get("key") is not None,
        Feature.KEY_QUEUED: options.get("key_scope") == "queued",
        Feature.KEY_FOR: options.get("key_scope") not in (None, *get_args(KeyScope)),
        Feature.REPLACE: options.get("on_conflict") == "replace",
        Feature.COMPOSITION: bool(options.keys() & ATTACHED),
    }
    return [feature for feature, is_asked in asked.items() if is_asked]


def features_needed(options: Options) -> list[Feature]:
    """Return what these options of a task need of an engine, beyond what every engine has."""
    asked = {
        Feature.KEYS: bool(options.unique),
        Feature.KEY_QUEUED: options.key_scope == "queued",
        Feature.KEY_FOR: options.key_for is not None,
        Feature.MAX_PENDING: options.max_pending is not None,
        Feature.AT_MOST_ONCE: options.policy.at_most_once,
        Feature.SCHEDULES: bool(options.schedules),
        Feature.VERSIONS: bool(options.aliases) or options.version > 1,
        Feature.COMPOSITION: not options.attached.is_nothing,
        Feature.LIMITS: options.own_limit is not None or bool(options.limits or options.uses),
        Feature.PROCESSES: options.process,
        Feature.JOB_LOGS: bool(options.job_logs),
    }
    return [feature for feature, is_asked in asked.items() if is_asked]


def call_field(name: str, value: Any) -> dict[str, Any]:
    """Check one option of a call and turn it into the fields of a new job."""
    match name:
        case "at":
            return {"run_at": None if value is None else instant(value, "at")}
        case "priority":
            return {"priority": check_priority(value)}
        case "queue":
            return {"queue": check_queue(value)}
        case "key":
            return {"key": None if value is None else checked_key(value)}
        case "key_scope":
            return {**held(value)}
        case "on_conflict":
            return {"on_conflict": one_of(value, OnConflict, "on_conflict")}
        case "retries":
            return {"retries": policy(value, None, None, None).retries}
        case "timeout":
            return {"timeout": limit(value, "timeout")}
        case "tags":
            return {"tags": _tags(value)}
    raise LookupError(f"the option {name} of a call is checked nowhere")  # one was added to `Using` alone


def check_known(given: Iterable[str], known: Any, what: str) -> None:
    """Refuse an option that `known`, a TypedDict, does not have."""
    takes = known.__annotations__
    unknown = sorted(set(given) - set(takes))
    if unknown:
        advice = _elsewhere(unknown, known) or hints.of_options(unknown) or f"it takes {', '.join(sorted(takes))}"
        raise TypeError(f"{what} has no option {', '.join(unknown)}; {advice}")


def _elsewhere(unknown: list[str], known: Any) -> str:
    """Say where options go that the other kind has: those of a call to using(), those of a task to task()."""
    other, place = (Using, "task.using") if known is TaskOptions else (TaskOptions, "@queue.task")
    if known not in (TaskOptions, Using) or not set(unknown) <= set(other.__annotations__):
        return ""
    return f"it goes to {place}({', '.join(f'{name}=...' for name in unknown)})"


def task_options(given: TaskOptions, job_logs: int = 0) -> Options:
    """Check the options of a task, its name excepted. `job_logs`: what it keeps of its log if it does not say."""
    check_known(given, TaskOptions, "task()")
    unique, key_scope = given.get("unique", False), given.get("key_scope")
    if not (isinstance(unique, (bool, str)) or callable(unique)) or unique == "":
        raise ValueError(
            f"unique must be True, a format such as 'user:{{user_id}}', or a function of the arguments, got {unique!r}"
        )
    if key_scope is not None and not unique:
        raise ValueError(
            "key_scope= says how long a key is held; give unique= as well, or give key= and key_scope= to using()"
        )
    timeout, result_ttl, expires = given.get("timeout", UNSET), given.get("result_ttl", UNSET), given.get("expires")
    delay, most, holding = given.get("delay"), given.get("max_pending"), None if key_scope is None else held(key_scope)
    return Options(
        queue=check_queue(given["queue"]) if "queue" in given else None,
        priority=check_priority(given.get("priority", 0)),
        policy=policy_of_delivery(
            given.get("delivery", "at_least_once"),
            policy(given.get("retries", 0), given.get("backoff"), given.get("retry_on"), given.get("give_up_on")),
            [name for name in _RETRYING if given.get(name) is not None],
        ),
        timeout=None if isinstance(timeout, Unset) else limit(timeout, "timeout"),
        unique=unique,
        key_scope=None if holding is None else holding["key_scope"],
        key_for=None if holding is None else holding["key_for"],
        expires=None if expires is None else limit(expires, "expires"),
        delay=None if delay is None else _delay(delay, expires),
        result_ttl=None if isinstance(result_ttl, Unset) else span(result_ttl, "result_ttl"),
        schedules=_schedules(given.get("schedule")),
        mask=_names(given.get("mask", ())),
        on_commit=None if given.get("on_commit") is None else checked_on_commit(given["on_commit"]),
        aliases=checked_aliases(given.get("aliases", ())),
        version=checked_version(given.get("version", 1)),
        upgrade=checked_upgrade(given.get("upgrade"), given.get("version", 1)),
        max_pending=None if most is None else whole(most, "max_pending", MOST_PENDING),
        own_limit=own_limit(given),
        limits=checked_limits(given.get("limits", ())),
        ordered=ordered(given),
        uses=checked_resources(given.get("uses"), "uses"),
        attached=Attached().with_options({name: value for name, value in given.items() if name in CALLBACKS}),
        process=checked_flag(given.get("process", False), "process"),
        soft_timeout=soft_timeout(given),
        heartbeat_timeout=heartbeat_timeout(given),
        job_logs=checked_job_logs(given.get("job_logs"), job_logs),
    )


def _delay(delay: Duration, expires: Duration | None) -> float:
    found = seconds(delay, "delay")
    if expires is not None and seconds(expires, "expires") <= found:
        raise ValueError(f"each job would expire before it may run: expires={expires!r} is not after delay={delay!r}")
    return found


def _names(mask: Iterable[str]) -> tuple[str, ...]:
    names = None if isinstance(mask, str) or not isinstance(mask, Iterable) else tuple(mask)
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError(f"mask must be a list of argument names, got {mask!r}")
    return names


def check_fits(options: Options, parameters: Sequence[inspect.Parameter]) -> None:
    """Refuse options that name arguments which the function does not take."""
    others = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    names = [parameter.name for parameter in parameters]
    unknown = ", ".join(sorted(set(options.mask) - set(names)))
    if unknown and not others:
        raise ValueError(f"mask names {unknown}, which the task does not take ({', '.join(names)})")
    for what, template in _formats(options):
        named = _check_template(what, template, set(names))
        if shown := ", ".join(sorted(named & set(options.mask))):
            raise ValueError(f"{what}={template!r} would show {shown}, which is masked, in each job's key")


def _formats(options: Options) -> Iterator[tuple[str, str]]:
    """The formats of arguments in these options, each with the option's name."""
    if isinstance(options.unique, str):
        yield "unique", options.unique
    for use in (*((options.own_limit,) if options.own_limit else ()), *options.limits):
        if use.per is not None:
            yield ("limit_key" if use is options.own_limit else "key"), use.per
        if isinstance(use.takes, str):
            yield "cost", use.takes


def _check_template(what: str, template: str, known: set[str]) -> set[str]:
    """Refuse a format that no call can fill; return the names in it."""
    try:
        names = {re.split(r"[.\[]", name)[0] for name in fields_of(template)}
    except ValueError as error:
        raise ValueError(f"{what}={template!r} is not a valid format: {error}") from None
    if unknown := ", ".join(sorted(f"{{{name}}}" for name in names - known)):
        takes = ", ".join(sorted(known))
        raise ValueError(f"{what}={template!r} must name arguments of the task ({takes}), not {unknown}")
    return names


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
    """Refuse an invalid priority."""
    if isinstance(value, bool) or not isinstance(value, int) or not -HIGHEST_PRIORITY <= value <= HIGHEST_PRIORITY:
        raise ValueError(f"priority must be a whole number from -100 to 100 (higher runs first), got {value!r}")
    return value


def _tags(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError(f"tags must be a list of strings, got one string; write [{value!r}]")
    if value is None:
        return ()
    if not isinstance(value, Iterable):
        raise TypeError(f"tags must be a list of strings, got {value!r}")
    tags = tuple(value)
    return tuple(check_name(tag, "tag") for tag in tags)


def at_once(value: int, what: str) -> int:
    """Refuse an invalid number of jobs to run at once."""
    return whole(value, what, MOST_AT_ONCE)


def whole(value: int, what: str, most: int, advice: str = "") -> int:
    """Refuse what is no whole number from 1 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"{what} must be a whole number from 1 to {most:,}, got {value!r}{advice}")
    return value


def jobs_where(
    *,
    status: Status | str | None = None,
    task: Any = None,
    queue: str | None = None,
    tag: str | None = None,
    schedule: str | None = None,
    group: Any = None,
    owner: Any = None,
    limit: int = 100,
    before: str | None = None,
    timeout: Duration | None = None,
) -> dict[str, Any]:
    """Check the filters of a listing. `task`: a task or its name. `group`: a group of jobs or its id.

    `owner`: the queue that is asked.
    """
    whole(limit, "limit", LONGEST_LIST, "; for the next page give before=")
    if before is not None and not _ID.fullmatch(str(before)):
        raise ValueError(f"before must be a job's id, got {before!r}")
    names = {"task": getattr(task, "name", task), "queue": queue, "tag": tag, "schedule": schedule}
    names["group"] = group.id_in(owner) if hasattr(type(group), "id_in") else group
    for what, name in names.items():
        if not (name is None or isinstance(name, str)):
            raise TypeError(f"{what} must be {'an id such as g7' if what == 'group' else 'a name'}, got {name!r}")
    try:
        wanted = None if status is None else Status(status)
    except ValueError:
        raise ValueError(f"status must be one of {', '.join(Status)}, got {status!r}") from None
    longest = None if timeout is None else seconds(timeout, "timeout")
    return {"status": wanted, "limit": limit, "before": before, "timeout": longest, **names}


def _schedules(given: Trigger | Schedule | Sequence[Trigger | Schedule] | None) -> tuple[Schedule, ...]:
    if given is None:
        return ()
    many: Sequence[Any] = given if isinstance(given, (list, tuple)) else [given]
    return tuple(each if isinstance(each, Schedule) else Schedule(triggers.check(each, "schedule")) for each in many)
