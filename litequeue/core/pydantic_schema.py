"""How pydantic, and so FastAPI, sees what `dict()` turns into plain values. Imports pydantic only when that asks."""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, get_args, get_type_hints, is_typeddict


class _DateTime:
    """A mark of text that holds a time."""

    def __get_pydantic_json_schema__(self, _schema: Any, _handler: Any) -> dict[str, str]:
        return {"type": "string", "format": "date-time"}


IsoTime = Annotated[str, _DateTime()]


@cache
def pydantic_type(shape: Any) -> Any:
    """Return the same `TypedDict` in a form that pydantic reads: before Python 3.12 it refuses those of `typing`."""
    from typing_extensions import TypedDict  # pydantic needs it, too

    fields = {name: _readable(hint) for name, hint in get_type_hints(shape, include_extras=True).items()}
    made = TypedDict(shape.__name__.removesuffix("Dict"), fields)  # type: ignore[misc]
    made.__doc__ = shape.__doc__
    return made


def _readable(hint: Any) -> Any:
    if is_typeddict(hint):
        return pydantic_type(hint)
    if type(None) in get_args(hint):
        return reduce(or_, map(_readable, get_args(hint)))
    return hint


def pydantic_schema(kind: type, shape: Any, handler: Any) -> Any:
    """Return pydantic's schema of a class whose objects `dict()` turns into that shape, a `TypedDict`."""
    from pydantic_core import core_schema

    returned = handler.generate_schema(pydantic_type(shape))
    sent = core_schema.plain_serializer_function_ser_schema(dict, return_schema=returned)
    return core_schema.is_instance_schema(kind, serialization=sent)
