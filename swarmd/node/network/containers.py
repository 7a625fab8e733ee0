"""The containers of this node on the network: who has which address and interface.  Calls block briefly.

One thread at a time changes anything; whoever only asks may do so meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network

from msgspec.structs import replace

from swarmd.model.addressing import address6_of
from swarmd.model.errors import Conflict, Invalid, Refused, Unavailable
from swarmd.node.network import veth
from swarmd.node.network.core.addresses import address_at, container_mac, free_index, index_of
from swarmd.node.network.core.sources import device_mtu, kept, sources
from swarmd.node.network.port import Attachment, NetworkView, addresses_of
from swarmd.node.network.wire import Message, Netlink

_DEFAULT_MTU = 1450


class Containers:
    """Attachments by their place in the node's block, which also names the interface."""

    def __init__(self, netlink: Netlink | None) -> None:
        self._netlink = netlink
        self._block: IPv4Network | None = None
        self._mtu = _DEFAULT_MTU
        self._ipv6 = False
        self._last = 0
        self._by_index: dict[int, Attachment] = {}

    def use(self, block: IPv4Network, mtu: int, *, ipv6: bool = False) -> None:
        """Give addresses out of ``block`` from now on, with ``ipv6`` also those that go with them; not
        possible while others are in use.  ``mtu``: what fits into the underlay's packets."""
        if self._by_index and block != self._block:
            raise Refused(
                f"this node's block cannot become {block} while {len(self._by_index)} containers have "
                f"addresses of {self._block}; stop them first"
            )
        self._block, self._mtu, self._ipv6 = block, mtu, ipv6

    def all(self) -> tuple[Attachment, ...]:
        now = self._by_index.copy()
        return tuple(now[index] for index in sorted(now))

    def by_interface(self) -> dict[str, Attachment]:
        return {veth.interface_name(index): found for index, found in self._by_index.items()}

    def get(self, task_id: str) -> Attachment | None:
        now = self._by_index.copy()
        return next((found for found in now.values() if found.task_id == task_id), None)

    def entries(self, devices: Mapping[str, int]) -> list[Message]:
        """The messages that ask for what is to be there on the node's side, for interfaces that exist.

        ``devices``: their indexes by name.
        """
        known = ((devices[name], found) for name, found in self.by_interface().items() if name in devices)
        return [
            message
            for index, found in known
            for address in addresses_of(found)
            for message in veth.towards(index, address, container_mac(found.address))
        ]

    def attach(self, wanted: Attachment, networks: Mapping[str, NetworkView]) -> Attachment:
        """Make the interface; an empty address means any free one.  See :meth:`NetworkPort.attach`."""
        netlink, block = self._ready()
        known = self.get(wanted.task_id)
        if known and known.pid == wanted.pid and wanted.address in ("", known.address):
            return self._change(netlink, known, wanted, networks)
        if known:
            self.detach(wanted.task_id)
        index = self._place(block, wanted.address)
        name = veth.interface_name(index)
        if veth.is_ours(netlink, name):  # left by a container that nobody restored
            veth.delete(netlink, name)
        address = address_at(block, index)
        made = replace(wanted, address=address, address6=address6_of(address) if self._ipv6 else "")
        has = sources(made, networks, self._mtu)
        mtu = device_mtu(self._mtu, ipv6=self._ipv6)
        with _reported(wanted.task_id):
            given = veth.create(netlink, name, wanted.pid, has, mac=container_mac(address), mtu=mtu)
        self._last = index
        self._by_index[index] = made = kept(made, given)
        return made

    def _change(
        self, netlink: Netlink, known: Attachment, wanted: Attachment, networks: Mapping[str, NetworkView]
    ) -> Attachment:
        """The container stays where it is; its addresses in networks become those that are wanted now."""
        made = replace(wanted, address=known.address, address6=known.address6)
        # One that was left is perhaps not known any more, and neither are its prefixes.
        before = sources(known, _with_strangers(known, networks), self._mtu)
        after = sources(made, networks, self._mtu)
        remove = [one for one in before if one.address not in {new.address for new in after}]
        add = [one for one in after if one.address not in {old.address for old in before}]
        if remove or add:
            name = veth.interface_name(index_of(self._ready()[1], known.address))
            with _reported(wanted.task_id):
                given = veth.change(
                    netlink, name, wanted.pid, remove=remove, add=add, mac=container_mac(known.address)
                )
            made = kept(made, (*(one for one in after if one not in add), *given))
        return self._replace(made)

    def detach(self, task_id: str) -> Attachment | None:
        """Remove the interface; answers what was attached, if anything was."""
        found = self.get(task_id)
        if found:
            netlink, block = self._ready()
            index = index_of(block, found.address)
            veth.delete(netlink, veth.interface_name(index))
            del self._by_index[index]
        return found

    def restore(self, attachments: Iterable[Attachment]) -> tuple[str, ...]:
        """Take over what exists, remove the rest of ours; answers the tasks whose interface is gone."""
        netlink, block = self._ready()
        names = set(veth.existing(netlink))
        lost: list[str] = []
        for attachment in attachments:
            try:
                index = index_of(block, attachment.address)
            except Invalid:
                index = 0
            if veth.interface_name(index) in names:
                self._by_index[index] = attachment
            else:
                lost.append(attachment.task_id)
        veth.delete(netlink, *sorted(names - self.by_interface().keys()))
        self._last = max(self._by_index, default=0)
        return tuple(lost)

    def clear(self) -> None:
        """Remove every interface of ours, known or stray."""
        if self._netlink is not None:
            veth.delete(self._netlink, *veth.existing(self._netlink))
        self._by_index.clear()

    def _ready(self) -> tuple[Netlink, IPv4Network]:
        if self._netlink is None:
            raise Unavailable("the kernel gives this process no netlink socket; run the daemon as root")
        if self._block is None:
            raise Refused("the network is not configured yet; the node must have joined a swarm first")
        return self._netlink, self._block

    def _place(self, block: IPv4Network, address: str) -> int:
        if address:
            index = index_of(block, address)
            if index in self._by_index:
                holder = self._by_index[index].task_id
                raise Conflict(f"container address {address} is held by task {holder}")
            return index
        free = free_index(block, self._by_index, self._last)
        if free is None:
            raise Unavailable(
                f"all {block.num_addresses - 2} container addresses of this node's block {block} are in use"
            )
        return free

    def _replace(self, attachment: Attachment) -> Attachment:
        for index, found in self._by_index.items():
            if found.task_id == attachment.task_id:
                self._by_index[index] = attachment
        return attachment


@contextlib.contextmanager
def _reported(task_id: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"the network of task {task_id} cannot be set up: {error.strerror}") from error


def _with_strangers(place: Attachment, networks: Mapping[str, NetworkView]) -> Mapping[str, NetworkView]:
    strangers = (network_id for network_id, _ in place.networks if network_id not in networks)
    return {**networks, **{one: NetworkView(id=one, name=one, subnets=()) for one in strangers}}
