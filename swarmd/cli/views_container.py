"""What a service says about its containers, in Docker's own JSON shape.  Pure.

Keys are those of Docker's ContainerSpec; what only its single containers have is named as in its HostConfig.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from swarmd.cli.units import nanoseconds

if TYPE_CHECKING:
    from swarmd.rpc.v1 import types_pb2

Json = dict[str, Any]


def container_spec(spec: types_pb2.ContainerSpec) -> Json:
    """``Spec.TaskTemplate.ContainerSpec``."""
    return {
        "Image": spec.image,
        **filled(
            Labels=dict(spec.labels),
            Command=list(spec.command),
            Args=list(spec.args),
            Hostname=spec.hostname,
            Domainname=spec.domainname,
            Env=list(spec.env),
            Dir=spec.workdir,
            User=spec.user,
            Groups=list(spec.groups),
            Privileges=filled(Seccomp=_seccomp(spec.seccomp), NoNewPrivileges=spec.no_new_privileges),
        ),
        "Init": spec.init,
        **filled(
            StopSignal=spec.stop_signal,
            TTY=spec.tty,
            OpenStdin=spec.open_stdin,
            ReadOnly=spec.read_only,
            Mounts=[_mount(mount) for mount in spec.mounts],
        ),
        "StopGracePeriod": nanoseconds(spec.stop_grace),
        **filled(Hosts=list(spec.hosts)),
        "DNSConfig": filled(
            Nameservers=list(spec.dns), Search=list(spec.dns_search), Options=list(spec.dns_options)
        ),
        "Isolation": "default",
        **_privileges(spec),
        **_namespaces(spec),
    }


def resources(template: types_pb2.TaskTemplate) -> Json:
    """``Spec.TaskTemplate.Resources``."""
    limits = template.limits
    swappiness = limits.memory_swappiness if limits.HasField("memory_swappiness") else None
    return {
        "Limits": _amount(limits),
        "Reservations": _amount(template.reservations),
        **filled(SwapBytes=limits.memory_swap),
        **({} if swappiness is None else {"MemorySwappiness": swappiness}),
    }


def filled(**fields: Any) -> Json:
    """Only the fields with something in them."""
    return {name: value for name, value in fields.items() if value}


def _privileges(spec: types_pb2.ContainerSpec) -> Json:
    return filled(
        Sysctls=dict(spec.sysctls),
        CapabilityAdd=list(spec.cap_add),
        CapabilityDrop=list(spec.cap_drop),
        Ulimits=[{"Name": one.name, "Hard": one.hard, "Soft": one.soft} for one in spec.ulimits],
        OomScoreAdj=spec.oom_score_adj,
        Privileged=spec.privileged,
        Devices=[
            {
                "PathOnHost": one.source,
                "PathInContainer": one.target or one.source,
                "CgroupPermissions": one.permissions or "rwm",
            }
            for one in spec.devices
        ],
        DeviceCgroupRules=list(spec.device_rules),
    )


def _namespaces(spec: types_pb2.ContainerSpec) -> Json:
    return filled(
        ShmSize=spec.shm_size,
        PidMode=spec.pid_mode,
        IpcMode=spec.ipc_mode,
        UTSMode=spec.uts_mode,
        CgroupnsMode=spec.cgroupns_mode,
        UsernsMode=spec.userns,
    )


def _seccomp(profile: str) -> Json:
    if not profile:
        return {}
    return {"Mode": "unconfined"} if profile == "unconfined" else {"Mode": "custom", "Profile": profile}


def _amount(amount: types_pb2.Resources) -> Json:
    return filled(
        NanoCPUs=amount.nano_cpus,
        MemoryBytes=amount.memory,
        Pids=amount.pids,
        MemoryReservation=amount.memory_reservation,
        OomKillDisable=amount.oom_kill_disable,
        CpuShares=amount.cpu_shares,
        CpuQuota=amount.cpu_quota,
        CpuPeriod=amount.cpu_period,
        CpusetCpus=amount.cpuset_cpus,
        CpusetMems=amount.cpuset_mems,
        BlkioWeight=amount.blkio_weight,
        BlkioDeviceReadBps=_throttles(amount.read_bps),
        BlkioDeviceWriteBps=_throttles(amount.write_bps),
        BlkioDeviceReadIOps=_throttles(amount.read_iops),
        BlkioDeviceWriteIOps=_throttles(amount.write_iops),
    )


def _throttles(throttles: Iterable[types_pb2.ThrottleSpec]) -> list[Json]:
    return [{"Path": one.device, "Rate": one.rate} for one in throttles]


def _mount(mount: types_pb2.MountSpec) -> Json:
    return {
        "Type": mount.kind,
        **filled(Source=mount.source),
        "Target": mount.target,
        **filled(
            ReadOnly=mount.readonly,
            BindOptions=_bind_options(mount),
            VolumeOptions=_volume_options(mount) if mount.kind == "volume" else {},
            ImageOptions=filled(Subpath=mount.subpath) if mount.kind == "image" else {},
            TmpfsOptions=_tmpfs_options(mount) if mount.kind == "tmpfs" else {},
        ),
    }


def _bind_options(mount: types_pb2.MountSpec) -> Json:
    return filled(
        Propagation=mount.propagation,
        NonRecursive=mount.recursive == "disabled",
        CreateMountpoint=mount.create_source,
        ReadOnlyNonRecursive=mount.recursive == "writable",
        ReadOnlyForceRecursive=mount.recursive == "readonly",
    )


def _volume_options(mount: types_pb2.MountSpec) -> Json:
    return filled(
        NoCopy=mount.no_copy,
        Labels=dict(mount.labels),
        DriverConfig=filled(Name=mount.driver),
        Subpath=mount.subpath,
    )


def _tmpfs_options(mount: types_pb2.MountSpec) -> Json:
    return filled(
        SizeBytes=mount.tmpfs_size,
        Mode=mount.tmpfs_mode,
        Options=[option.split("=", 1) for option in mount.tmpfs_options],
    )
