"""A daemon's worker in memory, what managers hear of it, and the assignments they send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from swarmd.kit.ids import new_id
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.model.objects import TaskStatus
from swarmd.model.spec import ContainerSpec, PortSpec, TaskTemplate
from swarmd.model.states import TaskState
from swarmd.node.agent.core.container import NodeFacts
from swarmd.node.agent.executor import Executor
from swarmd.node.agent.mounting import Mounting
from swarmd.node.agent.worker import Worker
from swarmd.node.volume.volumes import Volumes, mounted_by
from swarmd.rpc import codec
from swarmd.rpc.v1 import agent_pb2
from tests.unit.agent_fakes import (
    Disk,
    FakeDatabase,
    FakeImages,
    FakeNetwork,
    FakeProber,
    FakeRuntime,
    Points,
    StillClock,
    Troubles,
)

IMAGE = "demo:1"
NODE = "node1"


class Managers:
    """What was reported, by any daemon of the node."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, TaskStatus]] = []

    def last(self, task_id: str = "t1") -> TaskStatus:
        return next((s for task, s in reversed(self.heard) if task == task_id), TaskStatus())

    def states(self, task_id: str = "t1") -> list[TaskState]:
        return [status.state for task, status in self.heard if task == task_id]

    def have(self, state: TaskState, task_id: str = "t1") -> Callable[[], bool]:
        return lambda: self.last(task_id).state is state


class Daemon:
    """One daemon's worker on a :class:`Disk`; stops at point ``cut_at`` (0: never)."""

    def __init__(self, disk: Disk, managers: Managers, volumes: Path, *, cut_at: int = 0) -> None:
        self.disk = disk
        self.managers = managers
        self.points = Points(disk, cut_at)
        self.troubles = Troubles()
        self.clock = StillClock()
        self.failures: list[BaseException] = []
        self.nursery = Nursery(lambda name, error: self.failures.append(error))
        self.runtime = FakeRuntime(disk, self.points, self.troubles)
        self.network = FakeNetwork(disk, self.points, self.troubles)
        self.images = FakeImages(self.points, self.troubles)
        self.prober = FakeProber()
        self.volumes = Volumes(volumes, self.clock, new_id, lambda: mounted_by(cast("Any", self.runtime)))
        executor = Executor(
            runtime=cast("Any", self.runtime),
            network=cast("Any", self.network),
            images=cast("Any", self.images),
            fetcher=cast("Any", self.images),
            mounting=Mounting(
                cast("Any", self.images),
                cast("Any", self.images),
                self.volumes,
            ),
            facts=lambda: NodeFacts(NODE, "host"),
            prober=cast("Any", self.prober),
            clock=self.clock,
        )
        database = FakeDatabase(disk, self.points, self.troubles)
        self.worker = Worker(cast("Any", database), executor, self.clock, self.nursery, self._news)

    async def open(self) -> None:
        """Go on where the last daemon stopped."""
        await self.volumes.open()
        await self.worker.open()

    def _news(self) -> None:
        while (batch := self.worker.reporter.batch()) is not None:
            sequence, statuses = batch
            self.managers.heard += statuses.items()
            self.worker.reporter.acknowledged(sequence)

    @property
    def is_cut(self) -> bool:
        return self.points.saved is not None

    async def do(self, work: Any) -> None:
        """Something the daemon does itself, for as long as it lives."""
        task = self.nursery.start("test", work)
        await self.eventually(task.done)

    async def eventually(self, true: Callable[[], object]) -> None:
        """Wait until something is so, or the daemon was cut off."""
        async with asyncio.timeout(60):
            while not (true() or self.is_cut):  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)

    async def kill(self) -> Disk:
        """What is left on the disk."""
        left = self.points.saved or self.disk.copy()
        await self.nursery.close()
        assert self.failures == []
        return left


def assignments(
    *desired: tuple[str, TaskState],
    complete: bool = True,
    spec: TaskTemplate | None = None,
    ports: tuple[PortSpec, ...] = (),
    removed: tuple[str, ...] = (),
) -> agent_pb2.Assignments:
    """Tasks of one service, as a manager names them."""
    message = agent_pb2.Assignments(complete=complete, removed=removed)
    added = message.specs.add(service_id="s1", number=1)
    codec.fill(added.template, spec or TaskTemplate(container=ContainerSpec(image=IMAGE)))
    for port in ports:
        codec.fill(added.ports.add(), port)
    for task_id, state in desired:
        message.tasks.add(
            task_id=task_id,
            service_id="s1",
            service_name="web",
            spec_version=1,
            slot=1,
            desired_state=int(state),
        )
    return message


def full_disk() -> SwarmError:
    return Unavailable("the task database cannot be used: database or disk is full")


async def assign(daemon: Daemon, desired: TaskState, *, spec: TaskTemplate | None = None) -> None:
    await daemon.worker.assign(assignments(("t1", desired), spec=spec), NODE)


async def reached(daemon: Daemon, state: TaskState, task_id: str = "t1") -> None:
    await daemon.eventually(daemon.managers.have(state, task_id))


async def says(daemon: Daemon, text: str) -> None:
    await daemon.eventually(lambda: text in daemon.managers.last().message)


def spec_with(**fields: object) -> TaskTemplate:
    return TaskTemplate(container=ContainerSpec(image=IMAGE, **fields))  # type: ignore[arg-type]
