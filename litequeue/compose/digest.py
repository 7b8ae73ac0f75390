"""What tells one composition from another under the same key. Knows no store."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litequeue.compose.builder import Builder


def digest_of(builder: Builder) -> bytes:
    """Return a digest of the calls, and of what runs after what: their tasks and arguments, not their times."""
    from hashlib import sha256  # here: it takes longer to import than all of us

    plan = builder.plan(0)
    runs_on = [(node, int(each.runs_on)) for node, each in plan.dependents.items()]
    shape = plan.groups, [tuple(edge) for edge in plan.edges], runs_on, [tuple(each) for each in plan.after]
    digest = sha256(repr(shape).encode())
    for task, new in zip(builder.tasks, plan.jobs, strict=True):
        payload = task.signature.stored.identity(new.payload)
        digest.update(repr((task.name, payload)).encode())
    return digest.digest()
