"""What the file must know of a task that is more than plain: which limits it takes, and how. Knows no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

from litequeue.limits.held import MOST, Take, stored_takes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from litequeue.limits.limit import Limit


class LimitUse(msgspec.Struct, frozen=True, array_like=True):
    """One limit of a task: whether by key, and the cost; None: it depends on the arguments."""

    limit: str
    keyed: bool
    cost: Annotated[int, msgspec.Meta(ge=0, le=MOST)] | None


class TaskRules(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The rules of one task. `ordered`: jobs of one key of its first limit keep their order until each has ended.

    `uses`: what one run uses of the resources that its worker offers.
    """

    limits: tuple[LimitUse, ...] = ()
    ordered: bool = False
    uses: dict[str, Annotated[int, msgspec.Meta(ge=1)]] = {}

    @property
    def are_none(self) -> bool:
        """Whether the task is plain."""
        return not (self.limits or self.uses)

    @property
    def depends(self) -> bool:
        """Whether a job must say itself what it takes."""
        return any(use.keyed or use.cost is None for use in self.limits)


class Fits(NamedTuple):
    """What a job takes; `missing`: it does not say all of it."""

    takes: tuple[Take, ...]
    missing: bool


MISSING = Fits((), missing=True)
_NOTHING = None, None

_decoder = msgspec.json.Decoder(TaskRules)
_encode = msgspec.json.Encoder().encode
NONE = TaskRules()


def encoded_rules(limits: Iterable[Limit], *, ordered: bool, uses: Mapping[str, int] | None = None) -> str | None:
    """Return the rules of a task that takes of these limits, and uses these resources, as stored; None: it is plain."""
    of_limits = tuple(
        LimitUse(use.name, use.per is not None, use.takes if isinstance(use.takes, int) else None) for use in limits
    )
    rules = TaskRules(limits=of_limits, ordered=ordered, uses=dict(uses or {}))
    return None if rules.are_none else _encode(rules).decode()


def decode(text: str) -> TaskRules:
    """Read stored rules; what is not ours counts as none."""
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return NONE


def takes_of(rules: TaskRules, stored: str | None) -> Fits:
    """Return what a job takes of its task's limits, given what it says itself."""
    said: dict[str, tuple[str | None, int]] | None = None
    found: list[Take] = []
    for use in rules.limits:
        limit, keyed, cost, key = use.limit, use.keyed, use.cost, ""
        if keyed or cost is None:
            if said is None:
                said = stored_takes(stored)
            own_key, own_cost = said.get(limit, _NOTHING)
            if (keyed and own_key is None) or (cost is None and own_cost is None):
                return MISSING
            key = own_key if keyed and own_key else ""
            cost = own_cost or 0 if cost is None else cost
        found.append(Take(limit, key, cost, keyed))
    return Fits(tuple(found), False)
