"""What a program finds in its container is the same under ``swarmd-runtime`` and under crun."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarmd.node.runtime.core.oci_documents import example
from tests.integration.ocicli_rig import Bundle, Config, Tool, image

pytestmark = pytest.mark.root

PROBE = r"""
echo '== status'; grep -E '^(Uid|Gid|Groups|NoNewPrivs|Seccomp|Cap[A-Z][a-z]+):' /proc/self/status
echo '== umask'; umask
echo '== pwd'; pwd
echo '== env'; env | grep -vE '^(SHLVL|PWD|OLDPWD|_)=' | sort
echo '== oom'; cat /proc/self/oom_score_adj
echo '== limits'; cat /proc/self/limits
echo '== hostname'; hostname
echo '== dev'; ls -ln /dev | tail -n +2 | tr -s ' ' | cut -d ' ' -f 1,3-6,10-
echo '== devdirs'; ls -A /dev/pts /dev/shm /dev/mqueue
echo '== root'; touch /written 2>/dev/null && echo writable || echo readonly
echo '== masked'; for p in /proc/kcore /proc/keys /proc/timer_list; do head -c 1 $p 2>/dev/null | wc -c; done
ls /sys/firmware /proc/scsi 2>&1
echo '== readonly'; echo 0 2>/dev/null >/proc/sys/kernel/ns_last_pid && echo writable || echo readonly
echo '== lo'; ip link show lo 2>/dev/null | grep -o '[<,]UP[,>]'
echo '== namespaces'; ls -l /proc/self/ns/ | grep -oE '(ipc|mnt|net|pid|user|uts):\[[0-9]+\]'
echo '== descriptors'; ls /proc/self/fd | tr '\n' ' '; echo
echo '== mounts'; cat /proc/self/mountinfo
"""
MASKED = frozenset(example(rootless=False, uid=0, gid=0)["linux"]["maskedPaths"])


def host_space(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


def seen(output: str) -> dict[str, list[str]]:
    """Section → lines, without what differs between any two containers."""
    sections: dict[str, list[str]] = {}
    name = ""
    for line in output.splitlines():
        if line.startswith("== "):
            name = line[3:]
            sections[name] = []
        else:
            sections[name].append(line)
    sections["namespaces"] = [
        f"{line.partition(':')[0]} {'host' if host_space(line.partition(':')[0]) == line else 'own'}"
        for line in sections["namespaces"]
    ]
    # crun links /dev/core too, and gives /dev/null away where it is the standard input
    sections["dev"] = [line for line in sections["dev"] if not re.search(r"kcore$| null$", line)]
    sections["mounts"] = sorted(filter(None, map(mount, sections["mounts"])))
    return sections


def mount(line: str) -> str:
    """Point, kind and flags; the cgroup mounts differ by design, and the order of flags says nothing."""
    left, _, right = line.partition(" - ")
    point, options = left.split()[4:6]
    kind = right.split()[0]
    if point.startswith("/sys/fs/cgroup"):
        return ""
    if kind == "devtmpfs" and point.startswith("/dev/"):
        return f"{point} device"  # of the host, in a user namespace: a node is neither executed nor setuid
    if point in MASKED:  # what hides it is read-only or may hold nothing, in one way or another
        return f"{point} masked"
    flags = sorted(set(options.split(",")) & {"ro", "rw", "nosuid", "nodev", "noexec"})
    shared = "shared" if re.search(r"(shared|master):", left) else "private"
    return f"{point} {kind} {','.join(flags)} {shared}"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[Callable[[Config], None]], tuple[str, str]]]:
    """The outputs of the probe under both, with the same change of the config."""
    if shutil.which("crun") is None:
        pytest.skip("crun is missing: install it to compare with it")
    made = image(tmp_path / "image")
    tools = [Tool("swarmd-runtime", tmp_path / "a"), Tool("crun", tmp_path / "b")]

    def both(change: Callable[[Config], None], script: str = PROBE) -> tuple[str, str]:
        outputs = []
        for tool in tools:
            bundle = Bundle(tmp_path / f"bundle-{tool.name}", made)
            outputs.append(tool("run", "-b", bundle.script(script, change), "one").stdout)
        return outputs[0], outputs[1]

    yield both
    for tool in tools:
        tool.clean()
    for top in Path("/sys/fs/cgroup").glob(f"*/ocicli-{os.getpid()}"):
        top.rmdir()


def nothing(_: Config) -> None:
    return


def some_user(config: Config) -> None:
    config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 6], "umask": 0o27}
    config["process"]["cwd"] = "/tmp"
    config["process"]["env"] = ["PATH=/bin:/usr/bin", "A=b=c", "EMPTY="]


def capabilities(config: Config) -> None:
    config["process"]["noNewPrivileges"] = False
    sets = config["process"]["capabilities"]
    sets["bounding"] = ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"]
    sets["permitted"] = sets["inheritable"] = ["CAP_KILL", "CAP_CHOWN"]
    sets["effective"] = ["CAP_KILL"]
    sets["ambient"] = ["CAP_CHOWN"]


def capabilities_of_a_user(config: Config) -> None:
    capabilities(config)
    some_user(config)


def limits(config: Config) -> None:
    config["process"]["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_FSIZE", "soft": 1 << 20, "hard": 1 << 21},
    ]
    config["process"]["oomScoreAdj"] = 123


def readonly_root(config: Config) -> None:
    config["root"]["readonly"] = True


def few_namespaces(config: Config) -> None:
    config["linux"]["namespaces"] = [{"type": "mount"}, {"type": "pid"}]
    del config["hostname"]


def namespaces_by_path(config: Config) -> None:
    for space in config["linux"]["namespaces"]:
        if space["type"] in ("network", "ipc", "uts"):
            space["path"] = f"/proc/self/ns/{ {'network': 'net'}.get(space['type'], space['type']) }"
    del config["hostname"]


def mounts(config: Config) -> None:
    config["mounts"] += [
        {"destination": "/b/ro", "type": "bind", "source": "/etc", "options": ["rbind", "ro"]},
        {
            "destination": "/b/file",
            "type": "bind",
            "source": "/etc/hostname",
            "options": ["bind", "nosuid", "ro"],
        },
        {
            "destination": "/t",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nodev", "size=1m", "mode=711"],
        },
        {"destination": "/t/inner", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]},
        {"destination": "relative", "type": "tmpfs", "source": "tmpfs"},
    ]


def devices(config: Config) -> None:
    config["linux"]["devices"] = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 1, "gid": 2},
        {"path": "/dev/deep/pipe", "type": "p"},
        {"path": "/dev/loop-x", "type": "b", "major": 7, "minor": 0},
    ]


def sysctls(config: Config) -> None:
    config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}


def user_namespace(config: Config) -> None:
    config["linux"]["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": 0, "size": 5000}]
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = mapping


def users_of_the_host_that_are_nobody(config: Config) -> None:
    user_namespace(config)
    mapping = [{"containerID": 0, "hostID": 100_000, "size": 5000}]
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = mapping


def nothing_masked(config: Config) -> None:
    config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []


@pytest.mark.parametrize(
    "change",
    [
        nothing, some_user, capabilities, capabilities_of_a_user, limits, readonly_root, few_namespaces,
        namespaces_by_path, mounts, devices, sysctls, user_namespace,
        users_of_the_host_that_are_nobody, nothing_masked,
    ],
    ids=lambda change: change.__name__,
)  # fmt: skip
def test_a_container_looks_the_same(
    run: Callable[..., tuple[str, str]], change: Callable[[Config], None]
) -> None:
    ours, theirs = map(seen, run(change))
    assert ours == theirs
    assert len(ours["mounts"]) >= 5


@pytest.mark.parametrize(
    ("script", "change", "wanted"),
    [
        ("uname -m", {"personality": {"domain": "LINUX32"}}, "i686"),
        ("cat /proc/sys/net/ipv4/ip_forward", {"sysctl": {"net.ipv4.ip_forward": "1"}}, "1"),
        (
            "mkdir /x 2>&1 | grep -o 'not permitted'; test -d /x || echo none",
            {"seccomp": "mkdir"},
            "not permitted\nnone",
        ),
        ("grep -c shared: /proc/self/mountinfo; true", {"rootfsPropagation": "rprivate"}, "0"),
    ],
    ids=["personality", "sysctl", "seccomp", "propagation"],
)
def test_a_setting_of_linux_has_its_effect(
    run: Callable[..., tuple[str, str]], script: str, change: dict[str, object], wanted: str
) -> None:
    def apply(config: Config) -> None:
        config["linux"] |= change
        if change.get("seccomp"):
            names = [change["seccomp"], f"{change['seccomp']}at"]
            config["linux"]["seccomp"] = {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
                "syscalls": [{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
            }

    ours, theirs = run(apply, script)
    assert ours.strip() == theirs.strip() == wanted


@pytest.mark.parametrize("path", ["/ocicli-{pid}/deep/er", "ocicli-{pid}/relative"])
def test_a_container_is_in_the_groups_that_its_config_names(
    run: Callable[..., tuple[str, str]], path: str
) -> None:
    named = path.format(pid=os.getpid())

    def change(config: Config) -> None:
        config["linux"]["cgroupsPath"] = named
        config["linux"]["resources"]["memory"] = {"limit": 64 << 20}
        config["linux"]["resources"]["pids"] = {"limit": 50}

    script = "cat /proc/self/cgroup; cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
    ours, theirs = run(change, script)
    wanted = "/" + named.lstrip("/")
    for output in (ours, theirs):
        for controller in ("memory", "pids", "cpu", "devices", "freezer", "blkio", "cpuset"):
            line = re.search(rf"^\d+:{controller}:(.*)$", output, re.MULTILINE)
            if line is not None:
                assert line[1] == wanted
    left = [path.name for path in Path("/sys/fs/cgroup").glob(f"*/ocicli-{os.getpid()}/**") if path.is_dir()]
    assert not {"er", "relative", "one"} & set(left)
    for top in Path("/sys/fs/cgroup").glob(f"*/ocicli-{os.getpid()}/deep"):
        top.rmdir()  # left there by crun
