"""The containers of this node, found by name, and guarded by what the operator allows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Literal

from swarmd.model.errors import NotFound, Refused
from swarmd.node import peer
from swarmd.node.containers.commit import Wanted
from swarmd.node.containers.core import naming
from swarmd.node.containers.core.naming import Named
from swarmd.node.runtime.archive import Archives
from swarmd.node.runtime.exec_port import ExecConfig
from swarmd.node.runtime.logs import LogLine, read_logs
from swarmd.node.runtime.port import ContainerState, Runtime
from swarmd.node.runtime.sessions import Session

Allow = Literal["all", "local", "none"]
"""Who may get into a container of this node: everybody who may operate it, only users of this node's own
socket, or nobody."""

Commit = Callable[[str, Wanted], Awaitable[str]]
"""Makes an image of a container, by its id; answers the image's id."""

Names = Callable[[], Mapping[str, str]]
"""Container id → name, of containers that are no task's."""


class LocalContainers:
    """Operates containers; raises the errors of the runtime, and Refused where the operator says so."""

    def __init__(
        self,
        runtime: Runtime,
        archives: Archives,
        *,
        data_dir: Path,
        hostname: str,
        memory: int = 0,
        allow: Allow = "all",
        names: Names = dict,
        image_of: Callable[[str], str] = lambda container_id: "",
        health_of: Callable[[str], str] = lambda container_id: "",
        killed: Callable[[str, str], None] = lambda container_id, signal: None,
        commit: Commit,
    ) -> None:
        self.runtime = runtime
        self.archives = archives
        self.hostname = hostname
        self.memory = memory
        self._containers = data_dir / "containers"
        self._allow = allow
        self._names = names
        self._killed = killed
        self.image_of = image_of
        self.health_of = health_of
        self.commit = commit

    # -- which one -------------------------------------------------------------------------------

    def named(self) -> list[Named]:
        """Every container with its names."""
        return [self._named(state) for state in self.runtime.list()]

    def exact(self, ref: str) -> str | None:
        """The id of the container with that id or name."""
        return naming.exact(ref, self.named())

    def find(self, ref: str) -> str:
        """The id of the container that is meant.  Raises NotFound, Invalid for an ambiguous prefix."""
        found = self.exact(ref) or naming.by_prefix(ref, self.named())
        if found is None:
            raise NotFound(f"No such container: {ref}")
        return found

    def name_of(self, container_id: str) -> str:
        """What it is called in tables."""
        own = self._names().get(container_id)
        if own:
            return own
        config = self.runtime.config(container_id)
        label = config.labels.get(naming.TASK_NAME, "") if config is not None else ""
        return next(iter(naming.task_names(label, container_id)), container_id)

    def _named(self, state: ContainerState) -> Named:
        own = self._names().get(state.id)
        config = self.runtime.config(state.id)
        label = config.labels.get(naming.TASK_NAME, "") if config is not None else ""
        names = (own,) if own else naming.task_names(label, state.id)
        return Named(state.id, names, state.status == "running", state.started_at)

    # -- getting in ------------------------------------------------------------------------------

    def admit(self, what: str, *, remote: bool) -> None:
        """Raises Refused unless the operator of this node lets such a caller in."""
        if self._allow == "none" or (self._allow == "local" and remote):
            only = "its own socket only" if self._allow == "local" else "nobody"
            raise Refused(
                f"node {self.hostname} refuses {what}: its operator lets {only} into containers "
                f'(setting exec_allow = "{self._allow}")'
            )

    async def exec(self, container_id: str, config: ExecConfig) -> Session:
        """Run a program in a container.  Raises Refused unless it runs."""
        if self._running(container_id).paused:
            raise Refused(f"container {self.name_of(container_id)} is paused, unpause it before exec")
        return await self.runtime.exec(container_id, config)

    async def attach(self, container_id: str, *, logs: bool) -> Session:
        """Be connected with the container's own program."""
        state = self.runtime.inspect(container_id)
        if state is not None and state.status == "exited":
            raise Refused("You cannot attach to a stopped container, start it first")
        if state is not None and state.paused:
            raise Refused("You cannot attach to a paused container, unpause it first")
        return await self.runtime.attach(container_id, logs=logs)

    async def kill(self, container_id: str, signal: str) -> None:
        """Signal its first process."""
        self._running(container_id)
        self._killed(container_id, signal or "SIGKILL")
        await self.runtime.kill(container_id, signal or "SIGKILL")

    def state(self, container_id: str) -> ContainerState:
        """Where it stands.  Raises NotFound."""
        state = self.runtime.inspect(container_id)
        if state is None:
            raise NotFound(f"No such container: {container_id}")
        return state

    def _running(self, container_id: str) -> ContainerState:
        state = self.state(container_id)
        if state.status != "running":
            raise Refused(f"container {self.name_of(container_id)} is not running")
        return state

    # -- reading ---------------------------------------------------------------------------------

    def logs(self, container_id: str, *, follow: bool, tail: int, since: float) -> AsyncIterator[LogLine]:
        """What it printed; ``tail`` -1: everything; ``since`` 0: from the beginning."""
        return read_logs(
            self._containers / container_id,
            tail=tail if tail >= 0 else None,
            since=since or None,
            follow=follow,
        )

    async def task_logs(
        self, task_id: str, *, follow: bool, tail: int, since: float
    ) -> AsyncGenerator[peer.LogLine, None]:
        """For managers: what a task printed.  Raises NotFound."""
        if self.runtime.inspect(task_id) is None:
            raise NotFound(f"task {task_id} has no container on this node any more")
        async for line in self.logs(task_id, follow=follow, tail=tail, since=since):
            yield peer.LogLine(at=line.time, stderr=line.stream == "stderr", data=line.data)

    def read(self, container_id: str, path: str, *, follow: bool) -> AsyncGenerator[bytes, None]:
        """A tar of a path in it."""
        return self.archives.read(container_id, path, follow=follow)
