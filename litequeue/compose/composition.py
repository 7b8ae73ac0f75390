"""What can be enqueued as a whole: a call, a chain, a group. Knows no store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, cast, overload

from litequeue.compose.whole import Whole
from litequeue.core.checks import one_of
from litequeue.core.hints import CompositionWords
from litequeue.core.interruptible import interruptible

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from litequeue.compose.job_group import JobGroup
    from litequeue.core.attached import CallValue
    from litequeue.job import Job
    from litequeue.options import Using

E = TypeVar("E")  # what its caller gets: a `Job` or a `JobGroup`
R = TypeVar("R")
_OF_WHOLE = frozenset({"key", "key_scope", "on_conflict", "within", "on_commit"})
_OF_EACH = frozenset({"queue", "priority", "tags", "retries", "timeout"})
_OF_FIRST = frozenset({"delay", "at", "after", "after_failed", "expires"})


@interruptible
class Composition(CompositionWords):
    """A call, a chain or a group, as a value that can be enqueued and joined with others. It is never changed."""

    __slots__: tuple[str, ...] = ()
    whole: Whole
    what: ClassVar[str] = "a composition"

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, name):
            raise AttributeError(f"{self.what} is a value, and never changed; using() returns another one")
        object.__setattr__(self, name, value)

    def calls(self) -> Iterable[CallValue]:
        """Yield its calls."""
        raise NotImplementedError

    def mapped(self, change: Callable[[CallValue], CallValue], *, first: bool) -> Self:
        """Return the same with other calls; `first`: of those that nothing in it is before."""
        raise NotImplementedError

    def parts(self) -> tuple[Composition, ...]:
        """Return what runs one after another."""
        return (self,)

    def with_whole(self, whole: Whole) -> Self:
        """Return the same with other options of the whole."""
        raise NotImplementedError

    def using(self, **options: Unpack[Using]) -> Self:
        """Return the same with other options.

        `key`, `key_scope`, `on_conflict`, `within` and `on_commit` are of the whole; `queue`, `priority`, `tags`,
        `retries` and `timeout` go to each call that does not say otherwise; `delay`, `at`, `expires`, `after` and
        `after_failed` to the calls that come first.
        """
        given: dict[str, Any] = dict(options)
        takes = _OF_WHOLE | _OF_EACH | _OF_FIRST
        if others := sorted(given.keys() - takes):
            raise TypeError(
                f"{self.what} takes no {others[0]}= in using(), give it to its calls if it is an option of these; it "
                f"takes {', '.join(sorted(takes))}"
            )
        made = self.with_whole(self.whole.using({name: given[name] for name in given.keys() & _OF_WHOLE}))
        each = {name: given[name] for name in given.keys() & _OF_EACH}
        if each:
            made = made.mapped(lambda call: call.using_unless_said(each), first=False)
        of_first = {name: given[name] for name in given.keys() & _OF_FIRST}
        if of_first:
            made = made.mapped(lambda call: call.using(**of_first), first=True)
        return made

    def _enqueue(self) -> Job[Any] | JobGroup[Any]:
        first = next(iter(self.calls()), None)
        return _empty_group() if first is None else first.task.enqueue_composition(self)

    async def _aenqueue(self) -> Job[Any] | JobGroup[Any]:
        first = next(iter(self.calls()), None)
        return _empty_group() if first is None else await first.task.aenqueue_composition(self)

    @overload
    def __or__(self, other: Chain[E], /) -> Chain[E]: ...
    @overload
    def __or__(self, other: Group, /) -> Chain[JobGroup[Any]]: ...
    @overload
    def __or__(self, other: CallOf[R], /) -> Chain[Job[R]]: ...
    def __or__(self, other: Any, /) -> Any:
        if hasattr(other, "enqueue_many"):
            raise TypeError(f"what runs after {self!r} is to be a call; write {other.name}.s(...)")
        return chain(self, other) if isinstance(other, Composition) else NotImplemented


class CallOf(Composition, Generic[R]):
    """A call whose result is of that type: a `Call`."""

    __slots__ = ()


class Chain(Composition, Generic[E]):
    """Compositions that run one after another; each is given the result of the one before."""

    __slots__ = ("_parts", "whole")
    what = "a chain"

    def __init__(self, parts: tuple[Composition, ...], whole: Whole = Whole()) -> None:  # noqa: B008 - it is frozen
        self._parts = parts
        self.whole: Whole = whole

    def parts(self) -> tuple[Composition, ...]:
        """Return what runs one after another."""
        return self._parts

    def calls(self) -> Iterable[CallValue]:
        """Yield its calls."""
        for part in self._parts:
            yield from part.calls()

    def mapped(self, change: Callable[[CallValue], CallValue], *, first: bool) -> Chain[E]:
        """Return the same with other calls; `first`: of those that nothing in it is before."""
        head = self._parts[0].mapped(change, first=first)
        rest = self._parts[1:] if first else tuple(part.mapped(change, first=False) for part in self._parts[1:])
        return Chain((head, *rest), self.whole)

    def with_whole(self, whole: Whole) -> Chain[E]:
        """Return the same with other options of the whole."""
        return Chain(self._parts, whole)

    def enqueue(self) -> E:
        """Store all of it; return the job of its last call, or the group of jobs where it ends in a group.

        Raises what `Task.enqueue` raises, and `TypeError` where a call cannot be given what comes before it. If it
        raises, nothing is stored.
        """
        return cast("E", self._enqueue())

    async def aenqueue(self) -> E:
        """Async twin of `enqueue`."""
        return cast("E", await self._aenqueue())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chain) and (self._parts, self.whole) == (other._parts, other.whole)

    def __hash__(self) -> int:
        return hash((Chain, self._parts))

    def __repr__(self) -> str:
        return " | ".join(map(repr, self._parts[:5])) + (" | ..." if len(self._parts) > 5 else "")

    def __reduce__(self) -> tuple[object, ...]:
        return Chain, (self._parts, self.whole.picklable())


class Group(Composition):
    """Compositions that run beside each other; its result is the list of theirs."""

    __slots__ = ("_members", "whole")
    what = "a group"

    def __init__(self, members: tuple[Composition, ...], whole: Whole = Whole()) -> None:  # noqa: B008
        self._members = members
        self.whole: Whole = whole

    @property
    def members(self) -> tuple[Composition, ...]:
        """What runs beside each other."""
        return self._members

    def calls(self) -> Iterable[CallValue]:
        """Yield its calls."""
        for member in self._members:
            yield from member.calls()

    def mapped(self, change: Callable[[CallValue], CallValue], *, first: bool) -> Group:
        """Return the same with other calls; `first`: of those that nothing in it is before."""
        return Group(tuple(member.mapped(change, first=first) for member in self._members), self.whole)

    def with_whole(self, whole: Whole) -> Group:
        """Return the same with other options of the whole."""
        return Group(self._members, whole)

    def enqueue(self) -> JobGroup[Any]:
        """Store all of it; return the group of its jobs. Raises what `Task.enqueue` raises; then nothing is stored."""
        return cast("JobGroup[Any]", self._enqueue())

    async def aenqueue(self) -> JobGroup[Any]:
        """Async twin of `enqueue`."""
        return cast("JobGroup[Any]", await self._aenqueue())

    def __len__(self) -> int:
        return len(self._members)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and (self._members, self.whole) == (other._members, other.whole)

    def __hash__(self) -> int:
        return hash((Group, self._members))

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self._members[:5]))
        return f"group({shown}{', ...' if len(self._members) > 5 else ''})"

    def __reduce__(self) -> tuple[object, ...]:
        return Group, (self._members, self.whole.picklable())


def chain(*calls: Composition | Iterable[Composition]) -> Chain[Any]:
    """Return the composition in which each of these begins when the one before has succeeded.

    `task.s(...)` is given the result of what is before it as its first argument, `task.si(...)` is not. `a | b` is the
    same as `chain(a, b)`. Raises `TypeError` and `ValueError`.
    """
    given: Any = calls
    if len(calls) == 1 and not isinstance(given[0], Composition) and isinstance(given[0], Iterable):
        given = tuple(given[0])
    if not given:
        raise ValueError("a chain needs at least one call: chain(a.s(), b.s())")
    return Chain(tuple(part for call in _checked(given, "chain") for part in call.parts()))


def group(*calls: Composition | Iterable[Composition]) -> Group:
    """Return the composition in which these run beside each other: `group(a, b)`, or `group(f.s(x) for x in items)`.

    Its result is the list of theirs, in this order. Raises `TypeError` and `ValueError`.
    """
    given: Any = calls
    if len(calls) == 1 and not isinstance(calls[0], Composition):
        if not isinstance(calls[0], Iterable):
            raise TypeError(f"group() takes calls, or an iterable of them, got {calls[0]!r}")
        given = tuple(calls[0])
    return Group(tuple(_checked(given, "group")))


@overload
def chord(
    header: Composition | Iterable[Composition], body: CallOf[R], *, on: Literal["all", "always"] = "all"
) -> Chain[Job[R]]: ...
@overload
def chord(
    header: Composition | Iterable[Composition], body: Composition, *, on: Literal["all", "always"] = "all"
) -> Chain[Any]: ...
def chord(
    header: Composition | Iterable[Composition], body: Composition, *, on: Literal["all", "always"] = "all"
) -> Chain[Any]:
    """Return the composition in which `body` runs once, when the whole group has ended, with the list of its results.

    `on`: "all" members have succeeded, else the body is cancelled; or "always", with a `JobFailed` in the place of each
    result that there is not. `group | body` is the same as `chord(group, body)`.
    """
    when = one_of(on, Literal["all", "always"], "on")
    if not isinstance(header, Group):
        header = group(header) if isinstance(header, Composition) else group(*header)
    [last] = _checked([body], "chord")
    if when == "always":
        last = last.mapped(lambda call: call.using(after_failed="run"), first=True)
    return chain(header, last)


def _checked(calls: Iterable[Any], what: str) -> list[Composition]:
    found: list[Composition] = []
    for call in calls:
        if not isinstance(call, Composition):
            hint = f"; write {call.name}.s(...)" if hasattr(call, "enqueue") and hasattr(call, "name") else ""
            raise TypeError(f"{what}() takes calls, chains and groups, got {call!r}{hint}")
        if not call.whole.is_nothing:
            raise ValueError(
                f"{call.whole.names()} is of a whole composition, and {call!r} is a part of one: give it to that whole"
            )
        found.append(call)
    return found


def _empty_group() -> JobGroup[Any]:
    from litequeue.compose.job_group import empty_group

    return empty_group()
