"""The part of an engine that a `Job` uses: look at jobs, control them, wait for their ends. Knows no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from litequeue.core.records import JobRecord
    from litequeue.core.run_logs import Position, RunText
    from litequeue.core.streams import Events
    from litequeue.errors import QueueFull

MOST_BEFORE = 10_000  # jobs that `position` counts


class Source(Protocol):
    """The part of an engine that a `Job` uses."""

    def look_up(self, job_id: str) -> JobRecord:
        """Return the job as it is now, or raise `JobNotFound`."""

    async def alook_up(self, job_id: str) -> JobRecord:
        """Async twin of `look_up`."""

    def look_up_many(self, job_ids: Sequence[str], timeout: float | None = None) -> dict[str, JobRecord]:
        """Return those of these jobs that are on record, by id.

        `timeout`: raise `TimeoutError` where they cannot be read within so many seconds.
        """

    async def alook_up_many(self, job_ids: Sequence[str], timeout: float | None = None) -> dict[str, JobRecord]:
        """Async twin of `look_up_many`."""

    def cancel(self, job_id: str) -> bool:
        """Cancel the job; return False if it has already ended."""

    async def acancel(self, job_id: str) -> bool:
        """Async twin of `cancel`."""

    def position(self, job_id: str) -> int | None:
        """Return how many jobs of its queue come before a queued job, at most `MOST_BEFORE`; None: it is not queued."""

    async def aposition(self, job_id: str) -> int | None:
        """Async twin of `position`."""

    def retry(self, job_id: str) -> tuple[str, ...]:
        """Queue an ended job again, and let wait again what its end had cancelled.

        Return the ids of what stays cancelled, since another job has taken its key.
        """

    async def aretry(self, job_id: str) -> tuple[str, ...]:
        """Async twin of `retry`."""

    def why(self, job_id: str) -> str:
        """Return in one sentence why the job does not run, or that it runs or has ended, and how."""

    async def awhy(self, job_id: str) -> str:
        """Async twin of `why`."""

    def logs(self, job_id: str, after: Position = ...) -> list[RunText]:
        """Return what is kept of the logs of the job's runs, the oldest first, if it has grown since that position."""

    async def alogs(self, job_id: str, after: Position = ...) -> list[RunText]:
        """Async twin of `logs`."""

    def follow_logs(self, job_id: str) -> None:
        """Have what a run of this job logs stored as it grows, for the next 15 seconds."""

    async def afollow_logs(self, job_id: str) -> None:
        """Async twin of `follow_logs`."""

    def check_may_wait(self, *, blocking: bool = False) -> None:
        """Raise where the end of no wait could come, as inside a transaction that is open here.

        `blocking`: the wait would also block this thread, on whose event loop a worker of the jobs may run.
        """

    def wait_for_room(self, full: QueueFull, timeout: float) -> None:
        """Block until there may be room for the calls that the error tells of, at most so many seconds."""

    async def await_room(self, full: QueueFull, timeout: float) -> None:
        """Async twin of `wait_for_room`."""

    def wait(self, job_id: str, timeout: float | None) -> JobRecord:
        """Block until the job has ended, or raise `TimeoutError`."""

    async def await_end(self, job_id: str, timeout: float | None) -> JobRecord:
        """Async twin of `wait`."""

    def check_streams(self) -> None:
        """Raise `Unsupported` where the engine keeps nothing that jobs emit."""

    def events(self, job_id: str, after: int, left: float | None, timeout: float | None) -> Events:
        """Return the next events of a job behind that number, oldest first; block until there are any, or it has ended.

        After `left` seconds raise `TimeoutError`, which tells of a wait of `timeout`. Raises `JobNotFound`.
        """

    async def aevents(self, job_id: str, after: int, left: float | None, timeout: float | None) -> Events:
        """Async twin of `events`."""

    def watch(self, job_ids: Sequence[str], tell: Callable[[Sequence[str]], object]) -> Callable[[], object]:
        """Tell once of each of these jobs when it has ended or is gone; never blocks.

        `tell` is called in any thread, and must not block. It is told of jobs that had ended before as well, and of
        none, `tell(())`, when that is done. It may be told of one that has not ended: that one is watched no longer,
        and needs another watch. Returns what ends the watch, which may be called at any moment, as by the collection
        of garbage, and again.
        """
