"""Whose the files of a container are when its users are others on this machine, and how to be its root."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable, Iterator
from pathlib import Path

from swarmd.kit.tree import ids
from swarmd.kit.tree.ids import Owners
from swarmd.model.errors import SwarmError
from swarmd.node.runtime import kernel
from swarmd.node.runtime.core import oci

_libc = ctypes.CDLL(None, use_errno=True)


def owners_of(directory: Path) -> Owners:
    """Of a container that has exited, from its bundle.

    Its image has the container's own numbers, and what it wrote those of the machine: both are understood.
    """
    try:
        spec = oci.decode((directory / "config.json").read_bytes())
    except (OSError, SwarmError):
        return ids.UNCHANGED
    return Owners(_map(spec.linux.uid_mappings), _map(spec.linux.gid_mappings))


def _map(mappings: Iterable[oci.IdMapping]) -> ids.IdMap:
    return ids.of_ranges([(each.container_id, each.host_id, each.size) for each in mappings], mixed=True)


@contextlib.contextmanager
def as_root_of(owners: Owners) -> Iterator[None]:
    """This thread makes files as the container's root, with all its own powers.

    On a mount that maps users the machine's own root is nobody, and can make nothing.
    """
    if owners.users == ids.SAME and owners.groups == ids.SAME:
        yield
        return
    powers = _permitted()
    try:
        _libc.setfsgid(ctypes.c_uint(owners.groups.outside(0)))
        _libc.setfsuid(ctypes.c_uint(owners.users.outside(0)))
        kernel.capset(powers, powers, 0)  # the kernel took some away with the user
        yield
    finally:
        _libc.setfsuid(ctypes.c_uint(0))
        _libc.setfsgid(ctypes.c_uint(0))


def _permitted() -> int:
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    return 0
