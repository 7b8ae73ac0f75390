"""What one job takes of its task's limits, worked out from its arguments. Knows no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from litequeue.core.interruptible import interruptible
from litequeue.limits.held import stored_takes
from litequeue.limits.limit import Filler, Limit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONGEST_KEY = 1_000  # characters

_encode = msgspec.json.Encoder().encode


@interruptible
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

    def of_chunk(self, calls: Sequence[Mapping[str, Any]]) -> str:
        """Return it for one run that makes several calls: costs that depend on the arguments are added up.

        Raises `ValueError` as `of` does, and where the calls are of more than one key.
        """
        each = [stored_takes(self.of(arguments)) for arguments in calls]
        found = dict(each[0])
        for use, key, cost in self._uses:
            keys = dict.fromkeys(taken[use.name][0] for taken in each)
            if key is not None and len(keys) > 1:
                some = ", ".join(repr(text) for text in list(keys)[:2])
                raise ValueError(
                    f"{self._task}: a chunk is one run, of one key of limit {use.name!r}, and its items have "
                    f"{len(keys):,}, such as {some}; use map(), or make chunks of one key"
                )
            if cost is not None:
                total = sum(taken[use.name][1] for taken in each)
                found[use.name] = found[use.name][0], self._fitting(use, total)
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
        if number < 0:
            raise ValueError(
                f"{self._task}: the cost {use.takes!r} of limit {use.name!r} must be from 0, got {number:,}"
            )
        return self._fitting(use, number)

    def _fitting(self, use: Limit, number: int) -> int:
        if number > use.allowed.most:
            never = f"which never has more than {use.allowed.most:,}"
            raise ValueError(f"{self._task}: a run would take {number:,} of limit {use.name!r}, {never}")
        return number
