"""SIGUSR1 of `litequeue run`: where each running job is, in the log. Knows no worker."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable

from litequeue.core.logger import log

_NUMBER: int | None = getattr(signal, "SIGUSR1", None)  # Windows has none


class StackSignal:
    """Calls a function at each SIGUSR1, in a thread of its own: neither jobs nor the worker's loop are disturbed.

    The signal is harmless from here on, also while the app is still being imported; an app that handles it by itself
    keeps it.
    """

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[str] = queue.SimpleQueue()
        in_main = threading.current_thread() is threading.main_thread()
        if _NUMBER is not None and in_main and signal.getsignal(_NUMBER) == signal.SIG_DFL:
            signal.signal(_NUMBER, self._on_signal)
            os.register_at_fork(after_in_child=self._restore)

    def _on_signal(self, _number: int, _frame: object) -> None:
        # HAZARD: no thread is started here, which takes a lock that the interrupted code may have
        self._asked.put("SIGUSR1")

    def _restore(self) -> None:
        if _NUMBER is not None and signal.getsignal(_NUMBER) == self._on_signal:
            signal.signal(_NUMBER, signal.SIG_DFL)

    def ask(self) -> None:
        """Do as at a signal: the supervisor got it."""
        self._asked.put("the supervisor was asked for stacks")

    def serve(self, log_stacks: Callable[[], None]) -> None:
        """Answer from now on."""
        threading.Thread(target=self._serve, args=(log_stacks,), name="litequeue-stacks", daemon=True).start()

    def _serve(self, log_stacks: Callable[[], None]) -> None:
        while True:
            who = self._asked.get()
            log.warning("%s: the stacks of the running jobs follow", who)
            log_stacks()
