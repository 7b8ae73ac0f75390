"""The fields of one call that its moment and its arguments decide: its times and its key. Knows no job and no store."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from litequeue.core.interruptible import interruptible
from litequeue.core.key_scope import checked_key
from litequeue.serialization.json_codec import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litequeue.options import Options
    from litequeue.serialization.signature import Signature


@interruptible
class CallKey:
    """Makes the keys of one task's calls."""

    def __init__(self, name: str, options: Options, signature: Signature) -> None:
        self._name, self._options, self._signature = name, options, signature

    def fields(
        self, chosen: Mapping[str, Any], payload: bytes, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the fields of the key; none for a task without `unique=`. `chosen`: what `using()` has said."""
        unique = self._options.unique
        if not unique or chosen.get("key") is not None:
            return {}
        aliases: list[str] = []
        if unique is True:
            key, *aliases = map(digest, self._signature.stored.identities(payload))
        else:
            key = self._filled(unique, args, kwargs) if isinstance(unique, str) else unique(*args, **kwargs)
        fields = {"key": checked_key(key), "aliases": tuple(aliases)}
        if "key_scope" in chosen:
            return fields
        return {**fields, "key_scope": self._options.key_scope or "unfinished", "key_for": self._options.key_for}

    def _filled(self, template: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        try:
            return template.format(**self._signature.arguments(args, kwargs))
        except (AttributeError, LookupError, ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"unique={template!r} does not fit these arguments of {self._name}: {error}") from error


def times(
    task: str, now: float, run_at: float | None, delay: float | None, expires: float | datetime | None
) -> dict[str, Any]:
    """Return the times of a call that is made now. `delay` and `expires`: spans from now, or a moment."""
    found: dict[str, Any] = {"created_at": now}
    if delay is not None:
        run_at = found["run_at"] = now + delay
    if expires is not None:
        expires_at = expires.timestamp() if isinstance(expires, datetime) else now + expires
        if expires_at <= (run_at or now):
            raise ValueError(f"{task}: the job would expire before it may run; give a later expires=")
        found["expires_at"] = expires_at
    return found


def refuse_clash(task: str, given: Mapping[str, Any], options: Options) -> None:
    """Refuse options of a call that do not go together, or not with the task's own."""
    if given.get("delay") is not None and given.get("at") is not None:
        raise ValueError("give delay= or at=, not both")
    if given.get("within") is not None and given.get("on_commit"):
        raise ValueError("give within= or on_commit=, not both: within= stores the job in that very transaction")
    if given.get("retries") and options.policy.at_most_once:
        raise ValueError(f"{task} has delivery='at_most_once', which runs no job twice; leave out retries=")
