"""What this node can find out about its own network and about its ways to other nodes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from swarmd.kit.supervise import together
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.node.network.echo import Echo
from swarmd.node.network.overlay import Overlay
from swarmd.node.network.port import NetworkPort
from swarmd.node.network.ruleset import OVERLAY
from swarmd.node.network.wire import ROUTE, Netlink
from swarmd.rpc.v1 import netdiag_pb2 as pb

NODE_PORT = 7946
CONNECT_LIMIT = 3.0
"""Seconds for another node to take a TCP connection."""

NOT_TRIED = -1
_SIOCGIFMTU = 0x8921
_CONNTRACK = Path("/proc/sys/net/netfilter")


class Diagnosis:
    """``address``: this node's; ``overlay``: the one inside the overlay; both empty while it is in no swarm.

    ``gossip``: state of each node as this one's gossip has it.
    """

    def __init__(
        self,
        network: NetworkPort,
        *,
        address: str,
        overlay: str,
        gossip: Callable[[], Mapping[str, str]],
        port: int = NODE_PORT,
    ) -> None:
        self._network = network
        self._address = address
        self._overlay = overlay
        self._gossip = gossip
        self._port = port

    async def run(self, request: pb.ExamineNodeRequest) -> pb.ExamineNodeResponse:
        """A report; takes a few seconds when ways are to be tried, nearly none otherwise."""
        report = await self._about_itself()
        if request.targets:
            report.ways.extend(await self._ways(list(request.targets), report))
        return report

    async def _about_itself(self) -> pb.ExamineNodeResponse:
        version, applied = self._network.applied()
        report = pb.ExamineNodeResponse(
            snapshot=version,
            applied=applied,
            problems=self._network.problems(),
            limits=self._network.limits(),
        )
        await self._audit(report)
        report.conntrack = _number(_CONNTRACK / "nf_conntrack_count")
        report.conntrack_max = _number(_CONNTRACK / "nf_conntrack_max")
        report.overlay_mtu = device_mtu(OVERLAY)
        try:
            report.underlay_mtu = await asyncio.to_thread(_underlay_mtu, self._address)
        except (OSError, SwarmError) as error:
            report.unchecked.append(f"the MTU of the interface with {self._address} cannot be read: {error}")
        return report

    async def _audit(self, report: pb.ExamineNodeResponse) -> None:
        try:
            found = await self._network.audit()
            report.differences.extend(one for one in found if one not in report.problems)
            report.audited = True
        except SwarmError as error:
            report.unchecked.append(f"whether the kernel's rules equal the snapshot: {error}")

    async def _ways(
        self, targets: list[pb.ExamineTarget], report: pb.ExamineNodeResponse
    ) -> list[pb.WayReport]:
        underlay, overlay, ports = await together(
            self._largest(self._address, [one.address for one in targets], report.underlay_mtu, report),
            self._largest(self._overlay, [one.overlay for one in targets], report.overlay_mtu, report),
            self._ports([one.address for one in targets]),
        )
        gossip = self._gossip()
        return [
            pb.WayReport(
                node_id=one.node_id,
                node_port=str(ports[one.address]),
                gossip=gossip.get(one.node_id, ""),
                underlay=int(underlay.get(one.address, NOT_TRIED)),
                overlay=int(overlay.get(one.overlay, NOT_TRIED)),
            )
            for one in targets
        ]

    async def _largest(
        self, source: str, targets: Iterable[str], most: int, report: pb.ExamineNodeResponse
    ) -> dict[str, int | str]:
        if not source or not most:
            return {}
        try:
            echo = Echo(source)
        except Unavailable as error:
            report.unchecked.append(f"which sizes of packets pass from {source}: {error}")
            return {}
        try:
            return dict(await asyncio.to_thread(echo.largest, targets, most))
        finally:
            echo.close()

    async def _ports(self, addresses: Sequence[str]) -> dict[str, int | str]:
        answers = await together(*(self._refusal(address) for address in addresses))
        return dict(zip(addresses, answers, strict=True))

    async def _refusal(self, address: str) -> str:
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                _, writer = await asyncio.open_connection(address, self._port)
        except TimeoutError:
            return f"no answer within {CONNECT_LIMIT:.0f} s"
        except OSError as error:
            return (error.strerror or str(error)).lower()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return ""


def device_mtu(name: str) -> int:
    """In bytes; 0 when there is no such device."""
    asked = struct.pack("16sI12x", name.encode(), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, _SIOCGIFMTU, asked)
        except OSError:
            return 0
    return int(struct.unpack_from("I", answer, 16)[0])


def _underlay_mtu(address: str) -> int:
    netlink = Netlink(ROUTE)
    try:
        return Overlay(netlink, 0).underlay_mtu(address)
    finally:
        netlink.close()


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
