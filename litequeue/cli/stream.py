"""The command `stream`: what a job has emitted, or emits."""

from __future__ import annotations

from collections.abc import Iterator

import click

from litequeue.cli import arguments
from litequeue.cli.job_report import decoded
from litequeue.cli.locate import Place, open_place
from litequeue.cli.printing import iso, to_json
from litequeue.core.streams import Events, StoredEvent
from litequeue.serialization.json_codec import JsonCodec
from litequeue.sqlite.file.opening import Driver


@click.command()
@click.argument("words", nargs=-1, metavar="[TARGET] ID", type=arguments.Target())
@click.option("--after", type=click.IntRange(min=0), default=0, help="Leave out the events up to this number.")
@click.option("--follow", is_flag=True, help="Go on with what the job emits, until it has ended.")
@arguments.driver
def stream(words: tuple[str, ...], driver: Driver, *, after: int, follow: bool) -> None:
    """Print what a job has emitted, one event a line, as JSON: number, kind, attempt, value and time."""
    target, ids = arguments.split_target(words, arguments.is_id)
    if len(ids) != 1:
        raise click.UsageError("give the id of one job, for example: litequeue stream app.db 42")
    place = open_place(target, driver)
    try:
        for event in _events(place, ids[0], after, None if follow else 0.0):
            click.echo(_line(place, event))
    finally:
        place.close()


def _events(place: Place, job_id: str, after: int, wait: float | None) -> Iterator[StoredEvent]:
    while True:
        try:
            events: Events = place.store.jobs.events(job_id, after, wait, wait)
        except TimeoutError:  # that is all so far
            return
        yield from events.found
        if events.over:
            return
        after = events.found[-1].number


def _line(place: Place, event: StoredEvent) -> str:
    codec = JsonCodec() if place.queue is None else place.queue.codec
    return to_json(
        {
            "number": event.number,
            "kind": "attempt" if event.value is None else "value",
            "attempt": event.attempt,
            "value": None if event.value is None else decoded(codec, event.value),
            "at": iso(event.at),
        }
    )
