"""Pid 1 of a node: sets the node's world up, keeps its daemon running, ends with it on SIGTERM.

Run by file path with ``python -I``; uses the standard library only, so that nothing of the node is loaded
from the caller's environment.  It talks with its starter over its standard input and output, a line each:

    starter → settings as JSON            (see ``machine.py``)
    init    → ``pid N`` | ``error TEXT``  (N as the starter sees it; the starter writes it down)
    init    → ``ready`` | ``error TEXT``  (mounts are done; the starter lays the cable)
    starter → ``go``                      (anything else, or the end of the pipe, ends the node)
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
from typing import Any

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_SLAVE = 4096, 16384, 1 << 19
MNT_DETACH = 2
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
TREE = "/sys/fs/cgroup"

STOP_SECONDS = 20.0
FIRST_DELAY, LONGEST_DELAY, HEALTHY_SECONDS = 0.2, 5.0, 10.0

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}{arguments}: {os.strerror(error)}")


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())


def _bind(source: str, target: str) -> None:
    _mount(source, target, "", MS_BIND)


def enter_cgroups(directories: list[str]) -> None:
    """Move this process into the node's directory of every hierarchy."""
    for directory in directories:
        with open(f"{directory}/cgroup.procs", "w") as procs:
            procs.write("0")


def drop_foreign_namespaces() -> None:
    """Let go of namespaces that others keep as files, or they would live as long as this node."""
    with open("/proc/self/mountinfo") as mounts:
        found = [line.split(" ")[4] for line in mounts if " - nsfs " in line]
    for target in reversed(found):
        with contextlib.suppress(OSError):
            _call("umount2", target.encode(), MNT_DETACH)


def mount_system(cgroups: list[list[str]]) -> None:
    """A fresh /proc, /sys with the cgroup tree in this machine's shape, /dev/shm and /run."""
    safe = MS_NOSUID | MS_NODEV | MS_NOEXEC
    links = _links_in_tree()
    _mount("proc", "/proc", "proc", safe)
    _mount("sysfs", "/sys", "sysfs", safe)
    if not any(target == TREE for target, _, _ in cgroups):
        _mount("tmpfs", TREE, "tmpfs", safe, "mode=755")
    for target, kind, options in cgroups:
        os.makedirs(target, exist_ok=True)
        _mount("cgroup", target, kind, safe, options)
    for name, pointed in links.items():
        with contextlib.suppress(OSError):
            os.symlink(pointed, f"{TREE}/{name}")
    _mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")


def _links_in_tree() -> dict[str, str]:
    with os.scandir(TREE) as entries:
        return {entry.name: os.readlink(entry.path) for entry in entries if entry.is_symlink()}


def own_files(etc: str, run: str) -> None:
    """The node's own /run (``run`` is its /run/swarmd) and its own files in /etc."""
    targets = {name: os.path.realpath(f"/etc/{name}") for name in os.listdir(etc)}
    _mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    os.makedirs("/run/swarmd")
    os.makedirs("/run/lock", mode=0o1777)
    _bind(run, "/run/swarmd")
    for name, target in targets.items():
        if target.startswith("/run/"):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "a"):
                pass
        if os.path.exists(target):
            _bind(f"{etc}/{name}", target)
        else:
            say(f"this machine has no {target}; the node shows none either")


def loopback_up() -> None:
    """Bring lo up in the network namespace of this process."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


def enter_leaf(leaves: list[str]) -> None:
    """Under pure v2 leave the node's root cgroup, so that it may hand controllers to its children."""
    for leaf in leaves:
        os.makedirs(leaf, exist_ok=True)
    enter_cgroups(leaves)


def say(text: str) -> None:
    """A line for the node's log."""
    print(f"init: {text}", file=sys.stderr, flush=True)


def reap() -> dict[int, int]:
    """Collect every child that has ended: pid → wait status."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = status
    return ended


class Keeper:
    """Keeps one daemon running until it is told to stop."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self._argv = argv
        self._environment = environment
        self._pid = 0
        self._started = 0.0
        self._delay = FIRST_DELAY
        self._restart_at: float | None = None

    def start(self) -> None:
        """Start the daemon in a session of its own, with no signal blocked; try later if that fails."""
        self._restart_at = None
        self._started = time.monotonic()
        try:
            self._pid = os.posix_spawn(
                self._argv[0],
                self._argv,
                self._environment,
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD],
            )
        except OSError as error:
            self._try_later(f"cannot be started: {error}")

    def pause(self) -> float | None:
        """Seconds until there is something to do without a signal; None: nothing."""
        return None if self._restart_at is None else max(0.0, self._restart_at - time.monotonic())

    def turn(self, ended: dict[int, int]) -> None:
        """Note who has ended, and start the daemon again when its delay is over."""
        if self._pid in ended:
            code = os.waitstatus_to_exitcode(ended[self._pid])
            self._pid = 0
            self._try_later(f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}")
        if self._restart_at is not None and time.monotonic() >= self._restart_at:
            self.start()

    def _try_later(self, what: str) -> None:
        if time.monotonic() - self._started > HEALTHY_SECONDS:
            self._delay = FIRST_DELAY
        say(f"the daemon {what}; the next start is in {self._delay} s")
        self._restart_at = time.monotonic() + self._delay
        self._delay = min(LONGEST_DELAY, self._delay * 2)

    def stop(self) -> None:
        """SIGTERM to the daemon and wait for its end, at most STOP_SECONDS."""
        deadline = time.monotonic() + STOP_SECONDS
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
        while self._pid and self._pid not in reap():
            left = deadline - time.monotonic()
            if left <= 0:
                say(
                    f"the daemon did not end within {STOP_SECONDS:.0f} s of SIGTERM; the node ends without it"
                )
                return
            signal.sigtimedwait({signal.SIGCHLD}, left)


def keep_running(keeper: Keeper) -> None:
    """Reap, restart, and return when told to stop."""
    watched = {signal.SIGCHLD, signal.SIGTERM}
    while True:
        pause = keeper.pause()
        told = signal.sigwaitinfo(watched) if pause is None else signal.sigtimedwait(watched, pause)
        if told is not None and told.si_signo == signal.SIGTERM:
            keeper.stop()
            say("the node is off")
            return
        keeper.turn(reap())


def become_node(settings: dict[str, Any]) -> None:
    """Everything that is done in the new namespaces before the cable is laid."""
    _mount("", "/", "", MS_REC | MS_SLAVE)
    socket.sethostname(settings["hostname"])
    drop_foreign_namespaces()
    mount_system(settings["cgroup_mounts"])
    own_files(settings["etc"], settings["run"])
    enter_leaf(settings["leaves"])
    loopback_up()


def detach(log: str) -> None:
    """Give the starter's pipes back: nothing in the node may hold them."""
    nothing = os.open("/dev/null", os.O_RDWR)
    lines = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(nothing, 0)
    os.dup2(lines, 1)
    os.dup2(lines, 2)
    os.closerange(3, 256)


def answer(line: str) -> None:
    """A line for the starter."""
    print(line, flush=True)


def first_process(settings: dict[str, Any]) -> int:
    """The life of pid 1; the exit code of the node."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    # The kernel drops what pid 1 has no handler for; blocked signals with one are kept for sigwait.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        become_node(settings)
    except OSError as error:
        answer(f"error {error.strerror or error}")
        return 1
    answer("ready")
    if sys.stdin.readline() != "go\n":
        return 1
    detach(settings["log"])
    keeper = Keeper(settings["command"], settings["environment"])
    say(f"starting {' '.join(settings['command'])}")
    keeper.start()
    keep_running(keeper)
    return 0


def main() -> int:
    """Enter the namespaces, become two: the second is pid 1, the first tells its pid and goes."""
    settings = json.loads(sys.stdin.readline())
    try:
        os.chdir("/")
        enter_cgroups(settings["cgroups"])
        spaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
        _call("unshare", ctypes.c_int(spaces))
    except OSError as error:
        answer(f"error {error.strerror or error}")
        return 1
    sys.stdout.flush()
    hold, release = os.pipe()
    child = os.fork()  # noqa: TID251 - this is no daemon, and a pid namespace begins with a fork
    if child == 0:
        os.close(release)
        os.read(hold, 1)
        os.close(hold)
        return first_process(settings)
    answer(f"pid {child}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
