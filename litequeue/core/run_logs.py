"""The log lines of runs that are kept with their jobs, as values. Knows no store and no logging."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from litequeue.core.size import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litequeue.core.records import Claimed

LEAST, MOST = 1024, 16 * 1024**2  # bytes of one run's log
RUNS_KEPT = 3  # of a job: the last ones that logged anything
FOLLOWED_FOR = 15.0  # seconds for which a follower is counted after it has said so
FOLLOW_AGAIN = 5.0  # seconds after which it says so again
LOOK = 1.0  # seconds between a follower's looks

JobLogs = int | str  # and False


class KeptLog(NamedTuple):
    """What is stored of one run's log: its last bytes, encoded.

    `written`: how many bytes were logged in all; `dropped`: how many of its records are not among those kept.
    """

    written: int
    dropped: int
    data: bytes


class RunText(NamedTuple):
    """One run's log as it is read: see `KeptLog`."""

    attempt: int
    written: int
    dropped: int
    text: str


class Position(NamedTuple):
    """How far a reader has come: all that this run had logged when it had logged so many bytes."""

    attempt: int = 0
    written: int = 0


START = Position()


class Piece(NamedTuple):
    """What a reader has not seen yet of one run, up to `written`. `begins`: nothing of this run was shown before."""

    attempt: int
    written: int
    begins: bool
    text: str

    @property
    def shown(self) -> str:
        """The text, under the number of its run where that does not go without saying."""
        return f"-- run {self.attempt} --\n{self.text}" if self.begins and self.attempt > 1 else self.text


class Tail:
    """Finds what is new to one reader in logs that grow, and of which the beginnings are dropped."""

    def __init__(self, position: Position = START) -> None:
        self.position: Position = position

    def news(self, logs: Sequence[RunText]) -> list[Piece]:
        """Return what is new in these logs, the oldest run first, and count it as seen."""
        return [piece for log in logs if (piece := self._new_in(log)) is not None]

    def _new_in(self, log: RunText) -> Piece | None:
        begins = log.attempt > self.position.attempt
        seen = 0 if begins else self.position.written
        new = log.written - seen
        if log.attempt < self.position.attempt or new <= 0:
            return None
        self.position = Position(log.attempt, log.written)
        data = log.text.encode()
        text = data[max(0, len(data) - new) :].decode(errors="replace")
        lost = new > len(data)
        return Piece(log.attempt, log.written, begins, (_lost(log.dropped, begins=begins) if lost else "") + text)


def _lost(dropped: int, *, begins: bool) -> str:
    if not begins:
        return "(more was logged since than is kept: the older part is dropped)\n"
    return f"({dropped:,} earlier record{'s were' if dropped != 1 else ' was'} dropped)\n"


def in_words(logs: Sequence[RunText], attempt: int | None = None) -> str:
    """Return the logs of a job's runs, or of one of them, as one text."""
    pieces = Tail().news([log for log in logs if attempt in (None, log.attempt)])
    return "".join(piece.shown if attempt is None else piece.text for piece in pieces)


def checked_attempt(attempt: int | None) -> int | None:
    """Refuse what is no number of a run."""
    if attempt is not None and (isinstance(attempt, bool) or not isinstance(attempt, int) or attempt < 1):
        raise ValueError(f"attempt must be the number of a run, from 1 on, got {attempt!r}")
    return attempt


def checked_job_logs(value: JobLogs | None, default: int = 0) -> int:
    """Turn `job_logs=` into bytes; 0: none are kept. `default`: where it was not given."""
    if value is None or value is False:
        return default if value is None else 0
    if value is True:
        raise ValueError('job_logs says how much of a run\'s log is kept; write job_logs="64KiB"')
    found = size(value, "job_logs")
    if not LEAST <= found <= MOST:
        raise ValueError(f"job_logs must be from 1KiB to 16MiB, got {value!r}")
    return found


class RunLogStore(Protocol):
    """The part of a store that keeps the logs of runs, as a worker uses it."""

    def followed(self) -> frozenset[str]:
        """Return the ids of the jobs whose logs are followed now."""

    def keep(self, logs: Sequence[tuple[Claimed, KeptLog]]) -> None:
        """Store what these runs have logged so far, those that are still on record as running."""
