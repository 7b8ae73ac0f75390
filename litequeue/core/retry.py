"""Decide what follows from an error: another try, and when, or the end. Takes and returns values."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, cast

import msgspec

from litequeue.core.checks import one_of
from litequeue.core.duration import seconds
from litequeue.core.interruptible import without_ours
from litequeue.core.outcome import Cancelled, ErrorInfo, Failed, Outcome, Retried, Snoozed
from litequeue.errors import DecodeError, EncodeError, JobCancelled

if TYPE_CHECKING:
    from litequeue.core.records import Claimed

FIRST_DELAY = 1.0
LONGEST_DELAY = 3600.0
LONGEST_TRACEBACK = 20_000
LONGEST_MESSAGE = 4_000
MOST_RETRIES = 1_000_000
NO_RETRY = "no Retry is possible with delivery='at_most_once'; raise Snooze(delay), before the effect, to run later"

Duration = timedelta | float | int | str
Backoff = Duration | Sequence[Duration] | Callable[[int], Duration] | None
Errors = type[BaseException] | tuple[type[BaseException], ...]
Delivery = Literal["at_least_once", "at_most_once"]


class Retry(Exception):
    """Raise in a task to try it again, after `delay` or the task's backoff. This uses up one of its `retries`.

    After `raise Retry(...) from error` the job's failure is that error, once its retries are used up.
    """

    def __init__(self, message: str = "", *, delay: Duration | None = None) -> None:
        super().__init__(message or "the task asked for another try")
        self.delay: float | None = None if delay is None else seconds(delay, "Retry(delay=)")


class Snooze(Exception):
    """Raise in a task to run it again after `delay`, without using up a retry."""

    def __init__(self, delay: Duration) -> None:
        super().__init__("the task asked to run later")
        self.delay: float = seconds(delay, "Snooze(delay)")


class GiveUp(Exception):
    """Raise in a task to fail now, without another try."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "the task gave up")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how soon a task is tried again, and after which errors."""

    retries: int = 0
    backoff: Backoff = None
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()
    at_most_once: bool = False  # never tried again, and a run that is cut short has failed


def policy_of_delivery(delivery: Delivery, made: Policy, given: Iterable[str]) -> Policy:
    """Check the option `delivery=`; `given`: the names of the retry options beside it."""
    if one_of(delivery, Delivery, "delivery") == "at_least_once":
        return made
    beside = [name for name in given if name != "retries" or made.retries]
    if beside:
        raise ValueError(
            f"delivery='at_most_once' runs no job twice, so {', '.join(f'{name}=' for name in beside)} cannot apply; "
            f"leave out the one or the other"
        )
    return Policy(at_most_once=True)


def policy(retries: int, backoff: Backoff, retry_on: Errors | None, give_up_on: Errors | None) -> Policy:
    """Check a task's retry options and make them a `Policy`."""
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= MOST_RETRIES:
        raise ValueError(f"retries must be a whole number from 0 to {MOST_RETRIES:,}, got {retries!r}")
    return Policy(
        retries=retries,
        backoff=_checked_backoff(backoff),
        retry_on=(Exception,) if retry_on is None else _errors(retry_on, "retry_on"),
        give_up_on=() if give_up_on is None else _errors(give_up_on, "give_up_on"),
    )


def _checked_backoff(backoff: Backoff) -> Backoff:
    if backoff is None or backoff == "exponential" or callable(backoff):
        return None if backoff == "exponential" else backoff
    if isinstance(backoff, Sequence) and not isinstance(backoff, str):
        if not backoff or isinstance(backoff, bytes):
            raise ValueError(f"backoff must name at least one delay, got {backoff!r}")
        return tuple(seconds(delay, "backoff") for delay in backoff)
    return seconds(backoff, "backoff")


def _errors(given: Errors, what: str) -> tuple[type[BaseException], ...]:
    kinds = given if isinstance(given, tuple) else (given,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"{what} must be an exception class or a tuple of them, got {kind!r}")
    return kinds


def delay_before(backoff: Backoff, failures: int, chance: float) -> float:
    """Return the seconds to wait before the try after the `failures`-th failure (1, 2, ...).

    By default exponential with full jitter: `chance` (0 to 1) of a span that doubles from 1 s to 1 h
    (Brooker, "Exponential Backoff And Jitter", AWS 2015).
    """
    if backoff is None:
        return chance * min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 32))
    if callable(backoff):
        return seconds(backoff(failures), "the backoff function's answer")
    if isinstance(backoff, tuple):
        return float(backoff[min(failures, len(backoff)) - 1])
    return float(backoff)  # type: ignore[arg-type]  # checked by policy()


def after_error(job: Claimed, error: BaseException, rule: Policy, now: float) -> Outcome:
    """Return the outcome of `job` after its function has raised `error`.

    HAZARD: this runs the application's code, which may raise anything: `isinstance` that of the error's class and of
    the classes in `rule`, and `rule` a backoff function.
    """
    kind = type(error)
    if issubclass(kind, Snooze):
        return Snoozed(now + seconds(cast("Snooze", error).delay, "Snooze(delay)"))
    if issubclass(kind, JobCancelled):
        return Cancelled()
    real = real_error(error)
    info = describe(real)
    if rule.at_most_once and issubclass(kind, Retry):
        info = info._replace(message=f"{info.message}; {NO_RETRY}"[:LONGEST_MESSAGE])
    if job.failures + 1 >= tries_allowed(job, rule) or not _may_retry(error, rule):
        return Failed(info)
    delay = cast("Retry", error).delay if issubclass(kind, Retry) else None
    if delay is None:
        delay = delay_before(rule.backoff, job.failures + 1, random.random())
    if real is not error:  # meanwhile the traceback tells of both
        info = info._replace(traceback=describe(error).traceback)
    return Retried(now + seconds(delay, "Retry(delay=)"), info)


def tries_allowed(job: Claimed, rule: Policy) -> int:
    """Return how many tries the job has: the first, and its retries."""
    if rule.at_most_once:
        return 1
    return 1 + (rule.retries if job.retries is None else job.retries)


def real_error(error: BaseException) -> BaseException:
    """Return the error that a failure is told by: of `raise Retry(...) from error` that error."""
    cause = error.__cause__ if issubclass(type(error), Retry) else None
    return error if cause is None else cause


def _may_retry(error: BaseException, rule: Policy) -> bool:
    kind = type(error)
    if issubclass(kind, Retry):
        return True
    if issubclass(kind, (GiveUp, EncodeError, DecodeError)):
        return False
    if rule.give_up_on and isinstance(error, rule.give_up_on):
        return False
    return isinstance(error, rule.retry_on)


def describe(error: BaseException) -> ErrorInfo:
    """Turn an exception into text, also one whose own code fails or returns no text."""
    kind = type(error)
    trace = _text(
        lambda: "".join(traceback.format_exception(kind, error, without_ours(error.__traceback__))),
        last=LONGEST_TRACEBACK,
    )
    return ErrorInfo(
        error_type(kind),
        _text(lambda: str(error), "<this exception has no readable message>", first=LONGEST_MESSAGE),
        trace or _text(lambda: "".join(traceback.format_tb(without_ours(error.__traceback__))), last=LONGEST_TRACEBACK),
    )


def _text(make: Callable[[], str], otherwise: str = "", *, first: int | None = None, last: int = 0) -> str:
    try:
        # by str's own methods: what a __str__ returns may be of a class whose methods are anybody's
        return _storable(str.__getitem__(make(), slice(-last or None, first)))
    except BaseException:
        return otherwise


def error_type(kind: type[BaseException]) -> str:
    """Return the name of a class of errors: bare for Python's own and those of the program, else with its module."""
    return _text(lambda: _name(kind)) or "<an exception without a readable name>"


def _name(kind: type[BaseException]) -> str:
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _storable(text: str) -> str:
    # lone surrogates and NUL bytes cannot be stored as SQLite text
    return str.encode(text, "utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")
