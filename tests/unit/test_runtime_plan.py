"""What the runtime refuses before it makes anything, and the steps it hands to a cloned child."""

from __future__ import annotations

import marshal
from typing import Any

import msgspec
import pytest

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import linux, oci
from swarmd.node.runtime.core.bundle import bundle
from swarmd.node.runtime.core.facts import HostFacts, Layout
from swarmd.node.runtime.core.plan import clone_flags, compile_plan, entered_before, warnings
from swarmd.node.runtime.core.validate import validate
from swarmd.node.runtime.port import ContainerConfig, Device, Files, Mount, Ulimit

LAYOUT = Layout(
    bundle="/c", root="/c/root", upper="/c/upper", work="/c/work", files="/c/files", v1_procs=("/m/procs",)
)
FACTS = HostFacts(
    masked_files=("/proc/keys",),
    masked_dirs=("/sys/firmware",),
    readonly=("/proc/sys",),
    hard_limits={"nofile": 1000},
    cgroup_mounts=("v2",),
    init_path="/usr/bin/tini-static",
)
SAFE = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NOEXEC | linux.MOUNT_ATTR_NODEV
Steps = list[tuple[Any, ...]]


def config(**fields: Any) -> ContainerConfig:
    return ContainerConfig(**{"id": "c", "lower_dirs": ("/top", "/base"), "args": ("run",), **fields})


def spec_of(peers: dict[str, int] | None = None, **fields: Any) -> oci.Spec:
    made = config(**fields)
    validate(made)
    return bundle(made, FACTS, LAYOUT, peers=peers)


def steps(**fields: Any) -> Steps:
    return compile_plan(spec_of(**fields), FACTS, LAYOUT, b"filter")


def foreign(**fields: Any) -> oci.Spec:
    """A bundle somebody else made, as its JSON would be read."""
    linux_part = {"namespaces": [{"type": "mount"}, {"type": "pid"}], **fields.pop("linux", {})}
    process = {"args": ["/bin/true"], "cwd": "/", **fields.pop("process", {})}
    document = {
        "ociVersion": "1.0.2", "root": {"path": "rootfs"}, "linux": linux_part, "process": process, **fields,
    }  # fmt: skip
    return oci.decode(msgspec.json.encode(document))


def foreign_steps(**fields: Any) -> Steps:
    return compile_plan(foreign(**fields), FACTS, Layout(bundle="/b"), None)


def named(plan: Steps, name: str) -> Steps:
    return [step[1:] for step in plan if step[0] == name]


def order(plan: Steps, *names: str) -> list[int]:
    return [next(index for index, step in enumerate(plan) if step[0] == name) for name in names]


def test_a_child_joins_before_it_mounts_and_waits_before_it_loses_rights() -> None:
    plan = steps(user="web", read_only=True)
    positions = order(
        plan, "join", "null", "private", "overlay", "pivot", "mount", "devices", "sysctl", "mask", "readonly",
        "workdir", "readonly_root", "user", "ready", "bounding", "seccomp", "identity", "chdir",
        "program", "exec",
    )  # fmt: skip
    assert positions == sorted(positions)
    assert named(plan, "overlay") == [("/c/root", ["/top", "/base"], "/c/upper", "/c/work")]
    assert named(plan, "join") == [(["/m/procs"], True)]
    assert named(plan, "mask") == [(["/proc/keys", "/sys/firmware"],)]


def test_without_new_privileges_the_filter_comes_when_all_else_is_done() -> None:
    plan = steps(no_new_privileges=True)
    positions = order(plan, "identity", "chdir", "program", "no_new_privs", "seccomp", "exec")
    assert positions == sorted(positions)


def test_a_plan_is_plain_data() -> None:
    plan = steps(mounts=(Mount(target="/t", kind="tmpfs"),), ulimits=(Ulimit("core", 0, 0),), init=True)
    assert marshal.loads(marshal.dumps(plan)) == plan


def test_mounts_go_in_place_parents_first_and_replace_generated_files() -> None:
    plan = steps(
        files=Files(hosts="h", resolv_conf="r"),
        mounts=(
            Mount(source="/src/deep", target="/a/b/c", readonly=True),
            Mount(source="/src/top", target="/a/", recursive="disabled"),
            Mount(source="/own/hosts", target="/etc/hosts", subpath="mine"),
            Mount(target="/scratch", kind="tmpfs", size=4096, mode=0o700, readonly=True),
        ),
    )
    sources = {slot: rest for slot, *rest in named(plan, "source")}
    attached = {step[2]: step for step in plan if step[0] == "attach"}
    assert list(attached) == ["/a", "/etc/hosts", "/etc/resolv.conf", "/a/b/c"]
    assert [sources[step[1]] for step in attached.values()] == [
        ["/src/top", "", False, 0],
        ["/own/hosts", "mine", True, 0],
        ["/c/files/resolv.conf", "", True, 0],
        ["/src/deep", "", True, 0],
    ]
    private = [linux.MS_PRIVATE | linux.MS_REC]
    assert attached["/a/b/c"][3:] == (0, 0, linux.MOUNT_ATTR_RDONLY, 0, private, False)
    assert attached["/a"][3:] == (0, 0, 0, 0, private, False)
    scratch = next(step for step in named(plan, "mount") if step[0] == "/scratch")
    assert scratch[1:5] == ("tmpfs", "tmpfs", ["mode=700", "size=4096", "ro"], SAFE | linux.MOUNT_ATTR_RDONLY)
    assert order(plan, "source", "overlay", "attach") == sorted(order(plan, "source", "overlay", "attach"))


def test_a_mount_of_the_user_takes_the_place_of_one_of_ours() -> None:
    plan = steps(mounts=(Mount(source="/big", target="/dev/shm"),))
    assert [step[0] for step in named(plan, "mount")].count("/dev/shm") == 0
    assert [step[1] for step in named(plan, "attach")] == ["/dev/shm"]


def test_the_host_network_is_left_as_it_is() -> None:
    plan = steps(network_mode="host")
    assert named(plan, "sysctl") == []
    assert named(plan, "loopback") == []
    assert not clone_flags(spec_of(network_mode="host")) & linux.CLONE_NEWNET
    assert clone_flags(spec_of(network_mode="none")) & linux.CLONE_NEWNET
    assert ("net/ipv4/ip_unprivileged_port_start", "0") in named(steps(), "sysctl")


def test_namespaces_of_the_host_and_of_other_containers_are_entered() -> None:
    spec = spec_of({"db": 77}, network_mode="container:db", pid_mode="container:db", ipc_mode="container:db")
    plan = compile_plan(spec, FACTS, LAYOUT, None)
    assert named(plan, "enter") == [
        ("/proc/77/ns/net", linux.CLONE_NEWNET), ("/proc/77/ns/ipc", linux.CLONE_NEWIPC),
    ]  # fmt: skip
    assert entered_before(spec) == (("/proc/77/ns/pid", linux.CLONE_NEWPID),)
    assert clone_flags(spec) == linux.CLONE_NEWNS | linux.CLONE_NEWUTS
    assert [step[1:] for step in named(plan, "source")] == [
        ("/dev/shm", "", False, 77),
    ]
    host = spec_of(pid_mode="host", ipc_mode="host", uts_mode="host", cgroupns_mode="host")
    assert clone_flags(host) == linux.CLONE_NEWNS | linux.CLONE_NEWNET
    assert named(compile_plan(host, FACTS, LAYOUT, None), "join") == [(["/m/procs"], False)]
    with pytest.raises(Invalid, match="container gone is not running"):
        spec_of({}, network_mode="container:gone")


def test_ulimits_are_clamped_to_what_the_machine_can_give() -> None:
    assert named(steps(ulimits=(Ulimit("nofile", 500, -1),)), "rlimit") == [(7, 500, 1000)]
    assert named(steps(ulimits=(Ulimit("nofile", -1, -1),)), "rlimit") == [(7, 1000, 1000)]
    assert named(steps(ulimits=(Ulimit("core", 0, -1),)), "rlimit") == [(4, 0, -1)]


def test_an_init_runs_the_command() -> None:
    plan = steps(init=True)
    assert named(plan, "exec")[0][0] == ["/sbin/docker-init", "--", "run"]
    assert [step[1] for step in named(plan, "source")] == ["/usr/bin/tini-static"]
    with pytest.raises(Invalid, match="tini"):
        bundle(config(init=True), HostFacts(), LAYOUT)
    with pytest.raises(Invalid, match="pid namespace of its own"):
        spec_of(init=True, pid_mode="host")


def test_without_a_filter_none_is_installed() -> None:
    assert named(compile_plan(spec_of(), FACTS, LAYOUT, None), "seccomp") == []
    assert named(steps(), "seccomp") == [(b"filter", 0)]


def test_the_environment_has_a_path_and_the_last_entry_wins() -> None:
    env = named(steps(env=("A=1", "A=2=3", "E="), hostname="box"), "exec")[0][1]
    assert (env["A"], env["E"], env["HOSTNAME"]) == ("2=3", "", "box")
    assert "/usr/local/sbin" in env["PATH"]
    assert "TERM" not in env
    own = named(steps(env=("PATH=/x",), tty=True), "exec")[0][1]
    assert (own["PATH"], own["TERM"]) == ("/x", "xterm")


def test_a_privileged_container_has_all_and_nothing_is_hidden() -> None:
    spec = spec_of(privileged=True)
    plan = compile_plan(spec, FACTS, LAYOUT, None)
    assert named(plan, "mask") == named(plan, "readonly") == []
    assert named(plan, "bounding") == [((1 << len(linux.CAPABILITIES)) - 1,)]
    sysfs = next(step for step in named(plan, "mount") if step[0] == "/sys")
    assert not sysfs[4] & linux.MOUNT_ATTR_RDONLY


def test_devices_are_made_with_the_usual_ones() -> None:
    fuse = oci.Device(type="c", path="/dev/fuse", major=10, minor=229, file_mode=0o600, gid=5)
    spec = bundle(config(devices=(Device("/dev/fuse"),)), FACTS, LAYOUT, nodes=(fuse,))
    (nodes,) = named(compile_plan(spec, FACTS, LAYOUT, None), "devices")[0]
    assert ("/dev/fuse", "c", 10, 229, 0o600, 0, 5) in nodes
    assert ("/dev/null", "c", 1, 3, 0o666, 0, 0) in nodes


def test_the_bundle_can_be_read_back_and_says_its_limits() -> None:
    resources = oci.Resources(memory=oci.Memory(limit=64 << 20), pids=oci.Pids(limit=9))
    spec = bundle(config(annotations={"a": "b"}, user="web"), FACTS, LAYOUT, resources=resources)
    assert oci.decode(oci.encode(spec)) == spec
    assert spec.annotations["a"] == "b"
    assert spec.linux.resources == resources
    with pytest.raises(Invalid, match="belong to the runtime"):
        spec_of(annotations={"io.swarmd.runtime.extensions": "{}"})


def test_a_foreign_bundle_is_run_as_it_says() -> None:
    plan = foreign_steps(
        process={
            "user": {"uid": 5, "gid": 6, "additionalGids": [7, 6], "umask": 63},
            "env": ["PATH=/bin", "A=1"],
            "noNewPrivileges": True,
            "capabilities": {
                "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
                "ambient": ["CAP_KILL", "CAP_CHOWN"],
            },
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2**64 - 1}],
        },
        mounts=[{"destination": "data", "source": "here", "options": ["rbind", "ro", "noatime"]}],
        linux={"namespaces": [{"type": "mount"}, {"type": "network", "path": "/run/netns/x"}]},
    )  # fmt: skip
    assert named(plan, "rootfs") == [("/b/rootfs",)]
    assert named(plan, "pivot") == [("/b/rootfs",)]
    assert named(plan, "source") == [(0, "/b/here", "", True, 0)]
    noatime = linux.MOUNT_ATTR_RDONLY | 0x10
    assert named(plan, "attach") == [(0, "/data", noatime, 0x70, 0, 0, [], False)]
    assert named(plan, "ids") == [(5, 6, [7, 6])]
    kill = 1 << linux.CAPABILITIES["KILL"]
    assert named(plan, "bounding") == [(kill | 1,)]
    assert named(plan, "identity") == [(63, 0, kill, kill, kill)]
    assert named(plan, "rlimit") == [(4, 1, -1)]
    assert named(plan, "enter") == [("/run/netns/x", linux.CLONE_NEWNET)]
    assert named(plan, "loopback") == []
    assert named(plan, "join") == [([], False)]


def test_what_cannot_be_given_is_left_out_with_a_warning() -> None:
    spec = foreign(
        process={"capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_FLY"]}},
        linux={"intelRdt": {"closID": "x"}},
    )
    facts = HostFacts(grantable=1)
    assert named(compile_plan(spec, facts, LAYOUT, None), "bounding") == [(1,)]
    assert [text.split(" ")[1] for text in warnings(spec, facts)] == ["CAP_FLY", "CAP_SYS_RESOURCE", "is"]


def test_users_are_remapped_before_the_namespaces_are_made() -> None:
    facts = HostFacts(masked_files=("/proc/keys",), cgroup_mounts=("v2",), remap=(200_000, 65_536))
    made = config(mounts=(Mount(source="/vol", target="/v", kind="volume"), Mount(source="/s", target="/s")))
    spec = bundle(made, facts, LAYOUT)
    plan = compile_plan(spec, facts, LAYOUT, b"filter")
    assert clone_flags(spec) == linux.CLONE_NEWNS
    assert named(plan, "join") == [(["/m/procs"], False)]
    lines = "0 200000 65536\n"
    assert named(plan, "user_namespace") == [(lines, lines)]
    (inner,) = named(plan, "inner")
    assert inner[0] == (
        linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
        | linux.CLONE_NEWCGROUP
    )  # fmt: skip
    positions = order(
        plan, "join", "user_namespace", "streams", "source", "idmap", "private", "mapped_overlay", "inner",
        "filesystem", "mapped_root", "attach", "mount", "links", "sysctl", "mask", "user", "ready",
    )  # fmt: skip
    assert sorted(positions) == positions
    assert [step[1] for step in named(plan, "filesystem")] == ["proc", "sysfs"]
    volume = next(step[0] for step in named(plan, "source") if step[1] == "/vol")
    assert named(plan, "idmap") == [(volume, False)]
    devices = [step[1] for step in named(plan, "attach") if step[1].startswith("/dev/")]
    assert devices == [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")]
    assert named(plan, "devices") == []
    assert clone_flags(bundle(config(userns="host"), facts, LAYOUT)) & linux.CLONE_NEWPID


@pytest.mark.parametrize(
    "fields",
    [{"network_mode": "host"}, {"pid_mode": "host"}, {"privileged": True}, {"cgroupns_mode": "host"}],
)
def test_what_needs_the_hosts_users_says_so(fields: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="add userns=host"):
        bundle(config(**fields), HostFacts(remap=(200_000, 65_536)), LAYOUT)


def test_the_cgroups_are_shown_as_this_machine_has_them() -> None:
    v1 = HostFacts(cgroup_mounts=("cpu,cpuacct", "pids"))
    plan = compile_plan(spec_of(), v1, LAYOUT, None)
    shown = [step[:4] for step in named(plan, "mount") if step[0].startswith("/sys/fs/cgroup")]
    assert shown == [
        ("/sys/fs/cgroup", "tmpfs", "cgroup", ["mode=755", "size=64k"]),
        ("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "cgroup", ["cpu", "cpuacct"]),
        ("/sys/fs/cgroup/pids", "cgroup", "cgroup", ["pids"]),
    ]
    assert named(plan, "remount_readonly") == [("/sys/fs/cgroup",)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"id": "../up"}, "container id '../up'"),
        ({"id": ""}, "container id ''"),
        ({"args": ()}, "no command specified"),
        ({"lower_dirs": ()}, "lower_dirs"),
        ({"lower_dirs": ("/x",) * 129}, "129 layers"),
        ({"cwd": "relative"}, "working directory 'relative'"),
        ({"hostname": "x" * 65}, "longer than 64"),
        ({"hostname": "x", "uts_mode": "host"}, "host's uts namespace"),
        ({"domainname": "x" * 65}, "longer than 64"),
        ({"env": ("NOVALUE",)}, "env 'NOVALUE'"),
        ({"args": ("a\0b",)}, "zero byte"),
        ({"oom_score_adj": 1001}, "oom_score_adj 1001"),
        ({"sysctls": {"kernel.pid_max": "1"}}, "sysctl 'kernel.pid_max'"),
        ({"sysctls": {"net/ipv4/x": "1"}}, "sysctl 'net/ipv4/x'"),
        ({"sysctls": {"net.core.somaxconn": "1"}, "network_mode": "host"}, "host network"),
        ({"sysctls": {"kernel.shmmax": "1"}, "ipc_mode": "host"}, "host ipc namespace"),
        ({"mounts": (Mount(source="/s", target="/proc/sys"),)}, "/proc or /sys"),
        ({"mounts": (Mount(source="/s", target="/a/../sys"),)}, "/proc or /sys"),
        ({"mounts": (Mount(source="/s", target="//proc"),)}, "/proc or /sys"),
        ({"mounts": (Mount(source="/s", target="/"),)}, "mount target '/'"),
        ({"mounts": (Mount(source="s", target="/a"),)}, "mount source 's'"),
        ({"mounts": (Mount(source="/s", target="/a"), Mount(source="/t", target="/a/"))}, "duplicate mount"),
        ({"mounts": (Mount(source="/s", target="/a", subpath="../x"),)}, "subpath '../x'"),
        ({"mounts": (Mount(source="/s", target="/a", propagation="loud"),)}, "propagation 'loud'"),
        ({"mounts": (Mount(source="/s", target="/a", recursive="readonly"),)}, "needs readonly"),
        ({"ulimits": (Ulimit("files", 1, 1),)}, "ulimit 'files'"),
        ({"ulimits": (Ulimit("nofile", 2, 1),)}, "soft limit 2"),
        ({"cap_add": ("FLY",)}, "no capability 'FLY'"),
        ({"device_rules": ("c 1 rwm",)}, "device rule 'c 1 rwm'"),
        ({"network_mode": "bridge"}, "network_mode 'bridge'"),
        ({"pid_mode": "container:"}, "pid_mode 'container:'"),
        ({"uts_mode": "container:x"}, "uts_mode 'container:x'"),
    ],
)
def test_bad_input_is_refused_with_its_field_and_value(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid) as caught:
        steps(**fields)
    assert words in str(caught.value)
