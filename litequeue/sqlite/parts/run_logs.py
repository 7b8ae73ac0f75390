"""The kept logs of runs: read, followed, and written while they grow."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from litequeue.core.run_logs import FOLLOWED_FOR, START, Position, RunText
from litequeue.errors import DecodeError
from litequeue.serialization.json_codec import JsonCodec
from litequeue.sqlite.jobs import run_logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litequeue.core.records import Claimed
    from litequeue.core.run_logs import KeptLog
    from litequeue.serialization.json_codec import Codec
    from litequeue.sqlite.drivers.connection import Connection
    from litequeue.sqlite.jobs.run_logs import StoredLog
    from litequeue.sqlite.kernel import Kernel


class HasRunLogs:
    """The part of a job's source that knows the logs of its runs. `codec`: the queue's; None: it is not known here."""

    _kernel: Kernel
    codec: Codec | None = None

    def logs(self, job_id: str, after: Position = START) -> list[RunText]:
        """Return what is kept of the logs of the job's runs, the oldest first, if it is not what was there before.

        Raises `JobNotFound`, and `DecodeError` where the codec does not read it.
        """
        look = partial(run_logs.logs, job_id=job_id, after=after, now=self._kernel.clock.now())
        return [self._text(job_id, stored) for stored in self._kernel.read_listing(look)]

    async def alogs(self, job_id: str, after: Position = START) -> list[RunText]:
        """Async twin of `logs`."""
        return await self._kernel.listed_soon(lambda: self.logs(job_id, after))

    def follow_logs(self, job_id: str) -> None:
        """Have what a run of this job logs written as it grows, for the next `FOLLOWED_FOR` seconds."""
        self._kernel.writer.run(partial(self._follow, job_id), durable=False, news=False)

    async def afollow_logs(self, job_id: str) -> None:
        """Async twin of `follow_logs`."""
        await self._kernel.writer.arun(partial(self._follow, job_id), durable=False)

    def _follow(self, job_id: str, db: Connection) -> None:
        now = self._kernel.clock.now()
        run_logs.follow(db, job_id, now, now + FOLLOWED_FOR)

    def _text(self, job_id: str, stored: StoredLog) -> RunText:
        codec: Any = JsonCodec() if self.codec is None else self.codec
        try:
            text = codec.decode(stored.data)
        except Exception as error:
            if self.codec is not None:
                raise DecodeError(f"the log of job {job_id} cannot be read: {error}") from error
            text = None
        if not isinstance(text, str):
            raise DecodeError(
                f"the log of job {job_id} is not text as JSON: its queue has a codec of its own, such as "
                f"EncryptedCodec, or its tasks have; name the app instead of the file (app:queue)"
            )
        return RunText(stored.attempt, stored.written, stored.dropped, text)


class RunLogs:
    """The logs of the runs of one worker."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def followed(self) -> frozenset[str]:
        """The ids of the jobs whose logs are followed now."""
        now = self._kernel.clock.now()
        return self._kernel.read(lambda db: run_logs.followed(db, now))

    def keep(self, logs: Sequence[tuple[Claimed, KeptLog]]) -> None:
        """Store what these runs have logged so far, those that are still on record as running."""
        now = self._kernel.clock.now()
        self._kernel.writer.run(lambda db: run_logs.keep(db, logs, now), durable=False, news=False)
