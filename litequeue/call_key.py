"""The key of one call, made of its arguments as `unique=` says. Knows no job and no store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litequeue.core.key_scope import checked_key
from litequeue.serialization.json_codec import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litequeue.options import Options
    from litequeue.serialization.signature import Signature


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
            key, *aliases = map(digest, self._signature.identities(payload))
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
