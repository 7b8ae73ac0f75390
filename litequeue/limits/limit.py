"""A limit: a name, what it allows, and what one task takes of it. Knows no SQL."""

from __future__ import annotations

import re
from string import Formatter
from typing import TYPE_CHECKING, Any

import msgspec

from litequeue.core.names import check_name
from litequeue.limits.rate import Rate, rate_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MOST = 10**9


class Allowed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a limit allows: how many at once, and how many in a window; None: any number."""

    concurrency: int | None = None
    rate: Rate | None = None

    @property
    def most(self) -> int:
        """The highest cost for which there ever is room."""
        return min(self.concurrency or MOST, self.rate.count if self.rate is not None else MOST)


class Limit(msgspec.Struct, frozen=True):
    """A limit as a task takes it: made by `queue.limit(name, ...)`, given as `@queue.task(limits=[...])`.

    `takes`: what one run takes, a number or a format of the arguments. `per`: a format of the arguments whose values
    are each limited by themselves.
    """

    name: str
    allowed: Allowed
    takes: int | str = 1
    per: str | None = None

    def cost(self, takes: int | str) -> Limit:
        """Return the limit as a task takes it of which one run takes so much, such as 3, or "{estimate}".

        A format names arguments of the task, whose values are whole numbers. `current_job().charge()` corrects it.
        """
        return msgspec.structs.replace(self, takes=_checked_cost(takes))

    def key(self, per: str) -> Limit:
        """Return the limit as a task takes it that holds for each value of a format of the arguments by itself."""
        return msgspec.structs.replace(self, per=checked_format(per, "key"))

    @property
    def depends(self) -> bool:
        """Whether what is taken depends on the arguments."""
        return self.per is not None or isinstance(self.takes, str)


def limit_of(name: str, concurrency: Any, rate: Any, *, smooth: bool, what: str = "limit") -> Limit:
    """Check a limit and return it. Raises `TypeError` or `ValueError`."""
    if concurrency is None and rate is None:
        raise ValueError(f"{what} {name!r} allows any number: give concurrency= or rate=")
    return Limit(name, allowed_of(concurrency, rate, smooth=smooth))


def allowed_of(concurrency: Any, rate: Any, *, smooth: bool) -> Allowed:
    """Check what a limit is to allow."""
    if smooth and rate is None:
        raise ValueError("smooth=True spaces the starts of a rate; give rate= as well")
    return Allowed(
        None if concurrency is None else _whole(concurrency, "concurrency", 1),
        None if rate is None else rate_of(rate, smooth=bool(smooth)),
    )


def checked_limits(given: Any) -> tuple[Limit, ...]:
    """Check the `limits=` of a task."""
    many: Iterable[Any] = given if isinstance(given, (list, tuple)) else [given]
    found = tuple(many)
    for each in found:
        if not isinstance(each, Limit):
            raise TypeError(f"limits must be a list of what queue.limit(name, ...) returns, got {each!r}")
    names = [each.name for each in found]
    if len(set(names)) < len(names):
        raise ValueError(f"limits names one limit twice: {', '.join(names)}")
    for each in found:
        check_fits(each)
    return found


def check_fits(limit: Limit) -> None:
    """Refuse a cost for which the limit never has room."""
    if isinstance(limit.takes, int) and limit.takes > limit.allowed.most:
        never = f"which never has more than {limit.allowed.most:,}"
        raise ValueError(f"a run takes {limit.takes:,} of limit {limit.name!r}, {never}")


def fields_of(template: str) -> Iterator[str]:
    """Return the names in a format, also those in format specs: `{user:{width}}` has two."""
    for _, name, how, _ in Formatter().parse(template):
        if name is not None:
            yield name
            yield from fields_of(how or "")


def checked_format(template: Any, what: str) -> str:
    """Refuse what is no format of arguments."""
    if not isinstance(template, str) or not template:
        raise TypeError(f"{what} must be a format of the arguments such as '{{user}}', got {template!r}")
    try:
        names = list(fields_of(template))
    except ValueError as error:
        raise ValueError(f"{what}={template!r} is not a valid format: {error}") from None
    if not names:
        raise ValueError(f"{what}={template!r} names no argument of the task, such as {{user}}")
    return template


def _checked_cost(takes: Any) -> int | str:
    if isinstance(takes, str):
        return checked_format(takes, "cost")
    return _whole(takes, "cost", 0)


def _whole(value: Any, what: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
        raise ValueError(f"{what} must be a whole number from {least} to {MOST:,}, got {value!r}")
    return value


def checked_limit_name(name: Any) -> str:
    """Refuse an invalid name of a limit."""
    return check_name(name, "a limit's name")


_SIMPLE = re.compile(r"\{([^\W\d]\w*)\}")


class Filler:
    """Fills one format with the arguments of calls; `{name}` alone costs a look-up."""

    def __init__(self, template: str) -> None:
        self._template = template
        found = _SIMPLE.fullmatch(template)
        self._name = found[1] if found else None

    def fill(self, arguments: Mapping[str, Any]) -> str:
        """Return the text. Raises what formatting raises."""
        if self._name is not None:
            return f"{arguments[self._name]}"
        return self._template.format(**arguments)
