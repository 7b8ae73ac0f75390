"""Log records that travel from a child process to its worker, whose handlers write them. Knows no job."""

from __future__ import annotations

import datetime as dt
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from litequeue.core.interruptible import interruptible
from litequeue.core.owner_process import getpid
from litequeue.ipc.thread_interrupt import let_go

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_formatter = logging.Formatter()
# HAZARD: what the worker cannot read ends the child, and a class may be one that is only there: others go as text
_PLAIN = (str, int, float, bool, bytes, type(None), dt.datetime, dt.date, dt.timedelta)
_DEPTH = 4  # of lists and the like in each other


# ---- in the child


def send_records(send: Callable[[dict[str, Any]], None], levels: Mapping[str, int], marks: logging.Filter) -> None:
    """Send what is logged from now on, from the levels on that the worker's loggers have. `marks`: adds the job.

    Not by a handler on the root logger, for the reasons in worker/executor/log_capture.py. The handlers that are set up
    here are not called: the worker has the same ones, and each record is to be written once.
    """
    handled_here, pid = logging.Logger.callHandlers, getpid()
    teller = logging.Handler()  # for its way to tell of errors

    @interruptible
    def to_worker(logger: logging.Logger, record: logging.LogRecord) -> None:
        if getpid() != pid:  # forked by a job: it has no connection to the worker
            handled_here(logger, record)
            return
        try:
            marks.filter(record)
            send(fields_of(record))
        except Exception:  # such as of a value that another thread changes
            teller.handleError(record)
        let_go()  # a job that logs again and again is found in our work at nearly every look

    logging.Logger.callHandlers = to_worker  # type: ignore[method-assign, assignment]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what makes the same record in another process: its text, and plain values of the rest."""
    fields = dict(record.__dict__)
    fields["msg"], fields["args"] = _message(record), None
    if record.exc_info and not record.exc_text:
        fields["exc_text"] = _formatter.formatException(record.exc_info)
    fields["exc_info"] = None
    return {str(name): value if _travels(value) else _text(value) for name, value in fields.items()}


def _message(record: logging.LogRecord) -> str:
    try:
        return str.__str__(record.getMessage())
    except Exception:
        return f"{record.msg} {record.args}"


def _travels(value: Any, depth: int = _DEPTH) -> bool:
    kind = type(value)  # never isinstance(): a class of its own may be unknown to the worker
    if kind in _PLAIN:
        return True
    if kind is dict:
        return depth > 0 and all(_travels(each, depth - 1) for pair in value.items() for each in pair)
    return kind in (list, tuple, set) and depth > 0 and all(_travels(each, depth - 1) for each in value)


def _text(value: Any) -> str:
    try:
        return str.__str__(str(value))
    except Exception:
        return f"<{type(value).__name__}>"


# ---- in the worker


def levels() -> dict[str, int]:
    """Return the levels of the loggers that have one."""
    loggers = logging.Logger.manager.loggerDict
    known = {name: each for name, each in list(loggers.items()) if isinstance(each, logging.Logger)}
    return {name: each.level for name, each in {"": logging.getLogger(), **known}.items() if each.level}


def handle(fields: dict[str, Any], keep: Callable[[logging.LogRecord], None] | None = None) -> None:
    """Pass the record to this process's handlers, as one of the logger of that name, and to `keep`."""
    record = logging.makeLogRecord(fields)
    logger = logging.getLogger(record.name)
    with suppress(Exception):  # the handlers and filters are the application's
        if not logger.disabled and logger.isEnabledFor(record.levelno):
            if keep is not None:
                keep(record)
            logger.handle(record)
