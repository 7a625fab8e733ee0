"""Looks for firewalls of other programs that are in the swarm's way, seldom and only at what is small.

Chains are listed, rules only of the few chains that decide; nothing when the ruleset has not changed.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import socket
import struct
from pathlib import Path

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Report
from swarmd.model.errors import Conflict
from swarmd.node.network import nfread, wire
from swarmd.node.network.core import firewall
from swarmd.node.network.core.firewall import Chain
from swarmd.node.network.core.rules import OVERLAY
from swarmd.node.network.wire import F_DUMP, Message, Netlink, attr, text

_EVERY_SECONDS = 5.0
_LEGACY_EVERY = 60
"""Tables of the older iptables, which take a process to see, are looked at every so many times."""

_SUBSYSTEM = 10 << 8
_GETCHAIN, _GETRULE = 4, 7
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY = 1, 3, 4, 5
_RULE_TABLE, _RULE_CHAIN = 1, 2
_DROP = 0
_FAMILIES = {"inet": 1, "ip": socket.AF_INET, "ip6": socket.AF_INET6}
_WORDS = {number: word for word, number in _FAMILIES.items()}
_LEGACY = {"iptables-legacy": "/proc/net/ip_tables_names", "ip6tables-legacy": "/proc/net/ip6_tables_names"}


class Foreign:
    """What is in the way now, as sentences with their cure.  ``report`` hears of each once."""

    def __init__(self, netlink: Netlink, clock: Clock, report: Report) -> None:
        self._netlink = netlink
        self._clock = clock
        self._report = report
        self._generation = -1
        self._found: tuple[str, ...] = ()
        self._legacy: tuple[str, ...] = ()

    def sentences(self) -> tuple[str, ...]:
        return (*self._found, *self._legacy)

    async def watch(self) -> None:
        """Look at once, and now and then, for ever."""
        for looks in itertools.count():
            before = self.sentences()
            await asyncio.to_thread(self._read)
            if looks % _LEGACY_EVERY == 0:
                self._legacy = await _legacy()
            for sentence in self.sentences():
                if sentence not in before:
                    self._report("foreign firewall", Conflict(sentence))
            await self._clock.sleep(_EVERY_SECONDS)

    def _read(self) -> None:
        try:
            generation = nfread.generation(self._netlink)
            if generation != self._generation:
                self._found = firewall.sentences(self._chains(), self._names_us)
                self._generation = generation
        except OSError:  # a kernel without nftables has no such firewall
            self._found = ()

    def _chains(self) -> list[Chain]:
        replies = self._netlink.ask(Message(_SUBSYSTEM | _GETCHAIN, F_DUMP, _header(0)))
        return [_chain(body) for _, body in replies if body[0] in _WORDS]

    def _names_us(self, family: str, table: str, chain: str) -> bool:
        body = _header(_FAMILIES[family]) + attr(_RULE_TABLE, text(table))
        if chain:
            body += attr(_RULE_CHAIN, text(chain))
        replies = self._netlink.ask(Message(_SUBSYSTEM | _GETRULE, F_DUMP, body))
        return any(OVERLAY.encode() in rule for _, rule in replies)


def _header(family: int) -> bytes:
    return struct.pack("!BBH", family, 0, 0)


def _chain(body: bytes) -> Chain:
    found = wire.attrs(body[4:])
    hook = wire.attrs(found[_CHAIN_HOOK]).get(1) if _CHAIN_HOOK in found else None
    policy = found.get(_CHAIN_POLICY)
    return Chain(
        family=_WORDS[body[0]],
        table=found[_CHAIN_TABLE].rstrip(b"\0").decode(errors="replace"),
        name=found[_CHAIN_NAME].rstrip(b"\0").decode(errors="replace"),
        hook=int.from_bytes(hook, "big") if hook else None,
        drops=policy is not None and int.from_bytes(policy, "big") == _DROP,
    )


async def _legacy() -> tuple[str, ...]:
    """Only where the kernel has such tables: the program would make them."""
    said = []
    for name, tables in _LEGACY.items():
        program = shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
        if program is None or not await asyncio.to_thread(_has_filter, tables):
            continue
        process = await asyncio.create_subprocess_exec(
            program, "-S", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        listing, _ = await process.communicate()
        said.append(firewall.legacy(name, listing.decode(errors="replace")))
    return tuple(sentence for sentence in said if sentence)


def _has_filter(path: str) -> bool:
    try:
        return "filter" in Path(path).read_text().split()
    except OSError:
        return False
