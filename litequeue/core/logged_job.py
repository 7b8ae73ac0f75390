"""What a job tells of the lines that its runs have logged. Knows no store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.interruptible import interruptible
from litequeue.core.run_logs import checked_attempt, in_words

if TYPE_CHECKING:
    from litequeue.core.source import Source


@interruptible
class LoggedJob:
    """The part of a `Job` that reads its logs."""

    __slots__ = ()

    id: str
    _source: Source

    def _require_mine(self) -> None:
        raise NotImplementedError

    async def _arequire_mine(self) -> None:
        raise NotImplementedError

    def logs(self, attempt: int | None = None) -> str:
        """Return what is kept of the lines that its last runs have logged, or the run of that number; "" if nothing is.

        Of tasks with `job_logs=`. While it runs, only what was stored because someone follows it. Raises `JobNotFound`.
        """
        wanted = checked_attempt(attempt)
        self._require_mine()
        return in_words(self._source.logs(self.id), wanted)

    async def alogs(self, attempt: int | None = None) -> str:
        """Async twin of `logs`."""
        wanted = checked_attempt(attempt)
        await self._arequire_mine()
        return in_words(await self._source.alogs(self.id), wanted)
