"""The commands that change jobs: retry, cancel, prune."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import click

from litequeue.cli import arguments
from litequeue.cli.locate import Place, open_place
from litequeue.cli.printing import emit, size
from litequeue.core.names import some
from litequeue.core.records import Status
from litequeue.errors import JobNotFound, KeyConflict, LiteQueueError, Unsupported
from litequeue.job import Job
from litequeue.serialization.json_codec import JsonCodec, PlainValues
from litequeue.sqlite.file.opening import Driver
from litequeue.sqlite.parts.bulk import Changed
from litequeue.sqlite.store import SqliteStore

EXAMPLES = 3  # of refusals of one kind
_RETRIABLE = [str(Status.FAILED), str(Status.CANCELLED), str(Status.EXPIRED)]
_UNFINISHED = (Status.SCHEDULED, Status.QUEUED, Status.WAITING, Status.RUNNING)

_WHY: dict[type[LiteQueueError], str] = {
    JobNotFound: "they are not in this file",
    KeyConflict: "other jobs hold their keys now",
    Unsupported: "their state does not allow it, as of these",
    LiteQueueError: "they have not ended in time",
}


@click.command()
@click.argument("words", nargs=-1, metavar="[TARGET] ID...", type=arguments.Target())
@click.option("--all", "every", is_flag=True, help="All failed jobs, or those that match the options below.")
@click.option("--status", type=click.Choice(_RETRIABLE), default="failed", show_default=True, help="With --all.")
@click.option("--task", help="With --all: only jobs of this task.")
@click.option("--queue", help="With --all: only jobs of this queue.")
@arguments.driver
@arguments.as_json
def retry(
    words: tuple[str, ...],
    driver: Driver,
    *,
    every: bool,
    status: str,
    task: str | None,
    queue: str | None,
    as_json: bool,
) -> None:
    """Queue ended jobs again, with all their retries. A scheduled job runs at once."""
    place, ids = _place_and_ids(words, driver, every=every, narrowed=bool(task or queue))
    bulk = place.store.bulk
    try:
        # oldest first: a parent comes before what waits for it
        chosen = bulk.dead(Status(status), task=task, queue=queue) if every else sorted(ids, key=int)
        _change(bulk.retry(chosen), "retried", as_json=as_json)
    finally:
        place.close()


@click.command()
@click.argument("words", nargs=-1, metavar="[TARGET] ID...", type=arguments.Target())
@click.option("--all", "every", is_flag=True, help="All unfinished jobs, or those that match the options below.")
@click.option("--status", type=click.Choice([str(status) for status in _UNFINISHED]), help="With --all.")
@click.option("--task", help="With --all: only jobs of this task.")
@click.option("--queue", help="With --all: only jobs of this queue.")
@click.option("--wait", type=arguments.Duration(), help="Wait so long for jobs given by id to end, as in 5s.")
@arguments.driver
@arguments.as_json
def cancel(
    words: tuple[str, ...],
    driver: Driver,
    *,
    every: bool,
    status: str | None,
    task: str | None,
    queue: str | None,
    wait: float | None,
    as_json: bool,
) -> None:
    """Cancel jobs. A job that has not begun ends at once; a running job is asked to end.

    The id of a group, such as g7, or of the last job of a chain or chord, stands for all of it. What waits for a job
    that is cancelled is cancelled with it, unless it runs however that ends.

    With --wait, the exit code tells whether all of them have ended as cancelled by then.
    """
    if every and wait is not None:
        raise click.UsageError("--wait is for jobs that are given by id, not for --all")
    place, ids = _place_and_ids(words, driver, every=every, narrowed=bool(task or queue or status), groups=True)
    bulk, wanted = place.store.bulk, None if status is None else Status(status)
    try:
        chosen = bulk.unfinished(wanted, task=task, queue=queue) if every else ids
        changed = bulk.cancel(chosen, whole=not every)
        _change(changed if wait is None else _awaited(place.store, changed, wait), "cancelled", as_json=as_json)
    finally:
        place.close()


def _awaited(store: SqliteStore, cancelled: Iterable[Changed], wait: float) -> Iterator[Changed]:
    """Wait for the jobs to end, so long for all of them together; those that end otherwise are refusals."""
    until = store.clock.monotonic() + wait
    for chunk in list(cancelled):  # all are asked first
        done: list[str] = []
        also: list[str] = []
        refused = dict(chunk.refused)
        groups = [name for name in chunk.done if not arguments.is_id(name)]
        for job_id in [*(name for name in chunk.done if arguments.is_id(name)), *chunk.also]:
            try:
                ended = _is_cancelled(store, job_id, until)
            except (TimeoutError, JobNotFound) as error:
                refused[job_id] = LiteQueueError(str(error))
            else:
                if ended:
                    (done if job_id in chunk.done else also).append(job_id)
                else:
                    refused[job_id] = Unsupported(f"job {job_id} has ended as {store.jobs.look_up(job_id).status}")
        yield Changed(groups + done, refused, also)


def _is_cancelled(store: SqliteStore, job_id: str, until: float) -> bool:
    """Wait for the end of a job that was asked to end; return whether it was cancelled."""
    found = store.jobs.look_up(job_id)
    if found.status.finished:
        return found.status is Status.CANCELLED
    return Job[None](job_id, store.jobs, PlainValues(JsonCodec())).cancel(
        wait=max(0.0, until - store.clock.monotonic())
    )


def _place_and_ids(
    words: tuple[str, ...], driver: Driver, *, every: bool, narrowed: bool, groups: bool = False
) -> tuple[Place, list[str]]:
    is_id = arguments.is_job_or_group if groups else arguments.is_id
    target, ids = arguments.split_target(words, arguments.is_job_or_group)
    wrong = [word for word in ids if not is_id(word)]
    if wrong:
        what = "the id of a job or of a group" if groups else "the id of a job"
        group = arguments.is_job_or_group(wrong[0])
        hint = f"; for its failed jobs: litequeue jobs {target} --group {wrong[0]} --status failed" if group else ""
        raise click.UsageError(f"{wrong[0]!r} is not {what}{hint}")
    if every == bool(ids):
        raise click.UsageError("give the ids of jobs, or --all")
    if narrowed and not every:
        raise click.UsageError("--task, --queue and --status need --all")
    return open_place(target, driver), list(dict.fromkeys(ids))


def _change(chunks: Iterable[Changed], verb: str, *, as_json: bool) -> None:
    """Change jobs chunk by chunk, and say how many were changed, and why others were not."""
    done, refusals = _Done(keep=as_json), _Refusals(keep=as_json)
    try:
        for chunk in chunks:
            done.add(chunk)
            refusals.add(chunk.refused)
    except BaseException:  # a Ctrl-C among others
        if done.count:
            click.echo(
                f"ended early: at least {done.count} jobs were {verb}, and stay so; run it again for the rest", err=True
            )
        raise
    if as_json:
        more = {"also": done.also} if verb == "cancelled" else {"still_cancelled": done.left}
        emit({verb: done.ids, **more, "refused": refusals.reasons})
    elif done.count or not refusals.count:
        click.echo(done.text(verb))
    if done.left and not as_json:
        click.echo(
            f"still cancelled, since other jobs have taken their keys: {some(done.left)}; "
            f"retry each once its key is free",
            err=True,
        )
    if refusals.count:
        raise click.ClickException("\n       ".join(refusals.lines()))


class _Done:
    """The jobs that were changed: their number, and their ids if these are to be kept."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._with_others: set[str] = set()
        self.count = 0
        self.last = ""
        self.ids: list[str] = []
        self.also: list[str] = []
        self.left: list[str] = []

    def add(self, chunk: Changed) -> None:
        done = [job_id for job_id in chunk.done if job_id not in self._with_others]
        self.count += len(done)
        self.last = done[-1] if done else self.last
        self._with_others.update(chunk.also)
        self.left += chunk.left
        if self._keep:
            self.ids += done
            self.also += chunk.also

    def text(self, verb: str) -> str:
        """Say how many, and how many others with them."""
        others = len(self._with_others)
        if self.count == 1 and not arguments.is_id(self.last):
            return f"{verb} group {self.last}: {others:,} job{'s' * (others != 1)}"
        what = f"job {self.last}" if self.count == 1 else f"{self.count} jobs"
        them = "it" if self.count == 1 else "them"
        return f"{verb} {what}" + (f", and with {them} {others:,} more" if others else "")


class _Refusals:
    """Why jobs were not changed: some examples of each kind of reason, and all of them if these are to be kept."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._kinds: dict[type[LiteQueueError], list[str]] = {}
        self._counts: Counter[type[LiteQueueError]] = Counter()
        self.reasons: dict[str, str] = {}

    @property
    def count(self) -> int:
        return self._counts.total()

    def add(self, refused: Mapping[str, LiteQueueError]) -> None:
        for job_id, error in refused.items():
            self._counts[type(error)] += 1
            if self._counts[type(error)] <= EXAMPLES:
                self._kinds.setdefault(type(error), []).append(str(error))
            if self._keep:
                self.reasons[job_id] = str(error)

    def lines(self) -> Iterator[str]:
        for kind, examples in self._kinds.items():
            yield from examples
            if more := self._counts[kind] - len(examples):
                yield f"and {more:,} more: {_WHY[kind]}"


@click.command()
@arguments.target
@arguments.as_json
def prune(target: str | None, driver: Driver, *, as_json: bool) -> None:
    """Delete ended jobs that have been kept long enough, and give the room back to the file system, in small steps.

    Workers do this by themselves.
    """
    place = open_place(target, driver)
    try:
        deleted = _in_steps(place.store, place.store.maintenance.prune)
        given_back = _in_steps(place.store, place.store.maintenance.vacuum)
    finally:
        place.close()
    if as_json:
        emit({"deleted": deleted, "given_back": given_back})
    else:
        click.echo(f"deleted {deleted} jobs" + (f" and gave {size(given_back)} back" if given_back else ""))


def _in_steps(store: SqliteStore, step: Callable[[], int]) -> int:
    """Repeat until nothing is left to do; after each step others have as long to write."""
    total, began = 0, store.clock.monotonic()
    while count := step():
        total += count
        store.maintenance.checkpoint()
        time.sleep(store.clock.monotonic() - began)
        began = store.clock.monotonic()
    return total
