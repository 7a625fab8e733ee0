"""The data keys of one node, and how they are wrapped by the one key above them.

    unlock key, or the key in the file beside ──► wraps the key ring ──► its newest data key seals every piece

Pure: bytes in, bytes out.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from swarmd.model.errors import Invalid
from swarmd.model.replace import replace
from swarmd.security.sealing import IN_THE_CLEAR, KEY_BYTES, NONCE_BYTES, CannotOpen

_MAGIC = b"SWRMKEYS"
_HEAD = struct.Struct(">8sBB8s12s")
_VERSION = 1
_UNLOCK_KEY = re.compile(r"SWMKEY-1-([A-Za-z0-9+/]{43})")
BAD_KEY = "swarm could not be unlocked: invalid key provided"


class Keyring(msgspec.Struct, frozen=True, kw_only=True):
    """``keys``: key id to data key; the highest seals.

    ``followed``: the version of the cluster row whose wish about the lock was carried out last; an older row,
    read again from the log after a restart, changes nothing.  ``plain_epochs``: pieces of the log up to this
    epoch may be in the clear, from a release that sealed nothing.  ``settled`` is false while a node's own
    files are being sealed for the first time.
    """

    keys: dict[int, bytes]
    followed: int = 0
    plain_epochs: int = 0
    settled: bool = True

    @property
    def newest(self) -> int:
        return max(self.keys)


class Wrapped(msgspec.Struct, frozen=True):
    """What a key file says without its key: whether the operator holds it, and the key's fingerprint."""

    by_operator: bool
    fingerprint: bytes


def with_new_key(ring: Keyring, key: bytes) -> Keyring:
    """The ring with one more data key, which seals from now on."""
    return replace(ring, keys={**ring.keys, ring.newest + 1: key})


def retained(ring: Keyring, used: frozenset[int]) -> Keyring:
    """The ring without the keys that no piece uses; without leave for clear pieces when none is left.

    The one before the newest stays: a piece that it sealed a moment ago may be on its way to the disk.
    """
    keys = {number: key for number, key in ring.keys.items() if number in used or number >= ring.newest - 1}
    return replace(ring, keys=keys, plain_epochs=ring.plain_epochs if IN_THE_CLEAR in used else 0)


def wrap(ring: Keyring, key: bytes, *, by_operator: bool, nonce: bytes) -> bytes:
    """The key file.  ``nonce`` is fresh."""
    head = _HEAD.pack(_MAGIC, _VERSION, by_operator, fingerprint(key), nonce)
    return head + AESGCM(key).encrypt(nonce, msgspec.msgpack.encode(ring), head)


def wrapped_by(data: bytes) -> Wrapped:
    """Raises CannotOpen when it is no key file."""
    if len(data) < _HEAD.size:
        raise CannotOpen("it is too short")
    magic, version, by_operator, mark, _ = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != _VERSION:
        raise CannotOpen("it is no key ring of this release")
    return Wrapped(bool(by_operator), mark)


def unwrap(data: bytes, key: bytes) -> Keyring:
    """Raises CannotOpen for another key, or when a bit of the file is not as written."""
    if wrapped_by(data).fingerprint != fingerprint(key):
        raise CannotOpen("it is wrapped by another key")
    head = data[: _HEAD.size]
    try:
        inner = AESGCM(key).decrypt(head[-NONCE_BYTES:], data[_HEAD.size :], head)
        return msgspec.msgpack.decode(inner, type=Keyring)
    except (InvalidTag, msgspec.DecodeError):
        raise CannotOpen("it is damaged") from None


def fingerprint(key: bytes) -> bytes:
    """Tells a wrong key from a damaged file; says nothing else about a random key."""
    return hashlib.sha256(b"swarmd wrapping key" + key).digest()[:8]


def unlock_key_text(key: bytes) -> str:
    """``SWMKEY-1-…``, as Docker writes it."""
    return "SWMKEY-1-" + base64.b64encode(key).decode().rstrip("=")


def parse_unlock_key(text: str) -> bytes:
    """Raises Invalid, which does not repeat what was given: it may be nearly right."""
    match = _UNLOCK_KEY.fullmatch(text.strip())
    key = base64.b64decode(match[1] + "=") if match else b""
    if len(key) != KEY_BYTES:
        raise Invalid(BAD_KEY)
    return key
