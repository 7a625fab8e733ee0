"""What can be done to a container that is there: run more in it, attach, pause, update, measure."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from pathlib import Path

import msgspec

from swarmd.kit.clock import Clock
from swarmd.model.errors import Invalid, Refused
from swarmd.node.runtime import allotment, driver_oci, freezing, gauges, kernfiles
from swarmd.node.runtime.archive import Archives
from swarmd.node.runtime.attach import Attachments
from swarmd.node.runtime.box import Box
from swarmd.node.runtime.cgroup import CgroupDriver
from swarmd.node.runtime.core import foreign
from swarmd.node.runtime.core import limits as rules
from swarmd.node.runtime.core.cgroups import ContainerGroups
from swarmd.node.runtime.core.execution import check
from swarmd.node.runtime.core.oci_resources import Resources
from swarmd.node.runtime.core.signals import signal_number
from swarmd.node.runtime.exec_port import ExecConfig, Session
from swarmd.node.runtime.execs import Execs
from swarmd.node.runtime.planner import Planner
from swarmd.node.runtime.port import ContainerConfig, ContainerState, ContainerStats, Limits, Process
from swarmd.node.runtime.storage import Storage


class Operating:
    """A part of :class:`LocalRuntime`, which has the containers."""

    _clock: Clock
    _storage: Storage
    _boxes: dict[str, Box]
    _planner: Planner
    _execs: Execs
    _attachments: Attachments

    @functools.cached_property
    def archives(self) -> Archives:
        """Files of the containers."""
        return Archives(self._box, self._storage.directory)

    @property
    def _groups(self) -> CgroupDriver:
        raise NotImplementedError

    def _box(self, container_id: str) -> Box:
        raise NotImplementedError

    def inspect(self, container_id: str) -> ContainerState | None:
        box = self._boxes.get(container_id)
        return box.state if box is not None and box.ready else None

    def config(self, container_id: str) -> ContainerConfig | None:
        box = self._boxes.get(container_id)
        return box.stored.config if box is not None else None

    async def exec(self, container_id: str, config: ExecConfig) -> Session:
        check(config)
        box = self._box(container_id)
        foreign.check_inside(box.stored.config.runtime, "exec")
        procs = self._groups.procs_files(box.stored.groups)
        return await self._execs.start(box, config, self._planner.exec_plan(box.stored.config, config, procs))

    async def attach(self, container_id: str, *, logs: bool = False) -> Session:
        return await self._attachments.attach(
            self._box(container_id), self.container_dir(container_id), logs=logs
        )

    def _first_process(self, box: Box, pid: int, pidfd: int) -> tuple[int, int]:
        return driver_oci.first_process(box.stored.config, self.container_dir(box.state.id), pid, pidfd)

    def container_dir(self, container_id: str) -> Path:
        """Where its logs are, for :func:`swarmd.node.runtime.logs.read_logs`."""
        return self._storage.directory(container_id)

    async def kill(self, container_id: str, signal: str = "SIGKILL") -> None:
        box = self._box(container_id)
        box.signal(signal_number(signal))
        self._thaw(box)

    async def pause(self, container_id: str) -> None:
        box = self._box(container_id)
        async with box.turn:
            _refuse_unless_running(box, "paused")
            if box.state.paused:
                raise Refused(f"container {container_id} is paused already")
            await freezing.freeze(box.stored.groups, self._clock)
            self._note(box, paused=True)

    async def resume(self, container_id: str) -> None:
        box = self._box(container_id)
        async with box.turn:
            if not box.state.paused:
                raise Refused(f"container {container_id} is not paused")
            self._thaw(box)

    def _thaw(self, box: Box) -> None:
        """One that is to be signalled or stopped must be able to react."""
        if box.state.paused:
            freezing.thaw(box.stored.groups)
            self._note(box, paused=False)

    def _note(self, box: Box, *, paused: bool) -> None:
        if not box.done.is_set():
            box.state = msgspec.structs.replace(box.state, paused=paused)
            self._storage.save_state(box.state)

    async def update(self, container_id: str, limits: Limits) -> None:
        box = self._box(container_id)
        async with box.turn:
            if box.state.status == "exited" or not box.ready:
                raise Refused(f"container {container_id} has ended; only a new one can have other limits")
            stored, driver = box.stored, self._groups
            before = allotment.resources(driver, stored.config.limits)
            after = allotment.resources(driver, limits)
            _refuse_without_group(stored.groups, after, driver)
            changes = rules.changes(
                rules.writes(stored.groups, before, driver.facts),
                rules.writes(stored.groups, after, driver.facts),
                {path: kernfiles.read(path) for path in rules.ordered_files(stored.groups)},
                driver.facts,
            )
            _refuse_below_usage(stored.groups, after)
            await asyncio.to_thread(driver.change, changes)
            fresh = msgspec.structs.replace(
                stored, config=msgspec.structs.replace(stored.config, limits=limits)
            )
            try:
                self._storage.save(fresh)
            except OSError as error:
                driver.revert(changes)
                raise Refused(f"the new limits cannot be written to disk: {error}") from error
            box.stored = fresh

    async def stats(self, container_id: str) -> ContainerStats:
        box = self._box(container_id)
        if box.state.status == "exited":
            raise Refused(f"container {container_id} has exited and uses nothing")
        shared = box.stored.config.network_mode == "host"
        return gauges.measure(box.stored.groups, network_of=0 if shared else box.state.pid)

    async def top(self, container_id: str) -> Sequence[Process]:
        box = self._box(container_id)
        _refuse_unless_running(box, "looked into")
        return gauges.processes(box.stored.groups)


def _refuse_unless_running(box: Box, done: str) -> None:
    if box.state.status != "running":
        raise Refused(
            f"container {box.state.id} is {box.state.status}; only a running container can be {done}"
        )


def _refuse_without_group(groups: ContainerGroups, wanted: Resources, driver: CgroupDriver) -> None:
    missing = {
        name for name in rules.controllers(wanted) if name in driver.layout.v1 and name not in groups.v1
    }
    if missing:
        raise Invalid(
            f"this container was made without limits of {', '.join(sorted(missing))}; they cannot be given "
            "to it while it runs"
        )


def _refuse_below_usage(groups: ContainerGroups, wanted: Resources) -> None:
    """v2 would kill for it, v1 would refuse after trying for seconds."""
    limit = wanted.memory.limit if wanted.memory else None
    usage = gauges.measure(groups).memory
    if limit and 0 < limit < usage:
        raise Refused(f"memory {limit}: the container uses {usage} bytes now; stop it, or give it more")
