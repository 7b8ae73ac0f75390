"""What a job takes of limits, and what it holds of them when it is claimed, as values. Knows no SQL."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec

# {limit: [key, cost]}, of limits where one of both depends on the arguments. No key: None.
MOST = 10**9  # what one run takes of one limit
_takes = msgspec.json.Decoder(dict[str, tuple[str | None, Annotated[int, msgspec.Meta(ge=0, le=MOST)]]])


class Take(NamedTuple):
    """So much of a limit, or of one key of it; '' where the limit has no keys."""

    limit: str
    key: str
    cost: int
    keyed: bool


class Start(NamedTuple):
    """A start that counts against a rate, and under which moment it is kept."""

    limit: str
    key: str
    at: float
    cost: int


class Held(msgspec.Struct, frozen=True, gc=False):
    """What a claimed job holds of limits.

    `start_by`: when its function must have been called, by the monotonic clock. `frees`: limit, key and how much others
    of that key wait for. `ordered`: it holds its key until it has ended for good.
    """

    takes: tuple[Take, ...]
    starts: tuple[Start, ...]
    start_by: float
    frees: tuple[tuple[str, str, int], ...]
    ordered: bool
    claimed_at: float = 0.0  # by the same clock


def stored_takes(text: str | None) -> dict[str, tuple[str | None, int]]:
    """Read what is stored; what is not ours counts as nothing."""
    if text is None:
        return {}
    try:
        return _takes.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return {}
