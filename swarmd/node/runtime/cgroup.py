"""Makes, limits, measures, kills and removes the cgroups of containers: v1, hybrid and pure v2."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct

from swarmd.kit.clock import Clock
from swarmd.model.errors import Unavailable
from swarmd.node.runtime import kernel
from swarmd.node.runtime.core import cgroups, defaults, devices
from swarmd.node.runtime.core.cgroups import Cgroups, ContainerGroups, Write
from swarmd.node.runtime.port import ContainerStats

_CONTROLLERS = ("memory", "cpu", "pids")
_REMOVE_PATIENCE = 10.0
_BPF_PROG_LOAD, _BPF_PROG_ATTACH = 5, 8
_PROG_TYPE_CGROUP_DEVICE, _ATTACH_DEVICE, _ALLOW_MULTI = 15, 6, 2


class CgroupDriver:
    """One per daemon.  Every method but :meth:`remove` is a few writes to a kernel file system."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.layout: Cgroups = cgroups.discover(_read("/proc/self/mountinfo"), _read("/proc/self/cgroup"))
        self._device_program = -1

    def prepare(self) -> None:
        """Make the parent directories and, on pure v2, hand the controllers down to them.

        Raises :class:`Unavailable` where this machine, or the container that is one, does not let us.
        """
        for parent in self.layout.parents():
            try:
                os.makedirs(f"{parent}/{cgroups.PARENT}", exist_ok=True)
            except OSError as error:
                raise Unavailable(
                    f"cannot make the cgroup {parent}/{cgroups.PARENT}: {error.strerror}; swarmd needs "
                    "cgroups it can write to, also where it runs in a container itself"
                ) from error
        if self.layout.pure_v2:
            base = self.layout.v2
            _enable(base, leave=True)
            _enable(f"{base}/{cgroups.PARENT}", leave=False)
        if self.layout.v2:
            self._device_program = _load_device_program()

    def create(self, groups: ContainerGroups, limits: tuple[Write, ...]) -> None:
        """Before any process is in them, so that no limit comes late.  On error nothing is left."""
        made: list[str] = []
        try:
            for path in groups.paths():
                os.makedirs(path)
                made.append(path)
            for write in limits:
                _apply(write)
            if groups.v2:
                _attach_device_program(groups.v2, self._device_program)
            elif "devices" in groups.v1:
                _write(f"{groups.v1['devices']}/devices.deny", "a")
                for line in devices.lines(defaults.DEVICES):
                    _write(f"{groups.v1['devices']}/devices.allow", line)
        except OSError as error:
            for path in made:
                with contextlib.suppress(OSError):
                    os.rmdir(path)
            raise Unavailable(f"cannot make the container's cgroup: {error}") from error

    def procs_files(self, groups: ContainerGroups) -> tuple[str, ...]:
        """What the child must write itself into; in the v2 tree it is born."""
        return tuple(f"{path}/cgroup.procs" for path in dict.fromkeys(groups.v1.values()))

    def kill(self, groups: ContainerGroups) -> None:
        """SIGKILL for every process in them."""
        if groups.v2:
            with contextlib.suppress(OSError):
                _write(f"{groups.v2}/cgroup.kill", "1")
                return
        for path in groups.paths():
            for pid in _read(f"{path}/cgroup.procs").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)

    async def remove(self, groups: ContainerGroups) -> None:
        """Remove the directories, also those a container's own manager made below them."""
        end = self._clock.monotonic() + _REMOVE_PATIENCE
        pause = 0.002
        for path in groups.paths():
            while not _remove_tree(path):
                if self._clock.monotonic() > end:
                    raise Unavailable(f"cgroup {path} still has processes and cannot be removed")
                self.kill(groups)
                await self._clock.sleep(pause)
                pause = min(0.25, pause * 2)

    def oom_killed(self, groups: ContainerGroups) -> bool:
        """Whether the kernel killed any of its processes for want of memory."""
        if "memory" in groups.v1:
            return cgroups.oom_kills(_read(f"{groups.v1['memory']}/memory.oom_control")) > 0
        return cgroups.oom_kills(_read(f"{groups.v2}/memory.events")) > 0

    def stats(self, groups: ContainerGroups) -> ContainerStats:
        """Memory without page cache that could be dropped at once."""
        memory_dir = groups.v1.get("memory")
        if memory_dir:
            used, inactive = f"{memory_dir}/memory.usage_in_bytes", "total_inactive_file"
        else:
            memory_dir = groups.v2
            used, inactive = f"{memory_dir}/memory.current", "inactive_file"
        memory = _number(used) - cgroups.counter(_read(f"{memory_dir}/memory.stat"), inactive)
        if groups.v2:
            cpu = cgroups.counter(_read(f"{groups.v2}/cpu.stat"), "usage_usec") * 1000
        else:
            cpu = _number(f"{groups.v1.get('cpuacct', '')}/cpuacct.usage")
        pids = _number(f"{groups.v1.get('pids', groups.v2)}/pids.current")
        return ContainerStats(memory=max(0, memory), cpu=cpu, pids=pids)

    def tidy(self) -> None:
        """Remove the parent directories if no container of anybody is left in them."""
        if self.layout.pure_v2:
            return  # our own processes sit in a leaf beside them
        for parent in self.layout.parents():
            with contextlib.suppress(OSError):
                os.rmdir(f"{parent}/{cgroups.PARENT}")


def _enable(directory: str, *, leave: bool) -> None:
    """Delegate the controllers to the children of ``directory``.

    A v2 group that does so may hold no process itself, so with ``leave`` those in it move to a leaf.
    """
    present = _read(f"{directory}/cgroup.controllers").split()
    wanted = " ".join(f"+{name}" for name in _CONTROLLERS if name in present)
    try:
        _write(f"{directory}/cgroup.subtree_control", wanted)
    except OSError as error:
        if error.errno != errno.EBUSY or not leave:
            raise Unavailable(f"cannot delegate cgroup controllers in {directory}: {error}") from error
        leaf = f"{directory}/{cgroups.LEAF}"
        os.makedirs(leaf, exist_ok=True)
        for pid in _read(f"{directory}/cgroup.procs").split():
            with contextlib.suppress(ProcessLookupError):
                _write(f"{leaf}/cgroup.procs", pid)
        _write(f"{directory}/cgroup.subtree_control", wanted)


def _apply(write: Write) -> None:
    try:
        _write(write.path, write.value)
    except OSError:
        if write.required:
            raise


def _load_device_program() -> int:
    code = devices.program(defaults.DEVICES)
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "IIQQIIQII",
        _PROG_TYPE_CGROUP_DEVICE,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        *(0, 0, 0, 0, 0),
    )
    try:
        fd = kernel.bpf(_BPF_PROG_LOAD, attributes)
    except OSError as error:
        raise Unavailable(f"cannot load the device filter of containers: {error}") from error
    os.set_inheritable(fd, False)
    return fd


def _attach_device_program(directory: str, program: int) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        kernel.bpf(_BPF_PROG_ATTACH, struct.pack("IIII", fd, program, _ATTACH_DEVICE, _ALLOW_MULTI))
    finally:
        os.close(fd)


def _remove_tree(path: str) -> bool:
    """False while a process is in it."""
    try:
        for root, _, _ in os.walk(path, topdown=False):
            os.rmdir(root)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        return False
    return True


def _read(path: str) -> str:
    """Empty if it is not there: a controller may be missing, a group may be gone."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else 0


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
