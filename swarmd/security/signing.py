"""Key pairs for signing images, in cosign's files: scrypt and the password make a key that seals PKCS#8.

    -----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----
    {"kdf": {"name": "scrypt", "params": {N, r, p}, "salt"}, "cipher": {"name": "nacl/secretbox", "nonce"},
     "ciphertext"}, in base64

A private key in PKCS#8, with a password or without, is taken as well.
"""

from __future__ import annotations

import base64
import binascii
import textwrap

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from swarmd.kit.ids import random_bytes
from swarmd.model.errors import Denied, Invalid
from swarmd.security import secretbox

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
KINDS = ("ecdsa", "ed25519")

_TITLE = "ENCRYPTED SIGSTORE PRIVATE KEY"
_TITLES = (_TITLE, "ENCRYPTED COSIGN PRIVATE KEY")
_N, _R, _P = 65536, 8, 1
_MOST_N, _MOST_R, _MOST_P = 1 << 20, 16, 4
"""What a file may ask of the machine that opens it: at most 2 GiB."""


class _Params(msgspec.Struct, frozen=True):
    N: int
    r: int
    p: int


class _Kdf(msgspec.Struct, frozen=True):
    name: str
    params: _Params
    salt: bytes


class _Cipher(msgspec.Struct, frozen=True):
    name: str
    nonce: bytes


class _Sealed(msgspec.Struct, frozen=True):
    kdf: _Kdf
    cipher: _Cipher
    ciphertext: bytes


def generate(kind: str) -> PrivateKey:
    """A new pair; ``kind``: ``ecdsa`` (over P-256) or ``ed25519``.  Raises Invalid for another."""
    if kind == "ecdsa":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    raise Invalid(f'unknown kind of key "{kind}": use {" or ".join(KINDS)}')


def public_pem(key: PrivateKey) -> bytes:
    """What others check its signatures with."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def sign(key: PrivateKey, data: bytes) -> bytes:
    """The signature: raw for Ed25519, DER for ECDSA (SHA-256)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def seal(key: PrivateKey, password: bytes) -> bytes:
    """The key file, readable by cosign and by :func:`unseal`."""
    data = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    salt, nonce = random_bytes(32), random_bytes(secretbox.NONCE)
    box = secretbox.seal(data, _stretched(password, salt, _Params(_N, _R, _P)), nonce)
    document = _Sealed(_Kdf("scrypt", _Params(_N, _R, _P), salt), _Cipher("nacl/secretbox", nonce), box)
    text = base64.b64encode(msgspec.json.encode(document)).decode()
    lines = "\n".join(textwrap.wrap(text, 64))
    return f"-----BEGIN {_TITLE}-----\n{lines}\n-----END {_TITLE}-----\n".encode()


def needs_password(pem: bytes) -> bool:
    """Whether the key file is sealed."""
    return b"-----BEGIN ENCRYPTED " in pem or b"Proc-Type: 4,ENCRYPTED" in pem


def unseal(pem: bytes, password: bytes) -> PrivateKey:
    """The key of a file.  Raises Denied for a wrong password, Invalid for what is no such key."""
    body = _body(pem)
    try:
        if body is None:
            secret = password if needs_password(pem) else None
            key = serialization.load_pem_private_key(pem, secret)
        else:
            key = serialization.load_der_private_key(_opened(body, password), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if body is None and needs_password(pem):
            raise Denied("the key cannot be opened: the password is wrong, or the file is damaged") from error
        raise Invalid(f"the private key cannot be read: {error}") from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise Invalid(f"a {type(key).__name__} is not used for signatures here: take ECDSA P-256 or Ed25519")


def _body(pem: bytes) -> bytes | None:
    """What stands between cosign's two lines; None when they are not there."""
    text = pem.decode("ascii", "replace")
    for title in _TITLES:
        _, begin, rest = text.partition(f"-----BEGIN {title}-----")
        inner, end, _ = rest.partition(f"-----END {title}-----")
        if begin and end:
            try:
                return base64.b64decode("".join(inner.split()), validate=True)
            except binascii.Error as error:
                raise Invalid("the private key is damaged: it is no base64") from error
    return None


def _opened(body: bytes, password: bytes) -> bytes:
    try:
        sealed = msgspec.json.decode(body, type=_Sealed)
    except msgspec.MsgspecError as error:
        raise Invalid(f"the private key is damaged: {error}") from error
    names = (sealed.kdf.name, sealed.cipher.name)
    params = sealed.kdf.params
    sane = 1 < params.N <= _MOST_N and 1 <= params.r <= _MOST_R and 1 <= params.p <= _MOST_P
    if names != ("scrypt", "nacl/secretbox") or not sane or len(sealed.cipher.nonce) != secretbox.NONCE:
        raise Invalid(f"the private key is sealed in a way that is not known here: {', '.join(names)}")
    try:
        return secretbox.unseal(
            sealed.ciphertext, _stretched(password, sealed.kdf.salt, params), sealed.cipher.nonce
        )
    except Denied as error:
        raise Denied("the key cannot be opened: the password is wrong, or the file is damaged") from error


def _stretched(password: bytes, salt: bytes, params: _Params) -> bytes:
    return Scrypt(salt=salt, length=secretbox.KEY, n=params.N, r=params.r, p=params.p).derive(password)
