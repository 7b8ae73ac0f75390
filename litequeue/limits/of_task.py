"""The options `limit_key concurrency rate smooth ordered` of a task: short for a limit of the task's own name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from litequeue.limits.limit import Limit, allowed_of, checked_format

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def own_limit(given: Mapping[str, Any]) -> Limit | None:
    """Return the limit of the task's own name, which is not known here."""
    per, concurrency, rate = given.get("limit_key"), given.get("concurrency"), given.get("rate")
    if concurrency is None and rate is None:
        if given.get("smooth"):
            raise ValueError("smooth=True spaces the starts of a rate; give rate= as well")
        if per is not None and not given.get("ordered"):
            raise ValueError("limit_key= says for what concurrency= or rate= holds; give one of these as well")
        if not given.get("ordered"):
            return None
        concurrency = 1  # no more can run in order
    limit = Limit("", allowed_of(concurrency, rate, smooth=given.get("smooth", False)))
    return limit if per is None else msgspec.structs.replace(limit, per=checked_format(per, "limit_key"))


def ordered(given: Mapping[str, Any]) -> bool:
    """Check whether the jobs of one key are to keep their order until each has ended."""
    if not given.get("ordered"):
        return False
    if given.get("limit_key") is None:
        raise ValueError("ordered=True keeps the order within a key; give limit_key= as well")
    if given.get("concurrency") not in (None, 1):
        raise ValueError("ordered=True lets one job of a key run at a time; leave concurrency= out")
    return True


def uses_of(task: str, own: Limit | None, limits: Sequence[Limit]) -> tuple[Limit, ...]:
    """Return the limits that a task takes of, its own first."""
    if any(limit.name == task for limit in limits):
        raise ValueError(f"limits names {task!r}, the name of the task's own limit; give that limit another name")
    return (*(() if own is None else (msgspec.structs.replace(own, name=task),)), *limits)
