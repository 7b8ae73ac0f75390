"""The settings of a connection that callers get in their blocks: their changes must not stay.

`PRAGMA`, `ATTACH` and temporary tables last as long as the connection, row factories and hooks too. If one of them
has changed, the connection is closed, and the next caller gets a new one.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from litequeue.errors import StoreError

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection, Row

_PRAGMAS = (
    *("foreign_keys", "synchronous", "query_only", "recursive_triggers", "busy_timeout", "locking_mode", "cache_size"),
    *("cache_spill", "temp_store", "mmap_size", "journal_size_limit", "wal_autocheckpoint", "writable_schema"),
    *("trusted_schema", "ignore_check_constraints", "defer_foreign_keys", "read_uncommitted", "secure_delete"),
    *("reverse_unordered_selects", "automatic_index", "legacy_alter_table", "cell_size_check", "count_changes"),
    *("full_column_names", "short_column_names", "fullfsync", "checkpoint_fullfsync", "threads", "analysis_limit"),
    "max_page_count",
)
# A temporary table hides ours of its name. It comes first, for to look at it adds `temp` to the databases.
_REST = ("SELECT name, sql FROM sqlite_temp_master", "PRAGMA database_list", "SELECT 'a' LIKE 'A'")
_LOOKS = (*(f"PRAGMA {name}" for name in _PRAGMAS), *_REST)


class Lent:
    """The settings of one connection before callers got it; read when the first one gets it."""

    def __init__(self, db: Connection, *, keep_hooks: bool) -> None:
        self.db = db
        db.lend()  # first: a driver that watches sets itself up
        self._keep_hooks = keep_hooks  # those that the application's own `on_connect` has set
        self._always = tuple(f"PRAGMA {name}" for name in db.pragmas()) if keep_hooks else ()
        self._before = db.traits(), self._read(self._always), self._read(_LOOKS)

    def is_as_before(self) -> bool:
        """Whether the next caller can use the connection after this one. Takes 5 us or less."""
        db, (traits, settings, everything) = self.db, self._before
        if db.closed:
            return False
        try:
            if not self._keep_hooks:
                db.drop_hooks()
            same = all(map(operator.is_, traits, db.traits())) and self._read(self._always) == settings
            return same and (not db.withdraw() or self._read(_LOOKS) == everything)
        except StoreError:
            return False

    def _read(self, statements: tuple[str, ...]) -> list[list[Row]]:
        return [self.db.rows(sql) for sql in statements]
