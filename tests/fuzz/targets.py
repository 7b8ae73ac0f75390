"""What is fuzzed: targets, and how one is tried with so many inputs or for so many seconds. Knows no format."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, Verbosity, example, given, seed, settings

from fuzz.hostile import nothing_is_run

if TYPE_CHECKING:
    from hypothesis import strategies as st

BATCH = 100  # inputs between two looks at the clock


@dataclass(frozen=True)
class Target:
    """One thing that reads what others have written."""

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], object]
    share: int = 1  # of the time there is; more than one where an input takes long


@dataclass
class Tried:
    """How much was tried."""

    inputs: int = 0
    seconds: float = 0.0
    failure: BaseException | None = field(default=None, repr=False)


def attempt(target: Target, number: int, examples: int, known: Sequence[Any] = ()) -> Tried:
    """Try what is known, and so many inputs drawn by this seed; whoever fails says how it is replayed."""
    tried, began = Tried(), time.monotonic()

    def check(value: Any) -> None:
        tried.inputs += 1
        with nothing_is_run(), nothing_is_collected():
            target.check(value)

    made = given(target.inputs)(check)
    for one in reversed(known):
        made = example(one)(made)
    made = seed(number)(
        settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.normal,
            print_blob=False,
            report_multiple_bugs=False,
        )(made)
    )
    try:
        made()
    except BaseException as error:
        raise AssertionError(
            f"{target.name}; replay: {replay(target.name, number, examples)}\n{_shown(error)}"
        ) from error
    tried.seconds = time.monotonic() - began
    return tried


@contextmanager
def nothing_is_collected() -> Generator[None, None, None]:
    """Leave to the time after an input what it and others before it have left.

    The collector runs wherever something is made: also at the depth to which an input makes a reader recurse, where a
    finalizer has no room left, and Python tells of its RecursionError as of an error that nobody can catch.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def replay(name: str, number: int, examples: int) -> str:
    """Return the command that tries the same inputs again."""
    return f"cd tests && python -m fuzz {name!r} --seed {number} --examples {examples}"


def _shown(error: BaseException) -> str:
    """The input, as hypothesis notes it where Python keeps notes (from 3.11 on), and what it led to."""
    return "\n".join([*getattr(error, "__notes__", ()), f"{type(error).__name__}: {error}"])


def attempt_for(target: Target, number: int, span: float, known: Sequence[Any] = ()) -> Tried:
    """Try batches, each with a seed of its own, for so many seconds, and at least one."""
    total, over = Tried(), time.monotonic() + span
    size = BATCH // 10 if target.share > 1 else BATCH
    while not total.inputs or time.monotonic() < over:
        tried = attempt(target, number, size, () if total.inputs else known)
        total.inputs += tried.inputs
        total.seconds += tried.seconds
        number += 1
    return total
