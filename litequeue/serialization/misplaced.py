"""Where in an argument a value does not fit its annotation, and what was expected. Knows no codec and no task."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from litequeue.serialization.faithful import brief

_WHERE = re.compile(r"(?P<why>.*) - at `(?P<key>key` in `)?\$(?P<steps>.*)`", re.DOTALL)
_STEP = re.compile(r"\.(?P<field>[^.\[\]]+)|\[(?P<index>[0-9]+)\]|(?P<any>\[\.\.\.\])")
_EXPECTED = re.compile(r"Expected `(?P<wanted>.*)`, got `(?P<got>.*)`")


def misplaced(convert: Callable[[Any], object], value: Any, label: str, text: str) -> str:
    """Return `argument d.sub[1] must be int, got str 'x'` for what `convert` says of plain data; empty if of no part.

    `text`: the message of msgspec, which names no keys: they are found by converting the value with one of them alone.
    """
    found = _WHERE.fullmatch(text)
    if found is None:
        return ""
    is_key, here, path = bool(found["key"]), value, ""
    whole: Callable[[Any], Any] = _itself
    for step in _STEP.finditer(found["steps"]):
        place = _place(step, here, convert, whole, text)
        if place is None:
            return ""
        path += f".{place}" if step["field"] else f"[{brief(place)}]"
        whole, here = _around(whole, here, place), here[place]
    if is_key:
        here = _failing_key(here, convert, whole, text)
    return f"argument {label}{path}{_what(found['why'], here, is_key=is_key)}"


def _itself(part: Any) -> Any:
    return part


def _place(
    step: re.Match[str], here: Any, convert: Callable[[Any], object], whole: Callable[[Any], Any], text: str
) -> Any:
    """Return the key or index of the step in plain data; None if it is not there."""
    if step["index"]:
        place = int(step["index"])
        return place if isinstance(here, list) and place < len(here) else None
    if step["field"]:
        return step["field"] if isinstance(here, dict) and step["field"] in here else None
    return _failing_key(here, convert, whole, text)


def _failing_key(here: Any, convert: Callable[[Any], object], whole: Callable[[Any], Any], text: str) -> Any:
    pairs = here.items() if isinstance(here, dict) else ()
    return next((key for key, child in pairs if _fails(convert, whole({key: child}), text)), None)


def _around(whole: Callable[[Any], Any], here: Any, place: Any) -> Callable[[Any], Any]:
    """Return a function that puts a part in its place in the whole."""
    if isinstance(here, dict):
        return lambda part: whole({**here, place: part})
    return lambda part: whole([*here[:place], part, *here[place + 1 :]])


def _fails(convert: Callable[[Any], object], value: Any, text: str) -> bool:
    try:
        convert(value)
    except Exception as error:  # the user's own class may raise anything while it is built
        return str(error) == text
    return False


def _what(why: str, value: Any, *, is_key: bool) -> str:
    expected = _EXPECTED.fullmatch(why)
    what = "its key " if is_key else ""
    if expected is None:
        return f": {what}{brief(value)} does not fit: {why}"
    got = "None" if value is None else f"{expected['got']} {brief(value)}"
    return f"{f': {what}' if is_key else ' '}must be {expected['wanted']}, got {got}"
