"""The rules on what may start, as they stand in the file: pauses, limits, and what tasks take of them. Reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.stored_names import task_of
from litequeue.limits.limit import Allowed
from litequeue.limits.settings import effective
from litequeue.limits.task_rules import TaskRules, decode
from litequeue.sqlite.limits import reboot
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litequeue.core.clock import Clock
    from litequeue.sqlite.drivers.connection import Connection, Row


class Rules:
    """All rules of one file at one moment."""

    def __init__(
        self,
        limits: Iterable[Row] = (),
        tasks: Iterable[Row] = (),
        pauses: Iterable[Row] = (),
        *,
        has_full_keys: bool = False,
        booted_at: float | None = None,
    ) -> None:
        self.booted_at: float | None = booted_at  # all windows were full then
        self.limits: dict[str, Allowed] = {
            name: effective(declared, operator) for name, declared, operator, _ in limits
        }
        self.tasks: dict[str, TaskRules] = {
            name: rules
            for name, text in tasks
            if not (rules := decode(text)).are_none  # others say nothing on a start
        }
        self.longest_window: float = max(
            (allowed.rate.window for allowed in self.limits.values() if allowed.rate is not None), default=0.0
        )
        self.used: frozenset[str] = frozenset(use.limit for rules in self.tasks.values() for use in rules.limits)
        paused = [(kind, name) for kind, name, _ in pauses]
        self.paused_queues: frozenset[str] = frozenset(name for kind, name in paused if kind == "queue")
        self.paused_tasks: frozenset[str] = frozenset(name for kind, name in paused if kind == "task")
        # also where the code of now has none: jobs that were parked before it must come back
        self.has_keys: bool = has_full_keys or any(use.keyed for rules in self.tasks.values() for use in rules.limits)
        self.are_none: bool = not (self.tasks or paused or has_full_keys)

    def touch(self, lanes: Iterable[Row]) -> bool:
        """Whether there is a rule for one of these lanes, given by queue and task."""
        if self.are_none:
            return False
        return any(
            queue in self.paused_queues or (name := task_of(task)) in self.tasks or name in self.paused_tasks
            for queue, task, *_ in lanes
        )

    def of(self, task: str) -> TaskRules | None:
        """Return the rules of a task, also of one version; None: it is plain."""
        return self.tasks.get(task_of(task))

    def uses_of(self, task: str) -> dict[str, int]:
        """Return what a run of the task uses of the resources that its worker offers."""
        rules = self.of(task)
        return {} if rules is None else rules.uses

    def allowed(self, limit: str) -> Allowed:
        """Return what a limit allows; one that is not on record allows any number."""
        return self.limits.get(limit) or _ANY

    def has_key(self, task: str, limit: str) -> bool:
        """Whether the jobs of a task take of a limit by key."""
        rules = self.of(task)
        return rules is not None and any(use.limit == limit and use.keyed for use in rules.limits)

    def tasks_of(self, limit: str) -> list[str]:
        """Return the tasks that take of a limit."""
        return [name for name, rules in self.tasks.items() if any(use.limit == limit for use in rules.limits)]


_ANY = Allowed()
NO_RULES = Rules()


class KnownRules:
    """The rules that were read last, and the word under which they stand: it changes with every change of them."""

    def __init__(self, clock: Clock) -> None:
        self._known: tuple[str | None, Rules] = (None, NO_RULES)
        self._clock = clock

    def of(self, db: Connection, word: str | None) -> Rules:
        """Return the rules that stand under the word, which are read in a write transaction."""
        known, rules = self._known
        if word != known:
            noted = reboot.note(db, self._clock)
            rules = read(db)
            if not noted:  # else not before that is committed
                self._known = word, rules
        return rules

    def now(self, db: Connection) -> Rules:
        """Return the rules as they stand now."""
        [(word,)] = db.rows(SQL["rules_word"]) or [(None,)]
        return NO_RULES if word is None else self.of(db, word)


def stored_uses(db: Connection) -> dict[str, dict[str, int]]:
    """Read which resources a run of each task uses."""
    return {name: uses for name, text in db.rows(SQL["stored_tasks"]) if (uses := decode(text).uses)}


def read(db: Connection) -> Rules:
    """Read all rules."""
    [(look,)] = db.rows(SQL["next_key_look"])
    return Rules(
        db.rows(SQL["stored_limits"]),
        db.rows(SQL["stored_tasks"]),
        db.rows(SQL["stored_pauses"]),
        has_full_keys=look is not None,
        booted_at=reboot.booted_at(db),
    )
