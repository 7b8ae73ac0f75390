"""How to run something after the commit of the application's own transaction, as an integration says. Knows none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litequeue.errors import Unsupported

# Given a function: calls it after the commit of the transaction that is open here, at once if none is, and never if
# that is rolled back. A coroutine's call uses its method `acall`, if it has one.
Hook = Callable[[Callable[[], object]], object]
OnCommit = bool | Hook

_NONE = (
    "on_commit=True does not know whose commit is meant: add 'litequeue.integrations.django' to INSTALLED_APPS, or "
    "give Queue(on_commit=...) a function that calls, after the commit of your transaction, what it is given"
)

_installed: list[Hook] = []


def install(hook: Hook) -> None:
    """Make it the hook of `on_commit=True` in this process."""
    _installed[:] = [hook]


def checked(value: Any) -> OnCommit:
    """Check an option `on_commit`."""
    if not isinstance(value, bool) and not callable(value):
        raise TypeError(f"on_commit must be True, False, or a function to register another with, got {value!r}")
    return value  # type: ignore[no-any-return]


def hook_of(given: OnCommit) -> Hook:
    """Return the hook that the option means; raises `Unsupported` where nobody has installed one."""
    if callable(given):
        return given
    if not _installed:
        raise Unsupported(_NONE)
    return _installed[0]
