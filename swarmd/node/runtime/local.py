"""The local container runtime: namespaces, cgroups and overlay through the spawner, state on disk."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import msgspec

from swarmd.kit.clock import Clock
from swarmd.kit.groups import TaskGroup
from swarmd.kit.ids import new_id
from swarmd.kit.supervise import Nursery, Report
from swarmd.model.errors import Conflict, Refused, SwarmError, Unavailable
from swarmd.node.runtime import draining, driver_oci, hostfacts, oom, reattach
from swarmd.node.runtime.allotment import allot
from swarmd.node.runtime.archive import Archives
from swarmd.node.runtime.attach import Attachments
from swarmd.node.runtime.box import Box
from swarmd.node.runtime.cgroup import CgroupDriver
from swarmd.node.runtime.client import SpawnClient, SpawnerError, SpawnerLost
from swarmd.node.runtime.core import cgroups, linux
from swarmd.node.runtime.core.cgroups import ContainerGroups
from swarmd.node.runtime.core.facts import HostFacts, Layout
from swarmd.node.runtime.core.failures import creation_failure, start_failure
from swarmd.node.runtime.core.signals import signal_number
from swarmd.node.runtime.core.validate import validate
from swarmd.node.runtime.execs import Execs
from swarmd.node.runtime.operating import Operating
from swarmd.node.runtime.planner import Planner
from swarmd.node.runtime.port import ContainerConfig, ContainerState
from swarmd.node.runtime.reattach import Row, settled_rows
from swarmd.node.runtime.storage import Storage, Stored

_KILL_PATIENCE = 10.0
_RECONNECT_PAUSE = 0.5
list_ = list  # the port has a method of that name


class LocalRuntime(Operating):
    """Implements ``port.Runtime`` on this machine; ``report`` hears of failures of background work."""

    def __init__(
        self,
        data_dir: Path,
        run_dir: Path,
        clock: Clock,
        report: Report,
        *,
        default_runtime: str = "",
        remap: tuple[int, int] = (0, 0),
    ) -> None:
        self._default_runtime = default_runtime
        self._clock = clock
        self._storage = Storage(data_dir, run_dir)
        self._boxes: dict[str, Box] = {}
        self._nursery = Nursery(report)
        self._spawner = SpawnClient(run_dir, event=self._heard, lost=self._disconnected)
        self._execs = Execs(self._spawner, self._nursery, clock, new_id)
        self._attachments = Attachments(self._spawner, run_dir, clock)
        self._cgroups: CgroupDriver | None = None
        self._planner = Planner(HostFacts(remap=remap))
        self.archives = Archives(self._box, self._storage.directory)
        self._closing = False

    @property
    def _groups(self) -> CgroupDriver:
        if self._cgroups is None:
            raise Unavailable("the container runtime has not been started up")
        return self._cgroups

    async def start_up(self) -> None:
        driver_oci.check_default(self._default_runtime)
        self._storage.prepare()
        found = self._storage.load()
        self._cgroups = CgroupDriver(self._clock, owner=self._storage.identity())
        self._cgroups.prepare(known={name for name, _, _ in found})
        self._planner = Planner(hostfacts.gather(self._cgroups.layout, self._planner.facts.remap))
        for name, stored, state in found:
            if stored is not None:
                box = Box(stored, state or ContainerState(id=name, status="created"))
                box.ready = True
                self._boxes[name] = box
        await self._connect()
        for name in [name for name, stored, _ in found if stored is None]:
            await self._clear_away(name, cgroups.place(self._groups.layout, name))
        self._nursery.start("watch over the container spawner", self._spawner.watch(self._clock))

    async def _connect(self) -> None:
        await self._spawner.connect()
        rows = await settled_rows(self._spawner, self._clock)
        for row in rows:
            if row.id in self._boxes:
                await self._take_over(self._boxes[row.id], row)
            else:
                await self._spawner.call("forget", row.id)
        known = {row.id for row in rows}
        for name, box in self._boxes.items():
            if name not in known and box.ready and not box.done.is_set():
                self._finish(Row(name, "exited", 0, box.state.started_at, self._clock.now(), None, None))
        self._spawner.online.set()

    async def _take_over(self, box: Box, row: Row) -> None:
        if row.status == "exited":
            self._finish(row)
            return
        if box.pidfd < 0:
            _, fds = await self._spawner.call("pidfd", row.id)
            for fd in fds:  # none: the event of its end is on the way
                box.created(*self._first_process(box, row.pid, fd))
        if row.status == "running":
            box.started(row.started)
        self._observe(box)
        self._storage.save_state(box.state)

    def _disconnected(self) -> None:
        # If it was not, somebody connects already, and will hear that it failed.
        online = self._spawner.online.is_set()
        self._spawner.online.clear()
        if online and not self._closing:
            self._nursery.start("reconnect to the container spawner", self._reconnect())

    async def _reconnect(self) -> None:
        while not self._spawner.online.is_set():
            try:
                await self._connect()
            except (SwarmError, OSError, SpawnerError):
                self._spawner.close()
                await self._clock.sleep(_RECONNECT_PAUSE)

    def _heard(self, event: tuple[Any, ...]) -> None:
        if event[0] == "exited":
            self._finish(reattach.row(event[1]))
        elif event[0] == "exec_exited":
            self._execs.heard(event[1], event[2])

    def _finish(self, row: Row) -> None:
        """Note an end, then let the spawner forget it; a crash in between makes it tell again."""
        box = self._boxes.get(row.id)
        if box is None:
            return
        if not box.ready:  # told in the same breath as its creation
            box.early_end = row
            return
        box.ended(row, now=self._clock.now(), oom=oom.kills(box.stored.groups) > 0)
        self._storage.save_state(box.state)
        self._nursery.start(f"acknowledge the end of {row.id}", self._acknowledge(row.id))

    async def _acknowledge(self, name: str) -> None:
        with contextlib.suppress(Unavailable):  # it is told again after the reconnection
            await self._spawner.call("ack", name)

    async def create(self, config: ContainerConfig) -> int:
        validate(config)
        config = msgspec.structs.replace(config, runtime=config.runtime or self._default_runtime)
        for _ in range(2):
            with contextlib.suppress(SpawnerLost):  # and with it the child, which had run nothing yet
                return await self._make(config)
        return await self._make(config)

    async def _make(self, config: ContainerConfig) -> int:
        if config.id in self._boxes:
            raise Conflict(f"container {config.id} exists already")
        room = allot(self._groups, config)
        stored = Stored(config, room.groups, self._clock.now())
        box = Box(stored, ContainerState(id=config.id, status="created"))
        self._boxes[config.id] = box
        made = None
        try:
            layout = self._storage.make(stored)
            self._groups.create(room.groups, room.writes, room.rules)
            made = room.groups
            pid = await self._clone(box, layout)
            self._storage.save_state(box.state)
        except BaseException as error:
            await self._clear_away(config.id, made)
            if isinstance(error, OSError):
                raise self._storage.trouble(config.id, error) from error
            raise
        box.ready = True
        self._observe(box)
        if box.early_end:
            self._finish(box.early_end)
        return pid

    async def _clone(self, box: Box, layout: Layout) -> int:
        config = box.stored.config
        procs = self._groups.procs_files(box.stored.groups)
        peers = {name: other.state.pid for name, other in self._boxes.items()}
        layout = msgspec.structs.replace(layout, v1_procs=procs)
        with self._planner.prepared(config, layout, peers) as made:
            (pid,), fds = await self._spawner.ask(
                "create",
                config.id,
                box.stored.groups.v2,
                made.flags,
                "terminal" if config.tty else "input" if config.stdin else "",
                fds=made.fds,
                failed=creation_failure,
            )
        box.created(*self._first_process(box, pid, fds[0]))
        return box.state.pid

    async def _clear_away(self, name: str, groups: ContainerGroups | None) -> None:
        """All that is left of a container, whatever part of it was made."""
        box = self._boxes.get(name)
        if box is not None:
            box.ready = False
            await draining.drained(box.state, self.container_dir(name) / "log", self._clock)
        with contextlib.suppress(Unavailable):  # a new spawner will be told, as it is unknown here then
            await self._spawner.call("forget", name)
        if groups is not None:
            await self._groups.remove(groups)
        await asyncio.to_thread(self._storage.remove, name)
        if box is not None:
            box.close()
        self._boxes.pop(name, None)

    async def start(self, container_id: str) -> None:
        box = self._box(container_id)
        if box.state.status != "created" or not box.ready or box.starting:
            raise Refused(f"container {container_id} was started already; a container runs once")
        box.starting = True
        try:
            (at,), _ = await self._spawner.ask("start", container_id, failed=start_failure)
        except SpawnerLost:
            at = await self._started_meanwhile(box)
        box.started(at)
        self._storage.save_state(box.state)

    async def _started_meanwhile(self, box: Box) -> float:
        """Whether the spawner said "go" before it died, as the next one finds out."""
        await self._spawner.is_back()
        if not box.state.started_at:
            raise Unavailable(f"container {box.state.id} was not started: the container spawner died; retry")
        return box.state.started_at

    async def wait(self, container_id: str) -> ContainerState:
        box = self._box(container_id)
        await box.done.wait()
        return box.state

    async def stop(self, container_id: str, *, signal: str = "", grace: float = 10.0) -> ContainerState:
        box = self._box(container_id)
        number = signal_number(signal or box.stored.config.stop_signal or "SIGTERM")
        if box.done.is_set():
            return box.state
        if box.state.status == "running":
            with contextlib.suppress(Refused, TimeoutError):
                box.signal(number)
                self._thaw(box)
                async with asyncio.timeout(None if grace < 0 else grace):
                    await box.done.wait()
        if not box.done.is_set():
            self._groups.kill(box.stored.groups)
            with contextlib.suppress(Refused):
                box.signal(linux.SIGKILL)
            try:
                async with asyncio.timeout(_KILL_PATIENCE):
                    await box.done.wait()
            except TimeoutError:
                raise Unavailable(
                    f"container {container_id} (pid {box.state.pid}) does not die: it waits in the kernel"
                ) from None
        return box.state

    async def remove(self, container_id: str) -> None:
        box = self._box(container_id)
        if box.state.status == "running":
            raise Refused(f"container {container_id} is running; stop it before removing it")
        if not box.ready:
            raise Refused(f"container {container_id} is being made or removed already")
        try:
            await self._clear_away(container_id, box.stored.groups)
        finally:
            box.ready = True  # of no use to anybody once it is cleared away, but it can be tried again

    def list(self) -> list_[ContainerState]:
        return [box.state for box in self._boxes.values() if box.ready]

    async def shut_down(self, *, stop_containers: bool) -> None:
        if stop_containers:
            async with TaskGroup() as group:
                for state in self.list():
                    group.create_task(self.stop(state.id))
        self._closing = True
        if all(state.status == "exited" for state in self.list()):  # nothing is left to watch over
            with contextlib.suppress(Unavailable):
                await self._spawner.is_back()  # one that is just being started would stay
                await self._spawner.quit()
            self._groups.tidy()
        self._execs.close()
        await self._nursery.close()
        self._spawner.online.clear()
        self._spawner.close()
        for box in self._boxes.values():
            box.close()
