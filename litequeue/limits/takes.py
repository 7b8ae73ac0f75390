"""What one job takes of its task's limits, worked out from its arguments. Knows no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from litequeue.limits.limit import Filler, Limit

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_KEY = 1_000  # characters

# {limit: [key, cost]}, of limits where one of both depends on the arguments. No key: None.
_takes = msgspec.json.Decoder(dict[str, tuple[str | None, int]])
_encode = msgspec.json.Encoder().encode


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


class Taken:
    """Works out what a call takes of the limits of its task that depend on the arguments."""

    def __init__(self, task: str, uses: tuple[Limit, ...]) -> None:
        self._task = task
        self._uses = [
            (
                use,
                None if use.per is None else Filler(use.per),
                Filler(use.takes) if isinstance(use.takes, str) else None,
            )
            for use in uses
            if use.depends
        ]

    def of(self, arguments: Mapping[str, Any]) -> str:
        """Return it as it is stored. Raises `ValueError` where these arguments give no key or cost."""
        found: dict[str, tuple[str | None, int]] = {}
        for use, key, cost in self._uses:
            found[use.name] = (
                None if key is None else self._key(use, key, arguments),
                int(use.takes) if cost is None else self._cost(use, cost, arguments),
            )
        return _encode(found).decode()

    def _key(self, use: Limit, key: Filler, arguments: Mapping[str, Any]) -> str:
        try:
            text = key.fill(arguments)
            text.encode()
        except (AttributeError, LookupError, ValueError, TypeError, OverflowError) as error:
            raise ValueError(
                f"{self._task}: the key {use.per!r} of limit {use.name!r} does not fit: {error}"
            ) from error
        if not text or "\0" in text or len(text) > LONGEST_KEY:
            raise ValueError(
                f"{self._task}: the key {use.per!r} of limit {use.name!r} must be text of 1 to {LONGEST_KEY:,} "
                f"characters, got {text[:50]!r}"
            )
        return text

    def _cost(self, use: Limit, cost: Filler, arguments: Mapping[str, Any]) -> int:
        try:
            number = int(cost.fill(arguments))
        except (AttributeError, LookupError, ValueError, TypeError, OverflowError) as error:
            raise ValueError(
                f"{self._task}: the cost {use.takes!r} of limit {use.name!r} must be a whole number: {error}"
            ) from error
        if not 0 <= number <= use.allowed.most:
            never = f"which never has more than {use.allowed.most:,}"
            raise ValueError(f"{self._task}: a run would take {number:,} of limit {use.name!r}, {never}")
        return number


def stored_takes(text: str | None) -> dict[str, tuple[str | None, int]]:
    """Read what is stored; what is not ours counts as nothing."""
    if text is None:
        return {}
    try:
        return _takes.decode(text)
    except msgspec.MsgspecError:
        return {}
