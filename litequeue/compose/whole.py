"""The options of a composition as a whole. Knows no call and no store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from litequeue.core.after_commit import OnCommit
from litequeue.core.after_commit import checked as checked_on_commit
from litequeue.core.checks import one_of
from litequeue.core.key_scope import checked_key, held
from litequeue.core.records import OnConflict


class Whole(NamedTuple):
    """The options of one enqueue. `held_for`: seconds for which the key is held, or as the scope says."""

    key: str | None = None
    scope: str | None = None
    held_for: float | None = None
    on_conflict: OnConflict | None = None
    within: Any = None
    on_commit: OnCommit | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether nothing was said."""
        return self == Whole()

    def names(self) -> str:
        """Name the options that were given."""
        fields = {"key": "key=", "scope": "key_scope=", "on_conflict": "on_conflict=", "within": "within="}
        return ", ".join(shown for name, shown in fields.items() if getattr(self, name) is not None) or "on_commit="

    def using(self, options: Mapping[str, Any]) -> Whole:
        """Return it with these options, checked."""
        made = self
        for name, value in options.items():
            match name:
                case "key":
                    made = made._replace(key=None if value is None else checked_key(value))
                case "key_scope":
                    scope = held(value)
                    if scope["key_scope"] == "queued":
                        raise ValueError(
                            "key_scope='queued' is of a single job; for the key of a composition give 'kept', "
                            "'unfinished' or a duration"
                        )
                    made = made._replace(scope=scope["key_scope"], held_for=scope["key_for"])
                case "on_conflict":
                    if one_of(value, OnConflict, "on_conflict") == "replace":
                        raise ValueError("on_conflict='replace' is of a single job; cancel the composition instead")
                    made = made._replace(on_conflict=value)
                case "within":
                    made = made._replace(within=value, on_commit=None if value is not None else made.on_commit)
                case _:
                    made = made._replace(on_commit=checked_on_commit(value), within=None if value else made.within)
        if options.get("within") is not None and options.get("on_commit"):
            raise ValueError("give within= or on_commit=, not both: within= stores the jobs in that very transaction")
        return made

    def picklable(self) -> Whole:
        """Return it for a pickle. Raises `TypeError` with `within`."""
        if self.within is not None:
            raise TypeError("a composition with within= cannot be pickled: its transaction stays in this process")
        return self
