"""How a callable is called: as a coroutine or not, with which parameters, and what they are. Knows no codec, no task.

The outermost callable decides. What it wraps (`functools.wraps`) only lends names and hints to what it passes on.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from litequeue.core.declaration import DEEPEST

if sys.version_info >= (3, 14):
    from annotationlib import Format, get_annotations

    # There an annotation is evaluated when it is looked at, and may fail.
    _read_signature = functools.partial(inspect.signature, annotation_format=Format.FORWARDREF)
    _annotations = functools.partial(get_annotations, format=Format.FORWARDREF)
else:
    _read_signature = inspect.signature
    _annotations = inspect.get_annotations

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_CACHED = type(functools.lru_cache(_annotations))
_Given = tuple[tuple[Any, ...], dict[str, Any]]


class Calling(msgspec.Struct, frozen=True, eq=False):
    """How a callable is called.

    `outer`: its own signature, which a call must fit. `inner`: the signature of what it wraps, where it passes on what
    it is given; None: it does not. `own`: the parameters of the wrappers themselves. `wrappers`: their code. `name`:
    what Python calls the wrapped function in its errors.
    """

    is_coroutine: bool
    outer: inspect.Signature
    inner: inspect.Signature | None = None
    own: tuple[inspect.Parameter, ...] = ()
    wrappers: frozenset[types.CodeType] = frozenset()
    name: str = ""

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """Every parameter that a call may name, each once."""
        if self.inner is None:
            return list(self.outer.parameters.values())
        return list({p.name: p for p in (*self.own, *self.inner.parameters.values())}.values())

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise `TypeError` for a call that the callable is certain to refuse."""
        self.outer.bind(*args, **kwargs)

    def is_passed_on(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether the wrapped function takes the very same call."""
        try:
            return self.inner is not None and bool(self.inner.bind(*args, **kwargs))
        except TypeError:
            return False

    def is_misbound(self, error: BaseException) -> bool:
        """Whether a wrapper called the wrapped function with arguments that it does not take: it never began."""
        if not self.wrappers or type(error) is not TypeError or (trace := error.__traceback__) is None:
            return False
        while trace.tb_next is not None:
            trace = trace.tb_next
        return trace.tb_frame.f_code in self.wrappers and str(error).startswith(f"{self.name}() ")


def calling(function: Callable[..., Any], name: str) -> Calling:
    """Look at a callable. Raises `TypeError` for generator functions, methods, and without a readable signature."""
    _refuse_generators(function, name)
    _refuse_method(function, name)
    is_coroutine = any(map(_is_marked_coroutine, _same_call(function)))
    outer, around, layer = _own_signature(function), list[Any](), function
    given: _Given = (), {}
    signature = outer
    while signature is None or _passes_on(signature):
        inside, bound = _inside(layer)
        if inside is None or len(around) >= DEEPEST or any(inside is each for each, _ in around):
            break
        around.append((layer, signature))
        given = (*bound[0], *given[0]), {**bound[1], **given[1]}
        layer, signature = inside, _own_signature(inside)
    if layer is function or signature is None:
        if outer is None:
            raise TypeError(f"{name}() has no readable signature; wrap it in a function of your own")
        return Calling(is_coroutine, outer)
    own = [p for _, each in around if each is not None for p in each.parameters.values() if p.kind not in _VARIABLE]
    codes = {code for each, _ in around for code in map(_code, _same_call(each)) if code is not None}
    named = getattr(list(_same_call(layer))[-1], "__qualname__", "")
    return Calling(is_coroutine, outer or _ANYTHING, _without(signature, given), tuple(own), frozenset(codes), named)


def hints(function: Callable[..., Any]) -> Iterator[tuple[types.FunctionType, dict[str, Any]]]:
    """Yield the functions inside, the innermost first, each with the annotations that it does not have from inside."""
    known: dict[str, Any] = {}
    for layer in reversed(list(layers(function))):
        here = vars(layer).get("__init__") if isinstance(layer, type) else layer
        if isinstance(here, types.FunctionType):
            found = _annotations(here)
            yield here, {name: hint for name, hint in found.items() if not (name in known and known[name] == hint)}
            known |= found


def layers(function: Any) -> Iterator[Any]:
    """Yield a callable, then what it calls or wraps, down to the innermost. A circle is left where it closes."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen and len(seen) < DEEPEST:
        seen.add(id(function))
        yield from _same_call(function)
        function, _ = _inside(function)


def local_names(function: Callable[..., Any]) -> dict[str, Any]:
    """Return what text annotations name of the functions and classes in which this one is being declared."""
    found: dict[str, Any] = {}
    for layer in layers(function):
        if isinstance(layer, types.FunctionType) and "." in layer.__qualname__:
            wanted = {word for hint in _annotations(layer).values() for word in re.findall(r"[^\W\d]\w*", str(hint))}
            around = set(layer.__qualname__.split(".")[:-1])
            frame: types.FrameType | None = sys._getframe(1)  # noqa: SLF001  as in core/declaration.py
            while frame is not None:
                if frame.f_code.co_name in around and frame.f_globals is layer.__globals__:
                    found = {name: value for name, value in frame.f_locals.items() if name in wanted} | found
                frame = frame.f_back
    return found


def closure(function: types.FunctionType) -> dict[str, Any]:
    """Return the variables of the functions around it that it uses, and its type parameters."""
    names: dict[str, Any] = {each.__name__: each for each in getattr(function, "__type_params__", ())}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # it has no value yet
            continue
    return names


_ANYTHING = inspect.Signature([inspect.Parameter("args", _VARIABLE[0]), inspect.Parameter("kwargs", _VARIABLE[1])])


def _same_call(function: Any) -> Iterator[Any]:
    """Yield a callable, and what it calls in its own place, adding nothing but arguments."""
    for _ in range(DEEPEST):
        yield function
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, (types.MethodType, staticmethod)):
            function = function.__func__
        elif isinstance(function, _CACHED):
            function = function.__wrapped__
        elif _is_object(function):
            function = function.__call__
        else:
            return


def _is_object(function: Any) -> bool:
    """Whether it is an object of a class that has a method `__call__`."""
    return not isinstance(function, (type, types.FunctionType)) and isinstance(
        getattr(function, "__call__", None),  # noqa: B004  the method, not whether there is one
        types.MethodType,
    )


def _inside(function: Any) -> tuple[Any, _Given]:
    """Return what a callable wraps, or None, and what is given to the callable before the caller's own arguments."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    for layer in _same_call(function):
        if isinstance(layer, functools.partial):
            args, kwargs = (*layer.args, *args), {**layer.keywords, **kwargs}
        elif isinstance(layer, types.MethodType):
            wrapped = vars(layer.__self__).get("__wrapped__") if hasattr(layer.__self__, "__dict__") else None
            if callable(wrapped) and layer.__name__ == "__call__":  # an object around a function
                return wrapped, (args, kwargs)
            args = (layer.__self__, *args)
        elif isinstance(layer, types.FunctionType):
            wrapped = getattr(layer, "__wrapped__", None)
            return (wrapped if callable(wrapped) else None), (args, kwargs)
    wrapped = getattr(layer, "__wrapped__", None)
    return (wrapped if callable(wrapped) and not isinstance(layer, type) else None), (args, kwargs)


def _own_signature(function: Any) -> inspect.Signature | None:
    """Return how this very callable is called, or None if it does not say."""
    layer: Any = function
    while isinstance(layer, (staticmethod, _CACHED)):
        layer = layer.__wrapped__
    if isinstance(layer, types.FunctionType) and (shown := vars(layer).get("__signature__")) is not None:
        wrapped = getattr(layer, "__wrapped__", None)
        if shown is getattr(wrapped, "__dict__", {}).get("__signature__"):  # functools.wraps copied it
            layer = _bare(layer)
    try:
        return _read_signature(layer, follow_wrapped=False)
    except (TypeError, ValueError):
        return None


def _bare(function: types.FunctionType) -> types.FunctionType:
    plain = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    plain.__kwdefaults__ = function.__kwdefaults__
    plain.__annotations__ = dict(_annotations(function))
    return plain


def _without(signature: inspect.Signature, given: _Given) -> inspect.Signature | None:
    """Return the signature without the parameters for which arguments are given already; None: they do not fit."""
    if given == ((), {}):
        return signature

    def taking() -> None: ...

    taking.__signature__ = signature  # type: ignore[attr-defined]
    try:
        return inspect.signature(functools.partial(taking, *given[0], **given[1]))
    except ValueError:
        return None


def _passes_on(signature: inspect.Signature) -> bool:
    return any(p.kind in _VARIABLE for p in signature.parameters.values())


def _is_marked_coroutine(function: Any) -> bool:
    if inspect.iscoroutinefunction(function):
        return True
    coroutines = sys.modules.get("asyncio.coroutines")  # the mark of before Python 3.12
    mark = getattr(coroutines, "_is_coroutine", None)
    return mark is not None and getattr(function, "_is_coroutine", None) is mark


def _refuse_generators(function: Any, name: str) -> None:
    for layer in layers(function):
        if inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer):
            if any(layer is each for each in _same_call(function)):
                raise TypeError(f"{name}() is a generator function; a task returns one result, such as a list")
            raise TypeError(
                f"{name}() wraps a generator function; a task returns one result: "
                f"call the generator in a function of your own, and return a list"
            )


def _refuse_method(function: Any, name: str) -> None:
    """Refuse what is declared in the body of a class and takes an instance: the job would have none."""
    code, around = _code(function), getattr(function, "__qualname__", "").rpartition(".")[0]
    if code is None or not around or around.endswith("<locals>"):
        return
    first = code.co_varnames[0] if code.co_argcount else ""
    if first in {"self", "cls"}:
        raise TypeError(
            f"{name}() is a method that takes {first}, and a job calls it without an instance; put @staticmethod below "
            f"the decorator and leave {first} out, or write a function that looks the object up by its id"
        )


def _code(function: Any) -> types.CodeType | None:
    return function.__code__ if isinstance(function, types.FunctionType) else None
