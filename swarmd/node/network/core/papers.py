"""What a node shows to others that carry its encrypted networks."""

from __future__ import annotations

from msgspec import Struct


class Papers(Struct, frozen=True):
    """PEM of its key, of its certificate (with its chain) and of the roots it trusts.

    ``scratch``: a directory in which the key may lie for the moment that TLS needs it as a file.
    """

    cluster_id: str
    key: bytes
    certificate: bytes
    root: bytes
    scratch: str
