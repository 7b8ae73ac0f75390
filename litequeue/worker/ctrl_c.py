"""A Ctrl-C while the block of an embedded worker is being left: it releases what runs. Knows no job.

A server such as uvicorn takes each SIGINT for a wish to end, ends its application at the first, and waits for that. So
it must be the worker that hears the second. While it waits, and no longer, a handler of ours stands before that of the
server, which is called all the same. SIGTERM is not heard: servers pass it on to their processes, so that one stop
arrives twice.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from litequeue.core.clock import SystemClock
from litequeue.worker.signals import MOMENT

if TYPE_CHECKING:
    from types import FrameType

    from typing_extensions import Self

    from litequeue.worker.stop_request import StopRequest

_leaving: dict[StopRequest, float] = {}  # since when, by the monotonic clock
_before: list[Any] = []  # the application's handler, while ours stands before it
_process: list[int] = []  # that installed it


class CtrlC:
    """Hears a Ctrl-C, a moment after the worker began to stop or later, as a request to release what runs."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread() and not self._stop.drained:
            _leaving[self._stop] = SystemClock.monotonic()
            self._stop.how_to_hurry = "; a second Ctrl-C releases them" if _listens() else ""
        return self

    def __exit__(self, *raised: object) -> None:
        if _leaving.pop(self._stop, None) is None or _leaving or not _before:
            return
        if signal.getsignal(signal.SIGINT) == _on_signal:  # else one was installed over ours, and may call it
            signal.signal(signal.SIGINT, _before.pop())


def _listens() -> bool:
    """Install the handler where the application has one of its own; return whether a Ctrl-C releases what runs."""
    now = signal.getsignal(signal.SIGINT)
    if now == _on_signal or _interrupts(now):
        return True
    if not callable(now):  # ignored, as in a process in the background
        return False
    with suppress(ValueError):  # in a second interpreter
        _before[:], _process[:] = [now], [os.getpid()]
        signal.signal(signal.SIGINT, _on_signal)
        return True
    return False


def _interrupts(handler: Any) -> bool:
    """Whether it raises `KeyboardInterrupt` where the worker is waited for: Python's own, and that of asyncio.run()."""
    of_runner = getattr(getattr(handler, "func", None), "__name__", "") == "_on_sigint"
    return handler is signal.default_int_handler or of_runner


def _on_signal(number: int, frame: FrameType | None) -> None:
    try:
        if _before:
            _before[-1](number, frame)
    finally:
        if _process == [os.getpid()]:
            now = SystemClock.monotonic()
            for stop, since in list(_leaving.items()):
                if now - since >= MOMENT:
                    stop.told("SIGINT", 2)
