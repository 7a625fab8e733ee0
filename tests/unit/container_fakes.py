"""Containers of a node that is not there: a runtime that remembers what was asked, sessions a test leads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, cast

from swarmd.model.errors import NotFound
from swarmd.node.containers.commit import Wanted
from swarmd.node.containers.local import Allow, Commit, LocalContainers
from swarmd.node.runtime.archive import PathStat
from swarmd.node.runtime.exec_port import ExecConfig, Size
from swarmd.node.runtime.port import ContainerConfig, ContainerState, ContainerStats, Limits


class FakeSession:
    """Gives ``output`` piece by piece, then ends with ``code``; ``takes`` closed: it reads no input;
    ``deaf``: it goes on when its input ends."""

    def __init__(
        self, *output: tuple[int, bytes], code: int = 0, endless: bool = False, deaf: bool = False
    ) -> None:
        self.output = list(output)
        self.code = code
        self.endless = endless
        self.deaf = deaf
        self.takes = asyncio.Event()
        self.takes.set()
        self.done = asyncio.Event()
        self.input: list[bytes] = []
        self.log: list[object] = []
        self.given = 0
        self.closed = asyncio.Event()

    async def read(self) -> tuple[int, bytes] | None:
        if self.endless:
            self.given += 32 << 10
            await asyncio.sleep(0)
            return 1, bytes(32 << 10)
        if self.output:
            return self.output.pop(0)
        await self.done.wait()
        return None

    async def write(self, data: bytes) -> None:
        await self.takes.wait()
        self.input.append(data)

    async def end_input(self) -> None:
        self.log.append("end")
        if not self.deaf:
            self.done.set()

    async def resize(self, size: Size) -> None:
        self.log.append(size)

    async def signal(self, name: str) -> None:
        self.log.append(name)

    async def wait(self) -> int:
        return self.code

    async def close(self, *, kill: bool = False) -> None:
        self.closed.set()


class FakeContainers:
    """Implements the part of the runtime that is asked for containers."""

    def __init__(self) -> None:
        self.states: dict[str, ContainerState] = {}
        self.configs: dict[str, ContainerConfig] = {}
        self.session: FakeSession = FakeSession()
        self.failure: Exception | None = None
        self.executed: list[ExecConfig] = []
        self.log: list[tuple[Any, ...]] = []

    def add(self, container_id: str, *, status: Any = "running", task: str = "", **fields: Any) -> None:
        labels = {"com.docker.swarm.task.name": task} if task else {}
        self.configs[container_id] = ContainerConfig(
            id=container_id, lower_dirs=("/layer",), args=("run",), labels=labels, **fields
        )
        self.states[container_id] = ContainerState(id=container_id, status=status, exit_code=0)

    def list(self) -> list[ContainerState]:
        return list(self.states.values())

    def inspect(self, container_id: str) -> ContainerState | None:
        return self.states.get(container_id)

    def config(self, container_id: str) -> ContainerConfig | None:
        return self.configs.get(container_id)

    async def exec(self, container_id: str, config: ExecConfig) -> FakeSession:
        if self.failure is not None:
            raise self.failure
        self.executed.append(config)
        return self.session

    async def attach(self, container_id: str, *, logs: bool = False) -> FakeSession:
        return self.session

    async def pause(self, container_id: str) -> None:
        self.log.append(("pause", container_id))

    async def resume(self, container_id: str) -> None:
        self.log.append(("resume", container_id))

    async def kill(self, container_id: str, signal: str = "SIGKILL") -> None:
        self.log.append(("kill", container_id, signal))

    async def update(self, container_id: str, limits: Limits) -> None:
        self.log.append(("update", container_id, limits))

    async def stats(self, container_id: str) -> ContainerStats:
        return ContainerStats(memory=1000, cpu=5_000_000_000, pids=2)

    async def wait(self, container_id: str) -> ContainerState:
        return self.states[container_id]


class FakeArchives:
    """One file in every container."""

    def __init__(self) -> None:
        self.written = bytearray()

    async def read(self, container_id: str, path: str, *, follow: bool) -> AsyncGenerator[bytes, None]:
        if path != "/f":
            raise NotFound(f"Could not find the file {path} in container {container_id}")
        yield b"a tar "
        yield b"stream"

    async def write(
        self, container_id: str, path: str, pieces: AsyncIterator[bytes], *, keep_owners: bool
    ) -> None:
        async for piece in pieces:
            self.written += piece

    async def stat(self, container_id: str, path: str, *, follow: bool) -> PathStat:
        return PathStat("f", 0o100644)

    async def diff(self, container_id: str) -> list[tuple[str, str]]:
        return [("A", "/new")]


def local_containers(
    runtime: FakeContainers | None = None, archives: FakeArchives | None = None, *, allow: Allow = "all",
    commit: Commit | None = None,
) -> LocalContainers:  # fmt: skip
    """The containers of a node called "one"."""
    return LocalContainers(
        cast("Any", runtime or FakeContainers()),
        cast("Any", archives or FakeArchives()),
        data_dir=Path("/nonexistent"),
        hostname="one",
        allow=allow,
        commit=commit or committed,
    )


async def committed(container_id: str, wanted: Wanted) -> str:
    return f"sha256:{container_id}"
