"""Answers of code that is not ours, such as a trigger or a codec: asked outside of the transaction that needs them.

If an answer is missing, the transaction is rolled back, the answer computed, and the work done again with it. So it
costs nothing if nothing is asked, and a cron expression that takes a second to compute delays no writer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Mapping

    from litequeue.core.records import NewJob

T = TypeVar("T")


class Ask(Protocol):
    """Returns the answers to questions, in their order."""

    def __call__(self, questions: Mapping[Hashable, Callable[[], T]], /) -> list[T]:
        """Ask the questions; those of one key are asked once."""


class Unanswered(Exception):
    """Ends the transaction in which something is asked for the first time."""

    def __init__(self, questions: Mapping[Hashable, Callable[[], Any]]) -> None:
        super().__init__()
        self.questions = questions


class Answers:
    """The answers that one piece of work needs and that are known already."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def __call__(self, questions: Mapping[Hashable, Callable[[], T]], /) -> list[T]:
        """Return the answers, or raise `Unanswered`."""
        missing = {key: question for key, question in questions.items() if key not in self._known}
        if missing:
            raise Unanswered(missing)
        return [cast("T", self._known[key]) for key in questions]

    def find(self, asked: Unanswered) -> None:
        """Ask now; an error in it is raised to the caller."""
        for key, question in asked.questions.items():
            self._known[key] = question()


def at_once(questions: Mapping[Hashable, Callable[[], T]], /) -> list[T]:
    """Ask inside the transaction: in a caller's own block, which is the caller's code anyway."""
    return [question() for question in questions.values()]


def answered(run: Callable[[Ask], T], answers: Answers | None = None) -> T:
    """Call `run`, which works in a transaction of its own, until every question is answered. `answers`: those known."""
    answers = answers or Answers()
    while True:
        try:
            return run(answers)
        except Unanswered as asked:
            missing = asked
        answers.find(missing)


async def aanswered(run: Callable[[Ask], Awaitable[T]]) -> T:
    """Async twin of `answered`."""
    answers = Answers()
    while True:
        try:
            return await run(answers)
        except Unanswered as asked:
            missing = asked
        answers.find(missing)


def alike(new: NewJob, payload: bytes, ask: Ask) -> bool:
    """Ask the codec whether a stored call and this one are the same."""
    compare = new.alike
    if compare is None:
        return False
    [same] = ask({("alike", new.task, payload, new.payload): lambda: compare(payload, new.payload)})
    return same
