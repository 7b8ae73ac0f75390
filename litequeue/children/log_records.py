"""Log records that travel from a child process to its worker, whose handlers write them. Knows no job."""

from __future__ import annotations

import logging
import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_formatter = logging.Formatter()


# ---- in the child


class _ToWorker(logging.Handler):
    def __init__(self, send: Callable[[dict[str, Any]], None], marks: logging.Filter) -> None:
        super().__init__()
        self._send = send
        self.addFilter(marks)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):  # where nobody listens any more, this process ends soon
            self._send(fields_of(record))


def send_records(send: Callable[[dict[str, Any]], None], levels: Mapping[str, int], marks: logging.Filter) -> None:
    """Send what is logged from now on, from the levels on that the worker's loggers have. `marks`: adds the job."""
    logging.getLogger().addHandler(_ToWorker(send, marks))
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what makes the same record in another process: its text, and what can be pickled of the rest."""
    fields = dict(record.__dict__)
    fields["msg"], fields["args"] = _message(record), None
    if record.exc_info and not record.exc_text:
        fields["exc_text"] = _formatter.formatException(record.exc_info)
    fields["exc_info"] = None
    try:
        pickle.dumps(fields)
    except Exception:
        fields = {name: value if _travels(value) else repr(value) for name, value in fields.items()}
    return fields


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        return f"{record.msg} {record.args}"


def _travels(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


# ---- in the worker


def levels() -> dict[str, int]:
    """Return the levels of the loggers that have one."""
    loggers = logging.Logger.manager.loggerDict
    known = {name: each for name, each in list(loggers.items()) if isinstance(each, logging.Logger)}
    return {name: each.level for name, each in {"": logging.getLogger(), **known}.items() if each.level}


def handle(fields: dict[str, Any]) -> None:
    """Pass the record to this process's handlers, as one of the logger of that name."""
    record = logging.makeLogRecord(fields)
    logger = logging.getLogger(record.name)
    with suppress(Exception):  # the handlers and filters are the application's
        if not logger.disabled and logger.isEnabledFor(record.levelno):
            logger.handle(record)
