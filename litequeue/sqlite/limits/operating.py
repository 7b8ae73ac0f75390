"""What an operator changes of the rules on what may start: limits and pauses, as statements."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from litequeue.core.names import some
from litequeue.errors import LimitNotFound, Unsupported
from litequeue.limits.settings import effective, encoded_fields, with_settings
from litequeue.limits.task_rules import decode
from litequeue.sqlite.limits.stored_rules import changed, read_again
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from litequeue.core.limits import LimitSettings, PauseKind
    from litequeue.sqlite.drivers.connection import Row, Steps


def require(name: str) -> Steps[Row]:
    """Read the limit of that name, or raise."""
    rows = yield SQL["stored_limit"], {"name": name}
    if not rows:
        known = sorted(other for other, *_ in (yield SQL["stored_limits"], ()))
        raise unknown(name, known)
    return rows[0]


def unknown(name: str, known: list[str]) -> LimitNotFound:
    """Make the error for a limit that is not there."""
    near = difflib.get_close_matches(name, known, 1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    there = f"it has: {some(known)}" if known else "it has none until a worker starts whose code declares some"
    return LimitNotFound(f"no limit named {name!r} in this file; {there}{meant}")


def set_limit(name: str, settings: LimitSettings, now: float) -> Steps[bool]:
    """Let the limit allow what these settings say, until it is reset; return whether that is new."""
    _, declared, operator, _ = yield from require(name)
    text = encoded_fields(with_settings(declared, operator, settings))
    if text == operator:
        return False
    yield from _check_costs(name, effective(declared, text).most)
    yield SQL["set_limit"], {"name": name, "operator": text, "at": now}
    yield from changed(name)
    return True


def _check_costs(name: str, most: int) -> Steps[None]:
    """Refuse what a task could never start under."""
    tasks = yield SQL["stored_tasks"], ()
    for task, text in tasks:
        for use in decode(text).limits:
            if use.limit == name and use.cost is not None and use.cost > most:
                raise ValueError(
                    f"task {task} takes {use.cost:,} of limit {name!r}, so with {most:,} none of its jobs would ever "
                    f"start; to stop it for a time, pause it: queue.pause(task={task!r})"
                )


def reset_limit(name: str) -> Steps[bool]:
    """Let the limit allow what the code declared last; return whether that is new."""
    _, _, operator, _ = yield from require(name)
    if operator is None:
        return False
    yield SQL["set_limit"], {"name": name, "operator": None, "at": None}
    yield from changed(name)
    return True


def remove_limit(name: str, declared: Collection[str], served: Iterable[str]) -> Steps[None]:
    """Delete a limit that no code declares. `served`: the tasks that running workers have."""
    yield from require(name)
    if name in declared:
        raise Unsupported(f"limit {name!r} is declared in the code of this program; take it out there first")
    rules: dict[str, str] = dict((yield SQL["stored_tasks"], ()))
    for task in served:
        if any(use.limit == name for use in decode(rules.get(task, "{}")).limits):
            raise Unsupported(
                f"task {task} of a running worker takes of limit {name!r}; to lift it, set both values to None"
            )
    yield SQL["remove_limit"], {"name": name}
    yield SQL["drop_starts_of"], {"name": name}
    yield from changed(name)


def pause(kind: PauseKind, name: str, now: float) -> Steps[bool]:
    """Let no job of a queue or a task start; return whether it was not paused."""
    rows = yield SQL["pause"], {"kind": kind, "name": name, "now": now}
    if rows:
        yield from read_again()
    return bool(rows)


def resume(kind: PauseKind, name: str) -> Steps[bool]:
    """Let them start again; return whether it was paused."""
    rows = yield SQL["resume"], {"kind": kind, "name": name}
    if rows:
        yield from read_again()
    return bool(rows)
