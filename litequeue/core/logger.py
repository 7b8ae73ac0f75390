"""litequeue's own log records: logged when no lock of ours is held, and guarded. Knows no store and no worker.

Handlers, filters and record factories are the application's code: one may raise, take long, or block for ever
because the pipe it writes to is not read. So a record made while a lock is held is kept, and handed to the handlers by
the same thread after the release (`later`, `say`); an error of a handler does not reach the caller.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from litequeue.core.current_run import current_app
from litequeue.core.interruptible import without_ours
from litequeue.core.owner_process import getpid

if TYPE_CHECKING:
    import queue
    from collections.abc import Generator, Mapping

    from litequeue.core.records import Claimed, JobSummary

NAME = "litequeue"
PATIENCE = 0.5  # seconds for which a worker's loop waits until its record is written; then it goes on without
ROUNDS = 3  # a handler that makes us say more each time must not go on for ever
MOST_UNWRITTEN = 1000  # records; while the application's handlers stand still, more are dropped

_logger = logging.getLogger(NAME)


class _Note(NamedTuple):
    """A record that is not yet made: a record factory is the application's code, too."""

    level: int
    message: str
    arguments: tuple[object, ...]
    error: BaseException | None
    extra: Mapping[str, object] | None
    place: tuple[str, int, str]  # file, line, function
    trace: str | None = None  # the error's traceback as text; None: the handlers' formatters make it

    def write(self) -> None:
        """Pass the record to the application's handlers."""
        try:
            if _kept_enabled:
                _logger.disabled = False
            if not _logger.isEnabledFor(self.level):
                return
            file, line, function = self.place
            error = self.error
            raised = None if error is None else (type(error), error, without_ours(error.__traceback__))
            record = _logger.makeRecord(
                NAME, self.level, file, line, self.message, self.arguments, raised, function, self.extra
            )
            record.exc_text = self.trace
            _logger.handle(record)
        except BaseException as failure:
            # but for a Ctrl-C; and a SystemExit is meant in the main thread, where another would end a thread of ours
            in_main = threading.current_thread() is threading.main_thread()
            if isinstance(failure, KeyboardInterrupt) or (in_main and not isinstance(failure, Exception)):
                raise
            _tell_of(failure)


unsaid: dict[int, list[_Note]] = {}  # by thread: noted, not logged yet; a cheap look for callers that release a lock
_open_blocks: dict[int, int] = {}  # by thread: how many blocks of callers hold a connection of ours
_saying: set[int] = set()  # threads that are inside a handler
_aside: dict[int, float] = {}  # by thread: for how long it waits until its record is written, by a thread for that
_told: set[type[BaseException]] = set()
_kept_enabled = _told_of_it = False


def keep_enabled() -> None:
    """From now on enable the logger where it was disabled; called by a worker when it starts, and once a second.

    `logging.config` disables, by default, all loggers that exist and that it does not name. That is hardly ever meant,
    and a worker whose failures nobody sees is worse than one that says too much. To silence it there are levels.
    """
    global _kept_enabled, _told_of_it  # noqa: PLW0603
    _kept_enabled = True
    if _logger.disabled:
        _logger.disabled = False
        told, _told_of_it = _told_of_it, True
        if not told:
            log.info(
                "logging.config had disabled the logger `litequeue`; a worker enables it again, so that failures are "
                "seen. Pass disable_existing_loggers=False; to see less, set the level of this logger"
            )


def about(job: Claimed | JobSummary) -> dict[str, object]:
    """Return the fields by which a record names a job: none is one of `LogRecord`'s own."""
    return {
        "job_id": job.id,
        "task": job.task_name,
        "queue": job.queue,
        "try": job.failures + 1,
        "run": job.attempt,
    }


class Logger:
    """Logs each record at once, or, inside a block that holds a connection of ours, after the block."""

    _at_once = True

    def __init__(self) -> None:
        if type(_logger) is logging.Logger:  # asked for each job that ends: one of the application's own is guarded
            self.is_enabled_for = _logger.isEnabledFor  # type: ignore[method-assign]

    def is_enabled_for(self, level: int) -> bool:
        """Whether records of that level are logged."""
        try:
            return bool(_logger.isEnabledFor(level))
        except Exception as failure:
            _tell_of(failure)
            return False

    def info(self, message: str, *arguments: object) -> None:
        """Log at level INFO: normal operation."""
        self.log(logging.INFO, message, *arguments, depth=2)

    def warning(self, message: str, *arguments: object, extra: Mapping[str, object] | None = None) -> None:
        """Log at level WARNING: unexpected, but the work continues."""
        self.log(logging.WARNING, message, *arguments, extra=extra, depth=2)

    def error(
        self,
        message: str,
        *arguments: object,
        error: BaseException | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        """Log at level ERROR: an operation failed; with `error`, also its traceback."""
        self.log(logging.ERROR, message, *arguments, error=error, extra=extra, depth=2)

    def critical(self, message: str, *arguments: object) -> None:
        """Log at level CRITICAL: a worker ends, or the end of a run is lost."""
        self.log(logging.CRITICAL, message, *arguments, depth=2)

    def log(
        self,
        level: int,
        message: str,
        *arguments: object,
        error: BaseException | None = None,
        trace: str | None = None,
        extra: Mapping[str, object] | None = None,
        depth: int = 1,
    ) -> None:
        """Log at that level; the record names the place `depth` calls up. `trace`: the error's traceback as text."""
        app = current_app.get(None)
        if app is not None:
            extra = {"app": app, **(extra or {})}
        frame = sys._getframe(depth)  # noqa: SLF001  as logging itself finds it
        place = frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
        unsaid.setdefault(threading.get_ident(), []).append(
            _Note(level, message, arguments, error, extra, place, trace)
        )
        if self._at_once:
            say()


class Later(Logger):
    """For code that may run while a lock is held: keeps the record; the code that releases the lock calls `say`."""

    _at_once = False


log: Logger = Logger()
later: Logger = Later()


def say() -> None:
    """Log the records that this thread has kept, unless a caller's block is open. Called without a lock."""
    ident = threading.get_ident()
    if ident in _open_blocks or ident in _saying:
        return
    try:
        _saying.add(ident)  # in here: a Ctrl-C before it was undone would silence this thread for good
        for _ in range(ROUNDS):
            for note in unsaid.pop(ident, ()):
                patience = _aside.get(ident)
                if patience is None:
                    note.write()
                else:
                    _scribe().write(note, patience)
        unsaid.pop(ident, None)
    finally:
        _saying.discard(ident)


def enter_block(ident: int) -> None:
    """Let that thread keep its records until `leave_block`: a caller's code in it holds a connection of ours."""
    _open_blocks[ident] = _open_blocks.get(ident, 0) + 1


def leave_block(ident: int) -> None:
    """Undo one `enter_block`."""
    left = _open_blocks.get(ident, 0) - 1  # 0: in a child that was forked in the block
    if left > 0:
        _open_blocks[ident] = left
    else:
        _open_blocks.pop(ident, None)


@contextmanager
def aside(patience: float = PATIENCE) -> Generator[None, None, None]:
    """For the block, let another thread write this thread's records; wait for that, but not for ever."""
    ident = threading.get_ident()
    before = _aside.get(ident)
    _aside[ident] = patience
    try:
        yield
    finally:
        if before is None:
            del _aside[ident]
        else:
            _aside[ident] = before


class _Scribe:
    """The thread that writes records for threads that must not block."""

    def __init__(self) -> None:
        from queue import SimpleQueue  # here: a program that only enqueues has no use for it

        self.pid: int = getpid()
        self._lock = threading.RLock()  # re-entrant: a signal handler logs, too
        self._thread: threading.Thread | None = None
        self._notes: queue.SimpleQueue[tuple[_Note, threading.Event]] = SimpleQueue()
        self._dropped = 0

    def write(self, note: _Note, patience: float) -> None:
        """Queue the record and wait for it; while an earlier one blocks, do not wait again."""
        behind = self._notes.qsize()
        if behind >= MOST_UNWRITTEN:
            self._dropped += 1
            return
        written = threading.Event()
        self._notes.put((note, written))
        try:
            self._start()
        except RuntimeError:  # no thread can be started, or the interpreter is ending: better written here than never
            self._write_here()
            return
        if not behind and patience:
            written.wait(patience)

    def _write_here(self) -> None:
        from queue import Empty

        with suppress(Empty):
            while True:
                note, written = self._notes.get_nowait()
                note.write()
                written.set()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="litequeue-log", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        ident = threading.get_ident()
        _saying.add(ident)
        while True:
            note, written = self._notes.get()
            note.write()
            unsaid.pop(ident, None)  # of what a handler made us do
            written.set()
            dropped, self._dropped = self._dropped, 0
            if dropped:
                text = "%d records before this one were dropped, because a log handler blocked"
                _Note(logging.WARNING, text, (dropped,), None, None, note.place).write()
            del note  # its error's traceback holds frames, which would live until the next record


_scribes: list[_Scribe] = []  # at most one


def _scribe() -> _Scribe:
    if not _scribes or _scribes[0].pid != getpid():  # its thread is another process's, after a fork in C
        _scribes[:] = [_Scribe()]
    return _scribes[0]


def _tell_of(failure: BaseException) -> None:
    """Print the error as logging does: on stderr, unless that is switched off; once for each kind of error."""
    if type(failure) in _told or not logging.raiseExceptions or sys.stderr is None:
        return
    _told.add(type(failure))
    try:
        sys.stderr.write("--- a log handler of the application raised this; litequeue goes on ---\n")
        traceback.print_exception(type(failure), failure, failure.__traceback__)
    except Exception:  # noqa: S110  the error's own text is the application's code, and stderr may be closed
        pass


def _start_anew() -> None:
    """After a fork, in the child: the writing thread and all others are missing."""
    ident = threading.get_ident()
    here: tuple[dict[int, Any], ...] = (unsaid, _open_blocks, _aside)
    for of_thread in here:
        for other in of_thread.keys() - {ident}:
            del of_thread[other]
    _saying.intersection_update({ident})
    _scribes.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
