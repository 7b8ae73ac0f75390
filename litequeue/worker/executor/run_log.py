"""The last lines that one run has logged. Knows no store, and not how records come to it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from litequeue.core.logger import NAME, log
from litequeue.core.outcome import Cancelled, Died, Failed, Outcome, Released, Retried, Settled, Snoozed, Succeeded
from litequeue.core.run_logs import KeptLog

if TYPE_CHECKING:
    from litequeue.serialization.json_codec import Codec

CUT = " ... (cut)\n"
PATIENCE = 1.0  # seconds; only what a Ctrl-C has cut short holds the lock for longer
_formatter = logging.Formatter()


class RunLog:
    """The last `size` bytes of one run's log. Records are added from any thread, which never waits here.

    HAZARD: a signal handler may log while this thread adds a record, and a fork may happen while another does. So what
    is added is put down without a lock, and counted by the one who gets it at once.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._added: deque[bytes] = deque()
        self._lines: deque[bytes] = deque()
        self._length = self._written = self._dropped = self._stored = 0
        self._lock = threading.Lock()
        self._over = False

    def add(self, record: logging.LogRecord) -> None:
        """Keep a record of the run's; never raises. What comes after the run's end is not kept."""
        if not self._over:
            self._add(_line(record))

    def end(self, outcome: Outcome, now: float) -> None:
        """Note how the run has ended, if that is not a plain success; nothing is added any more."""
        if self._over:
            return
        self._over = True
        level, said = _end_in_words(outcome)
        if said:
            self._add(_text(now, level, NAME, said))

    @property
    def has_news(self) -> bool:
        """Whether anything was added since `kept` was called last."""
        return bool(self._added) or self._written != self._stored

    def is_not_stored(self) -> None:
        """Note that what `kept` returned last could not be stored."""
        self._stored = -1

    def kept(self, codec: Codec) -> KeptLog | None:
        """Return what is to be stored; None: nothing was logged, or the codec refuses it."""
        held = self._lock.acquire(timeout=PATIENCE)
        try:
            self._count()
            lines, written, dropped = b"".join(self._lines), self._written, self._dropped
        finally:
            if held:
                self._lock.release()
        self._stored = written
        if not written:
            return None
        try:
            return KeptLog(written, dropped, bytes(codec.encode(lines.decode())))
        except Exception as error:
            log.warning("the log of a run could not be encoded, and is not kept: %s", error)
            return None

    def _add(self, text: str) -> None:
        line = text.encode("utf-8", "backslashreplace")
        if len(line) > self._size:
            line = line[: self._size - len(CUT)].decode(errors="ignore").encode() + CUT.encode()
        self._added.append(line)
        if self._lock.acquire(blocking=False):  # else the one who has it counts this one too, or the next
            try:
                self._count()
            finally:
                self._lock.release()

    def _count(self) -> None:
        while self._added:
            line = self._added.popleft()
            self._lines.append(line)
            self._length += len(line)
            self._written += len(line)
        while self._length > self._size:
            self._length -= len(self._lines.popleft())
            self._dropped += 1


def _text(at: float, level: str, name: str, message: str) -> str:
    moment = datetime.fromtimestamp(at, timezone.utc).isoformat(" ", "milliseconds").removesuffix("+00:00")
    return f"{moment} {level} {name}: {message}\n"


def _line(record: logging.LogRecord) -> str:
    try:
        said = record.getMessage()
        trace = record.exc_text or (_formatter.formatException(record.exc_info) if record.exc_info else "")
        stack = _formatter.formatStack(record.stack_info) if record.stack_info else ""
        message = "\n".join(part for part in (said, trace, stack) if part)
        return _text(record.created, record.levelname, record.name, message)
    except Exception as error:  # the arguments are the application's, and their text is its code
        return f"{record.name}: a record whose text could not be made: {type(error).__name__}\n"


def _end_in_words(outcome: Outcome) -> tuple[str, str]:
    match outcome:
        case Failed(error):
            return "ERROR", f"the run failed: {error.type}: {error.message}"
        case Retried(_, error):
            return "WARNING", f"the run failed, and the job is tried again: {error.type}: {error.message}"
        case Died(error):
            return "ERROR", f"the run was cut short: {error.message}"
        case Snoozed():
            return "INFO", "the job asked to run again later"
        case Cancelled():
            return "INFO", "the job was cancelled"
        case Released():
            return "INFO", "the run was cut short by its worker's stop, and the job is queued again"
        case Succeeded() | Settled():
            return "", ""
