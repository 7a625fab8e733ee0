"""What one container is allotted on this machine: its cgroups, their limits, the devices it may use."""

from __future__ import annotations

import msgspec

from swarmd.node.runtime import device_list
from swarmd.node.runtime.cgroup import CgroupDriver
from swarmd.node.runtime.core import cgroups, device_filter, limit_checks, limits
from swarmd.node.runtime.core.cgroups import ContainerGroups, Write
from swarmd.node.runtime.core.oci_resources import Resources
from swarmd.node.runtime.device_gate import Rules
from swarmd.node.runtime.port import ContainerConfig, Limits


class Allotment(msgspec.Struct, frozen=True):
    """Nothing of it is made yet."""

    groups: ContainerGroups
    writes: tuple[Write, ...]
    rules: Rules
    resources: Resources


def allot(driver: CgroupDriver, config: ContainerConfig) -> Allotment:
    """Raises :class:`Invalid` for limits and devices that this machine cannot give."""
    wanted = resources(driver, config.limits)
    groups = cgroups.place(driver.layout, config.id, limits.controllers(wanted))
    nodes = device_list.look_up(device.source for device in config.devices)
    rules = device_filter.rules(config, nodes)
    writes = limits.writes(groups, wanted, driver.facts)
    return Allotment(groups, writes, rules, msgspec.structs.replace(wanted, devices=rules))


def resources(driver: CgroupDriver, wanted: Limits) -> Resources:
    """The limits as config.json has them, checked against this machine; else :class:`Invalid`."""
    limit_checks.check(wanted, driver.facts)
    devices = device_list.block_devices("a rate of a block device", limits.devices_of(wanted))
    return limits.from_config(wanted, devices)
