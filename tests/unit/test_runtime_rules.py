"""The runtime's tables and small decisions: capabilities, signals, users, exits, cgroups, devices."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.model.errors import Invalid, Unavailable
from swarmd.node.runtime.cgroup import CgroupDriver
from swarmd.node.runtime.core import cgroups, defaults, exits, failures, oci, seccomp, users
from swarmd.node.runtime.core.signals import signal_number
from swarmd.node.runtime.seccomp import Compiler

ALL = -1
PASSWD = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:1000:100::/srv:/bin/sh\n1000:x:7:7::/odd:/bin/sh\n"
GROUP = "root:x:0:\nwww:x:100:\nextra:x:200:root,web\nbad:x:abc:web\n"
HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
HYBRID_OWN = "9:name=systemd:/\n8:pids:/../far\n4:memory:/docker/x/d\n2:cpu,cpuacct:/a\n0::/u\n"


def test_capabilities_are_dockers_and_change_as_asked() -> None:
    assert defaults.capability_mask((), (), grantable=ALL) == 0xA80425FB
    assert defaults.capability_mask((), ("ALL",), grantable=ALL) == 0
    assert defaults.capability_names(defaults.capability_mask(("cap_kill",), ("all",), grantable=ALL)) == {
        "KILL"
    }
    everything = defaults.capability_names(
        defaults.capability_mask(("ALL",), ("CAP_SYS_ADMIN",), grantable=ALL)
    )
    assert len(everything) == 40
    assert "SYS_ADMIN" not in everything
    assert defaults.capability_mask(("ALL",), (), grantable=0b101) == 0b101


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigkill", 9),
        ("9", 9),
        ("RTMIN+3", 37),
        ("SIGRTMAX-1", 63),
        ("SIGCLD", 17),
    ],
)
def test_signals_have_names_and_numbers(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "NOPE", "RTMIN+99", "TERM+1", "-9"])
def test_signals_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="does not exist"):
        signal_number(text)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", (0, 0, [0, 200], "/root")),
        ("web", (1000, 100, [100, 200], "/srv")),
        ("1000", (7, 7, [7], "/odd")),  # a name of digits goes before the number
        ("web:root", (1000, 0, [0], "/srv")),
        ("4242", (4242, 0, [0], "/")),
        ("4242:4343", (4242, 4343, [4343], "/")),
        (":www", (0, 100, [100], "/root")),
    ],
)
def test_users_come_from_the_containers_files(spec: str, expected: tuple[int, int, list[int], str]) -> None:
    assert users.resolve(spec, PASSWD, GROUP) == expected


def test_root_needs_no_files_but_names_do() -> None:
    assert users.resolve("", "", "") == (0, 0, [0], "/")
    with pytest.raises(ValueError, match="unable to find user web"):
        users.resolve("web", "", "")
    with pytest.raises(ValueError, match="unable to find group staff"):
        users.resolve("0:staff", PASSWD, GROUP)
    with pytest.raises(ValueError, match="out of range"):
        users.resolve("99999999999", "", "")


def test_ends_become_exit_codes() -> None:
    assert exits.exit_code(3 << 8) == 3
    assert exits.exit_code(9) == 137
    assert exits.exit_code(11 | 0x80) == 139
    assert exits.outcome(3 << 8, started=True) == (3, "")
    assert exits.outcome(None, started=True)[0] == 255
    assert exits.outcome(9, started=False)[0] == 137
    assert exits.outcome(0, started=False) == (128, "the container ended before its program was started")
    assert exits.exec_failure(errno.ENOENT, "x").exit_code == 127
    assert exits.exec_failure(errno.EACCES, "x").exit_code == 126
    assert exits.exec_failure(errno.ENOMEM, "x").exit_code == 128


def test_a_failed_step_says_whose_fault_it_is() -> None:
    users_fault = failures.creation_failure("source", "/data", errno.ENOENT, "bind source /x: No such file")
    assert isinstance(users_fault, Invalid)
    ours = failures.creation_failure("overlay", "/root", errno.ENOSPC, "No space left on device")
    assert isinstance(ours, Unavailable)
    assert str(ours).startswith("mounting the image layers /root: No space left on device: free some")
    assert isinstance(failures.creation_failure("mount", "/v", errno.ENOSPC, "No space left"), Unavailable)
    kernels = failures.creation_failure("clone", "", errno.ENOSPC, "No space left on device")
    assert str(kernels) == "making the namespaces: No space left on device"
    assert failures.start_failure("chdir", "/w", errno.EACCES, "Permission denied").exit_code == 126
    assert failures.start_failure("seccomp", "", errno.EINVAL, "Invalid argument").exit_code == 128


def test_cgroups_are_found_in_a_hybrid_machine() -> None:
    found = cgroups.discover(HYBRID, HYBRID_OWN)
    assert found.v1 == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct/a",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/a",
        "memory": "/sys/fs/cgroup/memory/d",
        "pids": "/sys/fs/cgroup/pids",
    }
    assert found.v2 == "/sys/fs/cgroup/unified/u"
    assert not found.pure_v2
    groups = cgroups.place(found, "c1")
    assert groups.v2 == "/sys/fs/cgroup/unified/u/swarmd/c1"
    assert groups.v1["memory"] == "/sys/fs/cgroup/memory/d/swarmd/c1"
    assert len(groups.paths()) == 4


def test_cgroups_are_found_in_a_pure_v2_machine_also_from_the_daemons_leaf() -> None:
    mounts = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    found = cgroups.discover(mounts, "0::/system.slice/swarmd.service/swarmd-daemon\n")
    assert found.pure_v2
    assert found.v2 == "/sys/fs/cgroup/system.slice/swarmd.service"
    assert cgroups.place(found, "c1").paths() == ("/sys/fs/cgroup/system.slice/swarmd.service/swarmd/c1",)


def test_a_machine_whose_cgroups_cannot_be_made_says_so_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("a file takes no directory below it, whoever asks")
    driver = CgroupDriver(SystemClock())
    driver.layout = cgroups.Cgroups({"memory": str(tmp_path / "memory")}, "")
    with pytest.raises(
        Unavailable, match=r"cannot make the cgroup .*/memory/swarmd: Not a directory; .* write to"
    ):
        driver.prepare()


def test_a_group_is_made_while_another_daemon_tidies_the_parent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = CgroupDriver(SystemClock())
    driver.layout = cgroups.Cgroups({"pids": str(tmp_path)}, "")
    mkdir, tidied = os.mkdir, []

    def tidying(path: str, mode: int = 0o777) -> None:
        if path.endswith("/c1") and len(tidied) < 3:
            driver.tidy()
            tidied.append(path)
        mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", tidying)
    driver.make(f"{tmp_path}/swarmd/c1")
    assert (tmp_path / "swarmd" / "c1").is_dir()
    with pytest.raises(FileExistsError):
        driver.make(f"{tmp_path}/swarmd/c1")


def test_a_machine_without_cgroups_is_told_what_to_mount() -> None:
    with pytest.raises(Invalid, match="no cgroup file system"):
        cgroups.discover("22 27 0:21 / /proc rw - proc proc rw\n", "0::/\n")


def test_kernel_counters_are_read() -> None:
    assert cgroups.oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n") == 2
    assert cgroups.oom_kills("low 0\noom 1\noom_kill 0\noom_group_kill 0\n") == 0
    assert cgroups.oom_kills("") == 0


def test_the_filter_follows_the_capabilities() -> None:
    plain = seccomp.profile(frozenset({"CHOWN"}), "x86_64").syscalls
    names = {
        name for rule in plain if not rule.args and rule.action == "SCMP_ACT_ALLOW" for name in rule.names
    }
    assert {"read", "ptrace", "arch_prctl"} <= names
    assert names.isdisjoint({"mount", "bpf", "reboot", "chroot", "setns", "keyctl", "clone", "socket"})
    assert oci.Syscall(names=("clone3",), action="SCMP_ACT_ERRNO", errno_ret=38) in plain
    families = {
        rule.args[0].value for rule in plain if rule.names == ("socket",) and rule.args[0].op == "SCMP_CMP_EQ"
    }
    assert {16, 17} <= families
    assert families.isdisjoint({38, 40})
    admin = seccomp.profile(frozenset({"SYS_ADMIN", "SYS_CHROOT"}), "aarch64").syscalls
    assert {"mount", "clone", "clone3", "chroot", "set_tls"} <= set(admin[0].names)
    assert all(rule.action == "SCMP_ACT_ALLOW" for rule in admin)


def test_a_missing_libseccomp_is_said_with_the_way_out() -> None:
    with pytest.raises(Unavailable, match="libseccomp2"):
        Compiler("libseccomp-not-here.so").program(oci.Seccomp(default_action="SCMP_ACT_ALLOW"))
