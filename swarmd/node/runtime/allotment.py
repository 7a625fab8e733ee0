"""What one container is allotted on this machine: its cgroups, their limits, the devices it may use."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from swarmd.node.runtime import device_list, hostdevices
from swarmd.node.runtime.cgroup import CgroupDriver
from swarmd.node.runtime.core import cgroups, limit_checks, limits
from swarmd.node.runtime.core.cgroups import ContainerGroups, Write
from swarmd.node.runtime.core.oci_resources import Resources
from swarmd.node.runtime.core.resources import resources
from swarmd.node.runtime.device_gate import Rules
from swarmd.node.runtime.port import ContainerConfig, Limits


class Allotment(msgspec.Struct, frozen=True):
    """Nothing of it is made yet."""

    groups: ContainerGroups
    writes: tuple[Write, ...]
    rules: Rules


def allot(driver: CgroupDriver, config: ContainerConfig) -> Allotment:
    """Raises :class:`Invalid` for limits and devices that this machine cannot give."""
    limit_checks.check(config.limits, driver.facts)
    wanted = resources(config, hostdevices.nodes(config), disks(config.limits))
    groups = cgroups.place(driver.layout, config.id, limits.controllers(wanted))
    return Allotment(groups, limits.writes(groups, wanted, driver.facts), wanted.devices)


def limited(driver: CgroupDriver, wanted: Limits) -> Resources:
    """Limits alone, as config.json has them, checked against this machine; else :class:`Invalid`."""
    limit_checks.check(wanted, driver.facts)
    return limits.from_config(wanted, disks(wanted))


def disks(wanted: Limits) -> Mapping[str, tuple[int, int]]:
    """The numbers of the block devices that are throttled; :class:`Invalid` for what is none."""
    return device_list.block_devices("a rate of a block device", limits.devices_of(wanted))
