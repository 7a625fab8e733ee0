"""Finds out what this machine can do for the network, and prepares what must be prepared."""

from __future__ import annotations

import asyncio
from pathlib import Path

from swarmd.model.errors import Unavailable
from swarmd.node.network import ct, ipv6, ruleset
from swarmd.node.network.core.family import IP, IP6, Family
from swarmd.node.network.overlay import Overlay
from swarmd.node.network.port import Capabilities
from swarmd.node.network.settings import raise_settings, write_setting
from swarmd.node.network.wire import Netlink

_TIME_WAIT_SECONDS = 30
_SCTP_TRACKED = Path("/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_established")


async def probe(overlay: Overlay | None, netfilter: Netlink | None, port: int) -> Capabilities:
    """Try each thing without leaving a trace, switch on forwarding, and say what is missing."""
    missing: list[str] = []
    if overlay is None or netfilter is None:
        return Capabilities(
            nft=False, vxlan=False, keep_source=False, conntrack=False,
            missing=("the kernel gives this process no netlink socket; run the daemon as root",),
        )  # fmt: skip
    nft = await _loads(
        (IP,), port, False, missing, "published ports are served by the slower user-space proxy"
    )
    keep = nft and await _loads(
        (IP,), port, True, missing,
        "containers see the address of the node that took a connection, not the client's",
    )  # fmt: skip
    vxlan = await asyncio.to_thread(overlay.possible)
    if not vxlan:
        missing.append(
            "the kernel cannot make VXLAN devices; containers of other nodes are out of reach "
            "(load the module vxlan and give the daemon CAP_NET_ADMIN)"
        )
    tracking = await asyncio.to_thread(_tracks, netfilter)
    if not tracking:
        missing.append(
            "connection tracking cannot be read; stopping tasks are given their whole drain time "
            "(load the module nf_conntrack_netlink)"
        )
    missing += await asyncio.to_thread(_settings)
    six = await _ipv6(port, keep, missing, nft=nft)
    return Capabilities(
        nft=nft, vxlan=vxlan, keep_source=keep and vxlan, conntrack=tracking, ipv6=six,
        sctp=nft and _SCTP_TRACKED.exists(), missing=tuple(missing),
    )  # fmt: skip


async def _ipv6(port: int, keep: bool, missing: list[str], *, nft: bool) -> bool:
    if why := await asyncio.to_thread(ipv6.prepare):
        missing.append(why)
        return False
    return not nft or await _loads((IP6,), port, keep, missing, "containers have IPv4 addresses only")


async def _loads(
    families: tuple[Family, ...], port: int, keep_source: bool, missing: list[str], consequence: str
) -> bool:
    text, _ = ruleset.base(families, ruleset.Options(port=port, device="lo", keep_source=keep_source))
    try:
        await ruleset.load(text, dry_run=True)
    except Unavailable as error:
        missing.append(f"{error}; {consequence}")
        return False
    return True


def _tracks(netfilter: Netlink) -> bool:
    try:
        ct.flows_to(netfilter, "127.0.0.1")
    except OSError:
        return False
    return True


def _settings() -> list[str]:
    # with conntrack's 120 s a node is out of entries at 2,000 new connections a second
    write_setting("net/netfilter/nf_conntrack_tcp_timeout_time_wait", _TIME_WAIT_SECONDS)
    raise_settings()
    if write_setting("net/ipv4/ip_forward", 1):
        return []
    return ["net.ipv4.ip_forward cannot be set to 1; this node passes no traffic on to its containers"]
