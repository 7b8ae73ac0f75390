"""End this process at its n-th SQL statement. Knows both drivers, and no litequeue."""

from __future__ import annotations

import functools
import os
import signal
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_CODE = 77


class Death(NamedTuple):
    """One way to die: by which means, before a statement runs or after it has run."""

    means: str
    after: bool

    def __str__(self) -> str:
        return f"{self.means} {'after' if self.after else 'before'}"

    @property
    def exit_code(self) -> int:
        """What the parent is told, as `os.waitstatus_to_exitcode` has it."""
        return -signal.SIGKILL if self.means == "kill" else EXIT_CODE

    def now(self) -> None:
        """Die."""
        if self.means == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(EXIT_CODE)


DEATHS: tuple[Death, ...] = tuple(Death(means, after) for means in ("kill", "exit") for after in (False, True))


class Failpoint:
    """Counts the statements of every connection that is opened from now on, and dies at one of them."""

    def __init__(self, death: Death, number: int, last_words: Callable[[], object]) -> None:
        self._death, self._left, self._last_words = death, number, last_words
        self._lock = threading.Lock()
        apsw.connection_hooks.append(self._watch)
        sqlite3.connect = functools.partial(self._connect, sqlite3.connect)

    def reached(self) -> None:
        """Count one statement."""
        with self._lock:  # nobody gets past the one at which the process dies
            self._left -= 1
            if self._left == 0:
                self._last_words()
                self._death.now()

    def _watch(self, db: apsw.Connection) -> None:
        mask = apsw.SQLITE_TRACE_PROFILE if self._death.after else apsw.SQLITE_TRACE_STMT
        db.trace_v2(mask, lambda _event: self.reached())

    def _connect(
        self,
        connect: Callable[..., sqlite3.Connection],
        *arguments: Any,
        factory: type[sqlite3.Connection] = sqlite3.Connection,
        **options: Any,
    ) -> sqlite3.Connection:
        return connect(*arguments, factory=self._watched_class(factory), **options)

    def past(self, module: Any) -> None:
        """Watch what a driver calls by `sqlite3.Connection`'s own functions, past any class of connections."""
        if self._death.after:
            cursor = self._cursor_class()
            module._cursor_of = lambda raw: sqlite3.Connection.cursor(raw, cursor)
            for name in ("_executemany", "_executescript"):
                setattr(module, name, self._returning(getattr(module, name)))

    def _returning(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def calling(*arguments: Any) -> Any:
            value = call(*arguments)
            self.reached()
            return value

        return calling

    def _cursor_class(self) -> type[sqlite3.Cursor]:
        """Python's sqlite3 tells of the beginning of statements alone; of the end tells the return of its calls."""
        failpoint = self

        class Cursor(sqlite3.Cursor):
            def execute(self, *arguments: Any) -> Cursor:
                super().execute(*arguments)
                if self.description is None:  # else it is at its end when its rows have been read
                    failpoint.reached()
                return self

            def fetchall(self) -> list[Any]:
                rows = super().fetchall()
                if self.description is not None:
                    failpoint.reached()
                return rows

            def executemany(self, *arguments: Any) -> Cursor:
                super().executemany(*arguments)
                failpoint.reached()
                return self

            def executescript(self, script: str) -> Cursor:
                super().executescript(script)
                failpoint.reached()
                return self

        return Cursor

    def _watched_class(self, base: type[sqlite3.Connection]) -> type[sqlite3.Connection]:
        failpoint, watched = self, self._cursor_class()

        class Before(base):  # type: ignore[misc,valid-type]
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options)
                self.set_trace_callback(lambda _sql: failpoint.reached())

        class After(base):  # type: ignore[misc,valid-type]
            def cursor(self, factory: Any = watched) -> Any:
                return super().cursor(factory)

        return After if self._death.after else Before
