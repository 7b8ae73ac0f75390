"""Whether a value comes back as it was given, and the place of one that does not. Knows no codec and no task."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from litequeue.errors import EncodeError

_DEEPEST = 1_000  # how far down to look for a value that cannot be stored
_ROWS = (list, tuple)
_SETS = (set, frozenset)
_BESIDE_FIELDS = ("__pydantic_extra__", "__pydantic_private__")


def drops(value: Any, back: Any) -> bool:
    """Return whether a key of a dict, at any depth, is missing in what comes back as a dict."""
    if isinstance(value, dict) and isinstance(back, dict):
        return len(back) < len(value) or any(drops(value[key], back[key]) for key in value.keys() & back.keys())
    if isinstance(value, _ROWS) and isinstance(back, _ROWS):
        return any(map(drops, value, back))
    return False


def faithful(value: Any, back: Any) -> bool:
    """Return whether a value comes back unchanged: it is equal, or the same with lists for tuples."""
    kind: Any = type(value)
    if value == back:
        return True
    if kind in _ROWS and type(back) in _ROWS:
        return len(value) == len(back) and all(map(faithful, value, back))
    if kind in _SETS and type(back) in _ROWS:
        return bool(_hashable(back) == value)
    if isinstance(value, dict) and isinstance(back, dict):
        return value.keys() == back.keys() and all(faithful(child, back[key]) for key, child in value.items())
    if isinstance(value, datetime) and isinstance(back, datetime):
        return _same_moment(value, back)
    if kind is not type(back):
        return False
    if isinstance(value, tuple):
        return all(map(faithful, value, back))
    if fields := _fields(kind):
        names = (*fields, *_BESIDE_FIELDS)
        return all(faithful(getattr(value, name, None), getattr(back, name, None)) for name in names)
    compares: Any = kind.__eq__
    return bool(compares is object.__eq__)  # it cannot be compared


def _same_moment(value: datetime, back: datetime) -> bool:
    # Where clocks change, a time that comes twice or never equals none of another zone, not even itself (PEP 495).
    return value.utcoffset() == back.utcoffset() and value.replace(tzinfo=None) == back.replace(tzinfo=None)


def _hashable(rows: Any) -> frozenset[Any]:
    """Return the elements of a former set: tuples among them have come back as lists."""

    def tuples(child: Any) -> Any:
        return tuple(map(tuples, child)) if isinstance(child, list) else child

    return frozenset(map(tuples, rows))


def change(value: Any, back: Any, path: str) -> tuple[str, str]:
    """Follow a difference down to the smallest value that comes back as another; return its place, and what comes."""
    for _ in range(_DEEPEST):
        found = next(((step, *pair) for step, *pair in _pairs(value, back) if _differs(*pair)), None)
        if found is None:
            break
        step, value, back = found
        path += step
    if isinstance(value, dict) and isinstance(back, dict) and (lost := [key for key in value if key not in back]):
        as_text = [key for key in back if key not in value]
        if len(lost) == len(as_text):
            pair = lost[0], as_text[0]
            return path, f"its key {brief(pair[0])} would come back as {type(pair[1]).__name__} {brief(pair[1])}"
        return path, f"its key {brief(lost[0])} would be dropped"
    return path, f"{type(value).__name__} would come back as {type(back).__name__} {brief(back)}"


def _differs(value: Any, back: Any) -> bool:
    return not faithful(value, back) or drops(value, back)


def _pairs(value: Any, back: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(value, dict) and isinstance(back, dict):
        yield from ((f"[{brief(key)}]", child, back[key]) for key, child in value.items() if key in back)
    elif isinstance(value, _ROWS) and isinstance(back, _ROWS) and len(value) == len(back):
        yield from ((f"[{index}]", *pair) for index, pair in enumerate(zip(value, back, strict=True)))
    elif type(value) is type(back):
        yield from (
            (f".{name}", getattr(value, name, None), getattr(back, name, None)) for name in _fields(type(value))
        )


def brief(value: object) -> str:
    """Return a short `repr`, also of a value whose own fails."""
    return _short.repr(value)


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def refusal(encode: Callable[[object], bytes], value: object, path: str, error: Exception) -> EncodeError:
    """Follow a failure down to the smallest value that cannot be encoded, and name it."""
    top = path
    above: list[object] = []
    while len(above) < _DEEPEST:
        above.append(value)
        found = first_failing(encode, _children(value))
        if found is None:
            break
        step, value, error = found
        path += step
        if any(value is each for each in above):
            return EncodeError(f"cannot store {path}: it contains itself", path=path)
    if isinstance(error, RecursionError):
        return EncodeError(f"cannot store {top}: it is nested too deeply", path=top)
    return EncodeError(f"cannot store {path}: {_reason(encode, value, error)}", path=path)


def first_failing(
    encode: Callable[[object], bytes], values: Iterable[tuple[str, object]]
) -> tuple[str, object, Exception] | None:
    """Return the name, the value and the error of the first value that cannot be encoded."""
    for name, value in values:
        try:
            encode(value)
        except Exception as error:  # a codec is the user's code
            return name, value, error
    return None


def _children(value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from ((f"[{brief(key)}]", child) for key, child in value.items())
    elif isinstance(value, _SETS):
        yield from ((f"{{{brief(child)}}}", child) for child in value)
    elif isinstance(value, _ROWS):
        yield from ((f"[{index}]", child) for index, child in enumerate(value))
    else:
        yield from ((f".{name}", getattr(value, name, None)) for name in _fields(type(value)))


def _fields(kind: Any) -> Sequence[str]:
    """Return the names of the fields of a Struct, dataclass, pydantic model or attrs class, or none."""
    for listing in ("__struct_fields__", "__dataclass_fields__", "model_fields"):
        if hasattr(kind, listing):
            return tuple(getattr(kind, listing))
    return [attribute.name for attribute in getattr(kind, "__attrs_attrs__", ())]


def _reason(encode: Callable[[object], bytes], value: object, error: Exception) -> str:
    if isinstance(value, dict) and (found := first_failing(encode, ((brief(key), {key: None}) for key in value))):
        name, _, error = found
        why = "contains a lone surrogate" if isinstance(error, UnicodeEncodeError) else str(error)
        return f"its keys must be text or numbers that JSON can hold, not {name} ({why})"
    if isinstance(error, UnicodeEncodeError):
        return "the text contains a lone surrogate, which UTF-8 cannot encode; pass bytes, or clean the text"
    if isinstance(value, float):
        return f"{value!r} is not JSON; pass None or text"
    return str(error) or type(error).__name__
