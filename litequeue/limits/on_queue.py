"""`queue.limit()`: the part of a queue that declares limits. Knows no engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litequeue.core.engine import Feature
from litequeue.limits.declared import DeclaredLimits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litequeue.limits.limit import Limit


class DeclaresLimits:
    """What a queue has of limits in its code."""

    limits_declared: DeclaredLimits

    def require(self, features: Iterable[Feature]) -> None:
        """Raise `Unsupported` if the engine lacks one of them."""
        raise NotImplementedError

    def limit(
        self, name: str, *, concurrency: int | None = None, rate: str | None = None, smooth: bool = False
    ) -> Limit:
        """Declare a limit that tasks share: `@queue.task(limits=[queue.limit("openai", concurrency=8, rate="500/m")])`.

        It is kept in the file, and holds for all workers together. `concurrency`: how many run at once. `rate`: how
        many start in any window, such as "10/s" or "500/m"; `smooth`: spaced evenly. `.cost()` and `.key()` of what
        this returns say what a task takes of it. Raises `ValueError` where the name is declared otherwise already.
        """
        self.require([Feature.LIMITS])
        return self.limits_declared.add(name, concurrency, rate, smooth=smooth)
