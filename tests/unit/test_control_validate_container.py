"""What a service says about its containers is refused with the field, the value and the way out."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.control.core import validate_container, validate_mounts, validate_resources
from swarmd.model import kernel
from swarmd.model.errors import Invalid
from swarmd.model.spec import ContainerSpec, DeviceSpec, MountSpec, Resources, ThrottleSpec, UlimitSpec
from swarmd.node.runtime.core import linux

PROFILE = '{"defaultAction": "SCMP_ACT_ALLOW"}'


def says(**fields: object) -> ContainerSpec:
    return ContainerSpec(image="nginx", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (says(cap_add=("NET_ADMIM",)), ("cap-add", "NET_ADMIM", "capabilities(7)")),
        (says(cap_drop=("CAP_X",)), ("cap-drop", "CAP_X")),
        (says(ulimits=(UlimitSpec(name="files"),)), ("ulimit", "files", "nofile")),
        (says(ulimits=(UlimitSpec(name="nofile", soft=5, hard=4),)), ("nofile", "5 > 4")),
        (says(ulimits=(UlimitSpec(name="nofile", soft=-1, hard=4),)), ("nofile", "-1 > 4")),
        (says(ulimits=(UlimitSpec(name="nofile", soft=-2, hard=-2),)), ("nofile", "-1 for unlimited")),
        (says(ulimits=(UlimitSpec(name="core"), UlimitSpec(name="core"))), ("ulimit core", "twice")),
        (says(sysctls={"kernel.panic": "1"}), ("sysctl", "kernel.panic", "not separate")),
        (says(sysctls={"net.core somaxconn": "1"}), ("sysctl", "net.core somaxconn", "dots")),
        (says(sysctls={"net/core": "1"}), ("sysctl", "net/core", "dots")),
        (says(sysctls={"kernel.shmmax": "1"}, ipc_mode="host"), ("kernel.shmmax", "ipc=host")),
        (says(pid_mode="container:x"), ("pid", "container:x", "host")),
        (says(uts_mode="host", hostname="h"), ("uts=host", "hostname")),
        (says(devices=(DeviceSpec(source="fuse"),)), ("device", "fuse", "absolute")),
        (says(devices=(DeviceSpec(source="/dev/../etc"),)), ("device", "..")),
        (says(devices=(DeviceSpec(source="/dev/a", permissions="x"),)), ("/dev/a", '"x"')),
        (says(devices=(DeviceSpec(source="/dev/a"), DeviceSpec(source="/dev/a"))), ("/dev/a", "twice")),
        (says(device_rules=("c 1 rwm",)), ("device-cgroup-rule", "c 1 rwm")),
        (says(hosts=("db 10.0.0.1",)), ("host", "db", "IP address")),
        (says(hosts=("10.0.0.1 a\nb",)), ("host", "control character")),
        (says(dns=("resolver",)), ("dns", "resolver")),
        (says(dns_search=("a b",)), ("dns-search", "a b")),
        (says(groups=("a:b",)), ("group", "a:b")),
        (says(oom_score_adj=1001), ("oom-score-adj", "1001")),
        (says(workdir="srv"), ("working directory", "srv", "absolute")),
        (says(init=True, pid_mode="host"), ("init", "pid")),
        (says(shm_size=-1), ("shm-size", "-1")),
        (says(seccomp="{"), ("seccomp", "JSON")),
        (says(seccomp="{}"), ("seccomp", "defaultAction")),
        (says(seccomp="[" * 100_000), ("seccomp", "JSON")),
        (says(hostname="h" * 65), ("hostname", "64")),
        (says(env=("A=" + "x" * validate_container.MOST_TEXTS,)), ("characters", "shorten")),
        (says(user="a\0b"), ("user", "zero byte")),
        (says(labels={"a\0": "b"}), ("labels", "zero byte")),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_a_refusal_names_the_field_and_the_value(spec: ContainerSpec, words: tuple[str, ...]) -> None:
    with pytest.raises(Invalid) as caught:
        validate_container.container(spec, "")
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_runtime_is_a_name() -> None:
    with pytest.raises(Invalid, match="runtime"):
        validate_container.container(says(), "/usr/bin/crun")
    validate_container.container(says(seccomp=PROFILE), "crun")


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (MountSpec(kind="cluster", target="/a"), ("mount type", "cluster", "image")),
        (MountSpec(target="/"), ("mount target", "root")),
        (MountSpec(target="/a/.."), ("mount target", "root")),
        (MountSpec(target="/proc/sys"), ("mount target", "/proc/sys")),
        (MountSpec(target="/x/../sys"), ("mount target", "/sys")),
        (MountSpec(kind="bind", source="/a", target="/b", propagation="up"), ("bind-propagation", "up")),
        (MountSpec(kind="bind", source="/a", target="/b", recursive="readonly"), ("readonly", "/b")),
        (MountSpec(target="/a", driver="nfs"), ("volume-driver", "nfs", "local")),
        (MountSpec(source="/v", target="/a"), ("volume mount source", "/v", "type=bind")),
        (MountSpec(source="a b", target="/a"), ("volume name", "a b")),
        (MountSpec(source="vo", target="/a", subpath="../x"), ("volume-subpath", "../x")),
        (MountSpec(source="vo", target="/a", subpath="/x"), ("volume-subpath", "/x")),
        (MountSpec(target="/a", subpath="x"), ("volume-subpath", "source")),
        (MountSpec(target="/a", labels={"": "b"}), ("volume-label", "name")),
        (MountSpec(kind="image", source="No:Such:x", target="/a"), ("image mount source", "No:Such:x")),
        (MountSpec(kind="tmpfs", target="/a", tmpfs_options=("size=1,uid=0",)), ("tmpfs option", "uid=0")),
        (MountSpec(kind="tmpfs", target="/a", no_copy=True), ("no_copy", "/a", "tmpfs")),
        (MountSpec(kind="bind", source="/a", target="/b", subpath="x"), ("subpath", "/b")),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_a_mount_that_cannot_work_is_refused(mount: MountSpec, words: tuple[str, ...]) -> None:
    with pytest.raises(Invalid) as caught:
        validate_mounts.mounts([mount])
    assert [word for word in words if word not in str(caught.value)] == []


def test_the_same_target_in_another_spelling_is_the_same_target() -> None:
    with pytest.raises(Invalid, match="duplicate mount point: /a/"):
        validate_mounts.mounts([MountSpec(target="/a"), MountSpec(target="/a/")])


def test_mounts_that_work_are_taken() -> None:
    validate_mounts.mounts([
        MountSpec(kind="bind", source="/a", target="/b", readonly=True, recursive="readonly"),
        MountSpec(source="vo", target="/c", subpath="x/y", labels={"a": "b"}, driver="local", no_copy=True),
        MountSpec(kind="image", source="busybox:1", target="/d", subpath="bin"),
        MountSpec(kind="tmpfs", target="/e", tmpfs_options=("noexec", "nr_inodes=5")),
    ])  # fmt: skip


MB = 1 << 20


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Resources(memory=8 * MB, memory_swap=4 * MB), ("memory-swap", "less")),
        (Resources(memory_swap=8 * MB), ("memory-swap", "limit-memory")),
        (Resources(memory_swap=-2), ("memory-swap", "-2")),
        (Resources(memory_swappiness=101), ("memory-swappiness", "101")),
        (Resources(memory=8 * MB, memory_reservation=9 * MB), ("memory-reservation", "larger")),
        (Resources(oom_kill_disable=True), ("oom-kill-disable", "limit-memory")),
        (Resources(nano_cpus=10**9, cpu_quota=1000), ("limit-cpu", "cpu-quota")),
        (Resources(cpu_period=10), ("cpu-period", "10")),
        (Resources(cpu_quota=10), ("cpu-quota", "10")),
        (Resources(cpu_shares=1), ("cpu-shares", "1")),
        (Resources(cpuset_cpus="0-"), ("cpuset-cpus", "0-")),
        (Resources(cpuset_cpus="\u0663"), ("cpuset-cpus", "0-3,7")),
        (Resources(cpuset_cpus="8192"), ("cpuset-cpus", "8192")),
        (Resources(memory=5 * MB), ("memory limit", "6MiB")),
        (Resources(nano_cpus=9000 * 10**9), ("cpu limit", "9000")),
        (Resources(cpuset_mems="3-1"), ("cpuset-mems", "3-1", "backwards")),
        (Resources(blkio_weight=5), ("blkio-weight", "5")),
        (Resources(read_bps=(ThrottleSpec(device="sda", rate=1),)), ("device-read-bps", "sda")),
        (Resources(write_iops=(ThrottleSpec(device="/dev/a", rate=0),)), ("device-write-iops", "/dev/a")),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_limits_that_cannot_work_are_refused(limits: Resources, words: tuple[str, ...]) -> None:
    with pytest.raises(Invalid) as caught:
        validate_resources.limits(limits)
    assert [word for word in words if word not in str(caught.value)] == []


def test_only_cpus_and_memory_are_reserved() -> None:
    validate_resources.reservations(Resources(nano_cpus=10**9, memory=8 * MB))
    with pytest.raises(Invalid, match="cpu_shares cannot be reserved"):
        validate_resources.reservations(Resources(cpu_shares=5))


def test_users_and_the_runtime_know_the_same_names() -> None:
    assert set(linux.CAPABILITIES) == kernel.CAPABILITIES
    assert set(linux.RLIMITS) == set(kernel.ULIMITS)


TEXT = st.one_of(st.text(max_size=20), st.sampled_from(["host", "/dev/a", "10.0.0.1 x", "net.a", "rwm"]))


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        ContainerSpec,
        groups=st.lists(TEXT, max_size=2).map(tuple),
        hosts=st.lists(TEXT, max_size=2).map(tuple),
        dns=st.lists(TEXT, max_size=2).map(tuple),
        ulimits=st.lists(st.builds(UlimitSpec, name=TEXT, soft=st.integers()), max_size=2).map(tuple),
        sysctls=st.dictionaries(TEXT, TEXT, max_size=2),
        devices=st.lists(st.builds(DeviceSpec, source=TEXT, permissions=TEXT), max_size=2).map(tuple),
        device_rules=st.lists(TEXT, max_size=2).map(tuple),
        seccomp=TEXT,
        pid_mode=TEXT,
        userns=TEXT,
        oom_score_adj=st.integers(),
    )
)
def test_whatever_is_said_the_answer_is_yes_or_a_sentence(spec: ContainerSpec) -> None:
    try:
        validate_container.container(spec, "")
    except Invalid:
        return
    assert spec.pid_mode in ("", "host")
    assert -1000 <= spec.oom_score_adj <= 1000


THROTTLES = st.lists(st.builds(ThrottleSpec, device=TEXT, rate=st.integers()), max_size=2).map(tuple)
NUMBERS = {
    name: st.integers()
    for name in [
        "nano_cpus",
        "memory",
        "pids",
        "memory_swap",
        "memory_reservation",
        "cpu_shares",
        "cpu_quota",
        "cpu_period",
        "blkio_weight",
    ]
}


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Resources, cpuset_cpus=TEXT, cpuset_mems=TEXT, read_bps=THROTTLES, write_iops=THROTTLES, **NUMBERS
    ),
    st.builds(
        MountSpec, kind=st.sampled_from(("bind", "volume", "tmpfs", "image", "x")), source=TEXT, target=TEXT,
        tmpfs_size=st.integers(), tmpfs_mode=st.integers(), propagation=TEXT, recursive=TEXT, subpath=TEXT,
        labels=st.dictionaries(TEXT, TEXT, max_size=2), driver=TEXT,
        tmpfs_options=st.lists(TEXT, max_size=2).map(tuple),
    ),
)  # fmt: skip
def test_whatever_amounts_and_mounts_say_the_answer_is_yes_or_a_sentence(
    amount: Resources, mount: MountSpec
) -> None:
    for check, value in (
        (validate_resources.limits, amount),
        (validate_resources.reservations, amount),
        (validate_mounts.mounts, [mount]),
    ):
        with contextlib.suppress(Invalid):
            check(value)  # type: ignore[operator]
