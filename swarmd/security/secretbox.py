"""NaCl's secretbox (XSalsa20 and Poly1305), which cosign's key files are sealed with.  Pure.

For a key of a few hundred bytes: the cipher is computed here, the authenticator by the library.
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.poly1305 import Poly1305

from swarmd.model.errors import Denied

KEY, NONCE, TAG = 32, 24, 16
"""Sizes in bytes."""

_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_ROUND = (
    (0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11),
    (0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14),
)  # fmt: skip
_MASK = 0xFFFFFFFF


def seal(data: bytes, key: bytes, nonce: bytes) -> bytes:
    """The tag, then the ciphertext.  A nonce is used once."""
    mac, sealed = _both(data, key, nonce)
    return Poly1305.generate_tag(mac, sealed) + sealed


def unseal(box: bytes, key: bytes, nonce: bytes) -> bytes:
    """What was sealed.  Raises Denied for another key or changed bytes."""
    tag, sealed = box[:TAG], box[TAG:]
    mac, data = _both(sealed, key, nonce)
    try:
        Poly1305.verify_tag(mac, sealed, tag)
    except (InvalidSignature, ValueError) as error:
        raise Denied("it is sealed with another key, or damaged") from error
    return data


def _both(data: bytes, key: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    """The authenticator's key, and ``data`` under the rest of the key stream."""
    words = struct.unpack("<8I", key)
    own = _hashed(words, struct.unpack("<4I", nonce[:16]))
    stream = b"".join(
        _block(own, struct.unpack("<2I", nonce[16:]), number)
        for number in range((KEY + len(data) + 63) // 64)
    )
    return stream[:KEY], bytes(a ^ b for a, b in zip(data, stream[KEY:], strict=False))


def _state(key: tuple[int, ...], middle: tuple[int, ...]) -> list[int]:
    return [
        _SIGMA[0], *key[:4], _SIGMA[1], *middle, _SIGMA[2], *key[4:], _SIGMA[3],
    ]  # fmt: skip


def _hashed(key: tuple[int, ...], nonce: tuple[int, ...]) -> tuple[int, ...]:
    """HSalsa20: the key for this nonce."""
    mixed = _mixed(_state(key, nonce))
    return (mixed[0], mixed[5], mixed[10], mixed[15], *mixed[6:10])


def _block(key: tuple[int, ...], nonce: tuple[int, ...], number: int) -> bytes:
    state = _state(key, (*nonce, number & _MASK, number >> 32))
    mixed = _mixed(list(state))
    return struct.pack("<16I", *((a + b) & _MASK for a, b in zip(mixed, state, strict=True)))


def _mixed(x: list[int]) -> list[int]:
    for _ in range(10):
        for a, b, c, d in _ROUND:
            x[b] ^= _turned(x[a] + x[d], 7)
            x[c] ^= _turned(x[b] + x[a], 9)
            x[d] ^= _turned(x[c] + x[b], 13)
            x[a] ^= _turned(x[d] + x[c], 18)
    return x


def _turned(value: int, by: int) -> int:
    value &= _MASK
    return ((value << by) | (value >> (32 - by))) & _MASK
