"""What SQLAlchemy and Django wrap around a driver's connection, and when it commits. Imports neither of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from litequeue.errors import StoreError, Unsupported

Tell = Callable[[], None]

_ASYNC = "{kind} is for the async methods: use aenqueue() instead of enqueue()"
_AUTOCOMMIT = (
    "Django has no transaction open on this connection: enqueue inside transaction.atomic(), or leave out within="
)


class Unwrapped(NamedTuple):
    """The driver's own connection. `outer`: what tells of its commits; None: nothing does."""

    raw: Any
    outer: Any = None

    def call_after_commit(self, tell: Tell) -> None:
        """Have `tell` called once this transaction is committed, and not if it is rolled back."""
        if self.outer is None:
            return
        if hasattr(self.outer, "run_on_commit"):  # Django's
            self.outer.on_commit(tell)
        else:
            _listen(self.outer, tell)


def unwrapped(given: Any) -> Unwrapped:
    """Return the driver's connection that is inside, in a transaction that its wrapper knows of."""
    if _is_django(given):
        return _of_django(given)
    given = _current(given)
    if _is(given, "sqlalchemy.ext.asyncio", "AsyncSession", "AsyncConnection"):
        raise Unsupported(_ASYNC.format(kind=f"an {type(given).__name__}"))
    if _is(given, "sqlalchemy.orm", "Session"):
        given = given.connection()
    if not _is(given, "sqlalchemy.engine", "Connection"):
        return Unwrapped(given)
    if not given.in_transaction():  # else its commit() would do nothing, and closing it would undo what we store
        given.begin()
    return Unwrapped(given.connection.driver_connection, given)


async def aunwrapped(given: Any) -> Unwrapped:
    """Async twin of `unwrapped`."""
    given = _current(given)
    if _is(given, "sqlalchemy.ext.asyncio", "AsyncSession"):
        given = await given.connection()
    if not _is(given, "sqlalchemy.ext.asyncio", "AsyncConnection"):
        return unwrapped(given)
    if not given.in_transaction():
        await given.begin()
    pooled = await given.get_raw_connection()
    return Unwrapped(pooled.driver_connection, given.sync_connection)


def _current(given: Any) -> Any:
    """Return the session of this thread or task, of a scoped one."""
    scoped = _is(given, "sqlalchemy.orm", "scoped_session") or _is(
        given, "sqlalchemy.ext.asyncio", "async_scoped_session"
    )
    return given() if scoped else given


def _is(given: Any, module: str, *names: str) -> bool:
    found = sys.modules.get(module)
    return any(isinstance(given, getattr(found, name, ())) for name in names)


# ---- Django


def _is_django(given: Any) -> bool:
    """Whether it is one of `django.db.connections`, or `django.db.connection`, which stands for one."""
    return type(given).__module__.startswith("django.") and hasattr(given, "run_on_commit")


def _of_django(connection: Any) -> Unwrapped:
    if not connection.in_atomic_block:
        raise StoreError(_AUTOCOMMIT)
    return Unwrapped(connection.connection, connection)


# ---- SQLAlchemy

_waiting: WeakKeyDictionary[Any, dict[Tell, None]] = WeakKeyDictionary()


def _listen(connection: Any, tell: Tell) -> None:
    """Call `tell` at the commit.

    SQLAlchemy tells of it right before the driver commits. That is no matter: what a worker does first, when it is
    notified, is to wait for the write lock, which this transaction holds until then.
    """
    event = sys.modules["sqlalchemy"].event
    if not event.contains(connection, "commit", _committing):
        event.listen(connection, "commit", _committing)
        event.listen(connection, "rollback", _rolled_back)
    _waiting.setdefault(connection, {})[tell] = None


def _committing(connection: Any) -> None:
    for tell in _waiting.pop(connection, {}):
        tell()


def _rolled_back(connection: Any) -> None:
    _waiting.pop(connection, None)
