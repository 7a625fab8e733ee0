"""One node as a machine: switched on, off, hard off, frozen, its cable cut.

Works on the node's entry in ``cluster.json`` and writes there what is about to be made.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

import swarmd
from swarmd.cli.local import cgroup, network, process
from swarmd.cli.local.core import hierarchies
from swarmd.cli.local.core.plan import Cluster, Ended, Paths, daemon_argv, etc_files
from swarmd.cli.local.core.status import Seen, State, state_of
from swarmd.cli.local.state import Record
from swarmd.model.errors import Refused, Unavailable

_BOOT_SECONDS = 30.0
_OFF_SECONDS = 25.0  # pid 1 gives the daemon 20 s
_DEATH_SECONDS = 15.0
_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    """A node and its record."""

    def __init__(self, record: Record, cluster: Cluster, name: str) -> None:
        self._record = record
        self._cluster = cluster
        self.node = cluster.node(name)
        self.paths: Paths = record.paths(name)

    def state(self) -> State:
        """What the node does now, in one word."""
        alive = process.is_alive(self.node.process)
        return state_of(self.node, Seen(alive=alive, frozen=alive and cgroup.is_frozen(self.node.cgroups)))

    def require(self, *wanted: State, why: str) -> None:
        """:class:`Refused` unless the node is in one of the states; ``why`` ends the sentence."""
        state = self.state()
        if state not in wanted:
            raise Refused(f'{self.node.name} of the local cluster "{self._cluster.name}" is {state}; {why}.')

    def _write(self, **changes: object) -> None:
        self.node = self._record.change_node(
            self.node.name, lambda node: msgspec.structs.replace(node, **changes)
        )

    def boot(self) -> None:
        """Switch the node on: as after a power cut there is the disk, and nothing else."""
        self._sweep()
        base = _bases(self.node.cgroups)
        cgroups = hierarchies.node_directories(base, self._cluster.name, self.node.name)
        self._write(cgroups=cgroups, process=None, ended="")
        self._make_directories()
        cgroup.make(cgroups)
        try:
            self._start()
        except BaseException:
            self.power_off()
            raise

    def _make_directories(self) -> None:
        paths = self.paths
        for directory in (paths.home, paths.etc, paths.logs):
            os.makedirs(directory, mode=0o755, exist_ok=True)
        os.makedirs(paths.data, mode=0o700, exist_ok=True)
        if os.path.isdir(paths.run):
            shutil.rmtree(paths.run)  # a machine's /run does not survive; pid files in it would lie
        os.mkdir(paths.run, 0o755)
        for name, text in etc_files(self._cluster, self.node).items():
            Path(paths.etc, name).write_text(text)

    def _settings(self) -> dict[str, object]:
        package = os.path.dirname(os.path.dirname(os.path.abspath(swarmd.__file__)))
        return {
            "hostname": self.node.name,
            "etc": self.paths.etc,
            "run": self.paths.run,
            "log": self.paths.node_log,
            "cgroups": list(self.node.cgroups),
            "leaves": cgroup.leaves(hierarchy.mountpoint for hierarchy in cgroup.here()),
            "cgroup_mounts": hierarchies.mount_plan(cgroup.here()),
            "command": daemon_argv(self._cluster, self.node, self.paths),
            "environment": {"PATH": _SEARCH, "HOME": "/root", "LANG": "C.UTF-8", "PYTHONPATH": package},
        }

    def _start(self) -> None:
        init = os.path.join(os.path.dirname(os.path.abspath(__file__)), "init.py")
        # Unbuffered: a line must not wait in a buffer of ours while we wait for the pipe.
        starter = subprocess.Popen(
            [sys.executable, "-I", init],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        with starter:
            assert starter.stdin is not None
            starter.stdin.write(json.dumps(self._settings()).encode() + b"\n")
            pid = int(self._answer(starter, "pid"))
            self._write(process=process.identify(pid))
            self._answer(starter, "ready")
            network.connect(self._cluster, self.node, pid, self._record.switch)
            starter.stdin.write(b"go\n")

    def _answer(self, starter: subprocess.Popen[bytes], wanted: str) -> str:
        """What follows ``wanted`` in the init's next line; :class:`Unavailable` with what it said instead."""
        assert starter.stdout is not None
        assert starter.stderr is not None
        readable, _, _ = select.select([starter.stdout], [], [], _BOOT_SECONDS)
        line = starter.stdout.readline().decode().strip() if readable else f"no answer in {_BOOT_SECONDS} s"
        word, _, rest = line.partition(" ")
        if word == wanted:
            return rest
        said = line.removeprefix("error ") or starter.stderr.read().decode().strip()
        raise Unavailable(f"{self.node.name} cannot be set up: {said}")

    def shut_down(self) -> None:
        """Orderly off: SIGTERM to pid 1, which gives the daemon its time; hard off when that fails."""
        if self.state() == "paused":
            cgroup.freeze(self.node.cgroups, frozen=False)
        process.end(self.node.process, signal.SIGTERM, seconds=_OFF_SECONDS)
        self.power_off(ended="stopped")

    def power_off(self, *, ended: Ended = "killed") -> None:
        """Cut the power: all processes end at once, the disk stays as it is."""
        if not process.end(self.node.process, signal.SIGKILL, seconds=0.0):
            cgroup.kill(self.node.cgroups)
            if not process.end(self.node.process, signal.SIGKILL, seconds=_DEATH_SECONDS):
                raise Unavailable(f"{self.node.name} does not die: look at its processes with ps.")
        self._sweep()
        self._write(process=None, ended=ended)

    def _sweep(self) -> None:
        """Remove what a dead node leaves: stragglers, its cgroups, its port."""
        cgroup.kill(self.node.cgroups)
        cgroup.remove(self.node.cgroups)
        network.unplug(self.node, self._record.switch)

    def pause(self, *, paused: bool) -> None:
        """Freeze every process of the node, or let all go on."""
        cgroup.freeze(self.node.cgroups, frozen=paused)

    def cut(self, *, cut: bool) -> None:
        """Take the node off the switch, or put it back; written down, so that it outlives a restart."""
        self._write(cut=cut)
        network.set_cut(self.node, self._record.switch, cut=cut)

    def exec_argv(self, command: Iterable[str]) -> list[str]:
        """What to execute to run ``command`` in all namespaces of the node."""
        assert self.node.process is not None
        pid = str(self.node.process.pid)
        return ["nsenter", "-t", pid, "-m", "-u", "-i", "-n", "-p", "-C", "--", *command]

    def log_tail(self, lines: int) -> str:
        """The last lines of the node's logs, each log under its path."""
        parts = []
        for path in (self.paths.node_log, self.paths.daemon_log):
            try:
                text = Path(path).read_text(errors="replace").splitlines()[-lines:]
            except OSError:
                continue
            if text:
                parts.append("\n".join((f"--- {path}:", *text)))
        return "\n".join(parts)


def _bases(recorded: tuple[str, ...]) -> tuple[str, ...]:
    """Where the node's cgroups were before if that still exists, else where they belong now."""
    before = tuple(os.path.dirname(os.path.dirname(os.path.dirname(path))) for path in recorded)
    return before if before and all(map(os.path.isdir, before)) else cgroup.bases()
