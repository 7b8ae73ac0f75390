"""The key of a job, and how long it is held: by a state of the job, or for a time. Knows no job."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypedDict, get_args

from litequeue.core.duration import seconds
from litequeue.core.records import KeyScope

if TYPE_CHECKING:
    from litequeue.core.retry import Duration

_STATES = " or ".join(map(repr, get_args(KeyScope)))


class Held(TypedDict):
    """The two fields of a call. `key_for`: so many seconds from the enqueue, and then the scope says nothing."""

    key_scope: KeyScope
    key_for: float | None


def held(given: KeyScope | Duration) -> Held:
    """Check the option `key_scope=`: one of the scopes, or a duration."""
    scope: Any = given
    if isinstance(given, str) and scope in get_args(KeyScope):
        return {"key_scope": scope, "key_for": None}
    try:
        span = seconds(given, "key_scope")
    except (TypeError, ValueError) as error:
        raise type(error)(f'key_scope must be {_STATES}, or a duration such as "10s", got {given!r}') from None
    if not span:
        raise ValueError(f"key_scope must be longer than nothing, got {given!r}; leave out key= to hold no key")
    return {"key_scope": "kept", "key_for": span}


def checked_key(value: object) -> str:
    """Refuse an invalid key."""
    if not isinstance(value, str) or not value or re.search("[\0\ud800-\udfff]", value):
        raise ValueError(f"key must be text that is not empty and can be encoded as UTF-8, got {value!r}")
    return str.__str__(value)
