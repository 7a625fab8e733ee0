"""What a local cluster consists of, decided before anything is made.

Pure: names, addresses and paths follow from the cluster's name, its size and the networks this machine
already knows.  The answer is a :class:`Cluster`, which is also what ``cluster.json`` holds.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from swarmd.model.errors import Conflict, Invalid, NotFound

MAX_NODES = 200
MAX_NAME = 11  # "swl-" + name must fit into the 15 characters of a link's name
MAX_SOCKET_PATH = 107  # bytes of a unix socket's address, without the closing zero
FIRST_HOST = 11  # node1 is .11, so that the last digit tells the node

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_POOL = ipaddress.IPv4Network("172.30.0.0/16")

Role = Literal["manager", "worker"]
Ended = Literal["", "stopped", "killed"]


class Process(msgspec.Struct, frozen=True):
    """A process that cannot be mistaken for a later one with the same number.

    ``started`` is in clock ticks since boot (field 22 of ``/proc/PID/stat``), ``boot`` the machine's boot id.
    """

    pid: int
    started: int
    boot: str


class Node(msgspec.Struct, frozen=True):
    """One node: what it is (name, address, role) and what was made for it.

    ``process`` is its pid 1 as this machine sees it; ``ended`` says how the last one was ended on purpose;
    ``cut`` is the state of its cable; ``cgroups`` its directory in every hierarchy.
    """

    name: str
    address: str
    role: Role
    process: Process | None = None
    ended: Ended = ""
    cut: bool = False
    cgroups: tuple[str, ...] = ()

    @property
    def mac(self) -> str:
        """The hardware address, from the IPv4 one: a node that is back is known to its neighbours at once."""
        return "02:fd:" + ipaddress.IPv4Address(self.address).packed.hex(":")


class Cluster(msgspec.Struct, frozen=True):
    """A local cluster.  ``daemon`` is the command of each node's daemon, see :func:`daemon_argv`.

    ``complete`` is false from the first thing made until every node was Ready.
    """

    name: str
    subnet: str
    nodes: tuple[Node, ...]
    daemon: tuple[str, ...]
    complete: bool = False

    @property
    def link(self) -> str:
        """The link of this machine that leads to the nodes."""
        return f"swl-{self.name}"

    @property
    def gateway(self) -> str:
        """This machine's own address among the nodes."""
        return str(ipaddress.ip_network(self.subnet)[1])

    @property
    def prefix(self) -> int:
        """The length of the subnet's prefix in bits."""
        return ipaddress.ip_network(self.subnet).prefixlen

    def node(self, name: str) -> Node:
        """The node called ``name``; :class:`NotFound` names those there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise NotFound(f'The local cluster "{self.name}" has no node "{name}"; its nodes are: {names}.')

    def with_node(self, changed: Node) -> Cluster:
        """The cluster with the node of that name replaced."""
        nodes = tuple(changed if node.name == changed.name else node for node in self.nodes)
        return msgspec.structs.replace(self, nodes=nodes)

    def context(self, node: Node) -> str:
        """The name of the swarmctl context for ``node``."""
        return f"{self.name}-{node.name}"


class Paths(msgspec.Struct, frozen=True):
    """Where a node keeps its things; the same absolute paths inside and outside of it."""

    home: str

    @property
    def data(self) -> str:
        return f"{self.home}/data"

    @property
    def run(self) -> str:
        return f"{self.home}/run"

    @property
    def etc(self) -> str:
        return f"{self.home}/etc"

    @property
    def logs(self) -> str:
        return f"{self.home}/log"

    @property
    def daemon_log(self) -> str:
        """What the daemon logs."""
        return f"{self.logs}/swarmd.log"

    @property
    def node_log(self) -> str:
        """What the node's pid 1 says, and what the daemon prints besides its log."""
        return f"{self.logs}/node.log"

    @property
    def socket(self) -> str:
        """The daemon's API."""
        return f"{self.run}/swarmd.sock"


def check_name(name: str) -> None:
    """:class:`Invalid` unless ``name`` can be a cluster's name."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise Invalid(
            f'The name "{name}" cannot be used for a local cluster: take 1 to {MAX_NAME} lower case letters, '
            "digits and hyphens, with a letter or digit at both ends."
        )


def check_size(nodes: int, managers: int) -> None:
    """:class:`Invalid` unless a cluster of that size can be made."""
    if not 1 <= nodes <= MAX_NODES:
        raise Invalid(f"--nodes is {nodes}; a local cluster has 1 to {MAX_NODES} nodes.")
    if not 1 <= managers <= nodes:
        raise Invalid(f"--managers is {managers}; of {nodes} nodes, 1 to {nodes} can be managers.")


def check_root(root: str) -> None:
    """:class:`Invalid` unless nodes can keep their state below ``root``."""
    longest = Paths(home=f"{root}/{'n' * MAX_NAME}/node{MAX_NODES}").socket
    if not root.startswith("/"):
        raise Invalid(f'SWARMD_LOCAL_ROOT is "{root}"; it must be an absolute path.')
    if f"{root}/".startswith(("/run/", "/var/run/", "/proc/", "/sys/", "/dev/")):
        raise Invalid(
            f'SWARMD_LOCAL_ROOT is "{root}"; every node has a {root[:4]}… of its own: choose another.'
        )
    if len(longest.encode()) > MAX_SOCKET_PATH:
        spare = MAX_SOCKET_PATH - len(longest.encode()) + len(root.encode())
        raise Invalid(
            f'SWARMD_LOCAL_ROOT is "{root}"; it may have at most {spare} bytes, or the API sockets below it '
            "could not be opened."
        )


def free_subnet(taken: Iterable[str]) -> str:
    """The first /24 of 172.30.0.0/16 that overlaps none of ``taken`` (networks or addresses).

    172.30.0.0/24 itself is left alone, others use it first too.
    """
    used = [ipaddress.IPv4Network(network, strict=False) for network in taken]
    for subnet in list(_POOL.subnets(new_prefix=24))[1:]:
        if not any(subnet.overlaps(other) for other in used):
            return str(subnet)
    raise Conflict(
        f"No /24 of {_POOL} is free on this machine: its routes and other local clusters use all of it."
    )


def plan_cluster(
    name: str, *, nodes: int, managers: int, taken: Iterable[str], daemon: tuple[str, ...]
) -> Cluster:
    """The cluster to make: ``node1`` … with addresses .11 …, the first ``managers`` of them managers."""
    check_name(name)
    check_size(nodes, managers)
    subnet = free_subnet(taken)
    hosts = ipaddress.ip_network(subnet)
    return Cluster(
        name=name,
        subnet=subnet,
        daemon=daemon,
        nodes=tuple(
            Node(
                name=f"node{i + 1}",
                address=str(hosts[FIRST_HOST + i]),
                role="manager" if i < managers else "worker",
            )
            for i in range(nodes)
        ),
    )


def daemon_argv(cluster: Cluster, node: Node, paths: Paths) -> list[str]:
    """The daemon's command line: ``{data}``, ``{run}``, ``{log}``, ``{name}`` and ``{address}`` filled in."""
    values = {
        "{data}": paths.data,
        "{run}": paths.run,
        "{log}": paths.daemon_log,
        "{name}": node.name,
        "{address}": node.address,
    }
    return [re.sub(r"\{[a-z]+\}", lambda m: values.get(m[0], m[0]), word) for word in cluster.daemon]


def etc_files(cluster: Cluster, node: Node) -> dict[str, str]:
    """The node's own files in /etc: name → content.

    Without a resolver that answers, look-ups must fail at once instead of waiting for a time-out: nothing
    listens at 127.0.0.1, so the kernel refuses them.
    """
    hosts = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    hosts += [f"{other.address}\t{other.name}" for other in cluster.nodes]
    return {
        "hostname": f"{node.name}\n",
        "hosts": "\n".join(hosts) + "\n",
        "resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    }
