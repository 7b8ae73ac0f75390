"""What `queue.worker()` is in a child process of a worker, which imports the program's modules: it starts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Absent:
    """A worker that runs no job, and has ended as soon as it was started."""

    id: int = 0
    claimed: int = 0
    settled: int = 0
    released: int = 0
    lost: int = 0
    left_running: int = 0
    recycled: bool = False

    def __init__(self, name: str | None) -> None:
        self.name: str = name or "absent"

    def run(self, *, until_idle: bool = False) -> bool:  # noqa: ARG002
        """Return at once."""
        return True

    def stop(self, *, now: bool = False) -> None:
        """Do nothing."""

    def log_stacks(self) -> None:
        """Do nothing."""

    def wait_until_started(self) -> bool:
        """Return at once."""
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None: ...

    def __repr__(self) -> str:
        return f"<Absent {self.name}: in a child process no worker starts>"
