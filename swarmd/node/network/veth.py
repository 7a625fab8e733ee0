"""Gives a container its interface: a routed pair of virtual Ethernet devices, no bridge.

The container has one /32 address and a default route to a link-local gateway whose MAC it is told; the node
has a /32 route and a fixed neighbour entry.  Nobody ever asks for an address.  Calls block briefly.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable

from swarmd.model.errors import Conflict
from swarmd.node.network import namespace, rtnl
from swarmd.node.network.core.addresses import GATEWAY, GATEWAY_MAC, container_mac
from swarmd.node.network.ruleset import VETH_GROUP
from swarmd.node.network.wire import Message, Netlink

INSIDE = "eth0"
_LOOPBACK = 1


def interface_name(index: int) -> str:
    """The node's end of the pair for the container at this place of the node's block."""
    return f"r{index}"


def create(netlink: Netlink, name: str, pid: int, address: str, mtu: int) -> None:
    """Make and configure both ends.  On any failure nothing is left.

    Raises :class:`NotFound` for a dead process, :class:`Conflict` when either name is in use.
    """
    inside = namespace.open_namespace(pid)
    try:
        make = rtnl.veth_add(
            name, mac=GATEWAY_MAC, peer=INSIDE, peer_mac=container_mac(address),
            peer_namespace=inside, mtu=mtu, group=VETH_GROUP,
        )  # fmt: skip
        if number := netlink.each([make])[0]:
            raise _refusal(number, name, pid)
        try:
            _configure_node(netlink, name, address)
            _configure_container(inside, address)
        except OSError:
            delete(netlink, name)
            raise
    finally:
        os.close(inside)


def _refusal(number: int, name: str, pid: int) -> Exception:
    if number == errno.EEXIST:
        return Conflict(
            f"an interface {name} (here) or {INSIDE} (in the network of process {pid}) is there already"
        )
    return OSError(number, f"the kernel refused the interface {name}: {os.strerror(number)}")


def _configure_node(netlink: Netlink, name: str, address: str) -> None:
    index = rtnl.read_link(netlink.ask(rtnl.link_get(name))[0][1]).index
    netlink.must(rtnl.link_up(index), *towards(index, address))


def towards(index: int, address: str) -> tuple[Message, ...]:
    """On the node: the way to this address by the interface ``index``."""
    mac = container_mac(address)
    return rtnl.neighbour_add(index, address, mac), rtnl.route_add(address, 32, index)


def _configure_container(inside: int, address: str) -> None:
    with contextlib.closing(namespace.netlink_inside(inside)) as netlink:
        index = rtnl.read_link(netlink.ask(rtnl.link_get(INSIDE))[0][1]).index
        netlink.must(
            rtnl.link_up(_LOOPBACK),
            rtnl.address_add(index, address),
            rtnl.link_up(index),
            rtnl.neighbour_add(index, GATEWAY, GATEWAY_MAC),
            rtnl.route_add(GATEWAY, 32, index),
            rtnl.route_add("0.0.0.0", 0, index, via=GATEWAY),
        )


def delete(netlink: Netlink, *names: str) -> None:
    """Remove the pairs with these node ends; one that is gone is no error."""
    netlink.must(*(rtnl.link_delete(name) for name in names), allow=(errno.ENODEV,))


def is_ours(netlink: Netlink, name: str) -> bool:
    """Whether there is a node end of this name that we (or an earlier daemon) made."""
    try:
        replies = netlink.ask(rtnl.link_get(name))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return False
        raise
    return rtnl.read_link(replies[0][1]).group == VETH_GROUP


def existing(netlink: Netlink) -> Iterable[str]:
    """The node ends of all our pairs, whoever made them."""
    links = (rtnl.read_link(body) for _, body in netlink.ask(rtnl.link_list()))
    return [link.name for link in links if link.group == VETH_GROUP]
