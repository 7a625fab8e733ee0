"""crun beside the local runtime: a bundle we made, or one like it, run by ``crun``, and what that took.

On a machine with hybrid cgroups crun refuses to run while the v2 tree is mounted, so it is started inside of
a mount namespace without it; what entering that takes is measured with ``true`` and taken off.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from swarmd.kit.ids import new_id
from swarmd.node.runtime.core import defaults, seccomp

_UNIFIED = "/sys/fs/cgroup/unified"


def timed(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of one command."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
    return time.monotonic() - begin, usage.ru_utime + usage.ru_stime


def plain_config() -> bytes:
    """What ``crun spec`` gives, with Docker's capabilities and filter."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["crun", "spec"], cwd=directory, check=True)
        config = json.loads(Path(directory, "config.json").read_text())
    config["ociVersion"] = "1.0.2"
    config["process"] |= {"terminal": False, "rlimits": []}
    names = [f"CAP_{name}" for name in defaults.CAPS]
    config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    config["root"] = {"readonly": False}
    profile = seccomp.profile(frozenset(defaults.CAPS), os.uname().machine)
    config["linux"]["seccomp"] = msgspec.to_builtins(profile)
    return json.dumps(config).encode()


class Crun:
    """Runs bundles made of one of our config.json files, with or without its system call filter."""

    def __init__(self, base: Path, rootfs: Path, config: bytes) -> None:
        self._base = base
        self._rootfs = rootfs
        self._config = json.loads(config)
        self._holder: subprocess.Popen[bytes] | None = None
        self._enter: list[str] = []
        if Path(_UNIFIED).is_mount():
            script = f"umount -l {_UNIFIED}; echo; exec sleep 100000"
            command = ["unshare", "-m", "--propagation", "private", "sh", "-c", script]
            self._holder = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert self._holder.stdout is not None
            self._holder.stdout.readline()
            self._enter = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt"]
        self.command = f"crun --root {base}/run/crun"
        (base / "run").mkdir(exist_ok=True)
        self._price = self._entering()
        self.filtered = self._bundle("filtered", filtered=True, args=["/bin/true"])
        self.unfiltered = self._bundle("unfiltered", filtered=False, args=["/bin/true"])
        self.sleeping = self._bundle("sleeping", filtered=True, args=["/bin/sleep", "100000"])

    def _entering(self) -> tuple[float, float]:
        if not self._enter:
            return 0.0, 0.0
        tries = [timed([*self._enter, "/bin/true"]) for _ in range(20)]
        bare = [timed(["/bin/true"]) for _ in range(20)]
        wall = statistics.median(wall for wall, _ in tries) - statistics.median(wall for wall, _ in bare)
        cpu = statistics.mean(cpu for _, cpu in tries) - statistics.mean(cpu for _, cpu in bare)
        return max(0.0, wall), max(0.0, cpu)

    def _bundle(self, name: str, *, filtered: bool, args: list[str]) -> Path:
        directory = self._base / name
        directory.mkdir()
        config: dict[str, Any] = json.loads(json.dumps(self._config))
        config["root"]["path"] = str(self._rootfs)
        config["process"]["args"] = args
        config["linux"].pop("cgroupsPath", None)
        config["linux"]["namespaces"] = [
            space for space in config["linux"]["namespaces"] if space["type"] != "time"
        ]
        if not filtered:
            config["linux"].pop("seccomp", None)
        (directory / "config.json").write_text(json.dumps(config))
        return directory

    def _timed(self, *arguments: str) -> tuple[float, float]:
        return self.timed([*self.command.split(), *arguments])

    def timed(self, command: list[str]) -> tuple[float, float]:
        """Wall and CPU seconds of a command where crun can run."""
        wall, cpu = timed([*self._enter, *command])
        return wall - self._price[0], cpu - self._price[1]

    def run(self, bundle: Path) -> tuple[float, float]:
        return self._timed("run", "--bundle", str(bundle), new_id())

    def start(self) -> str:
        """One that goes on; its id."""
        name = new_id()
        self._timed("run", "--detach", "--bundle", str(self.sleeping), name)
        return name

    def remove(self, name: str) -> None:
        self._timed("delete", "--force", name)

    def close(self) -> None:
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
