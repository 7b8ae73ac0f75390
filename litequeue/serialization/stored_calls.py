"""Stored calls and results read again as plain data, and which calls are the same. Knows no signature, job or store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from litequeue.core.compositions import Handed
from litequeue.errors import DecodeError
from litequeue.serialization.forms import FormedCall, StoredCall, stored_call
from litequeue.serialization.handed import received
from litequeue.serialization.json_codec import Codec, JsonCodec, as_plain, to_canonical_json

PlainCall = tuple[Sequence[Any], dict[str, Any]]
_calls = msgspec.json.Decoder(tuple[list[Any], dict[str, Any]])


class StoredCalls:
    """What a codec reads of the calls of one task. `mask`: the names of parameters that listings must not show."""

    __slots__ = ("_masks", "_own", "_task", "codec")

    def __init__(self, codec: Codec, task_name: str, mask: Collection[str]) -> None:
        self.codec: Codec = codec
        self._task, self._masks = task_name, bool(mask)
        self._own: bool = type(codec) is JsonCodec  # a subclass may do anything

    def call(self, data: bytes) -> PlainCall | FormedCall:
        """Return the arguments as plain data. Raises `DecodeError`."""
        if self._own:
            try:
                return _calls.decode(data)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                pass  # it is masked, not complete, or no call at all
        call = self.whole(data)
        return (call.args, call.kwargs) if call.form is None else FormedCall(call.args, call.kwargs, call.form)

    def whole(self, data: bytes) -> StoredCall:
        """Return all that is stored of a call. Raises `DecodeError`."""
        call = stored_call(self.value(data))
        if call is None:
            raise DecodeError(f"not a call of {self._task}(): expected [arguments, keyword arguments]")
        return call

    def value(self, data: bytes) -> Any:
        """Return plain data. Raises `DecodeError` for whatever the codec raises."""
        try:
            return self.codec.decode(data)
        except DecodeError:
            raise
        except Exception as error:
            raise DecodeError(f"the codec {self.codec.name!r} cannot read what is stored: {error!r}") from error

    def handed(self, handed: Handed) -> Any:
        """Return what the parents of a job hand on; a `JobFailed` stands in the place of a result that there is not.

        Raises `DecodeError`.
        """
        return received(handed, self.value)

    def identities(self, data: bytes) -> list[bytes]:
        """Return the bytes that identify a canonical call, the present ones first; a mask does not change them."""
        if not isinstance(self.codec, JsonCodec) or (self._own and not self._masks):
            return [data]
        return self.codec.encodings(self._unmasked(data))

    def identity(self, data: bytes) -> bytes:
        """Return bytes that identify a call, canonical or not; of an encrypting codec they do not tell what it is."""
        return self.canonical(data) if self._own else self.identities(data)[0]

    def alike(self, one: bytes, other: bytes) -> bool:
        """Return whether two calls are the same; a new or removed mask, or a change of keys, alters the bytes only."""
        if not isinstance(self.codec, JsonCodec):
            return False
        try:
            return self.canonical(one) == self.canonical(other)
        except DecodeError:
            return False

    def canonical(self, data: bytes) -> bytes:
        """Return bytes that are the same for equal calls, whatever the order of keys, a mask or a cipher do to them.

        Of a codec whose values are not all JSON, the bytes themselves where JSON would change one.
        """
        call = self._unmasked(data)
        if isinstance(self.codec, JsonCodec):
            return to_canonical_json(call)
        try:
            return to_canonical_json(call) if as_plain(call) == call else data
        except Exception:  # what the codec returns may be anything
            return data

    def _unmasked(self, data: bytes) -> list[Any]:
        call = self.whole(data)
        return [call.args, call.kwargs] if call.form is None else [call.args, call.kwargs, [], call.form]
