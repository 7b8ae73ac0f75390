"""The pool, as the handlers of its children see it: what they take from it, and tell it. Knows no process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from litequeue.children.messages import Found
    from litequeue.children.messages import Setup as FirstMessage
    from litequeue.core.outcome import ErrorInfo, Outcome
    from litequeue.core.records import Claimed
    from litequeue.worker.executor.context import Run


class ChildWork(Protocol):
    """The pool, as its handlers see it."""

    app: str | None
    stops: bool
    found: dict[str, Found]
    max_jobs: int | None
    max_memory: int | None

    def first_message(self) -> FirstMessage:
        """Return what a child is told first."""

    def note_started(self) -> None:
        """Note that a child is ready."""

    def note_failed_start(self, why: str) -> None:
        """Note that no child could be started."""

    def not_loaded_for(self, task: str) -> float:
        """Return for how many seconds jobs of this task are not tried, because it could not be imported."""

    def note_loaded(self, task: str) -> None:
        """Note that the task could be imported."""

    def note_not_loaded(self, run: Run, error: ErrorInfo) -> float:
        """Note that the task of a job could not be imported; return after how many seconds it is tried again."""

    def take(self) -> Claimed | None:
        """Take the next job of the backlog; None: there is none."""

    def comes_late(self, job: Claimed) -> bool:
        """Whether the job's start counts against a rate, and comes too late for it."""

    def begin(self, job: Claimed, slot: int) -> Run:
        """Note that the job begins in this slot."""

    def undo_begin(self, run: Run, slot: int) -> None:
        """Undo `begin`: the child died before it had called the function."""

    def ends(self, run: Run, outcome: Outcome, slot: int) -> None:
        """Note how a run has ended."""

    def note_free(self) -> None:
        """Note that a child has no job any more."""

    def rest(self, handler: Any) -> bool:
        """Wait for more jobs; False: there will be none."""

    def ask(self, run: Run) -> None:
        """Tell the child what is asked of its run."""

    def tell_lost(self, run: Run) -> None:
        """Tell the child that another worker has its job."""

    def leave(self, handler: Any) -> None:
        """Note that the handler has ended."""
