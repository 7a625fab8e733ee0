"""The bundle for other runtimes, and the plan of the child that calls them."""

from __future__ import annotations

import pytest

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import foreign, oci
from swarmd.node.runtime.core.bundle import bundle
from swarmd.node.runtime.core.facts import HostFacts, Layout
from swarmd.node.runtime.core.foreign import CgroupMount, Directions, Who
from swarmd.node.runtime.port import ContainerConfig, Mount

LAYOUT = Layout(
    bundle="/b", root="/b/root", upper="/b/upper", work="/b/work", files="/b/files", v1_procs=("/p",)
)
WHO = Who(5, 6, (6, 7), "/home/web")
HYBRID = (CgroupMount("/c/memory", ("memory",)), CgroupMount("/c/unified"))


def spec(*mounts: Mount) -> oci.Spec:
    config = ContainerConfig(id="one", lower_dirs=("/l",), args=("a",), user="web", mounts=mounts)
    return bundle(config, HostFacts(), LAYOUT)


def directions(name: str) -> Directions:
    return Directions(
        name=name, program=f"/usr/bin/{name}", state="/b/runtime", log="/b/log", pid_file="/b/pid"
    )


def plan(name: str, cgroups: tuple[CgroupMount, ...] = HYBRID, *mounts: Mount) -> list[foreign.Step]:
    staged = {mount.target: f"/b/files/{mount.target}" for mount in mounts if mount.subpath}
    return foreign.compile_plan(
        spec(*mounts), LAYOUT, directions(name), staged, container_id="one", cgroups=cgroups
    )


def test_names_of_users_are_numbers_and_the_limits_are_left_to_our_groups() -> None:
    fitted = foreign.fit(spec(), "crun", WHO, {})
    assert fitted.process is not None
    assert fitted.process.user == oci.User(uid=5, gid=6, umask=0o022, additional_gids=(6, 7))
    assert "HOME=/home/web" in fitted.process.env
    assert fitted.linux.resources is None
    assert fitted.linux.cgroups_path == ""
    assert oci.decode(oci.encode(fitted)) == fitted


def test_runc_is_given_a_group_and_the_device_rules() -> None:
    fitted = foreign.fit(spec(), "runc", WHO, {})
    assert fitted.linux.cgroups_path == "/box"
    assert fitted.linux.resources is not None
    assert fitted.linux.resources.devices == spec().linux.resources.devices  # type: ignore[union-attr]
    assert fitted.linux.resources.memory is None


def test_a_path_below_a_volume_is_told_by_its_stage() -> None:
    mount = Mount(target="/v", source="/vol", kind="volume", subpath="in", readonly=True)
    fitted = foreign.fit(spec(mount), "crun", WHO, {"/v": "/b/files/0"})
    (told,) = (each for each in fitted.mounts if each.destination == "/v")
    assert told.source == "/b/files/0"
    assert "ro" in told.options
    assert "rro" not in told.options
    steps = plan("crun", HYBRID, mount)
    assert ("source", 0, "/vol", "in", True, 0) in steps
    assert [step[0] for step in steps].index("stage") < [step[0] for step in steps].index("runtime_create")


def test_the_child_is_in_the_groups_before_the_runtime_runs_and_waits_between_its_two_commands() -> None:
    steps = plan("crun")
    names = [step[0] for step in steps]
    assert steps[0] == ("join", ["/p"], False)
    assert names[-4:] == ["runtime_create", "ready", "runtime_start", "watch"]
    create = next(step for step in steps if step[0] == "runtime_create")
    assert create[1][:3] == ["/usr/bin/crun", "--root", "/b/runtime"]
    assert "--cgroup-manager=disabled" in create[1]
    assert create[1][-1] == "one"


def test_only_crun_on_a_hybrid_machine_has_the_v2_tree_hidden() -> None:
    assert ("hide", "/c/unified") in plan("crun")
    pure = (CgroupMount("/c"),)
    for steps in (plan("crun", pure), plan("runc"), plan("runsc")):
        assert "hide" not in [step[0] for step in steps]


def test_runc_finds_the_containers_groups_at_the_top() -> None:
    (step,) = (step for step in plan("runc") if step[0] == "own_groups")
    assert step[1] == [("/c/memory", "cgroup", ["memory"]), ("/c/unified", "cgroup2", [])]


def test_cgroup_mounts_are_found() -> None:
    mountinfo = (
        "25 1 0:22 / /c/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
        "26 1 0:23 / /c/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
        "27 1 0:24 / /c/unified rw - cgroup2 cgroup2 rw\n28 1 0:25 / /x rw - tmpfs tmpfs rw\n"
    )
    assert foreign.mounted(mountinfo) == (
        CgroupMount("/c/cpu,cpuacct", ("cpu", "cpuacct")),
        CgroupMount("/c/systemd", ("name=systemd",)),
        CgroupMount("/c/unified"),
    )


def test_an_unknown_runtime_and_a_terminal_are_refused() -> None:
    with pytest.raises(Invalid, match="use one of local, crun, runc, runsc"):
        foreign.check("nosuch", tty=False)
    with pytest.raises(Invalid, match="terminal"):
        foreign.check("crun", tty=True)
    foreign.check("runsc", tty=False)
