"""Metrics of a node of a swarm: its tasks, its session, what goes through its network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from swarmd.daemon.metering.sources import Sources
from swarmd.model.errors import Unavailable
from swarmd.model.states import TaskState
from swarmd.node.network.measures import HttpCount, PortCount, Traffic
from swarmd.telemetry import catalogue as names
from swarmd.telemetry.metrics import Labels, Reading, counted, one

_CONNTRACK = Path("/proc/sys/net/netfilter")
_GOSSIP = ("alive", "suspect", "dead", "left")


async def membership(sources: Sources) -> Sequence[Reading]:
    """Empty on a machine that is in no swarm."""
    member = sources.member()
    if member is None:
        return ()
    working = member.working
    checks = working.prober.checks.counts()
    states = (state.name.lower() for state in working.worker.states())
    return (
        one(names.NODE, 1, member.memory.cluster_id, member.memory.node_id),
        one(names.IS_MANAGER, member.managing is not None),
        one(names.CONNECTED, working.session.connected),
        counted(names.TASKS_HERE, states, (state.name.lower() for state in TaskState)),
        one(names.STOPPING, working.worker.stopping()),
        working.worker.reached.of(names.REACHED),
        one(names.CHECKS, sum(checks.values())),
        one(names.CHECKS_FAILED, checks.get(("failed",), 0)),
        counted(names.GOSSIP, working.gossip_view().values(), _GOSSIP),
        one(names.CERTIFICATE, member.certificate.valid_until),
    )


async def network(sources: Sources) -> Sequence[Reading]:
    """Empty likewise.  Raises Unavailable when the kernel does not tell what it counted."""
    port = sources.network()
    if port is None or sources.member() is None:
        return ()
    found = await port.traffic()
    if found.cannot:
        raise Unavailable(found.cannot)
    version, applied = port.applied()
    return (
        *await asyncio.to_thread(traffic, found),
        one(names.SNAPSHOT, version),
        one(names.APPLIED, applied),
        one(names.PROBLEMS, len(port.problems())),
        one(names.ATTACHED, len(port.attached())),
    )


async def conntrack() -> Sequence[Reading]:
    """Empty where the kernel tracks nothing yet."""
    try:
        count, limit = (int((_CONNTRACK / f"nf_conntrack_{name}").read_text()) for name in ("count", "max"))
    except FileNotFoundError:
        return ()
    return one(names.CONNTRACK, count), one(names.CONNTRACK_LIMIT, limit)


def traffic(found: Traffic) -> list[Reading]:
    """What went through."""
    return [
        Reading(names.PORTS, _ports(found.ports)),
        one(names.PROXIED, found.proxied),
        one(names.RESETS, found.reset),
        one(names.MENDED, found.mended),
        one(names.MOVED, found.moved),
        Reading(names.LOOKUPS, found.names),
        *_http(found.http),
    ]


def _ports(ports: Sequence[PortCount]) -> dict[Labels, float]:
    """By which way: either may begin anew by itself, and their sum would seem to have then.

    The proxy has nothing to do for most ports of a node with nftables, so it is left out while it has not.
    """
    values: dict[Labels, float] = {}
    for port in ports:
        labels = (port.service_name, str(port.port), port.protocol, port.host_ip)
        values[*labels, "kernel"] = port.kernel
        if port.proxy:
            values[*labels, "proxy"] = port.proxy
    return values


def _http(found: HttpCount) -> list[Reading]:
    return [
        one(names.HTTP_CLIENTS, found.clients),
        Reading(names.HTTP_REQUESTS, found.requests),
        Reading(names.HTTP_BYTES, found.bytes),
        Reading(names.HTTP_SECONDS, spreads=found.seconds, bounds=found.bounds),
    ]
