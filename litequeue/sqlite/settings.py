"""The settings of a connection that callers are given in their blocks: what they change there is not to stay.

`PRAGMA`, `ATTACH` and temporary tables last as long as the connection, row factories and hooks too. Where one of them
is not as it was, the connection is closed, and the next caller gets a new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.errors import StoreError

if TYPE_CHECKING:
    from litequeue.sqlite.connection import Connection, Row

# What can be changed without a statement, by methods of the driver's.
_BY_METHOD = ("busy_timeout", "wal_autocheckpoint")
_BY_US = ("synchronous",)  # by a statement that a caller may also write: one that is prepared already is not noted
_BY_STATEMENT = (
    *("foreign_keys", "query_only", "recursive_triggers", "locking_mode", "cache_size", "cache_spill"),
    *("temp_store", "mmap_size", "journal_size_limit", "writable_schema", "trusted_schema", "ignore_check_constraints"),
    *("defer_foreign_keys", "read_uncommitted", "reverse_unordered_selects", "secure_delete", "automatic_index"),
    *("legacy_alter_table", "cell_size_check", "count_changes", "full_column_names", "short_column_names"),
    *("fullfsync", "checkpoint_fullfsync", "threads", "analysis_limit", "max_page_count"),
)
# A temporary table hides ours of its name.
_REST = ("PRAGMA database_list", "SELECT name, sql FROM sqlite_temp_master", "SELECT 'a' LIKE 'A'")
_ALWAYS = tuple(f"PRAGMA {name}" for name in (*_BY_METHOD, *_BY_US))
_STATEMENTS = (*(f"PRAGMA {name}" for name in _BY_STATEMENT), *_REST)


class Lent:
    """One connection as it was before callers had it."""

    def __init__(self, db: Connection, *, keep_hooks: bool) -> None:
        self.db = db
        self._keep_hooks = keep_hooks  # those that the application's own `on_connect` has set
        self._traits = db.traits()
        self._always = self._read(_ALWAYS)
        self._by_statement = self._read(_STATEMENTS)

    def is_as_before(self) -> bool:
        """Whether it can serve the next caller, when this one has given it back."""
        db = self.db
        if db.closed:
            return False
        db.lend(lent=False)
        try:
            if not self._keep_hooks:
                db.drop_hooks()
            traits = zip(self._traits, db.traits(), strict=True)
            if not all(before is now for before, now in traits) or self._read(_ALWAYS) != self._always:
                return False
            return not db.may_be_changed or self._read(_STATEMENTS) == self._by_statement
        except StoreError:
            return False

    def _read(self, statements: tuple[str, ...]) -> list[list[Row]]:
        return [self.db.rows(sql) for sql in statements]
