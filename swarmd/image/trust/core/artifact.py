"""How signatures of an image are kept: one OCI manifest, a layer for each, where cosign looks for it.  Pure.

Its tag is ``sha256-<hex>.sig`` beside the image, and its ``subject`` is the image: so it is found by those
who know tags only and by those who ask for referrers.  A descriptor carries the payload itself (``data``):
the manifest alone is evidence.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec

from swarmd.image.core import manifest
from swarmd.image.core.manifest import Sha256, sha256
from swarmd.image.trust.core import simple_signing
from swarmd.model.errors import Invalid

ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
CERTIFICATE = "dev.sigstore.cosign/certificate"
CHAIN = "dev.sigstore.cosign/chain"
MOST = 100
"""Signatures of one image."""

_LONG = 64 << 10


class Signature(msgspec.Struct, frozen=True):
    """One signature over ``payload``; PEM of the signer's certificate, and of those between, if there are."""

    payload: bytes
    signature: bytes
    certificate: bytes = b""
    chain: bytes = b""


class _Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    media_type: str
    size: Annotated[int, msgspec.Meta(ge=0)]
    digest: Sha256
    annotations: dict[str, str] | None = None
    data: str = ""


class _Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: _Descriptor
    layers: tuple[_Descriptor, ...]
    subject: _Descriptor | None = None


class _Rootfs(msgspec.Struct, frozen=True):
    type: str
    diff_ids: tuple[str, ...]


class _Moment(msgspec.Struct, frozen=True):
    created: str = "0001-01-01T00:00:00Z"


class _Config(msgspec.Struct, frozen=True, kw_only=True):
    """What cosign writes: the layers' digests are the only thing in it that is not constant."""

    architecture: str = ""
    created: str = "0001-01-01T00:00:00Z"
    history: tuple[_Moment, ...] = (_Moment(),)
    os: str = ""
    rootfs: _Rootfs
    config: dict[str, str] = {}


class Written(msgspec.Struct, frozen=True):
    """A manifest and the small blobs it refers to."""

    data: bytes
    digest: str
    blobs: tuple[bytes, ...]


def tag_of(digest: str) -> str:
    """Where cosign keeps the signatures of a manifest: ``sha256-<hex>.sig``."""
    return f"{digest.replace(':', '-')}.sig"


def write(subject: str, subject_size: int, subject_type: str, signatures: Sequence[Signature]) -> Written:
    """The manifest of ``signatures`` of the image whose manifest is ``subject``.

    ``subject_size`` 0: not known here, and then the manifest does not name it.
    """
    config = msgspec.json.encode(
        _Config(rootfs=_Rootfs("layers", tuple(sha256(one.payload) for one in signatures)))
    )
    document = _Manifest(
        schema_version=2,
        media_type=manifest.MANIFEST,
        artifact_type=ARTIFACT,
        config=_Descriptor(manifest.CONFIG, len(config), sha256(config)),
        layers=tuple(_layer(one) for one in signatures),
        subject=_Descriptor(subject_type, subject_size, subject) if subject_size else None,
    )
    data = msgspec.json.encode(document)
    payloads = {sha256(one.payload): one.payload for one in signatures}
    return Written(data, sha256(data), (config, *payloads.values()))


def read(data: bytes, blob: Callable[[str], bytes | None]) -> tuple[Signature, ...]:
    """The signatures of a manifest.  ``blob(digest)`` gives payloads that it does not carry itself.

    Those that cannot be had or read are left out.  Raises Invalid for what is no manifest.
    """
    if len(data) > manifest.MAX_MANIFEST:
        raise Invalid(f"a signature's manifest of {len(data)} bytes is refused")
    try:
        document = msgspec.json.decode(data, type=_Manifest)
    except msgspec.MsgspecError as error:
        raise Invalid(f"the signature's manifest cannot be read: {error}") from error
    found = [_signature(layer, blob) for layer in document.layers[:MOST] if layer.media_type == LAYER]
    return tuple(one for one in found if one is not None)


def wanted(data: bytes) -> tuple[str, ...]:
    """Digests of the payloads that a manifest refers to and does not carry itself."""
    try:
        document = msgspec.json.decode(data, type=_Manifest)
    except msgspec.MsgspecError:
        return ()
    layers = (layer for layer in document.layers[:MOST] if layer.media_type == LAYER)
    return tuple(layer.digest for layer in layers if _carried(layer) is None and layer.size <= _LONG)


def _layer(one: Signature) -> _Descriptor:
    annotations = {SIGNATURE: base64.b64encode(one.signature).decode()}
    if one.certificate:
        annotations[CERTIFICATE] = one.certificate.decode()
    if one.chain:
        annotations[CHAIN] = one.chain.decode()
    data = base64.b64encode(one.payload).decode()
    return _Descriptor(LAYER, len(one.payload), sha256(one.payload), annotations, data)


def _signature(layer: _Descriptor, blob: Callable[[str], bytes | None]) -> Signature | None:
    payload = _carried(layer)
    if payload is None and layer.size <= _LONG:
        payload = blob(layer.digest)
    if payload is None or len(payload) > simple_signing.MOST or sha256(payload) != layer.digest:
        return None
    notes = layer.annotations or {}
    try:
        signature = base64.b64decode(notes.get(SIGNATURE, ""), validate=True)
    except (binascii.Error, ValueError):
        return None
    certificate, chain = notes.get(CERTIFICATE, ""), notes.get(CHAIN, "")
    return Signature(payload, signature, certificate.encode(), chain.encode())


def _carried(layer: _Descriptor) -> bytes | None:
    if not layer.data:
        return None
    try:
        data = base64.b64decode(layer.data, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if sha256(data) == layer.digest else None
