"""Turn a call and its result into bytes and back, according to the task's signature. Knows no job, queue or store."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

import msgspec

from litequeue.core.warn import warn_caller
from litequeue.errors import DecodeError, EncodeError
from litequeue.serialization.callables import Calling, calling, local_names
from litequeue.serialization.faithful import drops, faithful, first_failing, refusal
from litequeue.serialization.forms import CHUNK, LINK, FormedCall
from litequeue.serialization.json_codec import Codec, JsonCodec, checked_writer, to_canonical_json, to_json
from litequeue.serialization.plan import NUMBERS, Misfit, Plan, Slot, plan_of, resolved_hints, unfaithful
from litequeue.serialization.stored_calls import StoredCalls
from litequeue.serialization.unions import Notes

Call = tuple[tuple[Any, ...], dict[str, Any]]
_Each = Iterable[tuple[str, Slot, Any]]
LARGEST_RESULT = 900_000_000  # bytes; SQLite holds at most 1,000,000,000 in a row
_HANDED_ON = "its first argument is the result of what runs before it, unless it is si(), which takes no result"


class Signature:
    """The signature of a task: encodes its calls and results, and decodes them into the annotated types.

    The outermost callable decides how it is called; a wrapper that takes `*args` or `**kwargs` gets the call as it is
    given, and lends the names and hints of what it wraps. Hints are resolved at the first call, so that they may name
    what is defined further down the module. A hint that cannot be resolved, or that msgspec cannot convert to, is no
    reason to refuse a call: what it would have been needed for is refused, or warned of, and the hint named. Types are
    checked and converted to where the codec is a `JsonCodec`; what any other codec returns is left alone.
    """

    __slots__ = (
        "_defaults",
        "_known",
        "_locals",
        "_own",
        "_warned",
        "_writer",
        "calling",
        "codec",
        "function",
        "mask",
        "stored",
        "task_name",
    )

    def __init__(self, function: Callable[..., Any], codec: Codec, task_name: str, mask: Iterable[str] = ()) -> None:
        self.function: Callable[..., Any] = function
        self.codec: Codec = codec
        self.task_name: str = task_name
        self.mask: frozenset[str] = frozenset(mask)
        self.calling: Calling = calling(function, task_name)
        self._locals: dict[str, Any] = local_names(function)
        self._own: bool = type(codec) is JsonCodec  # a subclass may do anything
        self.stored: StoredCalls = StoredCalls(codec, task_name, self.mask)
        self._writer = to_json if self._own else checked_writer(codec)
        self._known: Plan | None = None
        self._defaults: dict[str, Any] | None = None
        self._warned = False

    @property
    def is_coroutine(self) -> bool:
        """Whether a call of it returns a coroutine, as far as it says so."""
        return self.calling.is_coroutine

    def __repr__(self) -> str:
        return f"<Signature {self.task_name}{self.calling.outer} codec={self.codec.name}>"

    def arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by the names of the parameters, with defaults."""
        plan = self._known or self._plan()
        if self._defaults is None:
            empty = inspect.Parameter.empty
            self._defaults = {p.name: p.default for p in self.calling.parameters if p.default is not empty}
        defaults = self._defaults
        if plan.loose is None or self.calling.is_passed_on(args, kwargs):
            bound = (self.calling.inner or self.calling.outer).bind(*args, **kwargs)
            bound.apply_defaults()
            return {**defaults, **bound.arguments}
        given = zip((slot.name for slot in plan.loose.positional), args, strict=False)
        return {**defaults, **dict(given), **kwargs}

    def text_parameters(self) -> set[str]:
        """Name the parameters that are text, in which `42` is two characters."""
        plan = self._known or self._plan()
        return {slot.name for slot in (*plan.positional, *plan.named.values()) if slot.hint is str}

    def encode_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, canonical: bool = False) -> bytes:
        """Return the bytes of one call, the same however it is written; defaults are filled in when the job runs.

        With `canonical`, also the same in every process and for equal dicts, so that calls can be compared.
        Raises `TypeError` where the call does not fit the signature, and `EncodeError` where a value cannot be stored.
        """
        plan = self._known or self._plan()
        if not kwargs and plan.takes(args, plan.sendable):
            return self._encode(plan, args, kwargs)
        plan, args, kwargs = self._bind(plan, args, kwargs)
        data = self._encode(plan, args, kwargs)
        if not plan.sends(args, kwargs):
            self._check(plan, plan.each(args, kwargs), plan.each(*self.stored.whole(data)[:2]))
        if canonical and isinstance(self.codec, JsonCodec):
            return self._canonical(self._call(plan, args, kwargs))
        return data

    def encode_link(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, canonical: bool = False) -> bytes:
        """Return the bytes of a call whose first argument is handed on by what runs before it: `args` are the others.

        Checks these as `encode_call` does, and that one more can be given before them; raises what that raises.
        """
        plan = self._known or self._plan()
        args = (None, *args)
        if kwargs or not plan.takes(args, (None, *plan.sendable[1:])):
            try:
                plan, args, kwargs = self._bind(plan, args, kwargs)
            except TypeError as error:
                raise TypeError(f"{error}; {_HANDED_ON}") from None
        first = plan.positional[0] if plan.positional else plan.rest
        if first.unresolved:
            self._warn(f"{self.task_name}() gets plain data: {first.why}")
        data = self._encode(plan, args, kwargs, LINK)
        if not plan.sends(args, kwargs, start=1):
            given, plain = plan.each(args, kwargs), plan.each(*self.stored.whole(data)[:2])
            self._check(plan, islice(given, 1, None), islice(plain, 1, None))
        if canonical and isinstance(self.codec, JsonCodec):
            return self._canonical(self._call(plan, args, kwargs, LINK))
        return data

    def as_link(self, data: bytes, keywords: Collection[str] = ()) -> bytes:
        """Return the bytes of a complete call as those of a link, its arguments behind the one that is handed on.

        `keywords`: the names of those that were given by keyword, which stay with their parameters. Raises `TypeError`
        where they do not fit there, and `DecodeError`.
        """
        call = self.decode_call(data)
        if type(call) is FormedCall:
            raise DecodeError(f"not a complete call of {self.task_name}()")
        args, kwargs = call
        names = [slot.name for slot in (self._known or self._plan()).positional]
        by_place = next((place for place, name in enumerate(names) if name in keywords), len(args))
        named = dict(zip(names[by_place:], args[by_place:], strict=False))
        return self.encode_link(args[:by_place], {**named, **kwargs})

    def encode_chunk(self, items: Sequence[Any]) -> bytes:
        """Return the bytes of one job that calls the function with each item, by position alone.

        Raises what `encode_call` raises for an item, with its place, and `ValueError` where there are none.
        """
        if not items:
            raise ValueError(f"a chunk of {self.task_name}() needs at least one item")
        plan, items = self._known or self._plan(), list(items)
        for place, item in enumerate(items):
            if not plan.takes((item,), plan.sendable):
                self._encode_item(place, item)
        masked = (plan.loose or plan).places(self.mask, (None,), {}) if self.mask else []
        try:
            return self._writer([items, {}, masked, CHUNK])
        except Exception:
            for place, item in enumerate(items):
                self._encode_item(place, item)
            raise

    def _encode_item(self, place: int, item: Any) -> bytes:
        try:
            return self.encode_call((item,), {})
        except EncodeError as error:
            raise EncodeError(f"item {place} of a chunk: {error}", path=error.path) from error
        except TypeError as error:
            raise TypeError(f"item {place} of a chunk: {error}") from error

    def form_of(self, data: bytes) -> Literal[1, 2] | None:
        """Return the form of a stored call, `LINK` or `CHUNK`; None: it is complete. Raises `DecodeError`."""
        call = self.stored.call(data)
        return call.form if type(call) is FormedCall else None

    def decode_call(self, data: bytes) -> Call | FormedCall:
        """Return the arguments, as annotated; of a call that is not complete, as plain data.

        Raises `DecodeError` if they do not fit the present signature.
        """
        call = self.stored.call(data)
        return call if type(call) is FormedCall else self.restored_call(*call)

    def restored_call(self, args: Sequence[Any], kwargs: dict[str, Any], what: str = "the stored call") -> Call:
        """Return these arguments, which are plain data, as annotated. Raises `DecodeError`; `what`: it tells of."""
        plan = self._known or self._plan()
        if not kwargs and plan.takes(args, plan.native):
            return tuple(args), kwargs
        try:
            plan, args, kwargs = self._bind(plan, args, kwargs)
            values = [plan.restored(slot, value, label) for label, slot, value in plan.each(args, kwargs)]
        except (TypeError, Misfit) as error:
            why = f"{what} does not fit the present signature of {self.task_name}(): "
            if isinstance(error, Misfit) and error.name in self.mask:  # what it says of the value is for no listing
                raise DecodeError(f"{why}{error.brief}") from None
            raise DecodeError(f"{why}{error}") from error
        return tuple(values[: len(args)]), dict(zip(kwargs, values[len(args) :], strict=True))

    def encode_result(self, value: object) -> bytes:
        """Return the bytes of a result. Raises `EncodeError`, whose `path` starts at `result`."""
        try:
            data = self._writer(value)
        except Exception as error:
            raise refusal(self._writer, value, "result", error) from error.__cause__ or error
        if len(data) > LARGEST_RESULT:  # the store would refuse it, and all that is settled with it
            why = f"it takes {len(data):,} bytes, more than SQLite can hold; store the data elsewhere and return a path"
            raise EncodeError(f"cannot store result: {why}", path="result")
        return data

    def decode_result(self, data: bytes | None, call: bytes | None = None) -> Any:
        """Return the result as annotated, or as plain data if it does not fit: a wrong hint hides no result.

        `call`: the stored call that it is of; of a chunk each result in the list is as annotated.
        """
        if data is None:
            return None
        value = self.stored.value(data)
        if type(value) is list and call is not None and self._is_chunk(call):
            return list(map(self._restored_result, value))
        return self._restored_result(value)

    def encode_value(self, value: object) -> bytes:
        """Return the bytes of an emitted value. Raises `EncodeError`, whose `path` starts at `value`."""
        try:
            return self._writer(value)
        except Exception as error:
            raise refusal(self._writer, value, "value", error) from error.__cause__ or error

    def decode_value(self, data: bytes) -> Any:
        """Return an emitted value, which no annotation describes, as plain data. Raises `DecodeError`."""
        return self.stored.value(data)

    def _is_chunk(self, call: bytes) -> bool:
        if self._own and not call.endswith(b",2]"):
            return False
        try:
            return self.form_of(call) == CHUNK
        except DecodeError:  # under a key that is gone, perhaps
            return False

    def _restored_result(self, value: Any) -> Any:
        slot = (self._known or self._plan()).result
        if slot.unresolved and type(value) not in NUMBERS:
            self._warn(f"the result of {self.task_name}() is plain data: {slot.why}")
        try:
            return slot.restore(value, "result")
        except Misfit:
            return value

    def _plan(self) -> Plan:
        checked = isinstance(self.codec, JsonCodec)
        hints = resolved_hints(self.function, self._locals) if checked else {}
        self._known = plan_of(self.calling, hints, checked=checked)
        return self._known

    def _bind(
        self, plan: Plan, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Plan, tuple[Any, ...], dict[str, Any]]:
        """Return the call as it is stored; what a wrapper gets stays as it is given, by position or by keyword."""
        if not kwargs and plan.least <= len(args) <= plan.most:
            return plan, tuple(args), {}
        try:
            bound = self.calling.outer.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.task_name}() {error}") from None
        if plan.loose is None:
            return plan, bound.args, dict(sorted(bound.kwargs.items()))
        fits = self.calling.is_passed_on(args, kwargs)
        return plan if fits else plan.loose, tuple(args), dict(sorted(kwargs.items()))

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            warn_caller(text)

    def _encode(
        self, plan: Plan, args: Sequence[Any], kwargs: Mapping[str, Any], form: Literal[1] | None = None
    ) -> bytes:
        try:
            if form is None:
                return self._writer([args, kwargs] if not self.mask else self._call(plan, args, kwargs))
            call = self._call(plan, args, kwargs, form)
            return to_json(call, nulls=1) if self._own else self._writer(call)
        except Exception as error:
            raise self._blame(plan, args, kwargs, error) from error.__cause__ or error

    def _call(
        self, plan: Plan, args: Sequence[Any], kwargs: Mapping[str, Any], form: Literal[1] | None = None
    ) -> list[Any]:
        """Return the call as it is stored; a third item names the arguments that listings must not show."""
        if not (self.mask or form):
            return [args, kwargs]
        masked = plan.places(self.mask, args, kwargs) if self.mask else []
        return [args, kwargs, masked] if form is None else [args, kwargs, masked, form]

    def _canonical(self, call: list[Any]) -> bytes:
        data = to_canonical_json(call)
        return data if self._own else self._writer(msgspec.json.decode(data))

    def _blame(self, plan: Plan, args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception) -> EncodeError:
        found = first_failing(self._writer, ((label, value) for label, _, value in plan.each(args, kwargs)))
        if found is None:
            return EncodeError(f"cannot store the arguments of {self.task_name}(): {error}")
        label, value, failure = found
        return refusal(self._writer, value, label, failure)

    def _check(self, plan: Plan, given: _Each, stored: _Each) -> None:
        """Refuse values that would come back as others; `stored`: what has been read again of what is written."""
        try:
            for (label, slot, value), (_, _, plain) in zip(given, stored, strict=True):
                chosen: Notes = []
                back = plan.restored(slot, plain, label, given=type(value), notes=chosen)
                # plain data is given for what the annotation then makes of it, but not in place of a union's own text
                as_given = faithful(value, back)
                if not as_given and (chosen or not faithful(value, plain) or drops(value, back)):
                    raise unfaithful(label, slot, value, back)
                if slot.unresolved and type(value) not in NUMBERS:
                    self._warn(f"{self.task_name}() gets plain data: {slot.why}")
        except Misfit as error:
            if error.name in self.mask:
                raise TypeError(f"{self.task_name}() {error.brief}") from None
            raise TypeError(f"{self.task_name}() {error}") from error.__cause__


class NameAlone(Signature):
    """The signature of a task that is known by its name alone: the worker that has the task checks the values."""

    __slots__ = ()

    def __init__(self, codec: Codec, task_name: str) -> None:
        super().__init__(_anything, codec, task_name)

    def _check(self, plan: Plan, given: _Each, stored: _Each) -> None: ...


def _anything(*args: Any, **kwargs: Any) -> None: ...
