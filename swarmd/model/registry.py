"""Rows of the replicated store that are about images: the swarm's registry, log-ins, and what is trusted."""

from __future__ import annotations

import msgspec

from swarmd.model.objects import Row


class RegistryManifest(Row, frozen=True, kw_only=True):
    """A manifest or index that the swarm's registry holds (id = ``repository@digest``).

    ``data``: its exact bytes.  ``blobs``: digests of all it refers to, which is kept as long as it is.
    ``subject``: digest of the manifest it is about; ``artifact_type`` and ``annotations`` are for the list of
    referrers.  ``tagged_at``: when it last lost or had a tag, seconds since 1970.
    """

    repository: str
    digest: str
    media_type: str = ""
    data: bytes = b""
    blobs: tuple[str, ...] = ()
    subject: str = ""
    artifact_type: str = ""
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    tagged_at: float = 0.0


class RegistryTag(Row, frozen=True, kw_only=True):
    """A tag in the swarm's registry (id = ``repository:tag``)."""

    repository: str
    tag: str
    digest: str


class RegistryCredential(Row, frozen=True, kw_only=True):
    """How the swarm logs in to an outside registry (id = its host, ``docker.io`` for Docker Hub).

    ``identity_token``: instead of the password, for registries that gave one.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""


class TrustKey(Row, frozen=True, kw_only=True):
    """A public key that signatures are checked with (id = its name).  ``pem``: key or certificate."""

    pem: bytes = b""
    added_by: str = ""


class TrustRule(Row, frozen=True, kw_only=True):
    """What images whose names match ``id`` must be (a pattern such as ``registry.example.com/team/*``).

    ``action``: accept, reject, or require; then ``keys`` are names of :class:`TrustKey` of which
    ``threshold`` must have signed, and ``max_severity`` (none, low, medium, high, critical; empty: any)
    is the worst finding that a scan may have had, ``max_scan_age`` the most seconds since (0: any).
    """

    action: str = "require"
    keys: tuple[str, ...] = ()
    threshold: int = 1
    max_severity: str = ""
    max_scan_age: float = 0.0


class ImageScan(Row, frozen=True, kw_only=True):
    """What a scan found in an image (id = its manifest's digest).  ``counts``: findings by severity."""

    image: str = ""
    scanned_at: float = 0.0
    advisories: str = ""
    counts: dict[str, int] = msgspec.field(default_factory=dict)
