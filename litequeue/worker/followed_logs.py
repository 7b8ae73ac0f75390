"""Writes the logs of runs that are followed, as they grow. Knows no function of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.budget import BUDGET
from litequeue.core.logger import log
from litequeue.errors import StoreError

if TYPE_CHECKING:
    from litequeue.core.records import Claimed
    from litequeue.core.run_logs import KeptLog, RunLogStore
    from litequeue.worker.executor.context import Run
    from litequeue.worker.executor.mailbox import Mailbox


class FollowedLogs:
    """The logs of one worker's runs; `look` is called about once a second."""

    def __init__(self, store: RunLogStore, mailbox: Mailbox) -> None:
        self._store, self._mailbox = store, mailbox

    def look(self) -> None:
        """Write what is new in the log of each run that is followed; without a log nothing is looked for."""
        growing = [run for run in list(self._mailbox.running.values()) if run.log is not None and run.log.has_news]
        if not growing:
            return
        try:
            followed = self._store.followed()
            taken = self._taken([run for run in growing if run.id in followed])
            if taken:
                self._store.keep(taken)
        except StoreError as error:  # the file is locked or the disk full; what else is wrong with it, the loop meets
            log.info("what running jobs log could not be written yet: %s", error)
            for run in growing:
                if run.log is not None:
                    run.log.is_not_stored()

    def _taken(self, runs: list[Run]) -> list[tuple[Claimed, KeptLog]]:
        taken: list[tuple[Claimed, KeptLog]] = []
        left = BUDGET
        for run in runs:
            if run.log is not None and left > 0:  # the others at the next look
                kept = run.log.kept(run.task.signature.codec)
                if kept is not None:
                    taken.append((run.job, kept))
                    left -= len(kept.data)
        return taken
