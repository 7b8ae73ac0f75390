"""The thread that listens where none of those that wait does: for coroutines, and for many jobs. Knows no job."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from litequeue.core.interruptible import interruptible

if TYPE_CHECKING:
    import weakref

    from litequeue.ipc.notifier import Listener


class Hearers(Protocol):
    """Those for whom it listens."""

    def span(self, listener: Listener) -> float | None:
        """How long it may sleep, in seconds (None: until it is woken); 0: it is to end."""

    def hear(self, listener: Listener, messages: list[bytes]) -> None:
        """Take in what was heard."""


def start_listening(hearers: weakref.ref[Hearers], listener: Listener) -> threading.Thread:
    """Start it. It holds them weakly: where a Queue is dropped, its listener closes, and the thread ends."""
    thread = threading.Thread(target=_listen, args=(hearers, listener), name="litequeue-listener", daemon=True)
    thread.start()
    return thread


def stop_listening(listener: Listener) -> None:
    """Close the listener; its thread ends."""
    listener.wake()
    listener.close()


@interruptible
def _listen(hearers: weakref.ref[Hearers], listener: Listener) -> None:
    """Listen, or go on by looking where other code has closed the listener."""
    deaf = False
    while True:
        listening = hearers()
        span = 0.0 if listening is None else listening.span(listener)
        del listening
        if span == 0 or (deaf and span is None):
            return
        messages: list[bytes] = []
        try:
            if deaf and span is not None:
                time.sleep(span)
            else:
                messages = listener.wait(span)
        except (ValueError, OSError):
            deaf = True
        listening = hearers()
        if listening is not None:
            listening.hear(listener, messages)
        del listening
