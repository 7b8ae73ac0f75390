"""Brings what the application logs inside a run to that run's log. Knows no worker.

It stands in the one method that every logger calls once its level and its filters have let a record pass, and not on
the root logger: a handler there would have `logging.basicConfig()` do nothing, and Python's own last resort say
nothing; `logging.config` would remove it; and it would miss the records of loggers that do not propagate.
"""

from __future__ import annotations

import logging
import threading

from litequeue.core.current_run import current_run
from litequeue.core.interruptible import interruptible

_lock = threading.Lock()
_users = 0
_is_left = False  # someone has put a method of theirs over ours, and calls it
_plain = logging.Logger.callHandlers


@interruptible
def _call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
    """Keep the record with the run that logs it, and have it handled."""
    run = current_run.get(None)
    if run is not None and run.log is not None:
        run.log.add(record)
    _plain(logger, record)


def install() -> None:
    """Begin to keep records, if that has not begun."""
    global _users, _plain  # noqa: PLW0603
    with _lock:
        _users += 1
        if _users == 1 and not _is_left:
            _plain = logging.Logger.callHandlers
            logging.Logger.callHandlers = _call_handlers  # type: ignore[method-assign, assignment]


def uninstall() -> None:
    """Undo one `install`. Where someone else has replaced the method since, ours stays below theirs for good."""
    global _users, _is_left  # noqa: PLW0603
    with _lock:
        _users -= 1
        if _users or _is_left:
            return
        if logging.Logger.callHandlers is _call_handlers:
            logging.Logger.callHandlers = _plain  # type: ignore[method-assign]
        else:
            _is_left = True
