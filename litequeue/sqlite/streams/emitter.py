"""Takes in what runs of this process emit, and sees that it is in the file soon. Knows no job's function, no reader."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from litequeue.core.background import Background
from litequeue.core.logger import later, say
from litequeue.sqlite.streams.pending import Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from litequeue.core.records import Claimed
    from litequeue.sqlite.commit.writer import Writer

GATHER = 0.01  # seconds for which a value waits for others, and for a commit with which it can go
AGAIN = 1.0  # seconds until a write that failed is tried again


class Emitter:
    """One for a process and file. `tell` is called with the jobs of which there is more in the file."""

    def __init__(self, writer: Writer, tell: Callable[[list[str]], object]) -> None:
        self.pending: Pending = Pending()
        self._writer, self._tell = writer, tell
        self._thread, self._is_called, self._is_closed = Background("litequeue-emit"), False, False

    def emit(self, job: Claimed, value: bytes, at: float, lost: Callable[[], None]) -> None:
        """Take in a value, which goes into the file with the next commit, or with one of its own that comes soon."""
        self.pending.add(job, value, at, lost)
        self._write_soon()

    def beat(self, job: Claimed, details: bytes, at: float, lost: Callable[[], None]) -> None:
        """Take in the details of a heartbeat, in the place of those of the run that are not in the file yet."""
        self.pending.beat(job, details, at, lost)
        self._write_soon()

    def _write_soon(self) -> None:
        self._is_closed = False
        if not self._is_called:
            self._call(GATHER)

    def _call(self, pause: float) -> None:
        self._is_called = True
        try:
            self._thread.submit(partial(self._write_after, pause))
        except RuntimeError:  # no thread can be started: the next commit has them, that of the run's end at the latest
            self._is_called = False
        except BaseException:  # a Ctrl-C: the next value calls
            self._is_called = False
            raise

    def _write_after(self, pause: float) -> None:
        time.sleep(pause)
        self._is_called = False  # first: what is emitted from now on calls again
        try:
            self.write()
        except Exception as error:  # `on_connect` is the application's
            if self._is_closed:  # nobody emits any more: a thread that tries for ever would outlive the queue
                return  # `close` has said so
            later.info("what jobs have emitted could not be written yet: %s", error)
            self._call(AGAIN)
            say()

    def write(self) -> None:
        """Write what has been emitted, and tell those that follow. Raises `StoreError`: then it is all here yet."""
        pending = self.pending
        if pending.unwritten:  # most runs have ended by now, and their end has taken the values with it
            pending.note(self._writer.run(lambda _db: pending.batch, durable=False, news=False))
        if jobs := pending.written():
            self._tell(jobs)

    def close(self) -> None:
        """Write what is left, and let the thread end. May be called again; a later value starts another."""
        self._is_closed = True
        if self._writer.held() is None:  # inside a transaction, which may be rolled back, the next commit has it
            try:
                self.write()
            except Exception as error:
                later.warning("what jobs have emitted last is not in the file, and is lost: %s", error)
                say()
        self._thread.close()

    def reset_after_fork(self) -> None:
        """Start with nothing, in the child: the runs are its parent's, as the thread is."""
        self.pending.reset()
        self._thread.reset_after_fork()
        self._is_called = False
