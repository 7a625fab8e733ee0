"""Puts the resources of a config.json into force on the cgroups of a container, and changes them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable

from swarmd.model.errors import Invalid, Unavailable
from swarmd.node.runtime import kernfiles
from swarmd.node.runtime.core import device_filter, limits
from swarmd.node.runtime.core.cgroups import ContainerGroups, Write
from swarmd.node.runtime.core.limit_checks import NodeFacts
from swarmd.node.runtime.core.oci_resources import DeviceRule, Resources
from swarmd.node.runtime.device_gate import DeviceGate


def limit(groups: ContainerGroups, resources: Resources) -> tuple[str, ...]:
    """Before any process is in them; answers what this machine cannot do, as sentences.

    Raises :class:`Invalid` for a limit that it cannot keep.
    """
    facts = _facts(groups)
    _apply(limits.writes(groups, resources, facts))
    if resources.devices:
        _filter_devices(groups, resources.devices)
    return limits.ignored(groups, resources, facts)


def change(groups: ContainerGroups, resources: Resources) -> None:
    """The same while it runs; limits that depend on each other are set in an order that the kernel takes."""
    facts = _facts(groups)
    wanted = limits.writes(groups, resources, facts)
    now = {path: kernfiles.read(path) for path in limits.ordered_files(groups)}
    _apply(change.do for change in limits.changes((), wanted, now, facts))


def _facts(groups: ContainerGroups) -> NodeFacts:
    files: set[str] = set()
    for path in groups.paths():
        with contextlib.suppress(FileNotFoundError):
            files.update(os.listdir(path))
    cpuset = groups.v1.get("cpuset", groups.v2)
    return NodeFacts(
        files=frozenset(files),
        cpus=kernfiles.read(f"{os.path.dirname(cpuset)}/cpuset.cpus").strip(),
        mems=kernfiles.read(f"{os.path.dirname(cpuset)}/cpuset.mems").strip(),
    )


def _filter_devices(groups: ContainerGroups, rules: tuple[DeviceRule, ...]) -> None:
    """Rules in order, then the devices every container has."""
    every = (*rules, *device_filter.DEFAULTS)
    # Where both exist, the lines can be read again by those who judge us.
    where = ContainerGroups("", groups.v1) if "devices" in groups.v1 else groups
    try:
        DeviceGate().close(where, every)
    except OSError as error:
        raise Unavailable(f"cannot set the device rules: {error.strerror}") from error


def _apply(writes: Iterable[Write]) -> None:
    """Set limits; what was set before is restored when one of them fails."""
    done: list[tuple[str, str]] = []
    for write in writes:
        before = kernfiles.read(write.path).strip()
        try:
            kernfiles.write(write.path, write.value)
        except OSError as error:
            for path, value in reversed(done):
                with contextlib.suppress(OSError):
                    kernfiles.write(path, value)
            reason = os.strerror(error.errno or errno.EIO)
            raise Invalid(f"writing {write.value!r} to {write.path}: {reason}") from error
        done.append((write.path, before))
