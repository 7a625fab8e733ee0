"""What a node is told about the swarm's network, and what it can be asked to do about it.

The agent hands :class:`NetworkState` snapshots down; the runtime asks for addresses.  Nothing here knows
of nftables, VXLAN or sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from msgspec import Struct

from swarmd.node.network.core.papers import Papers
from swarmd.node.network.measures import Traffic

Transport = Literal["tcp", "udp", "sctp"]


class NodeView(Struct, frozen=True):
    """One node of the swarm as the others reach it.

    ``number`` (1..16383) is unique in the swarm and gives the overlay MAC; ``address`` is the node's
    underlay IPv4 address; ``block`` the /24 its containers live in, such as ``"10.128.7.0/24"``.
    """

    id: str
    number: int
    address: str
    block: str
    alive: bool = True


class Backend(Struct, frozen=True):
    """One task that answers for a published port: container address and target port, on one node."""

    task_id: str
    address: str
    port: int
    node_id: str
    address6: str = ""


class PublishedPort(Struct, frozen=True):
    """A port that every node answers on.  Without backends a connection is refused at once.

    ``host_ip``: only on this address, or on this interface.  ``allow``: prefixes of clients, empty: all.
    ``sticky``: by client address.  ``source``: what containers see as the client's address: keep (or empty),
    masquerade or proxy-protocol."""

    service_id: str
    service_name: str
    protocol: Transport
    port: int
    backends: tuple[Backend, ...]
    host_ip: str = ""
    allow: tuple[str, ...] = ()
    sticky: bool = False
    source: str = ""


class HttpRoute(Struct, frozen=True):
    """HTTP for a host name (``*.example.com``: all below; empty: any) and a path prefix, on a port that
    services share.  ``tls``: id of a :class:`Certificate`; empty: without TLS."""

    service_id: str
    service_name: str
    port: int
    host: str
    path: str
    tls: str
    backends: tuple[Backend, ...]


class Certificate(Struct, frozen=True):
    """A certificate with its chain and key, in PEM."""

    id: str
    pem: bytes


class NetworkView(Struct, frozen=True):
    """A network that tasks of this node are in.  ``mtu`` 0: what the overlay allows."""

    id: str
    name: str
    subnets: tuple[str, ...]
    internal: bool = False
    encrypted: bool = False
    mtu: int = 0


class ServiceView(Struct, frozen=True):
    """A service in one of these networks.  ``addresses``: virtual ones, by family; none: names lead to the
    addresses of its tasks."""

    id: str
    name: str
    network_id: str
    addresses: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


class Endpoint(Struct, frozen=True):
    """A task in one of these networks, with its addresses there (IPv4 first).

    ``up``: it runs and may be sent requests.  ``name``: ``SERVICE.SLOT.TASK``.  A single container has no
    ``service_id``."""

    task_id: str
    name: str
    service_id: str
    slot: int
    node_id: str
    network_id: str
    addresses: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    up: bool = True


class NetworkState(Struct, frozen=True):
    """Everything a node must know; with ``since`` what is different from that version: ``ports`` are those of
    the services ``changed``, and the lists that ``kept`` names (nodes, networks, routes) are as they were."""

    version: int
    nodes: tuple[NodeView, ...]
    ports: tuple[PublishedPort, ...]
    networks: tuple[NetworkView, ...] = ()
    services: tuple[ServiceView, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    routes: tuple[HttpRoute, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    since: int = 0
    changed: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()


class Attachment(Struct, frozen=True):
    """A container on the network: enough to find it again after a restart of the daemon.

    ``address`` and ``address6`` are its addresses of the node's blocks (the second empty without IPv6),
    ``networks`` those in networks of the swarm, by id of the network, in the order it joined them.
    ``names`` are its own there; ``servers``: the name servers it is to use, if not the node's."""

    task_id: str
    pid: int
    address: str
    published: tuple[tuple[Transport, int], ...] = ()
    networks: tuple[tuple[str, tuple[str, ...]], ...] = ()
    address6: str = ""
    names: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()


def addresses_of(attachment: Attachment) -> tuple[str, ...]:
    """Every address of a container: at home, and in its networks."""
    homes = tuple(one for one in (attachment.address, attachment.address6) if one)
    return homes + tuple(one for _, addresses in attachment.networks for one in addresses)


class Capabilities(Struct, frozen=True):
    """What this machine can do.  ``missing`` holds one sentence for each thing it cannot.

    ``nft``: published ports are served by the kernel; otherwise all of them by the user-space proxy.
    ``vxlan``: containers of other nodes can be reached.  ``keep_source``: containers see the client's
    address also when another node took the connection; otherwise they see that node's.
    ``conntrack``: flows can be counted and deleted.  ``ipv6``: containers have IPv6 addresses, too.
    ``sctp``: the kernel can pass it on."""

    nft: bool
    vxlan: bool
    keep_source: bool
    conntrack: bool
    ipv6: bool = False
    sctp: bool = False
    missing: tuple[str, ...] = ()


class NetworkPort(Protocol):
    """The node's network as the agent and the runtime see it."""

    async def start(self) -> Capabilities:
        """Probe the machine and prepare it.  Must come first; never raises for what is merely missing."""
        ...

    def identify(self, papers: Callable[[], Papers]) -> None:
        """Who this node is to others; asked at each moment, because certificates are renewed."""

    async def configure(self, self_node: NodeView, *, mtu: int | None = None) -> None:
        """Become ``self_node``: overlay device, base ruleset.  ``mtu`` (bytes) is the underlay's; by
        default it is read from the device that carries ``self_node.address``.  Idempotent.

        Raises :class:`Invalid` for a bad view, :class:`Unavailable` when the kernel refuses.
        """
        ...

    async def apply(self, state: NetworkState) -> None:
        """Make the node match ``state``.  Serialised: those that wait become one; an older one is nothing."""
        ...

    def mask(self, node_ids: Iterable[str]) -> None:
        """From now on leave out backends on these nodes (all of them: each call replaces the last)."""
        ...

    async def attach(
        self,
        task_id: str,
        pid: int,
        *,
        published: tuple[tuple[Transport, int], ...] = (),
        address: str | None = None,
        networks: tuple[tuple[str, tuple[str, ...]], ...] = (),
        names: tuple[str, ...] = (),
        servers: tuple[str, ...] = (),
    ) -> str:
        """Give the network namespace of ``pid`` its ``eth0``; answers the IPv4 address.

        ``published`` lists (protocol, target port) that other nodes may reach.  ``address`` asks for the
        one that was answered before.  ``networks``, ``names`` and ``servers`` are as in :class:`Attachment`.
        Attaching a task again with the same process changes nothing but these.

        Raises :class:`Conflict` (address held by another task), :class:`Unavailable` (block full, kernel
        refuses), :class:`NotFound` (no such process), :class:`Refused` (not configured yet).
        """
        ...

    async def detach(self, task_id: str) -> None:
        """Take the interface and the address away again.  An unknown task is no error."""
        ...

    def attachment(self, task_id: str) -> Attachment | None:
        """The task's container on the network, if it is there."""
        ...

    def attached(self) -> tuple[Attachment, ...]:
        """The containers on the network now, in order of address."""
        ...

    async def restore(self, attachments: Iterable[Attachment]) -> tuple[str, ...]:
        """After a restart: take over the interfaces that still exist, remove those nobody names.

        Answers the ids of the tasks whose interface is gone.
        """
        ...

    async def listening(self, pid: int, protocol: Transport, port: int) -> bool:
        """Whether anything listens on ``port`` in the network namespace of ``pid``."""
        ...

    async def connections(self, task_id: str) -> int | None:
        """How many connections to the task are open, by any of its addresses; an unknown task has none.

        None: this machine cannot tell.  The kernel walks its whole table: about 10 ms with 262,144 buckets.
        """
        ...

    async def audit(self) -> tuple[str, ...]:
        """Every difference between the kernel's state and what the last snapshot and the attachments ask
        for, one sentence each; of many alike the first few and a count.  Nothing is mended by it.

        Raises :class:`Unavailable` when the kernel cannot be read.
        """
        ...

    def problems(self) -> tuple[str, ...]:
        """What does not work now, as sentences (a taken port, a ruleset that cannot be loaded)."""
        ...

    async def traffic(self) -> Traffic:
        """What came to each published port, and went through here.  Loading the rules begins counts anew."""
        ...

    def limits(self) -> tuple[str, ...]:
        """What this machine cannot do at all, as sentences: what :meth:`start` found missing."""
        ...

    def applied(self) -> tuple[int, bool]:
        """The version of the newest snapshot (0: none), and whether the kernel has been given all of it."""
        ...

    async def stop(self, *, clean: bool) -> None:
        """Stop serving.  ``clean`` also removes devices, routes and rules; otherwise the kernel keeps
        forwarding while the daemon restarts."""
        ...
