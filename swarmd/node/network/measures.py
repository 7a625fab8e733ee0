"""What went through a node's network since its daemon started, and how full it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from swarmd.telemetry.metrics import Labels, Spread


class PortCount(Struct, frozen=True):
    """How many connections (of UDP: flows) came to a published port of this node, to be served or refused.

    ``kernel``: those the kernel passed on, since its rules were loaded; ``proxy``: those that came to the
    user-space proxy, since it opened the port.
    """

    service_id: str
    service_name: str
    protocol: Literal["tcp", "udp", "sctp"]
    port: int
    host_ip: str
    kernel: int
    proxy: int


class HttpCount(Struct, frozen=True):
    """On ports that services share.  Labels are (service, port, class of status) of ``requests``, (service,
    port) of ``bytes`` (bodies of answers) and of ``seconds``, whose buckets end at ``bounds``."""

    clients: int = 0
    requests: Mapping[Labels, float] = {}
    bytes: Mapping[Labels, float] = {}
    seconds: Mapping[Labels, Spread] = {}
    bounds: tuple[float, ...] = ()


class Traffic(Struct, frozen=True):
    """``proxied``: connections and flows that the user-space proxy has open; ``mended``: how many differences
    were found that others had made in the kernel's tables; ``moved``: UDP flows that were ended so that their
    clients come to another task, ``reset``: connections of the proxy to nodes that were lost.
    ``names``: those of elsewhere that containers asked for, by outcome.  ``cannot``: why the kernel's counts
    are missing, if they are.
    """

    ports: tuple[PortCount, ...] = ()
    http: HttpCount = HttpCount()
    proxied: int = 0
    mended: int = 0
    moved: int = 0
    reset: int = 0
    names: Mapping[Labels, float] = {}
    cannot: str = ""
