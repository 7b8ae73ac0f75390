"""Payloads and results that only those who have a key can read: `litequeue[crypto]`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from litequeue.errors import DecodeError
from litequeue.serialization.json_codec import JsonCodec

KEY_BYTES = 64  # of AES-SIV: half of it encrypts, half authenticates


def new_key() -> str:
    """Make a key, as text: keep it where the application's other secrets are."""
    import os

    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()


class EncryptedCodec(JsonCodec):
    """JSON under AES-SIV: what anybody else has changed, or encrypted with another key, is not read.

    `keys`: those of `new_key()`. The first encrypts, all decrypt: to change keys, put the new one second everywhere,
    then first, and drop the old one when nothing that it encrypted is left. Equal arguments give equal bytes, as
    `unique` and keys need; so who reads the file sees which calls are equal, how long they are, and all that is neither
    an argument nor a result.
    """

    name: str = "aes-siv json"

    def __init__(self, keys: str | Sequence[str]) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESSIV
        except ImportError as error:
            raise ImportError("EncryptedCodec needs the library cryptography: pip install litequeue[crypto]") from error
        given = list(keys) if isinstance(keys, Sequence) and not isinstance(keys, str) else [keys]
        if not given:
            raise ValueError("EncryptedCodec needs a key; make one with litequeue.serialization.encryption.new_key()")
        self._ciphers = [AESSIV(_key(key)) for key in given]

    def encode(self, value: object) -> bytes:
        """Give `value` as encrypted JSON."""
        return self._ciphers[0].encrypt(super().encode(value), None)

    def encodings(self, value: object) -> list[bytes]:
        """Give `value` as JSON encrypted with each of the keys: calls are told to be equal while keys are changed."""
        plain = super().encode(value)
        return [cipher.encrypt(plain, None) for cipher in self._ciphers]

    def decode(self, data: bytes) -> Any:
        """Read what `encode` gave, under any of the keys. Raises `DecodeError`."""
        from cryptography.exceptions import InvalidTag

        for cipher in self._ciphers:
            try:
                plain = cipher.decrypt(data, None)
            except (InvalidTag, ValueError):
                continue
            return super().decode(plain)
        raise DecodeError(
            f"none of the {len(self._ciphers)} keys opens it: another key encrypted it, or it was changed"
        )


def _key(text: Any) -> bytes:
    try:
        key = base64.urlsafe_b64decode(text)
    except (binascii.Error, ValueError, TypeError):
        key = b""
    if len(key) != KEY_BYTES:  # the key itself is not for a message
        raise ValueError("a key of EncryptedCodec is text that litequeue.serialization.encryption.new_key() made")
    return key
