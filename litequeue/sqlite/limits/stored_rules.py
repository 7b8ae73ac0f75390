"""Write the rules: what the code of a worker declares. Each change changes the word under which they stand."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from litequeue.sqlite.drivers.connection import perform
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litequeue.sqlite.drivers.connection import Connection, Steps

WORD = {"name": "rules"}


def declare(db: Connection, limits: Mapping[str, str], tasks: Mapping[str, str | None]) -> bool:
    """Keep what the code declares, where it differs from what was declared last; return whether anything did.

    `tasks`: rules by the task's name; None: it is plain.
    """
    new_limits, new_tasks = _differences(db, limits, tasks)
    for name, text in new_limits.items():
        db.rows(SQL["declare_limit"], {"name": name, "declared": text})
    for name, rules in new_tasks.items():
        if rules is None:
            db.rows(SQL["undeclare_task"], {"name": name})
        else:
            db.rows(SQL["declare_task"], {"name": name, "rules": rules})
    if new_limits or new_tasks:
        perform(db, changed())
    return bool(new_limits or new_tasks)


def differs(db: Connection, limits: Mapping[str, str], tasks: Mapping[str, str | None]) -> bool:
    """Whether `declare` would change anything. Only reads."""
    return any(_differences(db, limits, tasks))


def _differences(
    db: Connection, limits: Mapping[str, str], tasks: Mapping[str, str | None]
) -> tuple[dict[str, str], dict[str, str | None]]:
    known_limits = {name: declared for name, declared, *_ in db.rows(SQL["stored_limits"])}
    known_tasks: dict[str, str] = dict(db.rows(SQL["stored_tasks"]))
    return (
        {name: text for name, text in limits.items() if known_limits.get(name) != text},
        {name: text for name, text in tasks.items() if known_tasks.get(name) != text},
    )


def changed(limit: str | None = None) -> Steps[None]:
    """After a change of limits: have the rules read again, and full keys looked at, of one limit or of all."""
    yield from read_again()
    yield SQL["look_at_all_keys"], {"now": 0.0, "limit": limit}


def read_again() -> Steps[None]:
    """After any change of the rules: have them read again.

    The word is a new one, not the next: a change that is rolled back must not share it with one that is not.
    """
    yield SQL["set_meta"], {**WORD, "value": os.urandom(8).hex()}
