"""Why a job does not run, in one sentence; or that it runs, or has ended, and how. Knows no store."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from litequeue.core.duration import text, utc
from litequeue.core.names import some
from litequeue.core.records import Status, last_error, reason_of
from litequeue.core.source import MOST_BEFORE

if TYPE_CHECKING:
    from litequeue.core.limits import PauseKind
    from litequeue.core.records import JobRecord, JobSummary


class NoWorker(NamedTuple):
    """No worker is alive."""


class NoTask(NamedTuple):
    """No living worker has the task. `other`: the version of it that one has."""

    other: str | None


class NoQueue(NamedTuple):
    """No living worker that has the task serves the queue."""

    queue: str


class NotOffered(NamedTuple):
    """No living worker that serves it offers the resources that its task uses. `missing`: in words."""

    missing: str


class NoSlot(NamedTuple):
    """Each living worker that serves it runs as many jobs of its queue as it has slots for that."""

    queue: str


class Paused(NamedTuple):
    """Its queue or its task is paused."""

    kind: PauseKind
    name: str
    since: float


class Full(NamedTuple):
    """As many run as a limit allows. `key`: '' where it has none. `takes`: what the job would take."""

    limit: str
    key: str
    taken: int
    most: int
    takes: int


class Rated(NamedTuple):
    """As many have started as a rate allows."""

    limit: str
    key: str
    rate: str
    opens_at: float


class TooMuch(NamedTuple):
    """It would take more of a limit than that ever has."""

    limit: str
    takes: int
    most: int


class InOrder(NamedTuple):
    """Another job of its key has begun and not ended, and the key's jobs keep their order."""

    limit: str
    key: str
    job: str


class BehindKey(NamedTuple):
    """Others of its key come first."""

    limit: str
    key: str


class Unknown(NamedTuple):
    """A worker that has the task has yet to work out what the job takes of its limits."""


class InLine(NamedTuple):
    """Another job of its schedule has not ended. `job` None: it is not known which."""

    schedule: str | None
    job: str | None


class Parents(NamedTuple):
    """Others have to end first. `jobs`: how many of them have not, besides groups; `first`: the ids of some of these.

    `group`: of a group, how many of its jobs have not ended, of how many, and its id. `gone`: one that was deleted.
    """

    jobs: int
    first: tuple[str, ...]
    group: tuple[int, int, str] | None = None
    groups: int = 0
    gone: str | None = None


class Quarantined(NamedTuple):
    """It runs alone, since workers died while it ran."""

    deaths: int


class Behind(NamedTuple):
    """So many jobs of its queue come first."""

    jobs: int


Obstacle: TypeAlias = (
    NoWorker
    | NoTask
    | NoQueue
    | NotOffered
    | NoSlot
    | Paused
    | Full
    | Rated
    | TooMuch
    | InOrder
    | BehindKey
    | Unknown
    | InLine
    | Parents
    | Quarantined
    | Behind
)


def obstacle_text(obstacle: Obstacle, now: float) -> str:
    """Return in words what keeps a job from being started."""
    match obstacle:
        case NoWorker() | NoTask() | NoQueue() | NotOffered() | NoSlot():
            return _unserved_text(obstacle)
        case Paused(kind, name, since):
            return f"its {kind} {name!r} is paused, since {_at(since, now)}; `litequeue resume` lets it go on"
        case Unknown():
            return "a worker that has its task must first work out what it takes of its limits"
        case InLine(schedule, job):
            which = "an earlier job" if job is None else f"job {job}"
            return f"it waits for {which} of the same schedule{f' ({schedule})' if schedule else ''} to end"
        case Parents():
            return _parents_text(obstacle)
        case Quarantined(deaths):
            return f"it runs alone, once nothing else runs in a worker: {_times(deaths)} a worker has died while it ran"
        case Behind(0):
            return "it is the next of its queue, and starts when a worker has a slot free"
        case Behind(jobs):
            return f"{_count(jobs)} of its queue {'comes' if jobs == 1 else 'come'} first"
        case _:
            return _limit_text(obstacle, now)


def _parents_text(parents: Parents) -> str:
    if parents.gone is not None:
        return f"it waits for {parents.gone}, which was deleted from the file; `litequeue doctor --repair` ends it"
    what: list[str] = []
    if parents.group is not None:
        left, total, name = parents.group
        more = f" and {parents.groups - 1:,} more groups" if parents.groups > 1 else ""
        what.append(f"{left:,} of {total:,} jobs of group {name}{more}")
    if parents.jobs == 1:
        what.append(f"job {', '.join(parents.first)}")
    elif parents.jobs:
        what.append(f"{parents.jobs:,} jobs: {some(parents.first, parents.jobs)}")
    return f"it waits for {', and for '.join(what)}" if what else "it waits for jobs that are ending now"


def _unserved_text(obstacle: NoWorker | NoTask | NoQueue | NotOffered | NoSlot) -> str:
    match obstacle:
        case NoWorker():
            return "no worker is running; start one: `litequeue run` or queue.worker()"
        case NoTask(other):
            return f"{other}; start one" if other else "no running worker has its task; start one that imports it"
        case NoQueue(queue):
            return f"no running worker that has its task serves its queue {queue!r}; start one that does"
        case NotOffered(missing):
            return f"its task {missing}"
        case NoSlot(queue):
            return f"its queue {queue!r} has all of its slots taken in each worker that serves it"
        case _:
            raise AssertionError(obstacle)


def _limit_text(obstacle: Full | Rated | TooMuch | InOrder | BehindKey, now: float) -> str:
    match obstacle:
        case Full(limit, key, taken, most, takes):
            more = f", and it takes {takes:,}" if takes > 1 else ""
            return f"limit {limit!r} is full{_of(key)}: {taken:,} of {most:,} taken{more}"
        case Rated(limit, key, rate, opens_at):
            return f"limit {limit!r} lets no more start{_of(key)} until {_at(opens_at, now)}: its rate is {rate}"
        case TooMuch(limit, takes, most):
            return f"it takes {takes:,} of limit {limit!r}, which never has more than {most:,}; raise that"
        case InOrder(limit, key, job):
            return f"jobs of limit {limit!r} keep their order{_of(key)}: job {job} has begun and not ended"
        case BehindKey(limit, key):
            return f"others come first{_of(key)} in limit {limit!r}"
        case _:
            raise AssertionError(obstacle)


def settled_text(record: JobRecord, now: float, worker: str | None = None) -> str | None:
    """Return in words what can be told of a job by itself; None: it could begin. `worker`: which one runs it."""
    match record.status:
        case Status.SCHEDULED if record.run_at > now:
            return f"it is due at {_at(record.run_at, now)}{_after(record)}"
        case Status.RUNNING:
            return _running_text(record, now, worker)
        case Status.SUCCEEDED:
            return f"it succeeded at {_at(record.finished_at, now)}"
        case Status.FAILED:
            return f"it failed at {_at(record.finished_at, now)}{_last_error(record)}"
        case Status.CANCELLED:
            reason = reason_of(record)
            return f"it was cancelled at {_at(record.finished_at, now)}{f': {reason}' if reason else ''}"
        case Status.EXPIRED:
            return f"it had not begun by {_at(record.expires_at, now)}, so it never runs"
        case _:
            return None


def plain_text(record: JobRecord, now: float) -> str:
    """Return in words what an engine can tell that knows no more than the job."""
    return settled_text(record, now) or f"it is {record.status}"


def wait_timed_out(record: JobRecord, timeout: float | None, doing: str | None = None) -> TimeoutError:
    """Make the error of a wait for a result. `doing`: what the job does, and waits for, where the engine can tell."""
    state = doing or f"is still {record.status}"
    return TimeoutError(f"job {record.id} ({record.task_name}) {state}; waited {timeout:g} s")


def _running_text(record: JobSummary, now: float, worker: str | None) -> str:
    where = "" if worker is None else f", by {worker}"
    asked = ", and was asked to end" if record.cancel_requested else ""
    return f"it runs since {_at(record.started_at, now)}{where}{asked}"


def _after(record: JobSummary) -> str:
    return f", for its try {record.tries}{_last_error(record)}" if record.failures else ""


def _last_error(record: JobSummary) -> str:
    kind, colon, message = (last_error(record) or "").partition(": ")
    return f": {kind}{colon}{message[:200]}" if kind else ""


def _at(moment: float | None, now: float) -> str:
    if moment is None:
        return "an unknown time"
    far = f"in {text(moment - now)}" if moment > now else f"{text(now - moment)} ago"
    return f"{utc(moment).isoformat(sep=' ', timespec='seconds')} ({far})"


def _of(key: str) -> str:
    return f" for key {key!r}" if key else ""


def _count(jobs: int) -> str:
    if jobs == 1:
        return "1 job"
    return f"{jobs:,}{' or more' if jobs >= MOST_BEFORE else ''} jobs"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def still_runs(record: JobRecord, waited: float, otherwise: TimeoutError) -> TimeoutError:
    """Make the error of a wait for a cancel. `otherwise`: where the job does not run."""
    if record.started_at is None or record.worker is None:
        return otherwise
    since = utc(record.started_at).isoformat(sep=" ", timespec="seconds")
    progress = record.progress
    said = "" if progress is None else f", its last progress {progress.done:g}"
    said += "" if progress is None or progress.total is None else f" of {progress.total:g}"
    said += "" if progress is None or not progress.note else f" ({progress.note})"
    return TimeoutError(
        f"job {record.id} ({record.task}) was asked to end and still runs: run {record.attempt}, since {since}, on "
        f"{record.worker}{said}; waited {waited:g} s. A plain function ends when it looks at current_job().cancelled"
    )
