"""The ``linux.resources`` of an OCI config.json as data; ``oci.py`` has the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

Unsigned = Annotated[int, msgspec.Meta(ge=0)]


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of a config.json: unknown properties are passed over, those at their default left out."""


class DeviceRule(Part, frozen=True, kw_only=True):
    """Whether ``access`` (of ``rwm``) to a device is allowed; ``type`` ``a`` and None are any."""

    allow: bool
    type: Literal["", "a", "b", "c", "u", "p"] = ""
    major: int | None = None
    minor: int | None = None
    access: str = ""


class Memory(Part, frozen=True, kw_only=True):
    """Bytes; -1 is unlimited."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = msgspec.field(default=None, name="kernelTCP")
    swappiness: Unsigned | None = None
    disable_oom_killer: bool = msgspec.field(default=False, name="disableOOMKiller")
    use_hierarchy: bool = False
    check_before_update: bool = False


class Cpu(Part, frozen=True, kw_only=True):
    """Times are microseconds."""

    shares: Unsigned | None = None
    quota: int | None = None
    burst: Unsigned | None = None
    period: Unsigned | None = None
    realtime_runtime: int | None = None
    realtime_period: Unsigned | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class Pids(Part, frozen=True, kw_only=True):
    limit: int = 0


class WeightDevice(Part, frozen=True, kw_only=True):
    major: int
    minor: int
    weight: Unsigned | None = None
    leaf_weight: Unsigned | None = None


class ThrottleDevice(Part, frozen=True, kw_only=True):
    """``rate`` in bytes or operations a second."""

    major: int
    minor: int
    rate: Unsigned


class BlockIO(Part, frozen=True, kw_only=True):
    weight: Unsigned | None = None
    leaf_weight: Unsigned | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = msgspec.field(
        default=(), name="throttleReadIOPSDevice"
    )
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = msgspec.field(
        default=(), name="throttleWriteIOPSDevice"
    )


class HugepageLimit(Part, frozen=True, kw_only=True):
    page_size: str
    limit: Unsigned


class InterfacePriority(Part, frozen=True, kw_only=True):
    name: str
    priority: Unsigned


class Network(Part, frozen=True, kw_only=True):
    class_id: Unsigned | None = msgspec.field(default=None, name="classID")
    priorities: tuple[InterfacePriority, ...] = ()


class Rdma(Part, frozen=True, kw_only=True):
    hca_handles: Unsigned | None = None
    hca_objects: Unsigned | None = None


class Resources(Part, frozen=True, kw_only=True):
    """Limits as config.json has them; ``unified`` holds files of cgroup v2 by name."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = msgspec.field(default=None, name="blockIO")
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network | None = None
    rdma: Mapping[str, Rdma] = {}
    unified: Mapping[str, str] = {}
