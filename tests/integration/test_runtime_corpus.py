"""The same bundles on our plan and child, on crun and on runc: what a program sees must be the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.bundle_rig import PROBE, Bundle, changed, config, sections

pytestmark = pytest.mark.root

SPACES = [{"type": kind} for kind in ("mount", "network", "pid", "ipc", "uts")]
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
FILTER = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "readonly-root": {"root": {"path": "rootfs", "readonly": True}},
    "user": {"process": {"user": {"uid": 1000, "gid": 1000, "additionalGids": [5, 2000]}}},
    "user-without-an-entry": {"process": {"user": {"uid": 4321, "gid": 99}}},
    "umask": {"process": {"user": {"uid": 0, "gid": 0, "umask": 0o077}}},
    "no-new-privileges": {"process": {"noNewPrivileges": True}},
    "no-capabilities": {"process": {"capabilities": {"bounding": [], "effective": [], "permitted": []}}},
    "all-five-sets": {
        "process": {"capabilities": {name: ["CAP_KILL", "CAP_NET_ADMIN"] for name in SETS}}
    },
    "ambient-of-a-user": {
        "process": {
            "user": {"uid": 1000, "gid": 1000},
            "capabilities": {"inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]},
        }
    },
    "inheritable-only": {"process": {"capabilities": {"inheritable": ["CAP_CHOWN"]}}},
    "user-and-capabilities": {"process": {"user": {"uid": 1000, "gid": 1000}}},
    "rlimits": {
        "process": {"rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_FSIZE", "soft": 2**30, "hard": 2**64 - 1},
        ]}
    },
    "oom-score": {"process": {"oomScoreAdj": 500}},
    "cwd-is-made": {"process": {"cwd": "/made/for/it"}},
    "environment": {"process": {"env": ["PATH=/bin", "HOME=/elsewhere", "B=x=y", "EMPTY="]}},
    "home-of-a-user": {"process": {"user": {"uid": 1000, "gid": 1000}, "env": ["PATH=/bin"]}},
    "domainname": {"domainname": "example.org"},
    "sysctls": {"linux": {"sysctl": {
        "net.ipv4.ip_unprivileged_port_start": "80", "kernel.shmmni": "77", "fs.mqueue.msg_max": "11",
    }}},
    "nothing-hidden": {"linux": {"maskedPaths": [], "readonlyPaths": []}},
    "no-mqueue-nor-shm": {"mounts": config()["mounts"][:4]},
    "sys-writable": {"mounts": [
        *config()["mounts"][:3], {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": []},
    ]},
    "bind": {"mounts": ["+", {"destination": "/data", "type": "bind", "source": "/SOURCE",
                             "options": ["bind", "rprivate"]}]},
    "bind-readonly-noexec": {"mounts": ["+", {"destination": "/data", "type": "bind", "source": "/SOURCE",
                                             "options": ["rbind", "ro", "noexec", "nosuid", "rprivate"]}]},
    "bind-recursive-readonly": {"mounts": ["+", {"destination": "/data", "type": "bind", "source": "/SOURCE",
                                                "options": ["rbind", "rro", "rprivate"]}]},
    "bind-a-file": {"mounts": ["+", {"destination": "/etc/hosts", "type": "bind", "source": "/SOURCE/file",
                                    "options": ["bind", "ro", "rprivate"]}]},
    "bind-into-what-is-not-there": {"mounts": ["+", {
        "destination": "/a/b/c", "type": "bind", "source": "/SOURCE", "options": ["rbind", "rprivate"]}]},
    "bind-relative-destination": {"mounts": ["+", {
        "destination": "data", "type": "bind", "source": "/SOURCE", "options": ["rbind", "rprivate"]}]},
    "tmpfs": {"mounts": ["+", {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs",
                              "options": ["nosuid", "mode=700", "size=1m", "noatime"]}]},
    "mounts-on-mounts": {"mounts": [
        "+", {"destination": "/a", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "size=1m"]},
        {"destination": "/a/b", "type": "bind", "source": "/SOURCE", "options": ["rbind", "rprivate"]},
        {"destination": "/a/b", "type": "tmpfs", "source": "tmpfs", "options": ["mode=711", "size=2m"]},
    ]},
    "root-propagation-private": {"linux": {"rootfsPropagation": "rprivate"}},
    "root-propagation-shared": {"linux": {"rootfsPropagation": "shared"}},
    "devices": {"linux": {"devices": [
        {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 0},
        {"type": "c", "path": "/dev/deep/one", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 5, "gid": 6},
        {"type": "p", "path": "/dev/pipe", "fileMode": 0o600},
    ]}},
    "host-network-and-ipc": {"linux": {"namespaces": [{"type": kind} for kind in ("mount", "pid", "uts")]}},
    "host-pid": {"linux": {"namespaces": [{"type": kind} for kind in ("mount", "network", "ipc", "uts")]}},
    "cgroup-namespace": {"linux": {"namespaces": [*SPACES, {"type": "cgroup"}]}},
    "seccomp-errno": {"linux": {"seccomp": {**FILTER, "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]}}},
    "seccomp-arguments": {"linux": {"seccomp": {**FILTER, "syscalls": [
        {"names": ["kill"], "action": "SCMP_ACT_ERRNO",
         "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}]}}},
    "seccomp-and-no-new-privileges": {
        "process": {"noNewPrivileges": True},
        "linux": {"seccomp": {**FILTER, "syscalls": [
            {"names": ["setuid", "setgroups", "capset"], "action": "SCMP_ACT_KILL_PROCESS"}]}},
    },
    "seccomp-default-errno": {"linux": {"seccomp": {
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "no_such_call"], "action": "SCMP_ACT_ERRNO"}]}}},
    "personality": {"linux": {"personality": {"domain": "LINUX32"}}},
    "exit-code": {"process": {"args": ["/bin/sh", "-c", "exit 42"]}},
    "killed": {"process": {"args": ["/bin/sh", "-c", "sh -c 'kill -9 $$'; exit $?"]}},
}  # fmt: skip
EXTRA = {
    "seccomp-errno": "mkdir /tmp/x",
    "seccomp-arguments": "sleep 9 & kill -10 $! 2>/dev/null || echo refused; kill -9 $!",
    "seccomp-default-errno": "mkdir /tmp/x",
    "readonly-root": "touch /made; touch /dev/made && echo dev",
    "umask": "touch /tmp/x; stat -c %a /tmp/x",
    "bind": "cat /data/file; touch /data/new",
    "bind-readonly-noexec": "touch /data/new; /data/program",
    "bind-recursive-readonly": "touch /data/new",
    "bind-into-what-is-not-there": "stat -c '%a %u' /a /a/b; ls /a/b/c",
    "devices": "stat -c '%n %F %a %t:%T %u:%g' /dev/deep/one /dev/deep",
    "personality": "busybox uname -m",
}
JUDGES = ("crun", "runc")
UNABLE = {"runc": {"domainname", "personality"}}
# Sections in which a judge has its own opinion, and why it is not ours.
OPINIONS = {
    ("crun", "user-without-an-entry", "env"): "crun sets no HOME then; runc and Docker say /",
    ("crun", "bind-into-what-is-not-there", "extra"): "crun gives the directories it makes mode 1755",
    ("runc", "bind-relative-destination", "fds"): "runc warns of it",
    ("runc", "root-propagation-shared", "mounts"): "runc leaves the root private",
}
POLICY = "set -- $(cat /proc/$$/stat); echo policy ${41} nice ${19}"
SEEN_BY_RUNSC = ("env", "extra")  # its kernel is another one


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "file").write_text("from the host\n")
    (directory / "program").write_text("#!/bin/sh\necho ran\n")
    (directory / "program").chmod(0o755)
    return directory


def document_of(case: str, source: Path) -> dict[str, Any]:
    extra = EXTRA.get(case)
    base = config(PROBE + (f"echo '== extra'; ({extra}) 2>&1" if extra else ""))
    document: dict[str, Any] = changed(base, CASES[case])
    for mount in document["mounts"]:
        mount["source"] = mount["source"].replace("/SOURCE", str(source))
    return document


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("case", CASES)
def test_a_program_sees_the_same(case: str, judge: str, source: Path, tmp_path: Path) -> None:
    if shutil.which(judge) is None:
        pytest.skip(f"{judge} is not installed: it is asked only where somebody put it")
    if case in UNABLE.get(judge, ()):
        pytest.skip(f"{judge} of Debian does not know what {case} asks for")
    bundle = Bundle(tmp_path, document_of(case, source))
    code, text = bundle.run("local")
    judged_code, judged = bundle.run(judge)
    assert code == judged_code, text
    ours, theirs = sections(text), sections(judged)
    assert ours.keys() == theirs.keys(), (text, judged)
    found = {
        f"{name} of {who}": sorted(set(one) - set(other))
        for name in theirs
        for who, one, other in (("local", ours[name], theirs[name]), (judge, theirs[name], ours[name]))
        if set(one) != set(other) and (judge, case, name) not in OPINIONS
    }
    assert found == {}


@pytest.mark.parametrize(
    "case", ["plain", "user", "bind", "bind-readonly-noexec", "cwd-is-made", "exit-code"]
)
def test_a_kernel_of_its_own_comes_to_the_same(case: str, source: Path, tmp_path: Path) -> None:
    if shutil.which("runsc") is None:
        pytest.skip("runsc is not installed: it is asked only where somebody put it")
    bundle = Bundle(tmp_path, document_of(case, source))
    (code, text), (judged_code, judged) = bundle.run("local"), bundle.run("runsc")
    assert code == judged_code, judged
    ours, theirs = sections(text), sections(judged)
    for name in SEEN_BY_RUNSC:
        assert _said(ours.get(name, [])) == _said(theirs.get(name, [])), name


def _said(lines: list[str]) -> list[str]:
    """Without complaints: standard error comes last, and its kernel has less to show."""
    return [line for line in lines if ": " not in line]


def test_the_corpus_would_notice(source: Path, tmp_path: Path) -> None:
    """A control: two bundles that differ in one word do not look the same."""
    _, plain = Bundle(tmp_path, document_of("plain", source)).run("local")
    for case in ("no-new-privileges", "readonly-root", "nothing-hidden", "umask", "devices"):
        _, other = Bundle(tmp_path, document_of(case, source)).run("local")
        assert sections(other) != sections(plain), case


@pytest.mark.parametrize(
    ("process", "command", "expected"),
    [
        ({"scheduler": {"policy": "SCHED_BATCH", "nice": 5}}, POLICY, "policy 3 nice 5"),
        ({"scheduler": {"policy": "SCHED_IDLE"}}, POLICY, "policy 5"),
        ({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6}}, "ionice -p $$", "best-effort: prio 6"),
        ({"ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0}}, "ionice -p $$", "idle"),
    ],
)
def test_it_is_scheduled_as_asked(
    process: dict[str, Any], command: str, expected: str, tmp_path: Path
) -> None:
    """Later than what the judges know.  The control asks for nothing."""
    for asked in (process, {}):
        code, text = Bundle(tmp_path, changed(config(command), {"process": asked})).run("local")
        assert code == 0
        assert (expected in text) == bool(asked), text


def test_its_clocks_are_set_forward(tmp_path: Path) -> None:
    spaces = [*SPACES, {"type": "time"}]
    offsets = {"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 5, "nanosecs": 7}}
    ages = []
    for linux in ({"namespaces": spaces, "timeOffsets": offsets}, {"namespaces": spaces}):
        _, text = Bundle(tmp_path, changed(config("cat /proc/uptime"), {"linux": linux})).run("local")
        ages.append(float(text.split()[0]))
    assert 999_000 < ages[0] - ages[1] < 1_001_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"process": {"apparmorProfile": "docker-default"}}, "apparmor is not enabled"),
        ({"process": {"selinuxLabel": "a:b:c"}}, "selinux is not enabled"),
        ({"linux": {"mountLabel": "x"}}, "mountLabel 'x' is not supported"),
        ({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_NOTIFY"}}}, "no listener"),
        ({"mounts": ["+", {"destination": "/proc/sys", "source": "/tmp", "options": ["bind"]}]}, "on /proc"),
        (
            {"mounts": ["+", {"destination": "/sys/x", "type": "ext4", "source": "/dev/x"}]},
            "below /proc or /sys",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    code, text = Bundle(tmp_path, changed(config("echo ran"), changes)).run("local")
    assert code == 1
    assert words in text
    assert "ran" not in text.split("\n")


def test_hooks_run_in_their_namespaces_and_get_the_state(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\n(readlink /proc/self/ns/mnt; cat) > {seen}/$1\n")
    hook.chmod(0o755)
    names = ("prestart", "createRuntime", "createContainer")
    hooks = {name: [{"path": str(hook), "args": ["hook", name]}] for name in names}
    inside = {"path": "/bin/sh", "args": ["sh", "-c", "cat > /inside"]}
    document = changed(config("cat /inside"), {"hooks": {**hooks, "startContainer": [inside]}})
    code, text = Bundle(tmp_path, document).run("local")
    assert code == 0, text
    assert '"status": "creating"' in text
    own = os.readlink("/proc/self/ns/mnt")
    for name in names:
        space, state = (seen / name).read_text().split("\n", 1)
        assert (space == own) == (name != "createContainer")
        assert '"ociVersion"' in state


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ({"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}, "ended with status 3"),
        ({"path": "/bin/sh", "args": ["sh", "-c", "sleep 60"], "timeout": 1}, "did not end within 1 s"),
        ({"path": "/no/such/hook"}, "No such file"),
    ],
)
def test_a_hook_that_fails_is_the_end(hook: dict[str, Any], words: str, tmp_path: Path) -> None:
    code, text = Bundle(tmp_path, changed(config("echo ran"), {"hooks": {"createContainer": [hook]}})).run(
        "local"
    )
    assert code == 1
    assert words in text
    assert "ran" not in text.split()
