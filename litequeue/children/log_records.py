"""Log records that travel from a child process to its worker, whose handlers write them. Knows no job."""

from __future__ import annotations

import datetime as dt
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from litequeue.core.owner_process import getpid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_formatter = logging.Formatter()
# HAZARD: what the worker cannot read ends the child, and a class may be one that is only there: others go as text
_PLAIN = (str, int, float, bool, bytes, type(None), dt.datetime, dt.date, dt.timedelta)
_DEPTH = 4  # of lists and the like in each other


# ---- in the child


class _ToWorker(logging.Handler):
    def __init__(self, send: Callable[[dict[str, Any]], None], marks: logging.Filter) -> None:
        super().__init__()
        self._send, self._pid = send, getpid()
        self.addFilter(marks)

    def emit(self, record: logging.LogRecord) -> None:
        if getpid() != self._pid:  # forked by a job: it has no connection to the worker
            if logging.lastResort is not None:
                logging.lastResort.handle(record)
            return
        with suppress(OSError, ValueError):  # where nobody listens any more, this process ends soon
            self._send(fields_of(record))


def send_records(send: Callable[[dict[str, Any]], None], levels: Mapping[str, int], marks: logging.Filter) -> None:
    """Send what is logged from now on, from the levels on that the worker's loggers have. `marks`: adds the job."""
    logging.getLogger().addHandler(_ToWorker(send, marks))
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
