"""Bytes sealed under a passphrase, for what leaves the machine: scrypt makes the key, AES-256-GCM seals.

    b"SWRMSEA1" | log2 of scrypt's n, r, p: u8 each | salt, 16 | nonce, 12 | ciphertext and tag

Everything before the ciphertext is authenticated with it.
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from swarmd.kit.ids import random_bytes
from swarmd.model.errors import Denied, Invalid

MAGIC = b"SWRMSEA1"
_HEAD = struct.Struct(">8sBBB16s12s")
_LOG_N, _R, _P = 16, 8, 1
"""64 MiB and about a fifth of a second for each guess."""

_MOST_LOG_N, _MOST_R, _MOST_P = 20, 16, 4
"""What a file may ask of the machine that opens it: at most 2 GiB."""

SHORTEST = 8
"""Characters of a passphrase."""


def is_sealed(data: bytes) -> bool:
    """Whether ``data`` begins like something sealed here."""
    return data.startswith(MAGIC)


def seal(data: bytes, passphrase: bytes) -> bytes:
    """``data`` for those only who know ``passphrase``.  Raises Invalid for a short one."""
    if len(passphrase) < SHORTEST:
        raise Invalid(f"the passphrase has {len(passphrase)} characters; it needs at least {SHORTEST}")
    salt, nonce = random_bytes(16), random_bytes(12)
    head = _HEAD.pack(MAGIC, _LOG_N, _R, _P, salt, nonce)
    return head + AESGCM(_key(passphrase, salt, _LOG_N, _R, _P)).encrypt(nonce, data, head)


def unseal(data: bytes, passphrase: bytes, name: str) -> bytes:
    """What was sealed.  Raises Denied for a wrong passphrase or a changed file, Invalid for no such file."""
    if len(data) < _HEAD.size:
        raise Invalid(f"{name} is cut off after {len(data)} bytes. Copy it again, or use another one.")
    magic, log_n, r, p, salt, nonce = _HEAD.unpack_from(data)
    if magic != MAGIC or not (1 <= log_n <= _MOST_LOG_N and 1 <= r <= _MOST_R and 1 <= p <= _MOST_P):
        raise Invalid(f"{name} is damaged: its first {_HEAD.size} bytes make no sense. Use another one.")
    key = _key(passphrase, salt, log_n, r, p)
    try:
        return AESGCM(key).decrypt(nonce, data[_HEAD.size :], data[: _HEAD.size])
    except InvalidTag as error:
        raise Denied(f"{name} cannot be opened: the passphrase is wrong, or the file is damaged.") from error


def _key(passphrase: bytes, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << log_n, r=r, p=p).derive(passphrase)
