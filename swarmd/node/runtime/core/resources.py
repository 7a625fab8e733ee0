"""The ``linux.resources`` of a container: its limits, and the devices it may use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from swarmd.node.runtime.core import device_filter, limits, oci
from swarmd.node.runtime.port import ContainerConfig


def resources(
    config: ContainerConfig, nodes: Iterable[oci.Device], disks: Mapping[str, tuple[int, int]]
) -> oci.Resources:
    """``nodes``: the devices it gets; ``disks``: path → (major, minor) of those it is throttled on.

    Raises :class:`Invalid` for device rules and permissions that do not exist.
    """
    return msgspec.structs.replace(
        limits.from_config(config.limits, disks), devices=device_filter.rules(config, nodes)
    )
