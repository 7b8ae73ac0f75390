"""What a worker does for limits beside its claims: works out what jobs take, and notes what has let go of its place."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from litequeue.core.logger import about, log
from litequeue.core.outcome import ErrorInfo
from litequeue.errors import StoreError
from litequeue.serialization.forms import CHUNK, LINK, FormedCall
from litequeue.serialization.upgrading import call_of, calls_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from litequeue.core.records import Claimed
    from litequeue.core.store import Store
    from litequeue.task import Task
    from litequeue.worker.executor.mailbox import Mailbox


class Limits:
    """The jobs of one worker that do not say what they take, and the functions that outlive their runs."""

    def __init__(self, store: Store, mailbox: Mailbox) -> None:
        self._store, self._mailbox = store, mailbox
        self._told: set[str] = set()  # tasks

    def look(self) -> bool:
        """Note functions that have returned after they were left behind; return whether there were any."""
        gone, found = self._mailbox.take_gone(), False
        while gone:
            try:
                if gone[0].held is not None:
                    self._store.runs.is_gone(gone[0])
            except BaseException:  # the file is locked or the disk full: again in the next cycle
                self._mailbox.keep_gone(gone)
                raise
            gone.pop(0)
            found = True
        return found

    def give_takes(self, jobs: tuple[Claimed, ...], tasks: Mapping[str, Task[..., Any]]) -> bool:
        """Work out what these jobs take of limits, and keep it; return whether any can be claimed now.

        They were enqueued by name, by a schedule, or before the limit was declared.
        """
        takes: dict[str, str] = {}
        failed: dict[str, ErrorInfo] = {}
        for job in jobs:
            task = tasks.get(job.task)
            try:
                found = None if task is None else self._takes_of(job, task)
            except StoreError:  # the file is locked or the disk full: again in the next cycle
                raise
            except (Exception, SystemExit) as error:  # of the application's own upgrade= or __format__
                failed[job.id] = ErrorInfo(type(error).__name__, str(error), traceback.format_exc())
                log.error("%s[%s] failed before it began: %s", job.task_name, job.id, error, extra=about(job))
                continue
            if found is not None:
                takes[job.id] = found
            elif job.task not in self._told:
                self._told.add(job.task)
                log.warning(
                    "%s waits for a worker whose code has its limits: this one's declares others", job.task_name
                )
        return bool(takes or failed) and self._store.limits.give_takes(takes, failed)

    def _takes_of(self, job: Claimed, task: Task[..., Any]) -> str | None:
        """What a stored call takes of limits, as far as that depends on its arguments; None: it does not."""
        if task.taken is None:
            return None
        runs, signature, options = self._store.runs, task.signature, task.options
        names = None if job.version == options.version else runs.parameters_of(job.task)
        made = signature, options.version, options.upgrade, names
        call = call_of(job, *made)
        if type(call) is not FormedCall:
            return task.taken.of(signature.arguments(*call))
        handed = signature.stored.handed(runs.handed_to(job.id)) if call.form == LINK else None
        calls = [signature.arguments(*each) for each in calls_of(call, handed, job, *made)]
        return task.taken.of_chunk(calls) if call.form == CHUNK else task.taken.of(calls[0])
