"""What the agent's tests put in place of a node: disk, clock, runtime, network, images, task database.

Every effect on :class:`Disk` lies between two points; a daemon told to stop at point N gets no further, and
``saved`` is what a kill -9 there leaves.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Any

from swarmd.image.core.config import ImageConfig
from swarmd.image.store import Rootfs
from swarmd.model.addressing import address6_of
from swarmd.model.errors import Conflict, NotFound, Refused
from swarmd.model.replace import replace
from swarmd.node.agent.core.health import Check, Result
from swarmd.node.agent.core.record import TaskRecord, decode, encode
from swarmd.node.agent.prober import Target
from swarmd.node.network.port import Attachment, Transport
from swarmd.node.runtime.port import ContainerConfig, ContainerState


class StillClock:
    """Time that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.sleeps: list[float] = []

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.sleeps.append(seconds)
        await asyncio.sleep(0)


@dataclasses.dataclass
class Disk:
    """What outlives a daemon: task records, containers, interfaces, how often each program was run."""

    records: dict[str, bytes] = dataclasses.field(default_factory=dict)
    containers: dict[str, ContainerState] = dataclasses.field(default_factory=dict)
    configs: dict[str, ContainerConfig] = dataclasses.field(default_factory=dict)
    interfaces: dict[str, str] = dataclasses.field(default_factory=dict)
    runs: Counter[str] = dataclasses.field(default_factory=Counter)

    def copy(self) -> Disk:
        return dataclasses.replace(
            self,
            records=dict(self.records),
            containers=dict(self.containers),
            configs=dict(self.configs),
            interfaces=dict(self.interfaces),
            runs=Counter(self.runs),
        )

    def record(self, task_id: str = "t1") -> TaskRecord:
        return decode(self.records[task_id])

    @property
    def is_empty(self) -> bool:
        return not (self.records or self.containers or self.interfaces)


class Points:
    """The places where a daemon can be cut off."""

    def __init__(self, disk: Disk, cut_at: int) -> None:
        self._disk = disk
        self._cut_at = cut_at
        self.passed = 0
        self.saved: Disk | None = None

    async def point(self) -> None:
        self.passed += 1
        if self.passed == self._cut_at:
            self.saved = self._disk.copy()
        if self.saved is not None:
            await asyncio.Event().wait()
        await asyncio.sleep(0)


class Troubles:
    """Errors that the next calls of an operation raise, by its name."""

    def __init__(self) -> None:
        self._next: dict[str, list[Exception]] = {}
        self._always: dict[str, Exception] = {}

    def once(self, operation: str, *errors: Exception) -> None:
        self._next.setdefault(operation, []).extend(errors)

    def always(self, operation: str, error: Exception) -> None:
        self._always[operation] = error

    def over(self, operation: str) -> None:
        self._always.pop(operation, None)

    def check(self, operation: str) -> None:
        waiting = self._next.get(operation)
        if waiting:
            raise waiting.pop(0)
        if operation in self._always:
            raise self._always[operation]


class FakeRuntime:
    """The runtime port over a :class:`Disk`."""

    def __init__(self, disk: Disk, points: Points, troubles: Troubles) -> None:
        self._disk, self._points, self._troubles = disk, points, troubles
        self._ends: dict[str, asyncio.Event] = {}
        self.configs: dict[str, ContainerConfig] = {}
        self.signals: list[tuple[str, float]] = []
        self.short = False
        """Whether programs end by themselves at once, successfully."""

    async def create(self, config: ContainerConfig) -> int:
        await self._points.point()
        self._troubles.check("create")
        if config.id in self._disk.containers:
            raise Conflict(f"container {config.id} exists already")
        pid = 100 + len(self.configs)
        self.configs[config.id] = self._disk.configs[config.id] = config
        self._disk.containers[config.id] = ContainerState(id=config.id, status="created", pid=pid)
        await self._points.point()
        return pid

    async def start(self, container_id: str) -> None:
        await self._points.point()
        self._troubles.check("start")
        state = self._state(container_id)
        if state.status != "created":
            raise Refused("a container runs once")
        self._disk.containers[container_id] = replace(state, status="running")
        self._disk.runs[container_id] += 1
        if self.short:
            self.exit(container_id, 0)
        await self._points.point()

    async def wait(self, container_id: str) -> ContainerState:
        self._troubles.check("wait")
        state = self._state(container_id)
        if state.status != "exited":
            await self._ends.setdefault(container_id, asyncio.Event()).wait()
        return self._state(container_id)

    async def stop(self, container_id: str, *, signal: str = "", grace: float = 10.0) -> ContainerState:
        await self._points.point()
        self._troubles.check("stop")
        if self._state(container_id).status != "exited":
            self.signals.append((signal, grace))
            self.exit(container_id, 143)
        await self._points.point()
        return self._state(container_id)

    async def remove(self, container_id: str) -> None:
        await self._points.point()
        self._troubles.check("remove")
        if self._state(container_id).status == "running":
            raise Refused("it is running")
        del self._disk.containers[container_id]
        self._disk.configs.pop(container_id, None)
        self._ends.pop(container_id, None)
        await self._points.point()

    def exit(self, container_id: str, code: int, **changes: object) -> None:
        """The container's program ends."""
        state = replace(self._state(container_id), status="exited", pid=0, exit_code=code, **changes)
        self._disk.containers[container_id] = state
        self._ends.setdefault(container_id, asyncio.Event()).set()

    def list(self) -> list[ContainerState]:
        return list(self._disk.containers.values())

    def inspect(self, container_id: str) -> ContainerState | None:
        return self._disk.containers.get(container_id)

    def config(self, container_id: str) -> ContainerConfig | None:
        return self._disk.configs.get(container_id)

    def _state(self, container_id: str) -> ContainerState:
        try:
            return self._disk.containers[container_id]
        except KeyError:
            raise NotFound(f"no such container: {container_id}") from None


class FakeProber:
    """Answers probes by their kind from a script, whose last answer stands for ever; True is success."""

    def __init__(self) -> None:
        self.script: dict[str, list[bool]] = {}

    async def probe(self, target: Target, check: Check) -> Result:
        await asyncio.sleep(0)
        answers = self.script.get(check.probe.kind, [True])
        good = answers.pop(0) if len(answers) > 1 else answers[0]
        return Result(code=0) if good else Result(code=1, output="connection refused")


class FakeNetwork:
    """The network port over a :class:`Disk`."""

    def __init__(self, disk: Disk, points: Points, troubles: Troubles) -> None:
        self._disk, self._points, self._troubles = disk, points, troubles
        self.open_ports = True
        self.published: dict[str, tuple[tuple[Transport, int], ...]] = {}
        self.drained: list[str] = []
        self.open_connections: list[int | None] = []

    def identify(self, papers: Any) -> None:
        """Nothing is carried here."""

    async def attach(self, task_id: str, pid: int, **more: Any) -> str:
        await self._points.point()
        self._troubles.check("attach")
        self.published[task_id] = more.get("published", ())
        self._disk.interfaces[task_id] = f"10.128.1.{10 + len(self._disk.interfaces)}"
        await self._points.point()
        return self._disk.interfaces[task_id]

    async def detach(self, task_id: str) -> None:
        await self._points.point()
        self._troubles.check("detach")
        self._disk.interfaces.pop(task_id, None)
        await self._points.point()

    async def listening(self, pid: int, protocol: str, port: int) -> bool:
        await self._points.point()
        self._troubles.check("listening")
        return self.open_ports

    def attached(self) -> tuple[Attachment, ...]:
        return tuple(
            Attachment(task_id, 1, address, self.published.get(task_id, ()), address6=address6_of(address))
            for task_id, address in self._disk.interfaces.items()
        )

    def attachment(self, task_id: str) -> Attachment | None:
        return next((found for found in self.attached() if found.task_id == task_id), None)

    async def connections(self, task_id: str) -> int | None:
        await self._points.point()
        self._troubles.check("connections")
        self.drained.append(task_id)
        return self.open_connections.pop(0) if self.open_connections else 0

    async def restore(self, attachments: Iterable[Attachment]) -> tuple[str, ...]:
        await self._points.point()
        self._troubles.check("restore")
        named = {each.task_id: each.address for each in attachments}
        there = {task: address for task, address in self._disk.interfaces.items() if task in named}
        self._disk.interfaces.clear()
        self._disk.interfaces.update(there)
        return tuple(task for task, address in named.items() if there.get(task) != address)


class FakeImages:
    """Image store and fetcher in one: every image is there unless ``troubles`` say otherwise."""

    def __init__(self, points: Points, troubles: Troubles) -> None:
        self._points, self._troubles = points, troubles
        self.fetching: asyncio.Event | None = None

    async def ensure(self, ref: str) -> None:
        await self._points.point()
        self._troubles.check("ensure")
        if self.fetching is not None:
            await self.fetching.wait()

    async def prepare(self, ref: str) -> Rootfs:
        await self._points.point()
        self._troubles.check("prepare")
        return Rootfs("sha256:d", "sha256:i", ("/layer",), ImageConfig(cmd=("/bin/demo",)))


class FakeDatabase:
    """The task database over a :class:`Disk`."""

    def __init__(self, disk: Disk, points: Points, troubles: Troubles) -> None:
        self._disk, self._points, self._troubles = disk, points, troubles

    async def open(self) -> list[TaskRecord]:
        return [decode(data) for data in self._disk.records.values()]

    async def put(self, record: TaskRecord) -> None:
        await self._points.point()
        self._troubles.check("put")
        self._disk.records[record.task_id] = encode(record)
        await self._points.point()

    async def delete(self, task_id: str) -> None:
        await self._points.point()
        self._troubles.check("delete")
        self._disk.records.pop(task_id, None)
        await self._points.point()
