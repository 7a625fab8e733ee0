"""Metrics that every daemon has, in a swarm or not: its machine, its disk, its images, its calls."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

from swarmd import __version__
from swarmd.daemon.metering.sources import Sources
from swarmd.node.describe import describe
from swarmd.node.runtime.port import ContainerState
from swarmd.telemetry import catalogue as names
from swarmd.telemetry.metrics import Reading, counted, one

_WEIGHED = 60.0
"""Seconds for which the size of the image store is remembered: each blob is a file to look at."""
_STATES = ("running", "paused", "stopped")


class Engine:
    """Of one daemon."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._weighed = (0, 0)
        self._until = 0.0

    async def machine(self) -> Sequence[Reading]:
        """What it runs on."""
        about = describe(__version__, {})
        disk = os.statvfs(self._sources.config.data)
        states = self._sources.containers.runtime.list()
        labels = (__version__, about.arch, platform.release(), about.os, about.hostname)
        return (
            one(names.ENGINE, 1, *labels),
            one(names.CPUS, about.nano_cpus / 1e9),
            one(names.MEMORY, about.memory),
            one(names.DISK_SIZE, disk.f_blocks * disk.f_frsize),
            one(names.DISK_FREE, disk.f_bavail * disk.f_frsize),
            counted(names.STATES, map(_state, states), _STATES),
            self._sources.calls.of(names.CALLS),
        )

    async def images(self) -> Sequence[Reading]:
        """Its images, and what they take; the latter at most a minute old."""
        now = self._sources.clock.monotonic()
        if now >= self._until:
            self._weighed = await self._sources.images.weigh()
            self._until = now + _WEIGHED
        blobs, size = self._weighed
        return (
            one(names.IMAGES, len(self._sources.images.list())),
            one(names.BLOBS, blobs),
            one(names.BLOB_BYTES, size),
        )


def _state(container: ContainerState) -> str:
    if container.status != "running":
        return "stopped"
    return "paused" if container.paused else "running"
