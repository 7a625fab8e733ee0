"""Sealed pieces: what lies on a disk under AES-256-GCM, each bound to the place it belongs to.

    0xC1 | version u8 | key id u32 | salt 16 | nonce 12 | ciphertext and tag

The key that seals is derived from a data key and the salt; whoever begins to seal takes a fresh salt, so
that the random nonces of one derived key are few.  A counter would repeat itself: a torn end of a log is
written again, and a machine can be put back to a snapshot of itself.  0xC1 begins no text and no MessagePack:
a piece from before there was sealing is told apart by its first byte.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from swarmd.model.errors import SwarmError

KEY_BYTES, SALT_BYTES, NONCE_BYTES = 32, 16, 12
_MARK, _VERSION = 0xC1, 1
_HEAD = struct.Struct(">BBI16s12s")
HEAD_BYTES = _HEAD.size
SEAL_OVERHEAD = HEAD_BYTES + 16
IN_THE_CLEAR = 0
"""The key id of a piece that is not sealed."""

RandomBytes = Callable[[int], bytes]


class CannotOpen(SwarmError):
    """A piece is not as it was sealed, not from this place, or of a key that is not here."""


class Sealer(Protocol):
    """Seals what goes to a disk and opens what comes from it.  Safe in several threads."""

    def seal(self, place: bytes, data: bytes) -> bytes: ...

    def open(self, place: bytes, data: bytes, *, epoch: int = 0) -> bytes:
        """Raises CannotOpen.  ``epoch``: of a piece of the replicated log; 0 for what is only this node's."""
        ...

    def retain(self, used: frozenset[int]) -> None:
        """The pieces of the replicated log that are left use these key ids; other keys may go."""
        ...


class Plain:
    """Seals nothing: for pieces that cross a secure connection, and for tests of other things."""

    def seal(self, place: bytes, data: bytes) -> bytes:
        return data

    def open(self, place: bytes, data: bytes, *, epoch: int = 0) -> bytes:
        if is_sealed(data):
            raise CannotOpen("it is sealed, and the key is not at hand")
        return data

    def retain(self, used: frozenset[int]) -> None:
        return None


PLAIN = Plain()


class Writer:
    """Seals with one data key, from one salt on."""

    def __init__(self, key_id: int, key: bytes, random: RandomBytes) -> None:
        self._key_id = key_id
        self._salt = random(SALT_BYTES)
        self._cipher = _cipher(key, self._salt)
        self._random = random

    def seal(self, place: bytes, data: bytes) -> bytes:
        """``data``, for ``place`` only."""
        nonce = self._random(NONCE_BYTES)
        head = _HEAD.pack(_MARK, _VERSION, self._key_id, self._salt, nonce)
        return head + self._cipher.encrypt(nonce, data, head + place)


class Reader:
    """Opens with any of the data keys ``keys`` (key id to key)."""

    def __init__(self, keys: dict[int, bytes]) -> None:
        self._keys = keys
        self._ciphers: dict[tuple[int, bytes], AESGCM] = {}

    def open(self, place: bytes, piece: bytes) -> bytes:
        """What was sealed for ``place``.  Raises CannotOpen."""
        if len(piece) < SEAL_OVERHEAD or piece[0] != _MARK:
            raise CannotOpen("it is not sealed, as everything of this node is")
        head = bytes(piece[:HEAD_BYTES])
        _, version, key_id, salt, nonce = _HEAD.unpack(head)
        if version != _VERSION:
            raise CannotOpen(f"it is sealed in format {version}: a newer release wrote it")
        try:
            return self._cipher_of(key_id, salt).decrypt(nonce, bytes(piece[HEAD_BYTES:]), head + place)
        except InvalidTag:
            raise CannotOpen("it was changed, or comes from another node or place") from None

    def _cipher_of(self, key_id: int, salt: bytes) -> AESGCM:
        known = self._ciphers.get((key_id, salt))
        if known is None:
            if key_id not in self._keys:
                raise CannotOpen(f"its data key, number {key_id}, is not in this node's key ring")
            known = self._ciphers[key_id, salt] = _cipher(self._keys[key_id], salt)
        return known


def is_sealed(data: bytes) -> bool:
    return data[:1] == bytes([_MARK])


def key_id_of(head: bytes) -> int:
    """Which data key sealed the piece that begins with ``head``; IN_THE_CLEAR for none."""
    if not is_sealed(head) or len(head) < HEAD_BYTES:
        return IN_THE_CLEAR
    return int(_HEAD.unpack(head[:HEAD_BYTES])[2])


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    derived = HKDF(hashes.SHA256(), length=KEY_BYTES, salt=salt, info=b"swarmd sealed piece").derive(key)
    return AESGCM(derived)
