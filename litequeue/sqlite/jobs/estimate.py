"""How many jobs have succeeded, by queue: estimated from a sample of the file, since no index holds them.

Jobs are read in blocks of consecutive ids, one block at a random place in each of 1,000 equal ranges of ids. The
standard error of a queue's number is at most `sqrt((1 - p) / (1000 * p))` of it, where `p` is the part of the ids that
are such jobs: 3 % for a half, 10 % for a tenth. Where jobs of the queue and gaps are spread evenly it is a third of
that, and where a range is full of them, or has none, it adds nothing. A queue with fewer than about one job in 8
ranges may be missed. A range of at most 20,000 ids is counted.
"""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, NamedTuple, cast

from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection

SMALL = 20_000  # ids
BLOCK = 8  # ids; most lie on one page of the file
RANGES = 1_000
COARSE = 250  # ranges in the rounds that look for where such jobs are
ROUNDS = 4
SPREAD = 4  # jobs that lie in more than a fourth of the ids are sampled where they are


class Span(NamedTuple):
    """Ids from the first to the last."""

    first: int
    last: int

    @property
    def width(self) -> int:
        """How many ids these are."""
        return self.last - self.first + 1


def succeeded(db: Connection, others: int, *, exact: bool) -> tuple[dict[str, int], bool]:
    """Count the jobs of each queue that have succeeded; tell whether that is exact. `others`: how many have not."""
    [(first, last)] = db.rows(SQL["id_range"])
    if first is None or last - first + 1 == others:
        return {}, True
    span = Span(first, last)
    if exact or span.width <= SMALL:
        return dict(db.rows(SQL["succeeded"])), True
    random = Random(0)
    spans = _where_they_are(db, span, random)
    found: dict[str, float] = {}
    pieces = _cut(spans, RANGES)
    for (place, queue), jobs in Counter(_sampled(db, pieces, random)).items():
        width = pieces[place].width
        found[queue] = found.get(queue, 0.0) + jobs * width / min(width, BLOCK)
    found.pop("", None)  # the newest row, emptied at its time
    most = min(1.0, (span.width - others) / sum(found.values())) if found else 1.0  # there are no more ids than that
    return {queue: round(count * most) for queue, count in found.items()}, False


def _where_they_are(db: Connection, span: Span, random: Random) -> list[Span]:
    """Leave out the ids of long ago, of which but a few are kept, and gaps that another program has left."""
    spans = [span]
    for _ in range(ROUNDS):
        pieces = _trimmed(db, _cut(spans, COARSE))
        hit = {place for place, _ in _sampled(db, pieces, random)}
        near = [piece for place, piece in enumerate(pieces) if hit & {place - 1, place, place + 1}]
        wide = _width(near) * SPREAD > _width(spans)
        spans = near
        if wide:
            break
    return spans


def _width(spans: list[Span]) -> int:
    return sum(span.width for span in spans)


def _cut(spans: list[Span], number: int) -> list[Span]:
    """Cut them into about so many pieces of equal width, none of which is narrower than a block."""
    step = max(BLOCK, -(-_width(spans) // number))
    return [
        Span(first, min(first + step - 1, span.last))
        for span in spans
        for first in range(span.first, span.last + 1, step)
    ]


def _trimmed(db: Connection, spans: list[Span]) -> list[Span]:
    """Make each begin and end with an id that is in use; those without any go."""
    return [Span(*row) for row in db.rows(SQL["used_ids"], {"spans": json.dumps(spans)})]


def _sampled(db: Connection, spans: list[Span], random: Random) -> list[tuple[int, str]]:
    """Read a block in each of them: the place of the span and the queue of each job that has succeeded."""
    starts = [span.first + random.randrange(max(1, span.width - BLOCK + 1)) for span in spans]
    blocks = [(start, min(start + BLOCK - 1, span.last)) for start, span in zip(starts, spans, strict=True)]
    return cast("list[tuple[int, str]]", db.rows(SQL["sample"], {"blocks": json.dumps(blocks)}))
