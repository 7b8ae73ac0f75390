"""A ready job as the gate sees it."""

from __future__ import annotations

from typing import NamedTuple


class Candidate(NamedTuple):
    """A ready job that a claim has before it. `rank`: the negative of its priority; `takes`: what it says it takes."""

    id: int
    task: str
    queue: str
    rank: int
    takes: str | None
