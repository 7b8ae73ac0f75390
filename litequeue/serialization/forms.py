"""The forms in which a call is stored: complete, without its first argument, or a chunk. Knows no codec and no task."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias, final

LINK: Literal[1] = 1  # its first argument is handed on by what ran before: null stands in its place
CHUNK: Literal[2] = 2  # its arguments are items: the function is called with each of them
_Form: TypeAlias = Literal[1, 2]


@final
class FormedCall(NamedTuple):
    """A stored call that is not complete, as plain data."""

    args: list[Any]
    kwargs: dict[str, Any]
    form: _Form


class StoredCall(NamedTuple):
    """Any stored call, as plain data. `masked`: the places and names of arguments that are not shown."""

    args: list[Any]
    kwargs: dict[str, Any]
    masked: list[Any]
    form: _Form | None = None


def stored_call(value: Any) -> StoredCall | None:
    """Return what a codec has read as a call; None: it is not one."""
    match value:
        case [[*args], dict() as kwargs]:
            return StoredCall(args, kwargs, [])
        case [[*args], dict() as kwargs, [*masked]]:
            return StoredCall(args, kwargs, masked)
        case [[None, *_] as args, dict() as kwargs, [*masked], 1]:
            return StoredCall(list(args), kwargs, masked, LINK)
        case [[_, *_] as args, dict() as kwargs, [*masked], 2] if not kwargs:
            return StoredCall(list(args), kwargs, masked, CHUNK)
    return None
