"""What is signed of an image: cosign's simple-signing payload, byte for byte.  Pure.

{"critical":{"identity":{"docker-reference":"registry/app"},
 "image":{"docker-manifest-digest":"sha256:…"},"type":"cosign container image signature"},"optional":null}
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from swarmd.image.core.manifest import Sha256
from swarmd.model import image_ref
from swarmd.model.errors import Invalid

TYPE = "cosign container image signature"
_TYPES = (TYPE, "atomic container signature")
MOST = 64 << 10
"""Bytes of a payload."""


class _Identity(msgspec.Struct, frozen=True):
    reference: str = msgspec.field(name="docker-reference")


class _Image(msgspec.Struct, frozen=True):
    digest: Sha256 = msgspec.field(name="docker-manifest-digest")


class _Critical(msgspec.Struct, frozen=True):
    identity: _Identity
    image: _Image
    type: Annotated[str, msgspec.Meta(max_length=100)]


class _Payload(msgspec.Struct, frozen=True):
    critical: _Critical
    optional: dict[str, Any] | None = None


class Claim(msgspec.Struct, frozen=True):
    """What a payload says: the manifest ``digest`` is that of an image called ``name`` (complete)."""

    name: str
    digest: str
    annotations: dict[str, Any] = {}


def write_payload(name: str, digest: str, annotations: dict[str, str] | None = None) -> bytes:
    """The bytes to sign; ``name`` is the complete repository, ``annotations`` what else the signer says."""
    told = dict(sorted(annotations.items())) if annotations else None
    text = msgspec.json.encode(_Payload(_Critical(_Identity(name), _Image(digest), TYPE), told))
    # Go's encoder, whose bytes these are, writes these three so that they are harmless in HTML.
    return text.replace(b"&", b"\\u0026").replace(b"<", b"\\u003c").replace(b">", b"\\u003e")


def read_payload(raw: bytes) -> Claim:
    """What was signed.  Raises Invalid for anything else."""
    if len(raw) > MOST:
        raise Invalid(f"a signature's payload of {len(raw)} bytes is refused: the limit is {MOST}")
    try:
        payload = msgspec.json.decode(raw, type=_Payload)
    except msgspec.MsgspecError as error:
        raise Invalid(f"the signature's payload cannot be read: {error}") from error
    if payload.critical.type not in _TYPES:
        raise Invalid(f'the signature is of a kind that is not known here: "{payload.critical.type}"')
    return Claim(
        _complete(payload.critical.identity.reference), payload.critical.image.digest, payload.optional or {}
    )


def _complete(reference: str) -> str:
    try:
        return image_ref.parse(reference).name
    except Invalid as error:
        raise Invalid(f'the signature is for "{reference[:100]}", which is no image name') from error
