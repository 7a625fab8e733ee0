"""What the steps of a task do on this node: image, container, network, in the order they are needed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.model.errors import Invalid, NotFound, Refused, SwarmError
from swarmd.node.agent.core import container
from swarmd.node.agent.core.container import NodeFacts
from swarmd.node.agent.core.record import TaskRecord
from swarmd.node.agent.fetch import ImageFetcher
from swarmd.node.agent.volumes import Volumes
from swarmd.node.network.port import Attachment, NetworkPort, Transport
from swarmd.node.runtime.port import ContainerState, Runtime

LISTEN_LIMIT = 5.0
"""Seconds a task with published ports gets to open them before it counts as running anyway."""

LISTEN_POLL = 0.02
DRAIN_LIMIT = 2.0
"""Most seconds between a task's leaving the mesh and its stop signal, for connections to end."""


class Executor:
    """Idempotent: each step may be asked for again after a crash in its middle."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        network: NetworkPort,
        images: ImageStore,
        fetcher: ImageFetcher,
        volumes: Volumes,
        facts: Callable[[], NodeFacts],
        clock: Clock,
    ) -> None:
        self._runtime = runtime
        self._network = network
        self._images = images
        self._fetcher = fetcher
        self._volumes = volumes
        self._facts = facts
        self._clock = clock

    async def prepare(self, record: TaskRecord) -> None:
        """The image is here and unpacked, the bind sources exist.

        Raises NotFound or Invalid when it never will be, Unavailable when it may be later.
        """
        for source in container.bind_sources(record):
            if not Path(source).exists():
                raise Invalid(
                    f'invalid mount config for type "bind": bind source path does not exist: {source}'
                )
        await self._fetcher.ensure(record.template.container.image)
        await self._images.prepare(record.template.container.image)

    async def start(self, record: TaskRecord) -> tuple[int, str]:
        """Make the container, connect it, run it; answers (pid, address)."""
        await self._discard(record.task_id)
        rootfs = await self._images.prepare(record.template.container.image)
        config = container.config(
            record,
            rootfs.config,
            rootfs.layers,
            self._facts(),
            lambda mount: self._volumes.path(record.task_id, mount),
        )
        pid = await self._runtime.create(config)
        try:
            address = await self._network.attach(record.task_id, pid, published=_published(record))
            await self._runtime.start(record.task_id)
        except (SwarmError, asyncio.CancelledError):
            await self._discard(record.task_id)
            raise
        return pid, address

    async def until_listening(self, record: TaskRecord, pid: int) -> None:
        """Return when every published TCP port is open, the container ended, or the limit is over."""
        ports = set(container.tcp_targets(record))
        deadline = self._clock.monotonic() + LISTEN_LIMIT
        while ports and self._clock.monotonic() < deadline and self.is_running(record.task_id):
            for port in tuple(ports):
                if await self._network.listening(pid, "tcp", port):
                    ports.discard(port)
            if ports:
                await self._clock.sleep(LISTEN_POLL)

    def is_running(self, task_id: str) -> bool:
        state = self._runtime.inspect(task_id)
        return state is not None and state.status == "running"

    async def wait(self, task_id: str) -> ContainerState:
        """The container's end; raises NotFound when it is not there any more."""
        return await self._runtime.wait(task_id)

    async def stop(self, record: TaskRecord) -> ContainerState | None:
        """Let connections end, then the container; None when there was none."""
        state = self._runtime.inspect(record.task_id)
        if state is None:
            return None
        if state.status == "created":
            await self._discard(record.task_id)
            return None
        if state.status == "running":
            await self._network.drain(record.task_id, DRAIN_LIMIT)
        signal = record.template.container.stop_signal
        final = await self._runtime.stop(
            record.task_id, signal=signal, grace=record.template.container.stop_grace
        )
        await self._network.detach(record.task_id)
        return final

    async def released(self, task_id: str) -> None:
        """The container ended by itself: its address is free."""
        await self._network.detach(task_id)

    async def remove(self, task_id: str) -> None:
        """Nothing of the task is left: container, logs, address, anonymous volumes."""
        await self._discard(task_id)
        self._volumes.remove_anonymous(task_id)

    async def restore(self, records: list[TaskRecord]) -> None:
        """After a restart of the daemon: take over what runs, remove what belongs to no task."""
        known = {record.task_id: record for record in records}
        attachments: list[Attachment] = []
        for state in self._runtime.list():
            record = known.get(state.id)
            if record is None:
                await self._discard(state.id)
            elif state.status == "running" and record.status.address:
                attachments.append(Attachment(state.id, state.pid, record.status.address, _published(record)))
        if records:
            await self._network.restore(attachments)

    def state(self, task_id: str) -> ContainerState | None:
        return self._runtime.inspect(task_id)

    async def _discard(self, task_id: str) -> None:
        state = self._runtime.inspect(task_id)
        if state is not None:
            if state.status != "exited":
                with contextlib.suppress(NotFound, Refused):
                    await self._runtime.stop(task_id, signal="SIGKILL", grace=0.0)
            await self._runtime.remove(task_id)
        await self._network.detach(task_id)


def _published(record: TaskRecord) -> tuple[tuple[Transport, int], ...]:
    return tuple(("udp" if port.protocol == "udp" else "tcp", port.target) for port in record.ports)
