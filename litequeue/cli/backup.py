"""The command `backup`: copy a file while it is in use."""

from __future__ import annotations

import click

from litequeue.cli import arguments
from litequeue.cli.locate import open_place
from litequeue.cli.printing import emit, size
from litequeue.sqlite.file.opening import Driver


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="[TARGET] COPY", type=arguments.Target())
@arguments.driver
@arguments.as_json
def backup(words: tuple[str, ...], driver: Driver, *, as_json: bool) -> None:
    """Copy a queue's file to COPY, a new file, or a new name in a folder, while workers and callers continue.

    The copy is checked and synced to disk. It holds what was committed when the copying began. Jobs that were
    running then are queued in it, and run again where the copy is used.
    """
    if len(words) > 2:
        raise click.UsageError(f"give a queue and a copy, not {len(words)} arguments")
    target = words[0] if len(words) == 2 else None
    place = open_place(target, driver)
    try:
        copy = place.store.admin.backup(words[-1])
    finally:
        place.close()
    count = copy.stat().st_size
    if as_json:
        emit({"copy": str(copy), "bytes": count})
    else:
        click.echo(f"copied to {copy}, {size(count)}")
