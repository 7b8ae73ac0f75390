"""How many jobs there are, by queue and state, where they are too many to count: estimated from a sample of the file.

Jobs are read in blocks of consecutive ids, one block at a random place in each of 1,000 equal ranges of ids. The
standard error of a queue's number is at most `sqrt((1 - p) / (1000 * p))` of it, where `p` is the part of the ids that
are such jobs: 3 % for a half, 10 % for a tenth. Where jobs of the queue and gaps are spread evenly it is a third of
that, and where a range is full of them, or has none, it adds nothing. A queue with fewer than about one job in 8,000
ids may be missed: with one in 8 ranges, if these hold 1,000,000. A range of at most 20,000 ids is counted.
"""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from litequeue.core.records import Status
from litequeue.sqlite.jobs.finish import NUMBER
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.sqlite.drivers.connection import Connection

SMALL = 20_000  # ids
BLOCK = 8  # ids; most lie on one page of the file
RANGES = 1_000
COARSE = 250  # ranges in the rounds that look for where such jobs are
ROUNDS = 4
SUCCEEDED = NUMBER[Status.SUCCEEDED]
SPREAD = 4  # jobs that lie in more than a fourth of the ids are sampled where they are


Part = tuple[str, int]  # a queue and a state


class Span(NamedTuple):
    """Ids from the first to the last."""

    first: int
    last: int

    @property
    def width(self) -> int:
        """How many ids these are."""
        return self.last - self.first + 1


def jobs_of(db: Connection, span: Span, many: set[Part], *, at_most: int) -> dict[Part, int]:
    """Estimate how many jobs have succeeded, and how many are in these queues and states; `at_most` so many in all."""
    sample = _Sample(db, many)
    pieces = _cut(sample.where_they_are(span), RANGES)
    found: dict[Part, float] = {}
    for (place, part), jobs in Counter(sample.of(pieces)).items():
        width = pieces[place].width
        found[part] = found.get(part, 0.0) + jobs * width / min(width, BLOCK)
    scale = min(1.0, at_most / sum(found.values())) if found else 1.0
    return {part: round(jobs * scale) for part, jobs in found.items()}


class _Sample:
    """Reads blocks at random places, the same ones each time."""

    def __init__(self, db: Connection, many: set[Part]) -> None:
        self._db, self._many, self._random = db, many, Random(0)
        self._states = json.dumps(sorted({SUCCEEDED, *(state for _, state in many)}))

    def where_they_are(self, span: Span) -> list[Span]:
        """Leave out the ids of long ago, of which but a few are kept, and gaps that another program has left."""
        spans = [span]
        for _ in range(ROUNDS):
            pieces = _trimmed(self._db, _cut(spans, COARSE))
            hit = {place for place, _ in self.of(pieces)}
            near = [piece for place, piece in enumerate(pieces) if hit & {place - 1, place, place + 1}]
            wide = _width(near) * SPREAD > _width(spans)
            spans = near
            if wide:
                break
        return spans

    def of(self, spans: list[Span]) -> list[tuple[int, Part]]:
        """Read a block in each of them: the place of the span, and the queue and state of each job that is sought."""
        starts = [span.first + self._random.randrange(max(1, span.width - BLOCK + 1)) for span in spans]
        blocks = [(start, min(start + BLOCK - 1, span.last)) for start, span in zip(starts, spans, strict=True)]
        rows = self._db.rows(SQL["sample"], {"blocks": json.dumps(blocks), "states": self._states})
        return [
            (place, (queue, state))
            for place, queue, state in rows
            if (state == SUCCEEDED and queue) or (queue, state) in self._many  # without the newest row, once emptied
        ]


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
