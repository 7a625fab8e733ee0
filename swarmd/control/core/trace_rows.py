"""What a trace goes by: the swarm's rows, what the source's node said, and whose an address is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Literal

import msgspec

from swarmd.model import subnets
from swarmd.model.addressing import POOL, block_of
from swarmd.model.containers import SingleContainer
from swarmd.model.errors import Invalid
from swarmd.model.network import TaskNetwork
from swarmd.model.objects import Network, Node, Service, Task, TaskStatus
from swarmd.model.states import NodeState, TaskState

Verdict = Literal["arrives", "refused", "leaves", "unknown"]
NODES6 = ip_network("fd73:7761:726d::/48")
PROTOCOLS = ("tcp", "udp", "sctp")


class Single(Task, frozen=True, kw_only=True):
    """A single container that is up, as if it were a task: of no service, under its own name.

    ``aliases``: by id of the network.
    """

    aliases: Mapping[str, tuple[str, ...]] = {}

    @property
    def name(self) -> str:
        return self.service_name


def single(row: SingleContainer) -> Single:
    """What a trace needs to know of it."""
    return Single(
        id=row.id,
        service_id="",
        service_name=row.name,
        spec_version=0,
        node_id=row.node_id,
        status=TaskStatus(state=TaskState.RUNNING),
        networks=tuple(
            TaskNetwork(network_id=one.network_id, addresses=one.addresses) for one in row.networks
        ),
        aliases={one.network_id: one.aliases for one in row.networks},
    )


class Rows(msgspec.Struct, frozen=True):
    """Rows by id; ``tasks``: those that have not ended, and single containers."""

    nodes: Mapping[str, Node]
    services: Mapping[str, Service]
    networks: Mapping[str, Network]
    tasks: Sequence[Task]

    def hostname(self, node_id: str) -> str:
        node = self.nodes.get(node_id)
        return (node.description.hostname or node.id) if node else node_id

    def network_name(self, network_id: str) -> str:
        network = self.networks.get(network_id)
        return network.name if network else network_id

    def is_encrypted(self, task: Task, address: str) -> bool:
        """Whether the task has that address in a network whose packets are encrypted between nodes."""
        theirs = (self.networks.get(one.network_id) for one in task.networks if address in one.addresses)
        return any(network is not None and network.spec.encrypted for network in theirs)

    def is_up(self, task: Task) -> bool:
        """It is sent requests, as :mod:`swarmd.manager.dispatcher.core.mesh` decides it."""
        node = self.nodes.get(task.node_id)
        return (
            task.state is TaskState.RUNNING
            and task.desired_state is TaskState.RUNNING
            and not task.status.unready
            and node is not None
            and node.status.state is not NodeState.DOWN
        )

    def of_service(self, service_id: str, *, up: bool = True) -> list[Task]:
        found = [task for task in self.tasks if task.service_id == service_id]
        return sorted((t for t in found if self.is_up(t) or not up), key=lambda t: (t.slot, t.id))


class Told(msgspec.Struct, frozen=True):
    """What the source's node said.  ``error``: why it said nothing."""

    error: str = ""
    snapshot: int = 0
    applied: bool = True
    audited: bool = False
    differences: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class Step(msgspec.Struct, frozen=True):
    """``kind``: as in netdiag.proto."""

    kind: str
    text: str
    refused: bool = False


class Trace(msgspec.Struct, frozen=True):
    """Where a packet goes, step by step."""

    steps: tuple[Step, ...]
    verdict: Verdict
    conclusion: str


class Destination(msgspec.Struct, frozen=True):
    """``host``: a name or an address; empty: the source's own node.  ``port`` 0: any."""

    host: str
    port: int = 0
    protocol: str = "tcp"

    @property
    def is_address(self) -> bool:
        return is_address(self.host)


class Owner(msgspec.Struct, frozen=True):
    """Whose an address is.  ``kind``: vip, task, home, node, overlay, gateway, nobody, outside, loopback."""

    kind: str
    network_id: str = ""
    service: Service | None = None
    task: Task | None = None
    node: Node | None = None


def destination(text: str) -> Destination:
    """``web``, ``web:80``, ``10.0.5.2``, ``[fd00::2]:80``, ``8080``, ``:53/udp``.  Raises Invalid."""
    rest, slash, protocol = text.strip().partition("/")
    if slash and protocol.lower() not in PROTOCOLS:
        raise Invalid(f"destination {text}: protocol {protocol} is not known; write tcp, udp or sctp")
    protocol = protocol.lower() or "tcp"
    if not rest:
        raise Invalid("the destination is empty: write a service, a task, an address, NAME:PORT or a port")
    if rest.isdecimal():
        return Destination("", _port(text, rest), protocol)
    if rest.startswith("["):
        host, _, port = rest[1:].partition("]")
        if not is_address(host) or (port and not port.startswith(":")):
            raise Invalid(f"destination {text}: write an IPv6 address with a port as [fd00::2]:80")
        return Destination(_same(host), _port(text, port[1:]) if port else 0, protocol)
    if is_address(rest):
        return Destination(_same(rest), 0, protocol)
    host, colon, port = rest.rpartition(":")
    if not colon:
        return Destination(rest, 0, protocol)
    return Destination(_same(host), _port(text, port), protocol)


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def owner(rows: Rows, address: str) -> Owner:
    """Whose ``address`` is, in the swarm's networks or of its nodes."""
    parsed = ip_address(address)
    if parsed.is_loopback:
        return Owner("loopback")
    taken = _of_service(rows, address) or _of_task(rows, address) or _of_node(rows, address)
    if taken is not None:
        return taken
    for network in rows.networks.values():
        for subnet in network.subnets:
            if parsed in ip_network(subnet.subnet, strict=False):
                return Owner("gateway" if address == subnets.gateway(subnet) else "nobody", network.id)
    return Owner("nobody" if parsed in POOL or parsed in NODES6 else "outside")


def _of_service(rows: Rows, address: str) -> Owner | None:
    for service in rows.services.values():
        for vip in service.vips:
            if address in vip.addresses:
                return Owner("vip", vip.network_id, service=service)
    return None


def _of_task(rows: Rows, address: str) -> Owner | None:
    for task in rows.tasks:
        network_id = network_of(task.networks, address)
        if network_id:
            return Owner("task", network_id, task=task)
        if address in (task.status.address, task.status.address6):
            return Owner("home", task=task)
    return None


def _of_node(rows: Rows, address: str) -> Owner | None:
    for node in rows.nodes.values():
        if address == node.status.address:
            return Owner("node", node=node)
        if node.number and address == overlay_address(node):
            return Owner("overlay", node=node)
    return None


def network_of(networks: Iterable[TaskNetwork], address: str) -> str:
    """The network in which a task has that address; "" when in none."""
    return next((one.network_id for one in networks if address in one.addresses), "")


def overlay_address(node: Node) -> str:
    """The node's own address inside the overlay: the first of its block."""
    return str(ip_network(block_of(node.number)).network_address)


def listed(texts: Sequence[str], most: int = 10) -> str:
    """``a, b and 3 more``."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def _same(host: str) -> str:
    """An address as the rows spell it."""
    return str(ip_address(host)) if is_address(host) else host


def _port(text: str, port: str) -> int:
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise Invalid(f"destination {text}: port {port or '(empty)'} is no number from 1 to 65535")
    return int(port)
