"""The command `logs`: what the runs of a job have logged, also as they go on."""

from __future__ import annotations

import click

from litequeue.cli import arguments
from litequeue.cli.locate import Place, open_place
from litequeue.cli.printing import harmless
from litequeue.core.clock import SystemClock
from litequeue.core.records import JobRecord, Status
from litequeue.core.run_logs import FOLLOW_AGAIN, LOOK, Piece, Tail
from litequeue.core.stored_names import task_of
from litequeue.errors import JobNotFound
from litequeue.sqlite.file.opening import Driver


@click.command()
@click.argument("words", nargs=-1, metavar="[TARGET] ID", type=arguments.Target())
@arguments.driver
@click.option("--attempt", metavar="N", type=click.IntRange(1), help="Only what run N of the job has logged.")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended, over all of its runs.")
def logs(words: tuple[str, ...], driver: Driver, *, attempt: int | None, follow: bool) -> None:
    """Print the last lines that the runs of a job have logged, if its task keeps them (job_logs=)."""
    target, ids = arguments.split_target(words, arguments.is_id)
    if len(ids) != 1:
        raise click.UsageError("give the id of one job, for example: litequeue logs app.db 42")
    if follow and attempt is not None:
        raise click.UsageError("--follow shows each run in turn; leave out --attempt")
    place = open_place(target, driver)
    try:
        found = _follow(place, ids[0]) if follow else _print(place, ids[0], attempt)
        if not found:
            _say_why(place, ids[0], attempt)
    except KeyboardInterrupt:  # the usual end of --follow
        return
    finally:
        place.close()


def _print(place: Place, job_id: str, attempt: int | None) -> bool:
    kept = place.store.jobs.logs(job_id)
    pieces = Tail().news([log for log in kept if attempt in (None, log.attempt)])
    _echo(pieces)
    return bool(pieces)


def _echo(pieces: list[Piece]) -> None:
    for piece in pieces:
        click.echo(harmless(piece.shown))


def _follow(place: Place, job_id: str) -> bool:
    """Print what there is, and what comes, until the job has ended; return whether there was anything."""
    jobs, tail, follow_at = place.store.jobs, Tail(), 0.0
    job = jobs.look_up(job_id)
    while True:
        if job.status is Status.RUNNING and SystemClock.monotonic() >= follow_at:
            jobs.follow_logs(job_id)
            follow_at = SystemClock.monotonic() + FOLLOW_AGAIN
        try:
            _echo(tail.news(jobs.logs(job_id, tail.position)))  # after the look at the job: its end comes with its log
            if job.status.finished:
                break
            job = _next(place, job_id)
        except JobNotFound:  # pruned meanwhile
            break
    return bool(tail.position.written)


def _next(place: Place, job_id: str) -> JobRecord:
    """Wait for the job's end, or for the next look; return the job as it is then."""
    try:
        return place.store.jobs.wait(job_id, LOOK)
    except TimeoutError:
        return place.store.jobs.look_up(job_id)


def _say_why(place: Place, job_id: str, attempt: int | None) -> None:
    """Say on stderr why nothing is shown."""
    run = "" if attempt is None else f" of run {attempt}"
    said = f"no log lines{run} of job {job_id} are kept"
    task = None
    if place.queue is not None:
        task = place.queue.tasks.get(task_of(place.store.jobs.look_up(job_id).task))
    if task is None or not task.options.job_logs:
        said += '; a task keeps them with @queue.task(job_logs="64KiB"), all tasks do with Queue(job_logs=...)'
    click.echo(said, err=True)
