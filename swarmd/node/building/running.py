"""RUN: a command in a container over the layers so far, whose writable layer is the outcome.

Asyncio.  The container is of the node's own runtime, isolated as a task is.  What it writes lies outside of
the runtime's directory, so that the layer stays when the container goes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from swarmd.image.build.core.excerpt import command_line
from swarmd.image.build.core.graph import Run
from swarmd.kit.ids import NewId
from swarmd.model.errors import Invalid, NotFound, Refused
from swarmd.model.spec import ContainerSpec
from swarmd.node.agent.core.container import PATH, NodeFacts
from swarmd.node.agent.core.etc_files import files
from swarmd.node.building import stubs
from swarmd.node.network.port import NetworkPort
from swarmd.node.runtime.port import ContainerConfig, ContainerState, Mount, Runtime

LABEL = "io.swarmd.build"
"""On containers of builds."""

_HOSTNAME = "buildkitsandbox"  # programs of others look for this name
_LOG_SIZE = 1 << 20

Output = Callable[[int, bytes], None]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """``upper``: where the layer comes; ``lowers`` below it, topmost first, one at least."""

    upper: Path
    lowers: tuple[Path, ...]
    mounts: tuple[Mount, ...] = ()
    env: tuple[str, ...] = ()


class Runner:
    """``network``: this node's while it is in a swarm; ``containers``: the runtime's directory of them."""

    def __init__(
        self,
        runtime: Runtime,
        containers: Path,
        network: Callable[[], NetworkPort | None],
        facts: Callable[[], NodeFacts],
        new_id: NewId,
    ) -> None:
        self._runtime = runtime
        self._containers = containers
        self._network = network
        self._facts = facts
        self._new_id = new_id

    async def clear(self) -> None:
        """Containers that builds left behind when the daemon ended are removed."""
        for state in self._runtime.list():
            config = self._runtime.config(state.id)
            if config is not None and LABEL in config.labels:
                await self._end(state.id)

    async def run(self, step: Run, place: Place, output: Output, *, network: str = "") -> None:
        """Raises Refused when the command fails, Invalid when it cannot be run at all.

        ``network``: for a step that does not say (default, none or host).
        """
        if step.security == "insecure":
            raise Refused("RUN --security=insecure is not granted: commands of a build run in a sandbox")
        if step.network == "host" and not self._is_host(network):
            raise Refused(
                "RUN --network=host is not granted: it reaches what this node serves to itself, such as the "
                "swarm's registry; build with --network host to allow it"
            )
        targets = [mount.target for mount in place.mounts]
        made = await asyncio.to_thread(stubs.missing, targets, place.lowers)
        config = self._config(step, place, step.network if step.network != "default" else network)
        state = await self._to_the_end(config, place, output)
        if state.exit_code != 0 or state.error:
            raise Refused(_failure(step, state))
        await asyncio.to_thread(stubs.clear, place.upper, made, place.lowers)

    async def _to_the_end(self, config: ContainerConfig, place: Place, output: Output) -> ContainerState:
        base = self._containers / config.id
        base.mkdir(mode=0o700, parents=True)
        (base / "upper").symlink_to(place.upper.resolve())
        async with self._container(config):
            session = await self._runtime.attach(config.id)
            try:
                await self._start(config.id)
                while (piece := await session.read()) is not None:
                    output(*piece)
            finally:
                await session.close()
            return await self._runtime.wait(config.id)

    async def _start(self, container_id: str) -> None:
        try:
            await self._runtime.start(container_id)
        except Invalid as error:  # the program cannot be executed
            raise Refused(f"{error}") from error

    @contextlib.asynccontextmanager
    async def _container(self, config: ContainerConfig) -> AsyncIterator[None]:
        network = self._network() if config.network_mode == "" else None
        pid = await self._runtime.create(config)
        try:
            if network is not None:
                await network.attach(config.id, pid)
            yield
        finally:
            await self._end(config.id)

    async def _end(self, container_id: str) -> None:
        state = self._runtime.inspect(container_id)
        if state is not None and state.status != "exited":
            await self._runtime.stop(container_id, grace=0.0)
        with contextlib.suppress(NotFound):  # this node leaves its swarm, and removed it
            await self._runtime.remove(container_id)
        network = self._network()
        if network is not None:
            await network.detach(container_id)

    def _is_host(self, network: str) -> bool:
        # Without a swarm a node has no network for containers: then that of the node itself is the default.
        return network == "host" or (network == "default" and self._network() is None)

    def _config(self, step: Run, place: Place, network: str) -> ContainerConfig:
        mode = "host" if self._is_host(network) else network
        facts = self._facts()
        hostname = facts.hostname if mode == "host" else _HOSTNAME
        shown = files(ContainerSpec(), hostname, facts.resolv_conf)
        if mode == "host":  # there a resolver of the node itself can be reached
            shown = msgspec.structs.replace(shown, resolv_conf=facts.resolv_conf)
        env = step.env if any(one.startswith("PATH=") for one in step.env) else (PATH, *step.env)
        return ContainerConfig(
            id=self._new_id(),
            lower_dirs=tuple(str(lower) for lower in place.lowers),
            args=step.args,
            env=(*env, *step.proxy, *place.env),
            cwd=step.workdir or "/",
            user=step.user,
            hostname=hostname,
            mounts=place.mounts,
            files=shown,
            labels={LABEL: ""},
            network_mode="" if mode == "default" else mode,
            # A layer holds the numbers of its owners as the container sees them.
            userns="host",
            runtime="local",
            log_max_size=_LOG_SIZE,
            log_max_files=1,
        )


def _failure(step: Run, state: ContainerState) -> str:
    if state.error:
        return state.error
    text = f'process "{command_line(step.args)}" did not complete successfully: exit code: {state.exit_code}'
    return f"{text}: the kernel ended it for want of memory" if state.oom_killed else text
