"""The caller's own connections: check that they are of this file and driver, and run our statements on them."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from litequeue.errors import DriverConflict, StoreBusy, StoreError, Unsupported
from litequeue.sqlite.commit.commit_queue import finish
from litequeue.sqlite.drivers.connection import (
    BUSY_SECONDS,
    RELEASE_BLOCK,
    SAVE_BLOCK,
    check_open,
    perform,
    released,
    translated,
)
from litequeue.sqlite.file.lock_holder import explained
from litequeue.sqlite.file.open_file import file_id
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from litequeue.sqlite.commit.open_transaction import OpenTransaction
    from litequeue.sqlite.drivers.connection import Connection, Parameters, Row, Statement, Steps
    from litequeue.sqlite.file.migrate import Fence
    from litequeue.sqlite.file.opening import File

T = TypeVar("T")

ROWS_AT_ONCE = 64  # as aiosqlite.connect() has it

_NOT_OURS = (
    "within= takes a connection of the queue's own driver, to the queue's own file: {driver} here, got {got}; "
    "with Queue(path, driver='sqlite3') it takes connections of sqlite3 and aiosqlite, and the sessions and "
    "connections of SQLAlchemy or Django around them; else those of apsw. A queue in a file of its own stores after "
    "the commit of the application's database: Queue(path, on_commit=...)"
)
_NO_TRANSACTION = "the connection given as within= has no transaction open; begin one first (BEGIN IMMEDIATE)"
_ONLY_READS = (
    "the transaction of the connection given as within= only reads so far, and cannot write now: another writer has "
    "the file, or has changed it since that transaction first read from it. Nothing was stored; roll back, and begin "
    "it with BEGIN IMMEDIATE"
)


def connection_of(file: File, raw: Any) -> Connection:
    """Wrap the caller's connection, or raise an error that says why it cannot be used."""
    db = file.driver.wrap(raw)
    if db is None:
        if _is_aiosqlite(raw):
            raise Unsupported("an aiosqlite connection is for the async methods: use aenqueue() instead of enqueue()")
        kind = f"{type(raw).__module__}.{type(raw).__qualname__}"
        raise DriverConflict(_NOT_OURS.format(driver=file.driver.LIBRARY, got=kind))
    _check_same_file(file, db.rows("PRAGMA database_list"))
    if not db.in_transaction:
        # with autocommit=True (Python 3.12) its commit() does nothing, so what is begun here would stay open
        if getattr(raw, "isolation_level", None) is None or getattr(raw, "autocommit", None) is True:
            raise StoreError(_NO_TRANSACTION)
        # a connection that begins by itself at the first write: begin now, so that our reads are in it too
        with _saying_who_holds(file):
            db.script("BEGIN IMMEDIATE")
    return db


async def aiosqlite_connection_of(file: File, raw: Any) -> Any:
    """Return the aiosqlite connection if it is one and can be used; None if it is of another kind."""
    if not _is_aiosqlite(raw):
        return None
    if file.driver.LIBRARY != "sqlite3":
        raise DriverConflict(_NOT_OURS.format(driver=file.driver.LIBRARY, got="aiosqlite"))
    _check_same_file(file, await _fetch(raw, "PRAGMA database_list", {}))
    if not raw.in_transaction:
        if raw.isolation_level is None:
            raise StoreError(_NO_TRANSACTION)
        with _saying_who_holds(file):
            await _fetch(raw, "BEGIN IMMEDIATE", {})
    return raw


@contextmanager
def _saying_who_holds(file: File) -> Generator[None, None, None]:
    """For a wait for the write lock: a wait in vain for this process's own transaction is told as that."""
    try:
        yield
    except StoreBusy as error:
        raise explained(error, file.path) from error


def become_writer(file: File, fence: Fence) -> Steps[None]:
    """Take the write lock, if the caller's BEGIN did not, and check that this release may write.

    HAZARD: the lock first. A transaction that has read cannot wait for another writer: it is refused at once.
    """
    try:
        yield SQL["take_write_lock"], ()
    except StoreBusy as error:
        raise explained(StoreBusy(_ONLY_READS), file.path) from error
    yield from fence.steps()


def _is_aiosqlite(raw: Any) -> bool:
    module = sys.modules.get("aiosqlite")
    return module is not None and isinstance(raw, module.Connection)


def _check_same_file(file: File, databases: list[Row]) -> None:
    main = next(place for _, name, place in databases if name == "main")
    if not main or file_id(main) != file_id(file.path):
        raise StoreError(
            f"the connection given as within= is to {main or 'memory'}, but the queue's file is {file.path}"
        )


async def aperform(adb: Any, steps: Steps[T]) -> T:
    """Run the statements that `steps` asks for on an aiosqlite connection, and return what it returns.

    All of them even when cancelled: a caller that catches the cancel may go on, and would commit a part.
    """
    return cast("T", await finish(_task(_performed(adb, steps))))


async def _performed(adb: Any, steps: Steps[T]) -> T:
    go_on: Callable[[Any], Statement] = steps.send
    given: Any = None  # as `perform` does
    while True:
        try:
            sql, parameters = go_on(given)
            given, go_on = await _fetch(adb, sql, parameters), steps.send
        except StopIteration as end:
            result: T = end.value
            return result
        except BaseException as error:
            if steps.gi_frame is None:  # type: ignore[attr-defined]
                given = None  # the error: its traceback holds this frame
                raise
            given, go_on = error, steps.throw


async def perform_held(held: OpenTransaction, steps: Steps[T]) -> T:
    """Run the statements that `steps` asks for in a transaction that is open, on whichever connection it is."""
    adb = held.require_async()
    if adb is not None:
        return await aperform(adb, steps)
    return perform(held.require_sync(), steps)


async def _fetch(adb: Any, sql: str, parameters: Parameters) -> Any:
    import sqlite3

    try:
        if adb.row_factory is None:
            return await adb.execute_fetchall(sql, parameters)
        # the caller's rows may be of any kind, such as dicts; ours are tuples
        async with adb.cursor() as cursor:
            cursor.row_factory = None
            await cursor.execute(sql, parameters)
            return await cursor.fetchall()
    except sqlite3.Error as error:
        raise translated(error) from error


@asynccontextmanager
async def aiosqlite_transaction(file: File, then: Callable[[], object]) -> AsyncGenerator[Any, None]:
    """Open an aiosqlite connection with a write transaction for the block; commit, or roll back, and close.

    `then` is called when it has been committed, also when the caller was cancelled meanwhile.
    """
    file.check_not_replaced()
    with file.registered() as (found, holder):
        adb = await _connected(file)
        try:
            with _saying_who_holds(file):
                await _fetch(adb, "BEGIN IMMEDIATE", {})
            await _fetch(adb, SAVE_BLOCK, {})
            with found.beside(holder):
                try:
                    yield adb
                    check_open(adb)
                    with released():
                        await finish(_task(_fetch(adb, RELEASE_BLOCK, {})))
                except BaseException:
                    await finish(_task(adb.rollback()))
                    raise

                def committed() -> None:
                    found.check()  # before anybody is told that it is stored
                    then()

                await finish(_task(_fetch(adb, "COMMIT", {})), committed)
        finally:
            await finish(_task(adb.close()))


async def _connected(file: File) -> Any:
    import asyncio

    import aiosqlite

    wrong: list[BaseException] = []
    connecting = _task(aiosqlite.Connection(lambda: _opened(file, wrong), ROWS_AT_ONCE).__aenter__())
    try:
        adb = await finish(connecting)
    except asyncio.CancelledError:
        await finish(_task(connecting.result().close()))  # its thread and its locks would outlive us
        raise
    if wrong:
        await finish(_task(adb.close()))
        raise wrong[0]
    return adb


def _opened(file: File, wrong: list[BaseException]) -> Any:
    """Open the connection of an aiosqlite one, in the thread that it will live in; note what goes wrong then.

    HAZARD: from an error here aiosqlite 0.22 leaves a thread that ends with another one, once the loop is closed.
    """
    import sqlite3

    raw = sqlite3.connect(file.path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        raw.execute(f"PRAGMA synchronous = {file.durability}")
        file.set_up(raw)
    except BaseException as error:
        wrong.append(error)
    return raw


def _task(coroutine: Any) -> Any:
    import asyncio

    return asyncio.ensure_future(coroutine)
