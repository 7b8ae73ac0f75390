"""Where a run is just now: the stack of its thread, or of its coroutine. Knows no pool and no job."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from litequeue.core.frames import current_frames

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

DEEPEST = 60  # calls shown, the innermost
MOST_TASKS = 20  # that wait for each other

_KINDS = {
    CoroutineType: ("cr_frame", "cr_await"),
    GeneratorType: ("gi_frame", "gi_yieldfrom"),
    AsyncGeneratorType: ("ag_frame", "ag_await"),
}
_LOOP_CALLS = asyncio.Handle._run.__code__  # noqa: SLF001  what is above it is the loop's own
_CALLER = str(Path(__file__).with_name("execute.py"))  # the file from which the job's function is called


def of_thread(ident: int) -> str:
    """Return the present stack of a thread, as in a traceback, from the job's own function on; empty if it has none."""
    frame = current_frames().get(ident)
    return _text(reversed([frame for frame, _ in traceback.walk_stack(frame)])) if frame is not None else ""


def of_task(task: asyncio.Task[Any], ident: int) -> str:
    """Return where a task waits, down to what it awaits; if it is running, the stack of its loop's thread `ident`."""
    coroutine = task.get_coro()
    if type(coroutine) is CoroutineType and coroutine.cr_running:
        return of_thread(ident)
    frames: list[FrameType] = []
    waits_for: Any = task
    for _ in range(MOST_TASKS):
        if not isinstance(waits_for, asyncio.Task):
            break
        frames += _awaiting(waits_for.get_coro())
        waits_for = getattr(waits_for, "_fut_waiter", None)
    return _text(frames)


def _awaiting(awaited: Any) -> list[FrameType]:
    """Return the frames of a coroutine and of what it awaits.

    HAZARD: what is awaited may be of any class, whose attributes are code of the application; only Python's are read.
    """
    frames = []
    while type(awaited) in _KINDS:
        frame, inner = _KINDS[type(awaited)]
        if getattr(awaited, frame) is not None:
            frames.append(getattr(awaited, frame))
        awaited = getattr(awaited, inner)
    return frames


def _text(frames: Iterable[FrameType]) -> str:
    """Return it as text, from the job's own function on; on an event loop, from what the loop calls on."""
    found = list(frames)
    ours = next((place for place, frame in enumerate(found, 1) if frame.f_code.co_filename == _CALLER), 0)
    ours = ours or next((place for place, frame in enumerate(found, 1) if frame.f_code is _LOOP_CALLS), 0)
    shown = [(frame, frame.f_lineno) for frame in found[ours:] or found]
    return "".join(traceback.StackSummary.extract(iter(shown[-DEEPEST:])).format()).rstrip()
