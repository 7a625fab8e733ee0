"""Networks of the swarm: what users ask for, which addresses were given, and what a task has of them.

Addresses are text, IPv4 or IPv6; a list of them holds at most one of each family, IPv4 first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

PREDEFINED = ("bridge", "host", "none")
"""Networks that every node has of its own, without a row: the node's, the machine's, and only loopback."""

MTU = "com.docker.network.driver.mtu"
"""The option of a network that says how large its packets may be, bytes."""


class SubnetSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One prefix of a network, as ``10.0.5.0/24``.  ``gateway`` empty: its first address; it is never given
    to a task.  ``ip_range``: addresses are taken from there.  ``reserved``: name → address that nobody gets
    (Docker's auxiliary addresses)."""

    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    reserved: dict[str, str] = {}


class NetworkSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A network as its user wrote it.

    ``driver`` empty: overlay.  Without ``subnets`` one is taken from the swarm's pool.  ``attachable``:
    single containers may join.  ``internal``: no way out.  ``encrypted``: what goes between nodes is.
    ``ipv6``: it has an IPv6 prefix, too.  ``options``: as ``com.docker.network.driver.mtu``.
    """

    name: str = ""
    labels: dict[str, str] = {}
    driver: str = ""
    attachable: bool = False
    internal: bool = False
    encrypted: bool = False
    ipv6: bool = False
    subnets: tuple[SubnetSpec, ...] = ()
    options: dict[str, str] = {}


class NetworkAttachment(msgspec.Struct, frozen=True, kw_only=True):
    """``--network`` of a service.  ``target``: id of the network, or one of ``PREDEFINED``.

    ``aliases`` are more names of the service there.  ``vip``: the virtual address it is to have, if not any.
    ``addresses``: the one of slot 1, of slot 2, …; slots beyond get any.
    """

    target: str = ""
    aliases: tuple[str, ...] = ()
    vip: str = ""
    addresses: tuple[str, ...] = ()
    options: dict[str, str] = {}


_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")


def is_alias(text: str) -> bool:
    """Whether it can be a further name in a network."""
    return _ALIAS.fullmatch(text) is not None


def attachments(networks: Iterable[NetworkAttachment]) -> tuple[NetworkAttachment, ...]:
    """Those to networks of the swarm."""
    return tuple(one for one in networks if one.target not in PREDEFINED)


class VirtualIp(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses under which a service answers in a network."""

    network_id: str
    addresses: tuple[str, ...] = ()


class TaskNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """A task's addresses in a network."""

    network_id: str
    addresses: tuple[str, ...] = ()


class ContainerNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """A single container's addresses in a network, and its further names there."""

    network_id: str
    addresses: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
