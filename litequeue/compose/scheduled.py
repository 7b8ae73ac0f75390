"""What a schedule keeps of a call, and the options that it refuses. Knows no schedule."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

from litequeue.core.scheduled_call import Callback, CallOptions, ScheduledCall
from litequeue.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litequeue.core.attached import CallValue
    from litequeue.core.records import NewJob


def scheduled(call: CallValue) -> ScheduledCall:
    """Return a call as a schedule keeps it. Raises `TypeError` where its first argument is missing."""
    new = call.new_job(0.0, link=False, waits=True)
    expires = _checked(call, "a scheduled call")
    return ScheduledCall(new.task, new.queue, new.payload, new.priority, expires, _options(call, new))


def _options(call: CallValue, new: NewJob) -> CallOptions:
    keyed: dict[str, Any] = {}
    if new.key is not None:
        names = "key", "key_scope", "on_conflict", "aliases", "former_names"
        keyed = {name: getattr(new, name) for name in names}
    attached = call.attached
    return CallOptions(
        delay=call.task.call_delay or None,
        retries=new.retries,
        timeout="none" if new.timeout == math.inf else new.timeout,
        tags=new.tags,
        on_success=_callback(attached.on_success, "on_success="),
        on_failure=_callback(attached.on_failure, "on_failure="),
        **keyed,
    )


def _callback(call: CallValue | None, what: str) -> Callback | None:
    if call is None:
        return None
    expires, takes = _checked(call, f"{what} of a scheduled call"), not call.form.takes_nothing
    new = call.new_job(0.0, link=takes, waits=True)
    return Callback(
        task=new.task,
        queue=new.queue,
        payload=new.payload,
        takes=takes,
        priority=new.priority,
        expires=expires,
        options=_options(call, new),
    )


def _checked(call: CallValue, what: str) -> float | None:
    """Refuse what cannot be said of each tick; return in how many seconds a job must begin."""
    for refused in _refused(call):
        raise Unsupported(f"{what}, {call!r}, {refused}")
    expires: float | None = call.task.call_expires
    return expires


def _refused(call: CallValue) -> Iterator[str]:
    task, new = call.task, call.template
    if call.attached.after or "after_failed" in task.chosen:
        yield (
            "keeps no after= and after_failed=: jobs end once, and ticks come again; "
            "schedule a task that enqueues it after them"
        )
    if new.run_at is not None:
        yield "keeps no at=: its ticks have times of their own; give delay=, a time after each, or a trigger at(...)"
    if isinstance(task.call_expires, datetime):
        yield "keeps no moment as expires=, after which no tick would have a job that runs; give a duration"
    if task.room_wait is not None:
        yield "keeps no wait_for_room=: a tick is stored whatever max_pending= says; leave it out"
    if call.whole.within is not None:
        yield "keeps no within=: each tick is stored in a transaction of a worker's; leave it out"
    if task.on_commit and task.on_commit is not task.declared_on_commit:
        yield "keeps no on_commit=: each tick is stored in a transaction of a worker's; leave it out"
    if new.key is not None and (new.key_scope == "kept" or new.key_for is not None):
        yield (
            "has a key that the next tick would still find held; "
            "give key_scope='unfinished' (until the job has ended) or 'queued' (until it begins)"
        )
