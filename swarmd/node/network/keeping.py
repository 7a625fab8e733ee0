"""Finds out what others changed of this node's network, says it, and makes it so again.

Cheap when nothing happened: the kernel counts changes of nftables, and its lists of routes and neighbours are
short.  Only what differs is written.  Calls block; the caller sees to it that we write nothing meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from swarmd.node.network import rtnl, rtread
from swarmd.node.network.containers import Containers
from swarmd.node.network.core.audit import few
from swarmd.node.network.core.rules import OVERLAY
from swarmd.node.network.overlay import Overlay
from swarmd.node.network.rtread import Entry
from swarmd.node.network.secure.device import SecureDevice
from swarmd.node.network.secure.tap import DEVICE
from swarmd.node.network.settings import raise_settings, too_low, write_setting
from swarmd.node.network.wire import Message, Netlink

FORWARDING = {"net/ipv4/ip_forward": 1}
"""Without it a node passes nothing on."""


class Found(Struct, frozen=True):
    """What differs: in words, and the messages that mend it, as far as messages can."""

    sentences: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()


class Keeping:
    """Devices, addresses, routes, neighbours and settings of this node."""

    def __init__(
        self, netlink: Netlink, overlays: tuple[Overlay, SecureDevice], containers: Containers
    ) -> None:
        self._netlink = netlink
        self._overlay, self._secure = overlays
        self._containers = containers

    def look(self) -> Found:
        """Compare everything.  A device that is gone is told, and left to who makes devices."""
        links = rtread.links(self._netlink)
        names = [*self._overlay.devices(), *self._secure.devices(), *self._containers.by_interface()]
        devices = {links[name].device: name for name in names if name in links}
        down = [name for name in devices.values() if not links[name].is_up]
        missing, strange = self._entries(devices)
        sentences = (
            *few([f"the interface {name} is gone" for name in names if name not in links], "devices"),
            *few([f"the interface {name} is down" for name in down], "devices"),
            *few([f"the {_words(one, devices)} is missing" for one in missing], "entries"),
            *few([f"the {_words(one, devices)} is not wanted" for one in strange], "entries"),
            *(f"{_title(name)} is not {value}" for name, value in self._settings_off()),
            *(f"{_title(name)} is less than {least}" for name, least in too_low().items()),
        )
        up = (rtnl.link_up(links[name].device) for name in down)
        return Found(sentences, (*up, *strange.values(), *missing.values()))

    def mend(self, found: Found) -> None:
        """Make it so again; what differs still is found the next time."""
        for name, value in self._settings_off():
            write_setting(name, value)
        raise_settings()
        self._netlink.each(found.messages)

    def _entries(self, devices: Mapping[int, str]) -> tuple[dict[Entry, Message], dict[Entry, Message]]:
        """What is missing and how to add it; what nobody asked for and how to remove it."""
        by_name = {name: index for index, name in devices.items()}
        asked = self._overlay.entries() if OVERLAY in by_name else []
        asked += self._secure.entries() if DEVICE in by_name else []
        asked += self._containers.entries(by_name)
        wanted, found = rtread.wanted(asked), rtread.found(self._netlink, devices)
        strange = {
            entry: message
            for entry, message in found.items()
            if entry not in wanted
            and entry.kind != "address"
            and (entry.device in devices or not entry.device)
        }
        return {entry: message for entry, message in wanted.items() if entry not in found}, strange

    def _settings_off(self) -> list[tuple[str, int]]:
        return [one for one in {**self._overlay.settings(), **FORWARDING}.items() if _is_off(*one)]


def _words(entry: Entry, devices: Mapping[int, str]) -> str:
    way = f" {entry.way}" if entry.way else ""
    device = f" on {devices[entry.device]}" if entry.device in devices else ""
    return f"{entry.kind} {entry.target}{way}{device}"


def _title(setting: str) -> str:
    return setting.replace("/", ".")


def _is_off(name: str, value: int) -> bool:
    try:
        return (Path("/proc/sys") / name).read_text().strip() != str(value)
    except OSError:
        return False  # of a device that is gone, or of a kernel that does not know it
