"""What containers use, again and again, and their processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from swarmd.kit.clock import Clock
from swarmd.model.errors import SwarmError
from swarmd.node.containers.core.percent import cpu_percent
from swarmd.node.containers.local import LocalContainers
from swarmd.node.runtime.port import ContainerStats
from swarmd.rpc.v1 import containers_pb2 as pb

INTERVAL = 1.0
"""Seconds between two looks."""


async def processes(here: LocalContainers, container_id: str) -> pb.TopResponse:
    """Every process of a container."""
    answer = pb.TopResponse()
    for each in await here.runtime.top(container_id):
        answer.processes.add(
            pid=each.pid, ppid=each.ppid, uid=each.uid, cpu_time=each.cpu, started_at=each.started_at,
            state=each.state, command=each.command,
        )  # fmt: skip
    return answer


async def stats(
    here: LocalContainers, clock: Clock, wanted: Sequence[str], *, stream: bool
) -> AsyncIterator[pb.StatsResponse]:
    """Of ``wanted``, or of all that run: after a second, and every second with ``stream``."""
    before: dict[str, int] = {}
    at = clock.monotonic()
    for container_id in wanted or _running(here):
        seen, _ = await _look(here, container_id)
        before[container_id] = seen.cpu
    if not before and not stream:
        yield pb.StatsResponse()
        return
    while True:
        await clock.sleep(INTERVAL)
        now = clock.monotonic()
        answer, after = pb.StatsResponse(), {}
        for container_id in wanted or _running(here):
            seen, problem = await _look(here, container_id)
            after[container_id] = seen.cpu
            percent = cpu_percent(before.get(container_id, seen.cpu), seen.cpu, now - at)
            answer.containers.append(_view(here, container_id, seen, percent, problem))
        yield answer
        if not stream:
            return
        before, at = after, now


def _running(here: LocalContainers) -> list[str]:
    return [state.id for state in here.runtime.list() if state.status == "running"]


async def _look(here: LocalContainers, container_id: str) -> tuple[ContainerStats, str]:
    try:
        return await here.runtime.stats(container_id), ""
    except SwarmError as error:
        return ContainerStats(), str(error)


def _view(
    here: LocalContainers, container_id: str, seen: ContainerStats, percent: float, problem: str
) -> pb.ContainerUsage:
    return pb.ContainerUsage(
        id=container_id,
        name=here.name_of(container_id),
        cpu_percent=percent,
        memory=seen.memory,
        memory_limit=seen.memory_limit or here.memory,
        cpu=seen.cpu,
        pids=seen.pids,
        read_bytes=sum(device.read_bytes for device in seen.io),
        written_bytes=sum(device.write_bytes for device in seen.io),
        received_bytes=sum(link.rx_bytes for link in seen.network),
        sent_bytes=sum(link.tx_bytes for link in seen.network),
        problem=problem,
    )
