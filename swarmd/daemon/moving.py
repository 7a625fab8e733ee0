"""A machine may get another address between two starts of its daemon.  Decides which one it has now.

settings name one        ──► that one, or the daemon says why it cannot be used
an interface was named   ──► what the interface has now
an address was named     ──► that one, for ever
nothing was named        ──► what it had, while it has it; else the only one there is
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping

import structlog

from swarmd.daemon.state import NodeMemory
from swarmd.model.errors import Invalid
from swarmd.model.replace import replace
from swarmd.node import addresses


def own_address(advertised: str) -> str:
    """The address that ``--advertise-addr`` means on this machine.  Raises Invalid."""
    return addresses.resolve(advertised, addresses.interface_addresses())


def today(memory: NodeMemory, setting: str, save: Callable[[NodeMemory], None]) -> NodeMemory:
    """``memory`` as it is on this machine now; saved before anybody is told.  Raises Invalid, Unavailable."""
    now = moved(memory, setting, addresses.interface_addresses())
    if now != memory:
        save(now)
        structlog.get_logger().info("address_changed", before=memory.address, now=now.address)
    return now


def how_chosen(advertised: str) -> str:
    """What to remember of ``--advertise-addr``: the interface, ``auto``, or nothing for an address."""
    host = advertised.rpartition(":")[0] if advertised.count(":") == 1 else advertised
    if not host:
        return "auto"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return "auto" if address.is_unspecified else ""


def moved(memory: NodeMemory, setting: str, known: Mapping[str, str]) -> NodeMemory:
    """``memory`` with the address of today.

    ``setting``: advertise_addr, empty when it is not set; ``known``: the address of each interface.  Raises
    Invalid when the setting names none of them.
    """
    address = _address(memory, setting, dict(known))
    if address == memory.address:
        return memory
    listen = address if memory.listen == memory.address else memory.listen
    return replace(memory, address=address, listen=listen)


def _address(memory: NodeMemory, setting: str, known: dict[str, str]) -> str:
    if setting:
        return addresses.resolve(setting, known, option="advertise_addr")
    if not memory.chosen or (memory.chosen == "auto" and memory.address in known.values()):
        return memory.address
    try:
        return addresses.resolve("" if memory.chosen == "auto" else memory.chosen, known)
    except Invalid:
        # The interface is not up yet, or there are several to choose from: what it had may come back.
        return memory.address
