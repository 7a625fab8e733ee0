"""What can be done to a container that is there: run more in it, attach, pause, update, measure."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import NotFound, Refused, Unavailable
from swarmd.node.runtime import allotment, driver_oci, freezing, gauges, kernfiles, oom
from swarmd.node.runtime.archive import Archives
from swarmd.node.runtime.attach import Attachments
from swarmd.node.runtime.box import Box
from swarmd.node.runtime.cgroup import CgroupDriver
from swarmd.node.runtime.core import cgroups, foreign
from swarmd.node.runtime.core import limits as rules
from swarmd.node.runtime.core.cgroups import ContainerGroups
from swarmd.node.runtime.core.execution import check
from swarmd.node.runtime.core.limits import Change
from swarmd.node.runtime.core.oci_resources import Resources
from swarmd.node.runtime.core.signals import signal_number
from swarmd.node.runtime.exec_port import ExecConfig, Session
from swarmd.node.runtime.execs import Execs
from swarmd.node.runtime.oom import MemoryWatch
from swarmd.node.runtime.planner import Planner
from swarmd.node.runtime.port import ContainerConfig, ContainerState, ContainerStats, Limits, Process
from swarmd.node.runtime.storage import Storage, Stored
from swarmd.node.runtime.widening import widen

_LOOKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between looks at a counter that is about to rise


class Operating:
    """A part of :class:`LocalRuntime`, which has the containers."""

    _boxes: dict[str, Box]
    _clock: Clock
    _storage: Storage
    _planner: Planner
    _execs: Execs
    _attachments: Attachments
    _nursery: Nursery
    oom_heard: Callable[[str, int], None] = staticmethod(lambda _id, _kills: None)
    """Called with a container's id and how many of its processes the kernel has killed for want of memory."""

    @functools.cached_property
    def archives(self) -> Archives:
        """Files of the containers."""
        return Archives(self._box, self._storage.directory)

    @property
    def _groups(self) -> CgroupDriver:
        raise NotImplementedError

    def _box(self, container_id: str) -> Box:
        box = self._boxes.get(container_id)
        if box is None:
            raise NotFound(f"no such container: {container_id}")
        return box

    def inspect(self, container_id: str) -> ContainerState | None:
        box = self._boxes.get(container_id)
        return box.state if box is not None and box.ready else None

    def config(self, container_id: str) -> ContainerConfig | None:
        box = self._boxes.get(container_id)
        return box.stored.config if box is not None else None

    async def exec(self, container_id: str, config: ExecConfig) -> Session:
        check(config)
        box = self._box(container_id)
        if box.state.paused:
            raise Refused(f"container {container_id} is paused; resume it before a program is run in it")
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

    def _observe(self, box: Box) -> None:
        """It is there, perhaps since before this daemon: is it paused, has it run out of memory, will it?"""
        if box.state.status == "running":
            self._note(box, paused=freezing.is_frozen(box.stored.groups))
            self._note_kills(box)
        if not box.observed:
            with contextlib.suppress(OSError):  # the counter is looked at in the end anyway
                watch = MemoryWatch(box.stored.groups, lambda: self._out_of_memory(box))
                box.on_close.append(watch.close)
                box.observed = True

    def _out_of_memory(self, box: Box) -> None:
        if not box.looking:
            box.looking = True
            self._nursery.start(f"look for killed processes of {box.state.id}", self._look_for_kills(box))

    async def _look_for_kills(self, box: Box) -> None:
        """v1 tells before it kills, and also a container that only shares the fate of the group above it."""
        try:
            for pause in _LOOKS:
                if self._note_kills(box) or box.done.is_set() or not box.ready:
                    return
                await self._clock.sleep(pause)
        finally:
            box.looking = False

    def _note_kills(self, box: Box) -> bool:
        """Whether there are more than before."""
        killed = oom.kills(box.stored.groups)
        if killed <= box.oom_kills or box.done.is_set():
            return False
        box.oom_kills = killed
        self._note(box, oom_killed=True)
        self.oom_heard(box.state.id, killed)
        return True

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

    def _note(self, box: Box, **news: bool) -> None:
        fresh = msgspec.structs.replace(box.state, **news)
        if fresh != box.state and not box.done.is_set():
            box.state = fresh
            self._storage.save_state(box.state)

    async def update(self, container_id: str, limits: Limits) -> None:
        box = self._box(container_id)
        async with box.turn:
            if box.state.status == "exited" or not box.ready:
                raise Refused(f"container {container_id} has ended; only a new one can have other limits")
            before = allotment.limited(self._groups, box.stored.config.limits)
            after = allotment.limited(self._groups, limits)
            await self._widen(box, after)
            changes = self._changes(box.stored.groups, before, after)
            _refuse_below_usage(box.stored.groups, after)
            await asyncio.to_thread(self._groups.change, changes)
            try:
                config = msgspec.structs.replace(box.stored.config, limits=limits)
                self._store(box, msgspec.structs.replace(box.stored, config=config))
            except OSError as error:
                self._groups.revert(changes)
                raise Unavailable(f"the new limits cannot be written to disk: {error}") from error

    def _changes(self, groups: ContainerGroups, before: Resources, after: Resources) -> tuple[Change, ...]:
        facts = self._groups.facts
        return rules.changes(
            rules.writes(groups, before, facts),
            rules.writes(groups, after, facts),
            {path: kernfiles.read(path) for path in rules.ordered_files(groups)},
            facts,
        )

    async def _widen(self, box: Box, wanted: Resources) -> None:
        """Some groups are made only for containers that are limited by them: it may be one from now on."""
        now, layout = box.stored.groups, self._groups.layout
        wider = cgroups.place(layout, box.state.id, {*now.v1, *rules.controllers(wanted)})
        if wider == now:
            return
        rules.writes(wider, wanted, self._groups.facts)  # what cannot be had is refused before anything moves
        self._store(box, msgspec.structs.replace(box.stored, groups=wider))  # so that removal knows of it
        try:
            await widen(self._groups, now, wider, self._clock)
        except Unavailable:
            self._store(box, msgspec.structs.replace(box.stored, groups=now))
            raise

    def _store(self, box: Box, stored: Stored) -> None:
        self._storage.save(stored)
        box.stored = stored

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


def _refuse_below_usage(groups: ContainerGroups, wanted: Resources) -> None:
    """v2 would kill for it, v1 would refuse after trying for seconds."""
    limit = wanted.memory.limit if wanted.memory else None
    usage = gauges.measure(groups).memory
    if limit and 0 < limit < usage:
        raise Refused(f"memory {limit}: the container uses {usage} bytes now; stop it, or give it more")
