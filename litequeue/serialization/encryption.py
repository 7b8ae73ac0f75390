"""Encryption of payloads and results: the extra `crypto`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from litequeue.errors import DecodeError
from litequeue.serialization.json_codec import JsonCodec

KEY_BYTES = 64  # of AES-SIV: half of it encrypts, half authenticates


def new_key() -> str:
    """Return a new key, as text. Keep it where the application keeps its other secrets."""
    import os

    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()


class EncryptedCodec(JsonCodec):
    """JSON encrypted with AES-SIV. Data that was changed, or encrypted with another key, is not read.

    `keys`: made by `new_key()`. The first encrypts, all decrypt. To change keys, put the new one second everywhere,
    then first, and remove the old one when nothing that it encrypted is left. Equal arguments give equal bytes, as
    `unique` and keys need. So a reader of the file sees which calls are equal, how long they are, and everything that
    is neither an argument nor a result.
    """

    name: str = "aes-siv json"

    def __init__(self, keys: str | Sequence[str]) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESSIV
        except ImportError as error:
            needed = "EncryptedCodec needs the library cryptography: pip install '.[crypto]' in a clone of litequeue"
            raise ImportError(needed) from error
        given = list(keys) if isinstance(keys, Sequence) and not isinstance(keys, str) else [keys]
        if not given:
            raise ValueError("EncryptedCodec needs a key; make one with litequeue.serialization.encryption.new_key()")
        self._ciphers = [AESSIV(_key(key)) for key in given]

    def encode(self, value: object) -> bytes:
        """Return `value` as encrypted JSON."""
        return self._ciphers[0].encrypt(super().encode(value), None)

    def encodings(self, value: object) -> list[bytes]:
        """Return `value` encrypted with each key, so that equal calls are recognised while keys are changed."""
        plain = super().encode(value)
        return [cipher.encrypt(plain, None) for cipher in self._ciphers]

    def decode(self, data: bytes) -> Any:
        """Decrypt and decode what `encode` returned, under any of the keys. Raises `DecodeError`."""
        from cryptography.exceptions import InvalidTag

        for cipher in self._ciphers:
            try:
                plain = cipher.decrypt(data, None)
            except (InvalidTag, ValueError):
                continue
            return super().decode(plain)
        raise DecodeError(
            f"none of the {len(self._ciphers)} keys decrypts it: another key encrypted it, or it was changed"
        )


def _key(text: Any) -> bytes:
    try:
        key = base64.urlsafe_b64decode(text)
    except (binascii.Error, ValueError, TypeError):
        key = b""
    if len(key) != KEY_BYTES:  # the key itself is not for a message
        raise ValueError("a key of EncryptedCodec must be text made by litequeue.serialization.encryption.new_key()")
    return key
