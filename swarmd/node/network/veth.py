"""Gives a container its interface: a routed pair of virtual Ethernet devices, no bridge.

The container has single addresses, one for each network it is in, and routes to a link-local gateway whose
MAC it is told; the node has a route and a fixed neighbour entry for each address.  Nobody ever asks for an
address, and neither end makes itself one.  Calls block briefly.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterable, Sequence

from swarmd.model.errors import Conflict
from swarmd.node.network import namespace, rtnl
from swarmd.node.network.core.addresses import GATEWAY, GATEWAY6, GATEWAY_MAC
from swarmd.node.network.core.sources import Source
from swarmd.node.network.ruleset import VETH_GROUP
from swarmd.node.network.settings import deaf
from swarmd.node.network.wire import Message, Netlink

INSIDE = "eth0"
_LOOPBACK = 1
_LOOKS, _PAUSE = 500, 0.002
_NO_IPV6 = (errno.EACCES, errno.EOPNOTSUPP, errno.EAFNOSUPPORT)
"""What the kernel answers where IPv6 is switched off for a network namespace, or is not there."""
_GONE = (errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL)


def interface_name(index: int) -> str:
    """The node's end of the pair for the container at this place of the node's block."""
    return f"r{index}"


def create(
    netlink: Netlink, name: str, pid: int, sources: Sequence[Source], *, mac: bytes, mtu: int
) -> tuple[Source, ...]:
    """Make and configure both ends; answers the addresses the container has now: those of IPv6 only if it is
    not switched off there.  On any failure nothing is left.

    Raises :class:`NotFound` for a dead process, :class:`Conflict` when either name is in use.
    """
    inside = namespace.open_namespace(pid)
    try:
        make = rtnl.veth_add(
            name, mac=GATEWAY_MAC, peer=INSIDE, peer_mac=mac, peer_namespace=inside, mtu=mtu, group=VETH_GROUP
        )
        if number := netlink.each([make])[0]:
            raise _refusal(number, name, pid)
        try:
            with contextlib.closing(namespace.netlink_inside(inside)) as there:
                given = _configure_container(there, sources)
                _configure_node(netlink, name, given, mac)
                _until_it_carries(there)
        except OSError:
            delete(netlink, name)
            raise
        return given
    finally:
        os.close(inside)


def _refusal(number: int, name: str, pid: int) -> Exception:
    if number == errno.EEXIST:
        return Conflict(
            f"an interface {name} (here) or {INSIDE} (in the network of process {pid}) is there already"
        )
    return OSError(number, f"the kernel refused the interface {name}: {os.strerror(number)}")


def _configure_node(netlink: Netlink, name: str, sources: Iterable[Source], mac: bytes) -> None:
    index = _index(netlink, name)
    netlink.each([rtnl.without_link_local(index)])  # a kernel without IPv6 does not know it
    deaf(name)
    netlink.must(rtnl.link_up(index))
    netlink.must(*(message for source in sources for message in towards(index, source.address, mac)))


def _configure_container(netlink: Netlink, sources: Sequence[Source]) -> tuple[Source, ...]:
    index = _index(netlink, INSIDE)
    netlink.each([rtnl.without_link_local(index)])
    netlink.must(
        rtnl.link_up(_LOOPBACK),
        rtnl.link_up(index),
        rtnl.neighbour_add(index, GATEWAY, GATEWAY_MAC),
        rtnl.route_add(GATEWAY, 32, index),
    )
    return _give(netlink, index, sources)


def _until_it_carries(netlink: Netlink) -> None:
    """The end that came up first drops what it is to send until a worker of the kernel has noticed that the
    other is up, a moment later or many.  Kernels from 6.8 on see to it when they are asked; none takes a
    second."""
    for _ in range(_LOOKS):
        if rtnl.read_link(netlink.ask(rtnl.link_get(INSIDE))[0][1]).carries:
            return
        threading.Event().wait(_PAUSE)


def _give(netlink: Netlink, index: int, sources: Iterable[Source]) -> tuple[Source, ...]:
    """Add these addresses inside, as far as the container has their family."""
    given = []
    for source in sources:
        number = netlink.each([rtnl.address_add(index, source.address)])[0]
        if number in _NO_IPV6 and source.is_ipv6:
            continue
        if number:
            raise OSError(number, os.strerror(number))
        if source.is_ipv6:
            netlink.must(rtnl.neighbour_add(index, GATEWAY6, GATEWAY_MAC))
        netlink.must(*_outwards(index, source))
        given.append(source)
    return tuple(given)


def _outwards(index: int, source: Source) -> list[Message]:
    """Inside: what goes to these prefixes comes from this address."""
    via = GATEWAY6 if source.is_ipv6 else GATEWAY
    return [
        rtnl.route_add(*target, index, via=via, source=source.address, mtu=source.mtu)
        for target in source.targets()
    ]


def towards(index: int, address: str, mac: bytes) -> tuple[Message, ...]:
    """On the node: the way to this address by the interface ``index``."""
    route = rtnl.route_add(address, rtnl.length(address), index)
    return rtnl.neighbour_add(index, address, mac), route


def change(
    netlink: Netlink, name: str, pid: int, *, remove: Iterable[Source], add: Iterable[Source], mac: bytes
) -> tuple[Source, ...]:
    """Take addresses from a container and give it others; answers those it got.  Its connections from
    addresses that stay go on."""
    inside = namespace.open_namespace(pid)
    try:
        with contextlib.closing(namespace.netlink_inside(inside)) as there:
            index = _index(there, INSIDE)
            for source in remove:
                via = GATEWAY6 if source.is_ipv6 else GATEWAY
                gone = [rtnl.route_delete(*target, index, via=via) for target in source.targets()]
                there.must(*gone, rtnl.address_delete(index, source.address), allow=_GONE)
            given = _give(there, index, add)
    finally:
        os.close(inside)
    index = _index(netlink, name)
    for source in remove:
        address = source.address
        netlink.must(
            rtnl.route_delete(address, rtnl.length(address), index),
            rtnl.neighbour_delete(index, address),
            allow=_GONE,
        )
    netlink.must(*(message for source in given for message in towards(index, source.address, mac)))
    return given


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


def _index(netlink: Netlink, name: str) -> int:
    return rtnl.read_link(netlink.ask(rtnl.link_get(name))[0][1]).index
