"""OCI bundles for the differential tests: a Docker-like config.json, and what each runtime makes of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swarmd.kit.ids import new_id
from tests.integration.runtime_rig import BUSYBOX, GROUP, PASSWD

ROOT = Path(__file__).parent.parent.parent
_CAPS = """
CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
AUDIT_WRITE
"""
CAPS = [f"CAP_{name}" for name in _CAPS.split()]
SAFE = ["nosuid", "noexec", "nodev"]
MASKED = ["/proc/acpi", "/proc/keys", "/proc/timer_list", "/proc/no-such-thing", "/sys/firmware"]
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/proc/no-such-thing"]
_APPLETS = """
sh cat ls id mount grep env stat hostname readlink sort touch mkdir rm echo head wc true sleep pwd kill mknod
unshare chown tr ionice umount date sed
"""
APPLETS = _APPLETS.split()
PROBE = r"""
echo '== status'; grep -E '^(Uid|Gid|Groups|Umask|Cap|NoNewPrivs|Seccomp:)' /proc/self/status
echo '== limits'; cat /proc/self/limits
echo '== mounts'; cat /proc/self/mountinfo
echo '== maps'; cat /proc/self/uid_map /proc/self/gid_map
echo '== dev'; for f in $(ls /dev); do stat -c '%n %F %a %t:%T %u:%g' /dev/$f; readlink /dev/$f; done
echo '== names'; hostname; cat /proc/sys/kernel/domainname; pwd
echo '== env'; env | grep -v '^SHLVL=\|^PWD=' | sort
echo '== hidden'; for f in /proc/acpi /proc/keys /proc/timer_list /sys/firmware; do
  if [ -d $f ]; then ls $f | wc -l; else head -c 64 $f | wc -c; fi; done
echo '== writes'; for f in /proc/sys/kernel/pid_max /proc/sysrq-trigger /proc/irq/default_smp_affinity \
  /sys/kernel/mm/ksm/run; do (echo x > $f) 2>&1; done
echo '== sysctl'; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni \
  /proc/sys/fs/mqueue/msg_max
echo '== cpu'; cat /proc/self/oom_score_adj; ionice -p $$
set -- $(cat /proc/self/stat); echo nice ${19} policy ${41}
echo '== fds'; ls /proc/self/fd
"""


def rootfs(directory: Path) -> Path:
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "root", "home/web"):
        (directory / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, directory / "bin/busybox")
    for applet in APPLETS:
        (directory / "bin" / applet).symlink_to("busybox")
    (directory / "etc/passwd").write_text(PASSWD)
    (directory / "etc/group").write_text(GROUP)
    (directory / "tmp").chmod(0o1777)
    return directory


def config(script: str = PROBE) -> dict[str, Any]:
    """As Docker would write it, as far as a machine without its daemon can say."""
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "hostname": "box",
        "process": {
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin", "A=1"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPS),
            "noNewPrivileges": False,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": SAFE},
            {
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*SAFE, "ro"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": SAFE},
            {
                "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": [*SAFE, "mode=1777", "size=65536k"],
            },
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("mount", "network", "pid", "ipc", "uts")],
            "maskedPaths": MASKED,
            "readonlyPaths": READONLY,
            "resources": {"devices": [{"allow": True, "access": "rwm"}]},
        },
    }  # fmt: skip


def changed(base: Any, changes: Any) -> Any:
    """Dictionaries are merged; a list that begins with "+" is added to the one there."""
    if isinstance(base, dict) and isinstance(changes, dict):
        return {**base, **{key: changed(base.get(key), value) for key, value in changes.items()}}
    if isinstance(changes, list) and changes[:1] == ["+"]:
        return [*(base or []), *changes[1:]]
    return changes


class Bundle:
    """One config.json, with a fresh root for every runtime."""

    def __init__(self, directory: Path, document: dict[str, Any]) -> None:
        self._directory = directory
        self._document = document

    def run(self, runtime: str, change: Callable[[Path], object] = bool) -> tuple[int, str]:
        """Exit code and output, both streams.  ``change`` makes of the root what a hostile image would."""
        place = self._directory / runtime
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        rootfs(place / "rootfs")
        change(place / "rootfs")
        (place / "config.json").write_text(json.dumps(self._document))
        done = subprocess.run(
            _command(runtime, place), cwd=place, capture_output=True, text=True, timeout=120, check=False,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}, input="",
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


def _command(runtime: str, place: Path) -> list[str]:
    if runtime == "local":
        return [sys.executable, str(Path(__file__).with_name("run_bundle.py")), str(place)]
    name = f"corpus-{new_id()}"
    flags = "--platform=ptrace --network=none --ignore-cgroups" if runtime == "runsc" else ""
    state = place / "state"
    script = f"{runtime} --root {state} {flags} run --bundle {place} {name}"
    # crun refuses a v2 hierarchy with controllers beside v1 ones; it need not see it.
    hide = "umount -l /sys/fs/cgroup/unified 2>/dev/null; " if runtime == "crun" else ""
    return ["unshare", "-m", "sh", "-c", f"{hide}exec {script}"]


def sections(text: str) -> dict[str, list[str]]:
    """The output of the probe by its headings, in a form in which two runtimes can be compared."""
    out: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith("== "):
            current = out.setdefault(line[3:], [])
        else:
            current.append(line)
    out["mounts"] = sorted(filter(None, map(_mount, out.get("mounts", []))))
    # A link to a file that need not be there, which only some make.
    out["dev"] = sorted(line for line in out.get("dev", []) if "core" not in line)
    return out


def _mount(line: str) -> str:
    """Target, type, what of the source, flags, the options of a tmpfs; the order is the runtime's affair."""
    left, _, right = line.partition(" - ")
    _, _, _, root, target, options, *shared = left.split()
    kind, _, data = right.split()
    if target.startswith("/sys/fs/cgroup"):
        return ""
    if kind == "tmpfs" and root == "/" and target.startswith(("/proc", "/sys")):
        return f"{target} is an empty directory"
    if root == "/null":
        return f"{target} is the null device"
    if target in READONLY:
        return f"{target} is read-only {options.startswith('ro')}"  # crun of Debian drops the other flags
    flags = ",".join(sorted(option for option in options.split(",") if option != "relatime"))
    found = re.findall(r"(?:size|mode|gid|ptmxmode)=[^,]*", data) if kind != "devtmpfs" else []
    if target == "/":  # on whatever the machine has its temporary files
        return f"{target} {flags} {' '.join(word.split(':')[0] for word in shared)}"
    more = ",".join(sorted(found))
    below = "" if kind in ("ext4", "xfs", "btrfs", "overlay") else root
    return f"{target} {kind} {below} {flags} {more} {' '.join(word.split(':')[0] for word in shared)}"
