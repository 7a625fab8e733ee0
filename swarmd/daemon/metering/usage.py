"""What each running container uses, under the names that cAdvisor gives it.

Read on the event loop, a container at a time: its nine small files take the kernel a fraction of a
millisecond, and a thread would hold the loop up for longer: it has the interpreter's lock for 5 ms at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from swarmd.daemon.metering.sources import Sources
from swarmd.model.errors import SwarmError
from swarmd.node.containers.local import LocalContainers
from swarmd.node.runtime.port import ContainerState, ContainerStats
from swarmd.telemetry import catalogue as names
from swarmd.telemetry.metrics import Labels, Metric, Reading

SERVICE_NAME = "com.docker.swarm.service.name"

_MEASURED: tuple[tuple[Metric, Callable[[ContainerStats], float]], ...] = (
    (names.CPU, lambda seen: seen.cpu / 1e9),
    (names.THROTTLED, lambda seen: seen.cpu_throttled / 1e9),
    (names.RESIDENT, lambda seen: seen.memory_usage),
    (names.WORKING_SET, lambda seen: seen.memory),
    (names.MEMORY_LIMIT, lambda seen: seen.memory_limit),
    (names.PROCESSES, lambda seen: seen.pids),
    (names.RECEIVED, lambda seen: sum(link.rx_bytes for link in seen.network)),
    (names.SENT, lambda seen: sum(link.tx_bytes for link in seen.network)),
    (names.READ, lambda seen: sum(device.read_bytes for device in seen.io)),
    (names.WRITTEN, lambda seen: sum(device.write_bytes for device in seen.io)),
)


async def containers(sources: Sources) -> Sequence[Reading]:
    """Of each that runs."""
    here = sources.containers
    seen: dict[Labels, ContainerStats] = {}
    started: dict[Labels, float] = {}
    for state in here.runtime.list():
        if state.status != "running":
            continue
        try:
            stats = await here.runtime.stats(state.id)
        except SwarmError:
            continue  # it ended a moment ago
        labels = _labels(here, state)
        seen[labels], started[labels] = stats, state.started_at
        await asyncio.sleep(0)
    return (*readings(seen), Reading(names.STARTED, started))


def readings(seen: dict[Labels, ContainerStats]) -> list[Reading]:
    """Each metric of all containers, by their labels."""
    return [
        Reading(metric, {labels: value(stats) for labels, stats in seen.items()})
        for metric, value in _MEASURED
    ]


def _labels(here: LocalContainers, state: ContainerState) -> Labels:
    config = here.runtime.config(state.id)
    service = config.labels.get(SERVICE_NAME, "") if config is not None else ""
    image = here.image_of(state.id).partition("@")[0]
    return (state.id, here.name_of(state.id), service, image)
