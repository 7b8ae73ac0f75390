"""The part of a queue that its tasks use. Knows no task and no store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from litequeue.core.after_commit import OnCommit
    from litequeue.core.engine import Feature, Submitted
    from litequeue.core.records import NewJob
    from litequeue.core.routes import Routes
    from litequeue.core.source import Source
    from litequeue.serialization.json_codec import Codec


class Owner(Protocol):
    """The part of a queue that its tasks use."""

    max_payload: int
    codec: Codec
    on_commit: OnCommit
    routes: Routes

    @property
    def plain_calls(self) -> str | None:
        """What a plain call of a task does: None, or "" for a plain call, "warn" or "error"."""

    @property
    def source(self) -> Source:
        """The source from which its jobs are looked up."""

    def now(self) -> float:
        """The time, in unix seconds."""

    def require(self, features: Iterable[Feature]) -> None:
        """Raise `Unsupported` if the engine lacks one of them."""

    def submit(self, jobs: Sequence[NewJob], within: Any) -> Sequence[Submitted]:
        """Store jobs."""

    async def asubmit(self, jobs: Sequence[NewJob], within: Any) -> Sequence[Submitted]:
        """Async twin of `submit`."""
