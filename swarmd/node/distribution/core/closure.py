"""What a manifest or an index refers to, whatever kind of artifact it is.  Pure."""

from __future__ import annotations

import msgspec


class _Part(msgspec.Struct):
    digest: str = ""
    urls: list[str] = []


class _Document(msgspec.Struct):
    config: _Part | None = None
    layers: list[_Part] = []
    blobs: list[_Part] = []
    manifests: list[_Part] = []


class Referred(msgspec.Struct, frozen=True):
    """Digests, each once: of blobs, and of further manifests."""

    blobs: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()


def referred(raw: bytes) -> Referred:
    """Without the layers that are to be had elsewhere (``urls``); nothing for what is no manifest."""
    try:
        document = msgspec.json.decode(raw, type=_Document)
    except msgspec.MsgspecError:
        return Referred()
    parts = [*([document.config] if document.config else []), *document.layers, *document.blobs]
    blobs = (part.digest for part in parts if part.digest and not part.urls)
    return Referred(
        blobs=tuple(dict.fromkeys(blobs)),
        manifests=tuple(dict.fromkeys(part.digest for part in document.manifests if part.digest)),
    )
