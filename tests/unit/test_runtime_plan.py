"""What the runtime refuses before it makes anything, and the steps it hands to a cloned child."""

from __future__ import annotations

from typing import Any

import pytest

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core.plan import HostFacts, Layout, compile_plan, environment, validate
from swarmd.node.runtime.port import ContainerConfig, Files, Mount, Ulimit

LAYOUT = Layout(root="/c/root", upper="/c/upper", work="/c/work", files="/c/files", v1_procs=("/m/procs",))
FACTS = HostFacts(
    masked_files=("/proc/keys",),
    masked_dirs=("/sys/firmware",),
    readonly=("/proc/sys",),
    hard_limits={"nofile": 1000},
    cgroup_mounts=("v2",),
    init_path="/usr/bin/tini-static",
)


def config(**fields: Any) -> ContainerConfig:
    return ContainerConfig(**{"id": "c", "lower_dirs": ("/top", "/base"), "args": ("run",), **fields})


def steps(**fields: Any) -> list[tuple[Any, ...]]:
    made = config(**fields)
    validate(made)
    return compile_plan(made, FACTS, LAYOUT, b"filter")


def named(plan: list[tuple[Any, ...]], name: str) -> list[tuple[Any, ...]]:
    return [step[1:] for step in plan if step[0] == name]


def order(plan: list[tuple[Any, ...]], *names: str) -> list[int]:
    return [next(index for index, step in enumerate(plan) if step[0] == name) for name in names]


def test_a_child_joins_before_it_mounts_and_waits_before_it_loses_rights() -> None:
    plan = steps(user="web", no_new_privileges=True, read_only=True)
    positions = order(
        plan, "join", "private", "overlay", "pivot", "mount", "sysctl", "mask_file", "mask_dir", "readonly",
        "workdir", "readonly_root", "user", "ready", "bounding", "no_new_privs", "seccomp", "identity",
        "chdir", "exec",
    )  # fmt: skip
    assert positions == sorted(positions)
    assert named(plan, "overlay") == [("/c/root", ["/top", "/base"], "/c/upper", "/c/work")]
    assert named(plan, "join") == [(["/m/procs"],)]


def test_a_plan_is_plain_data() -> None:
    import marshal

    plan = steps(mounts=(Mount(target="/t", kind="tmpfs"),), ulimits=(Ulimit("core", 0, 0),), init=True)
    assert marshal.loads(marshal.dumps(plan)) == plan


def test_mounts_go_in_place_parents_first_and_replace_generated_files() -> None:
    plan = steps(
        files=Files(hosts="h", resolv_conf="r"),
        mounts=(
            Mount(source="/src/deep", target="/a/b/c", readonly=True),
            Mount(source="/src/top", target="/a/"),
            Mount(source="/own/hosts", target="/etc/hosts"),
            Mount(target="/scratch", kind="tmpfs", size=4096, mode=0o700, readonly=True),
        ),
    )
    assert named(plan, "source") == [
        ("/a", "/src/top", False),
        ("/etc/hosts", "/own/hosts", False),
        ("/etc/resolv.conf", "/c/files/resolv.conf", False),
        ("/a/b/c", "/src/deep", True),
    ]
    attached = [step[1] for step in plan if step[0] in ("attach", "tmpfs")]
    assert attached == ["/a", "/scratch", "/etc/hosts", "/etc/resolv.conf", "/a/b/c"]
    assert named(plan, "tmpfs") == [("/scratch", "mode=700,size=4096", True)]
    assert order(plan, "source", "overlay", "attach") == sorted(order(plan, "source", "overlay", "attach"))


def test_the_host_network_is_left_as_it_is() -> None:
    plan = steps(network_mode="host")
    assert named(plan, "sysctl") == []
    assert named(plan, "loopback") == []
    assert ("net/ipv4/ip_unprivileged_port_start", "0") in named(steps(), "sysctl")


def test_ulimits_are_clamped_to_what_the_machine_can_give() -> None:
    assert named(steps(ulimits=(Ulimit("nofile", 500, -1),)), "rlimit") == [(7, 500, 1000)]
    assert named(steps(ulimits=(Ulimit("nofile", -1, -1),)), "rlimit") == [(7, 1000, 1000)]
    assert named(steps(ulimits=(Ulimit("core", 0, -1),)), "rlimit") == [(4, 0, -1)]


def test_an_init_runs_the_command() -> None:
    plan = steps(init=True)
    assert named(plan, "exec")[0][0] == ["/sbin/docker-init", "--", "run"]
    assert ("/sbin/docker-init", "/usr/bin/tini-static", True) in named(plan, "source")
    with pytest.raises(Invalid, match="tini"):
        compile_plan(config(init=True), HostFacts(), LAYOUT, None)


def test_without_a_filter_none_is_installed() -> None:
    assert named(compile_plan(config(), FACTS, LAYOUT, None), "seccomp") == []
    assert named(steps(), "seccomp") == [(b"filter",)]


def test_the_environment_has_a_path_and_the_last_entry_wins() -> None:
    env = environment(config(env=("A=1", "A=2=3", "E="), hostname="box"))
    assert env["A"] == "2=3"
    assert env["E"] == ""
    assert env["HOSTNAME"] == "box"
    assert "/usr/local/sbin" in env["PATH"]
    assert environment(config(env=("PATH=/x",)))["PATH"] == "/x"


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
        ({"env": ("NOVALUE",)}, "env 'NOVALUE'"),
        ({"args": ("a\0b",)}, "zero byte"),
        ({"sysctls": {"kernel.pid_max": "1"}}, "sysctl 'kernel.pid_max'"),
        ({"sysctls": {"net/ipv4/x": "1"}}, "sysctl 'net/ipv4/x'"),
        ({"sysctls": {"net.core.somaxconn": "1"}, "network_mode": "host"}, "host network"),
        ({"mounts": (Mount(source="/s", target="/proc/sys"),)}, "/proc or /sys"),
        ({"mounts": (Mount(source="/s", target="/a/../sys"),)}, "/proc or /sys"),
        ({"mounts": (Mount(source="/s", target="//proc"),)}, "/proc or /sys"),
        ({"mounts": (Mount(source="/s", target="/"),)}, "mount target '/'"),
        ({"mounts": (Mount(source="s", target="/a"),)}, "mount source 's'"),
        ({"mounts": (Mount(source="/s", target="/a"), Mount(source="/t", target="/a/"))}, "duplicate mount"),
        ({"ulimits": (Ulimit("files", 1, 1),)}, "ulimit 'files'"),
        ({"ulimits": (Ulimit("nofile", 2, 1),)}, "soft limit 2"),
        ({"cap_add": ("FLY",)}, "no capability 'FLY'"),
    ],
)
def test_bad_input_is_refused_with_its_field_and_value(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid) as caught:
        steps(**fields)
    assert words in str(caught.value)
