"""How `run` writes log records, the application's among them: as text or as JSON, each with its job. Knows no queue."""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from litequeue.cli.printing import harmless, iso
from litequeue.core.logger import keep_enabled
from litequeue.core.retry import error_type
from litequeue.errors import LiteQueueError
from litequeue.worker.executor.job_filter import JobFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

log: logging.Logger = logging.getLogger("litequeue")

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_OUTCOMES = {"succeeded": "green", "failed": "red", "retried": "yellow", "released": "yellow", "cancelled": "yellow"}
_COLOURS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}
# What each record has: not what somebody has added to it.
_PLAIN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class TextFormat(logging.Formatter):
    """One line a record: local time, level, logger and job if they are not named in the message, message."""

    def __init__(self, *, colour: bool, pid: bool) -> None:
        super().__init__("%(message)s")
        self._colour = colour
        self._pid = f" [{os.getpid()}]" if pid else ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, timezone.utc).astimezone()
        line = f"{moment:%H:%M:%S}.{int(record.msecs):03d}{self._pid} {record.levelname:<7} {self._where(record)}"
        # the error of a try that is not the last is told in one line
        retried = getattr(record, "outcome", None) == "retried"
        body = harmless(record.getMessage() if retried else super().format(record))
        if self._colour:
            colour = _OUTCOMES.get(getattr(record, "outcome", ""), _COLOURS.get(record.levelno))
            body = click.style(body, fg=colour) if colour else body
        return line + body

    def _where(self, record: logging.LogRecord) -> str:
        app = getattr(record, "app", None)
        return (f"{app}: " if app else "") + self._within(record)

    @staticmethod
    def _within(record: logging.LogRecord) -> str:
        if record.name == "litequeue":
            return ""
        job = getattr(record, "job_id", None)
        return f"{record.name}: " if job is None else f"{record.name} {getattr(record, 'task', '')}[{job}]: "


class JsonFormat(logging.Formatter):
    """One JSON object a record; one that cannot be formatted is told all the same."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": iso(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": _message(record),
        }
        added = {name: value for name, value in vars(record).items() if name not in _PLAIN and value is not None}
        fields |= added.pop("serving", {})
        fields |= {name: value for name, value in added.items() if name not in fields}
        if record.exc_info and record.exc_info[0] is not None:
            fields.setdefault("error_type", error_type(record.exc_info[0]))
        trace = record.exc_text or (self.formatException(record.exc_info) if record.exc_info else "")
        if trace:
            fields["exception"] = trace
        if record.stack_info:
            fields["stack"] = record.stack_info
        return json.dumps({name: _plain(value) for name, value in fields.items()})


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # the application's: a format that does not fit, an argument's own __str__
        return f"{_text(record.msg)} (its arguments do not fit: {error_type(type(error))})"


def _plain(value: Any) -> Any:
    """Return the value if it is JSON, else as text."""
    try:
        json.dumps(value, allow_nan=False)
    except Exception:  # an object, NaN, a circle; what its own code raises
        return _text(value)
    return value


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__} whose __str__ raises {error_type(type(error))}>"


# ---- what is printed on stderr, and is no record


def failures_as_json(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap `run`: with `--log-format json`, what ends it is a JSON object too."""

    @functools.wraps(command)
    def call(ctx: click.Context, /, **options: Any) -> None:
        if options["log_format"] != "json":
            command(ctx, **options)
            return
        _hook_errors()
        try:
            command(ctx, **options)
        except click.ClickException as error:
            show_failure(error, "json")
            ctx.exit(error.exit_code)
        except LiteQueueError as error:
            _print_json(str(error))
            ctx.exit(1)

    return call


def show_failure(error: click.ClickException, log_format: str | None) -> None:
    """Print on stderr what would end the command."""
    if log_format == "json":
        _print_json(error.format_message(), getattr(error, "trace", None))
    else:
        error.show()


def _hook_errors() -> None:
    """Print errors that nobody catches as JSON, unless the application prints them in its own way."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _uncaught_in_thread


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        _print_json("an error that nothing caught ends the process", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if issubclass(args.exc_type, SystemExit):
        return
    error = args.exc_value or args.exc_type()
    name = args.thread.name if args.thread is not None else "unknown"
    _print_json(
        f"an error that nothing caught ends the thread {name}", exc_info=(args.exc_type, error, args.exc_traceback)
    )


def _print_json(message: str, trace: str | None = None, exc_info: Any = None) -> None:
    """Print it past the application's handlers, which may write text."""
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, "%s", (message,), exc_info)
    record.exc_text = None if trace is None else trace.rstrip()
    _handler(JsonFormat()).handle(record)


# ---- logging


def before_import(log_format: str | None) -> None:
    """Write what the application logs while it is imported, before it has set up logging, in that format too."""
    if log_format is not None:
        logging.lastResort = _handler(_format(log_format, supervised=False))
        logging.lastResort.setLevel(logging.WARNING)


def set_up(log_format: str | None, level: str | None, *, supervised: bool) -> None:
    """Write the log to stderr, the application's records too.

    An application that has set up logging keeps its own handlers and levels; with `log_format` those of its handlers
    that write to the terminal get that format.
    """
    log.setLevel(LEVELS[level or "info"])
    root, form = logging.getLogger(), _format(log_format or "text", supervised=supervised)
    is_set_up = bool(root.handlers)
    if log_format is not None:
        _reformat(form)
    if log_format == "json":
        logging.captureWarnings(True)
        logging.getLogger("py.warnings").disabled = False
    if not is_set_up or (log_format is not None and not any(map(_stream, root.handlers))):
        root.addHandler(_handler(form))
    if not is_set_up and (level is not None or root.level == logging.WARNING):  # which is the default
        root.setLevel(log.level)
    _mark()
    keep_enabled()


def _format(log_format: str, *, supervised: bool) -> logging.Formatter:
    if log_format == "json":
        return JsonFormat()
    return TextFormat(colour=sys.stderr.isatty() and not os.environ.get("NO_COLOR"), pid=supervised)


def _handler(form: logging.Formatter, stream: Any = None) -> logging.StreamHandler[Any]:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(form)
    return handler


def _loggers() -> Iterator[logging.Logger]:
    yield logging.getLogger()
    yield from (each for each in list(logging.root.manager.loggerDict.values()) if isinstance(each, logging.Logger))


def _reformat(form: logging.Formatter) -> None:
    """Give each handler that writes to the terminal that format; in place of one with a way of its own, put ours."""
    for logger in _loggers():
        for place, handler in enumerate(list(logger.handlers)):
            stream = _stream(handler)
            if stream is None:
                continue
            new = handler if _is_plain(handler) else _handler(form, stream)
            new.setFormatter(form)
            if new is not handler:
                new.setLevel(handler.level)
                new.filters = list(handler.filters)
                logger.handlers[place] = new


def _stream(handler: logging.Handler) -> Any:
    """Return the standard stream to which a handler writes; None: to none. `console`: as rich has it."""
    stream = getattr(handler, "stream", None) or getattr(getattr(handler, "console", None), "file", None)
    ours = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return stream if stream is not None and any(stream is each for each in ours) else None


def _is_plain(handler: logging.Handler) -> bool:
    kind = type(handler)
    return kind.emit is logging.StreamHandler.emit and kind.format is logging.Handler.format


def _mark() -> None:
    """Mark each record with its job, whatever handler writes it."""
    marks = JobFilter()
    marks.outside = {}
    for logger in _loggers():
        for handler in logger.handlers:
            if not any(isinstance(each, JobFilter) for each in handler.filters):
                handler.addFilter(marks)
