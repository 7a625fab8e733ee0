"""Reading a config.json: what is passed over, what is refused, and with which words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import oci
from swarmd.node.runtime.core.linux import MS_PRIVATE, MS_REC, MS_SLAVE
from swarmd.node.runtime.core.mountopts import Options, parse

MINIMAL: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "process": {"cwd": "/", "args": ["sh"]},
    "linux": {"namespaces": [{"type": "mount"}]},
}


def decoded(changes: dict[str, Any]) -> oci.Spec:
    return oci.decode(msgspec.json.encode(merged(MINIMAL, changes)))


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in changes.items():
        deeper = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if deeper else value
    return out


def test_unknown_properties_and_nulls_are_passed_over() -> None:
    spec = decoded({
        "mounts": None, "future": {"x": 1}, "process": {"env": None, "user": {"uid": 1, "username": "w"}},
        "linux": {"resources": {"devices": [{"allow": False, "access": None, "major": None}]}},
    })  # fmt: skip
    assert spec.mounts == ()
    assert spec.process is not None
    assert spec.process.user == oci.User(uid=1)
    assert spec.linux.resources == oci.Resources(devices=(oci.DeviceRule(allow=False),))


def test_names_are_spelled_as_the_specification_does() -> None:
    spec = oci.Spec(
        oci_version="1.0.2",
        root=oci.Root(path="/r"),
        process=oci.Process(
            cwd="/",
            no_new_privileges=True,
            oom_score_adj=5,
            user=oci.User(additional_gids=(3,)),
            exec_cpu_affinity=oci.CpuAffinity(initial="0"),
            io_priority=oci.IoPriority(io_class="IOPRIO_CLASS_BE", priority=3),
        ),
        linux=oci.Linux(
            uid_mappings=(oci.IdMapping(container_id=0, host_id=100000, size=65536),),
            cgroups_path="/c",
            resources=oci.Resources(
                memory=oci.Memory(disable_oom_killer=True, kernel_tcp=1),
                block_io=oci.BlockIO(
                    throttle_read_iops_device=(oci.ThrottleDevice(major=8, minor=0, rate=9),),
                    throttle_read_bps_device=(oci.ThrottleDevice(major=8, minor=0, rate=9),),
                ),
                network=oci.Network(class_id=1),
            ),
        ),
    )
    text = oci.encode(spec).decode()
    for name in (
        "ociVersion", "noNewPrivileges", "oomScoreAdj", "additionalGids", "execCPUAffinity", "ioPriority",
        '"class"', "containerID", "hostID", "cgroupsPath", "disableOOMKiller", "kernelTCP", "blockIO",
        "throttleReadIOPSDevice", "throttleReadBpsDevice", "classID",
    ):  # fmt: skip
        assert name in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ociVersion": "2.0.0"}, "ociVersion '2.0.0'"),
        ({"root": {"path": ""}}, "root.path is missing"),
        ({"process": {"user": {"uid": "x"}}}, "process.user.uid: expected `int`, got `str`"),
        ({"process": {"user": {"uid": -1}}}, "process.user.uid: "),
        ({"process": {"cwd": "here"}}, "process.cwd 'here'"),
        ({"process": {"args": ["a\0"]}}, "zero byte"),
        ({"process": {"rlimits": [{"type": "RLIMIT_FLY", "soft": 1, "hard": 1}]}}, "RLIMIT_FLY"),
        ({"process": {"rlimits": [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]}}, "soft limit 2"),
        ({"process": {"rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}] * 2}}, "given 2 times"),
        ({"process": {"oomScoreAdj": 2000}}, "oomScoreAdj 2000"),
        ({"process": {"scheduler": {"policy": "SCHED_FAST"}}}, "SCHED_FAST"),
        ({"process": {"ioPriority": {"class": "X", "priority": 1}}}, "IOPRIO_CLASS_RT"),
        ({"process": {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 9}}}, "0 to 7"),
        ({"linux": {"namespaces": [{"type": "mount"}] * 2}}, "mount is given 2 times"),
        ({"linux": {"namespaces": [{"type": "moon"}]}}, "linux.namespaces[0].type: invalid enum value"),
        ({"linux": {"namespaces": [{"type": "pid", "path": "x"}]}}, "path 'x' of pid"),
        ({"linux": {"uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}}, "need a user namespace"),
        ({"linux": {"timeOffsets": {"boottime": {"secs": 1}}}}, "needs a time namespace"),
        ({"linux": {"rootfsPropagation": "wild"}}, "rootfsPropagation 'wild'"),
        ({"linux": {"devices": [{"type": "x", "path": "/dev/x"}]}}, "linux.devices[0].type"),
        ({"linux": {"devices": [{"type": "c", "path": "dev/x"}]}}, "must be absolute"),
        ({"linux": {"personality": {"domain": "BSD"}}}, "domain 'BSD'"),
        ({"hostname": "box"}, "hostname needs a uts namespace"),
        ({"mounts": [{"destination": ""}]}, "mounts[0].destination"),
        ({"mounts": [{"destination": "/x", "options": [""]}]}, "mounts[0].options: ''"),
        ({"hooks": {"poststop": [{"path": "x"}]}}, "hooks.poststop: path 'x'"),
        ({"hooks": {"prestart": [{"path": "/x", "timeout": 0}]}}, "timeout 0"),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_field(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid) as caught:
        decoded(changes)
    assert words in str(caught.value)
    assert str(caught.value).startswith("config.json")


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(Invalid, match=r"config\.json is not JSON"):
        oci.decode(b"{")


def test_of_contradicting_mount_options_the_last_one_counts() -> None:
    assert parse(("ro", "rw", "noexec")) == Options(set=8, clear=1)
    assert parse(("noatime", "strictatime")) == Options(set=0x20, clear=0x70)
    assert parse(("rbind", "rro", "nosuid", "slave", "rprivate")) == Options(
        set=2, below_set=1, bind=True, recursive=True, propagation=(MS_SLAVE, MS_PRIVATE | MS_REC)
    )
    assert parse(("size=1k", "mode=700", "tmpcopyup", "defaults")).data == ("size=1k", "mode=700")
