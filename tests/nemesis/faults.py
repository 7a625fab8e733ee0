"""Each kind of fault: how it begins, how long it holds, how it is undone.

Answers a note for the report where there is something to tell: whom it met, or with what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from tests.cluster.clocks import LIBFAKETIME
from tests.nemesis import cables
from tests.nemesis.machine import slowness
from tests.nemesis.manager import CallFailed
from tests.nemesis.plan import SHAPES, Fault, Kind
from tests.nemesis.site import NotHealed, Site

ACCEPT_SECONDS = 30.0
"""A command of an administrator is asked again for this long."""

ALONE_SECONDS = 5.0
"""So long a manager may take to notice that its disk has room again; then its daemon is restarted."""

_Act = Callable[[Site, Fault, str], Awaitable[str | None]]


def possible() -> list[Kind]:
    """The kinds that this machine can do."""
    return [kind for kind in SHAPES if kind != "clock" or LIBFAKETIME is not None]


async def inflict(site: Site, fault: Fault) -> str:
    """Do it and undo it; answers whom it met."""
    node = await target(site, fault.target)
    note = await _ACTS[fault.kind](site, fault, node)
    return f"{node} ({note})" if note else node


async def target(site: Site, wanted: str) -> str:
    """The node behind a role; the first node where nobody leads."""
    if wanted in site.nodes:
        return wanted
    leader = await site.leader() or site.nodes[0]
    if wanted == "leader":
        return leader
    return site.nodes[(site.nodes.index(leader) + 1) % len(site.nodes)]


def _others(site: Site, node: str) -> list[str]:
    at = site.nodes.index(node)
    return [*site.nodes[at + 1 :], *site.nodes[:at]]


# -- processes -----------------------------------------------------------------------------------------


async def _kill(site: Site, fault: Fault, node: str) -> None:
    count = {"kill": 1, "kill-most": len(site.nodes) // 2 + 1, "kill-all": len(site.nodes)}[fault.kind]
    await asyncio.gather(*(site.signal(each, "KILL") for each in [node, *_others(site, node)][:count]))


async def _power(site: Site, fault: Fault, node: str) -> None:
    await site.local("kill", node)
    await asyncio.sleep(fault.hold)
    await site.local("start", node)


async def _power_all(site: Site, fault: Fault, node: str) -> None:
    nodes = [node, *_others(site, node)]
    for each in nodes:
        await site.local("kill", each)
    await asyncio.sleep(fault.hold)
    for each in nodes:
        await site.local("start", each)


async def _pause(site: Site, fault: Fault, node: str) -> None:
    await site.signal(node, "STOP")
    try:
        await asyncio.sleep(fault.hold)
    finally:
        await site.signal(node, "CONT")


async def _roll(site: Site, fault: Fault, node: str) -> None:
    for each in [*_others(site, node), node]:
        await site.signal(each, "TERM")
        await site.healed(ACCEPT_SECONDS)


async def _handover(site: Site, fault: Fault, node: str) -> None:
    await site.signal(node, "TERM")


# -- cables --------------------------------------------------------------------------------------------


async def _cut(site: Site, fault: Fault, node: str) -> None:
    await site.local("cut", node)
    try:
        await asyncio.sleep(fault.hold)
    finally:
        await site.local("heal", node)


async def _with_rules(site: Site, fault: Fault, rules: Mapping[str, str]) -> None:
    try:
        for node, text in rules.items():
            await site.rules(node, text)
        await asyncio.sleep(fault.hold)
    finally:
        for node in rules:
            await site.rules(node, cables.CLEAR)


async def _one_way(site: Site, fault: Fault, node: str) -> None:
    others = [site.lab.addresses[other] for other in _others(site, node)]
    inwards = fault.kind == "one-way-in"
    await _with_rules(site, fault, {node: cables.deaf_to(others, hears=inwards, heard=not inwards)})


async def _split(site: Site, fault: Fault, node: str) -> str:
    minority = [node, *_others(site, node)][: (len(site.nodes) - 1) // 2]
    await _with_rules(site, fault, cables.split(minority, site.lab.addresses))
    return f"with {len(minority)} of {len(site.nodes)}"


async def _bridge(site: Site, fault: Fault, node: str) -> None:
    # The target is in one half: its neighbour is the only one that hears both.
    await _with_rules(site, fault, cables.bridge(_others(site, node)[0], site.lab.addresses))


async def _lossy(site: Site, fault: Fault, node: str) -> str:
    await _with_rules(site, fault, {node: cables.losing(fault.amount)})
    return f"{fault.amount} %"


async def _slow(site: Site, fault: Fault, node: str) -> str:
    how = await site.slow(node)
    try:
        await asyncio.sleep(fault.hold)
    finally:
        await site.fast(node)
    return how


# -- disks, clocks, members ----------------------------------------------------------------------------


async def _full_disk(site: Site, fault: Fault, node: str) -> str:
    disk = site.disks[node]
    await asyncio.to_thread(disk.fill)
    try:
        await asyncio.sleep(fault.hold)
    finally:
        await asyncio.to_thread(disk.free)
    try:
        await site.healed(ALONE_SECONDS)
    except NotHealed:
        await site.signal(node, "TERM")
        return "restarted"
    return "went on by itself"


async def _clock(site: Site, fault: Fault, node: str) -> str:
    site.set_clock(node, fault.amount)
    try:
        await asyncio.sleep(fault.hold)
    finally:
        site.set_clock(node, 0)
    return f"{fault.amount:+d} s"


async def _drain(site: Site, fault: Fault, node: str) -> None:
    await insist(site, node, lambda other: site.managers[other].change(node, availability="drain"))
    await asyncio.sleep(fault.hold)
    await insist(site, node, lambda other: site.managers[other].change(node, availability="active"))


async def _demote(site: Site, fault: Fault, node: str) -> None:
    await insist(site, node, lambda other: site.managers[other].change(node, role="worker"))
    await asyncio.sleep(fault.hold)
    await insist(site, node, lambda other: site.managers[other].change(node, role="manager"))


async def insist(site: Site, node: str, ask: Callable[[str], Awaitable[None]]) -> None:
    """Ask the other managers in turn until one has done it."""
    deadline = site.now() + ACCEPT_SECONDS * await asyncio.to_thread(slowness)
    while True:
        for other in _others(site, node):
            try:
                await ask(other)
            except CallFailed as error:
                if site.now() > deadline:
                    raise NotHealed(f"no manager did it within {ACCEPT_SECONDS:.0f} s: {error}") from error
                await asyncio.sleep(0.2)
            else:
                return


_ACTS: Mapping[Kind, _Act] = {
    "kill": _kill, "kill-most": _kill, "kill-all": _kill, "power": _power, "power-all": _power_all,
    "pause": _pause, "cut": _cut, "one-way-in": _one_way, "one-way-out": _one_way, "split": _split,
    "bridge": _bridge, "lossy": _lossy, "slow": _slow, "full-disk": _full_disk, "clock": _clock,
    "roll": _roll, "handover": _handover, "drain": _drain, "demote": _demote,
}  # fmt: skip
