"""What the steps of a task do on this node: image, container, network, in the order they are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec
import structlog

from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.model.errors import Invalid, NotFound, Refused, SwarmError
from swarmd.model.replace import replace
from swarmd.model.states import TaskState
from swarmd.node.agent.core import container, health, mounts
from swarmd.node.agent.core.container import NodeFacts
from swarmd.node.agent.core.health import Condition
from swarmd.node.agent.core.record import TaskRecord
from swarmd.node.agent.core.steps import Container
from swarmd.node.agent.draining import Draining, Say
from swarmd.node.agent.mounting import Fetcher, Mounting
from swarmd.node.agent.prober import Prober, Target
from swarmd.node.agent.probing import Probing
from swarmd.node.network.port import Attachment, NetworkPort
from swarmd.node.runtime.device_list import DeviceList
from swarmd.node.runtime.port import ContainerState, Runtime

T = TypeVar("T")

LISTEN_LIMIT = 5.0
"""Seconds a task with published ports gets to open them before it counts as running anyway."""

LISTEN_POLL = 0.02

Others = Callable[[], Mapping[str, Attachment | None]]
"""Containers of this node that are no task's, with their place on the network if they have one."""


class Made(msgspec.Struct, frozen=True):
    """A container, and where it is reached; empty: nowhere."""

    pid: int
    address: str = ""
    address6: str = ""


class Executor:
    """Idempotent: each step may be asked for again after a crash in its middle."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        network: NetworkPort,
        images: ImageStore,
        fetcher: Fetcher,
        mounting: Mounting,
        facts: Callable[[], NodeFacts],
        prober: Prober,
        clock: Clock,
        devices: DeviceList | None = None,
        others: Others = dict,
    ) -> None:
        self._runtime = runtime
        self._network = network
        self._images = images
        self._fetcher = fetcher
        self._mounting = mounting
        self._facts = facts
        self._prober = prober
        self._clock = clock
        self._devices = devices or DeviceList()
        self._others = others
        self._draining = Draining(network, clock)
        self._log = structlog.get_logger()

    async def prepare(self, record: TaskRecord) -> None:
        """The image is here and unpacked, what its mounts need, and the node offers the devices.

        Raises NotFound, Invalid or Refused when it never will be, Unavailable when it may be later.
        """
        spec = container.expanded(record, self._facts()).template.container
        devices = (device.source for device in spec.devices)
        self._devices.check(devices, spec.device_rules, node=self._facts().hostname)
        await self._mounting.prepare(spec.mounts)
        await self._fetcher.ensure(spec.image)
        await self._images.prepare(spec.image)

    async def create(self, record: TaskRecord) -> Made:
        """Make the container and connect it.  What an earlier try left goes first."""
        task_id = record.task_id
        await self._discard(task_id)
        rootfs = await self._images.prepare(record.template.container.image)
        facts = self._facts()
        record = container.expanded(record, facts)
        wanted = mounts.wanted(record.template.container.mounts, rootfs.config)
        try:
            sources = await self._mounting.sources(task_id, wanted)
            asked = container.asked(record, wanted, facts)
            config = container.config(asked, rootfs.config, rootfs.layers, facts, sources)
            config = replace(config, network_mode=container.network_mode(record))
            pid = await self._runtime.create(config)
        finally:
            self._mounting.made(task_id)
        if config.network_mode:
            return Made(pid, facts.address if config.network_mode == "host" else "")
        try:
            return await self._connect(container.attachment(record, pid, facts))
        except SwarmError:
            await self._try(self._discard(task_id), "container_not_removed", task_id)
            raise

    async def _connect(self, wanted: Attachment) -> Made:
        address = await self._network.attach(
            wanted.task_id,
            wanted.pid,
            published=wanted.published,
            networks=wanted.networks,
            names=wanted.names,
            servers=wanted.servers,
        )
        found = self._network.attachment(wanted.task_id)
        return Made(wanted.pid, address, found.address6 if found else "")

    async def launch(self, task_id: str) -> None:
        """Run the program of a created container."""
        try:
            await self._runtime.start(task_id)
        except SwarmError:
            await self._try(self._discard(task_id), "container_not_removed", task_id)
            raise

    async def until_listening(self, record: TaskRecord, pid: int) -> None:
        """Return when every published TCP port is open, the container ended, or the limit is over."""
        ports = set(container.tcp_targets(record))
        deadline = self._clock.monotonic() + LISTEN_LIMIT
        while ports and self._clock.monotonic() < deadline and self.is_running(record.task_id):
            for port in tuple(ports):
                try:
                    if await self._network.listening(pid, "tcp", port):
                        ports.discard(port)
                except SwarmError:
                    return  # the process has just ended
            if ports:
                await self._clock.sleep(LISTEN_POLL)

    def probing(self, record: TaskRecord) -> Probing:
        """The probes of a running container, going on from what the record knows."""
        state = self._runtime.inspect(record.task_id) or ContainerState(id=record.task_id, status="exited")
        made = self._runtime.config(record.task_id)
        checks = health.from_annotation(made.annotations.get(health.ANNOTATION, "") if made else "")
        status = record.status
        was = None
        if status.state is TaskState.RUNNING:
            was = Condition(health=status.health, ready=not status.unready)
        target = Target(record.task_id, state.pid, status.address)
        return Probing(
            checks,
            lambda check: self._prober.probe(target, check),
            self._clock,
            started_at=state.started_at,
            paused=lambda: self._is_paused(record.task_id),
            was=was,
        )

    def _is_paused(self, task_id: str) -> bool:
        state = self._runtime.inspect(task_id)
        return state is not None and state.paused

    def is_running(self, task_id: str) -> bool:
        state = self._runtime.inspect(task_id)
        return state is not None and state.status == "running"

    async def wait(self, task_id: str) -> ContainerState:
        """The container's end; raises NotFound when it is not there any more."""
        return await self._runtime.wait(task_id)

    async def stop(self, record: TaskRecord, say: Say, *, patient: bool = True) -> ContainerState | None:
        """Let connections end, then the container; None when no program of the task ever ran.

        ``say`` is told what is waited for.  Not ``patient``: it fails its clients anyway.
        """
        task_id = record.task_id
        if self.found(task_id) is not Container.STARTED:
            await self._discard(task_id)
            return None
        await self._draining.drain(record, lambda: self.is_running(task_id), say, patient=patient)
        spec = record.template.container
        final: ContainerState | None = None
        with contextlib.suppress(NotFound):
            try:
                final = await self._runtime.stop(task_id, signal=spec.stop_signal, grace=spec.stop_grace)
            except Invalid:
                # A signal that does not exist must not make the task immortal.
                final = await self._runtime.stop(task_id, signal="SIGTERM", grace=spec.stop_grace)
        await self._network.detach(task_id)
        return final

    async def released(self, task_id: str) -> None:
        """The container ended by itself: its address is free."""
        await self._try(self._network.detach(task_id), "address_not_released", task_id)

    async def remove(self, task_id: str) -> None:
        """Nothing of the task is left: container, logs, address, anonymous volumes."""
        await self._discard(task_id)
        await self._mounting.gone(task_id)

    async def restore(self, records: list[TaskRecord]) -> Collection[str]:
        """After a restart of the daemon: take over what runs, remove what belongs to no task.

        Answers the tasks that run cut off from the network.  What cannot be done now is logged: the node
        starts all the same.
        """
        known = {record.task_id: record for record in records}
        facts = self._facts()
        others = self._others()
        attachments = [attached for attached in others.values() if attached is not None]
        for state in self._runtime.list():
            record = known.get(state.id)
            if state.id in others:
                continue
            if record is None:
                await self._try(self._discard(state.id), "stray_not_removed", state.id)
            elif state.status == "running" and record.status.address and not container.network_mode(record):
                expanded = container.expanded(record, facts)
                attachments.append(container.attachment(expanded, state.pid, facts))
        lost: tuple[str, ...] | None = ()
        if records or attachments:
            lost = await self._try(self._network.restore(attachments), "network_not_restored", "")
        return lost or ()

    def found(self, task_id: str) -> Container:
        """How far the task's container got."""
        state = self._runtime.inspect(task_id)
        if state is None:
            return Container.NONE
        return Container.CREATED if state.status == "created" else Container.STARTED

    async def _discard(self, task_id: str) -> None:
        state = self._runtime.inspect(task_id)
        if state is not None:
            with contextlib.suppress(NotFound):
                if state.status != "exited":
                    with contextlib.suppress(Refused):
                        await self._runtime.stop(task_id, signal="SIGKILL", grace=0.0)
                await self._runtime.remove(task_id)
        await self._network.detach(task_id)

    async def _try(self, work: Coroutine[Any, Any, T], failure: str, task_id: str) -> T | None:
        """The result of work that the task does not depend on; None when it failed, which is logged."""
        try:
            return await work
        except SwarmError as error:
            self._log.warning(failure, task=task_id, reason=str(error))
            return None
