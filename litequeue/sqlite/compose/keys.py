"""Keys of whole compositions, as statements inside one write transaction. They are a name space of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.plan import group_id
from litequeue.core.records import Status
from litequeue.errors import KeyConflict
from litequeue.sqlite.jobs.states import NUMBER
from litequeue.sqlite.sql import SQL

if TYPE_CHECKING:
    from litequeue.core.plan import WholeKey
    from litequeue.sqlite.drivers.connection import Steps

_SUCCEEDED = NUMBER[Status.SUCCEEDED]


def holder(whole: WholeKey, now: float) -> Steps[str | None]:
    """Return the id of the last node of the composition that holds the key; None: it is free.

    Raises `KeyConflict` where that composition has other calls, or `on_conflict` says so.
    """
    rows = yield SQL["composition_holder"], {"key": whole.key, "now": now}
    if not rows:
        return None
    node, digest, scope, state, is_pruned, in_time, set_back = rows[0]
    if set_back:
        yield SQL["hold_composition_key_again"], {"key": whole.key, "now": now}
    if in_time is None:
        in_scope = state is not None and not is_pruned and (scope == "kept" or state < _SUCCEEDED)
    else:
        in_scope = bool(in_time) and state is not None
    if not in_scope:
        return None
    last = str(node) if node > 0 else group_id(-node)
    if whole.on_conflict == "raise":
        raise KeyConflict(f"key {whole.key!r} is held by the composition that ends in {last}", last)
    if digest != whole.digest and in_time is None:
        raise KeyConflict(
            f"key {whole.key!r}: the composition that holds it, which ends in {last}, has other calls; use another key",
            last,
        )
    return last


def hold(whole: WholeKey, node: int, now: float) -> Steps[None]:
    """Let the composition that ends in this node hold the key, which is free."""
    values = {"key": whole.key, "node": node, "digest": whole.digest, "scope": whole.scope, "held_for": whole.held_for}
    yield SQL["hold_composition_key"], values | {"now": now}
