"""Puts the device rules of a container into force: a BPF program on its v2 group, or lines of cgroup v1."""

from __future__ import annotations

import ctypes
import os
import struct
from collections import OrderedDict

from swarmd.model.errors import Unavailable
from swarmd.node.runtime import kernel, kernfiles
from swarmd.node.runtime.core import device_filter
from swarmd.node.runtime.core.cgroups import ContainerGroups
from swarmd.node.runtime.core.device_filter import DEFAULTS, NOTHING
from swarmd.node.runtime.core.oci_resources import DeviceRule

_BPF_PROG_LOAD, _BPF_PROG_ATTACH = 5, 8
_PROG_TYPE_CGROUP_DEVICE, _ATTACH_DEVICE, _ALLOW_MULTI = 15, 6, 2
_KEPT = 16

Rules = tuple[DeviceRule, ...]
ORDINARY: Rules = (NOTHING, *DEFAULTS)


class DeviceGate:
    """Keeps loaded programs, as nearly all containers have the same rules and loading takes a millisecond."""

    def __init__(self) -> None:
        self._programs: OrderedDict[Rules, int] = OrderedDict()

    def check(self) -> None:
        """Raises :class:`Unavailable` where the kernel takes no such program from us."""
        self._program(ORDINARY)

    def close(self, groups: ContainerGroups, rules: Rules) -> None:
        """Before any process is in the groups.  :class:`OSError` if the kernel does not want."""
        if groups.v2:
            if not device_filter.is_everything(rules):  # without a program nothing is denied
                _attach(groups.v2, self._program(rules))
        elif "devices" in groups.v1:
            for file, line in device_filter.lines(rules):
                kernfiles.write(f"{groups.v1['devices']}/{file}", line)

    def _program(self, rules: Rules) -> int:
        if rules not in self._programs:
            self._programs[rules] = _load(device_filter.program(rules))
            if len(self._programs) > _KEPT:  # those attached stay in force
                os.close(self._programs.popitem(last=False)[1])
        self._programs.move_to_end(rules)
        return self._programs[rules]


def _load(code: bytes) -> int:
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


def _attach(directory: str, program: int) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        kernel.bpf(_BPF_PROG_ATTACH, struct.pack("IIII", fd, program, _ATTACH_DEVICE, _ALLOW_MULTI))
    finally:
        os.close(fd)
