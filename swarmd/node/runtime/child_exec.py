"""The cloned child that becomes a further program in a container: enters the namespaces, obeys its plan.

It is born in the container's pid namespace and v2 cgroup, and must not be touched by what runs there before
it has become the program: it is not dumpable from its first moment (the spawner is not), so nobody
without power over the host can trace it or open what its /proc entry leads to.
"""

from __future__ import annotations

import _socket
import marshal
import os
import stat

from swarmd.node.runtime import child, kernel, terminals, wire
from swarmd.node.runtime.child_paths import Child, write_text
from swarmd.node.runtime.core import linux

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from typing import Any, NoReturn

PIDFD = child.FIRST_FREE_FD
_FIRST_FREE_FD = PIDFD + 1
_ALWAYS = (
    linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC | linux.CLONE_NEWNET | linux.CLONE_NEWCGROUP
)


class Entering(Child):
    """``pid`` is that of the container, as the spawner sees it."""

    def __init__(self, channel: _socket.socket, pid: int) -> None:
        super().__init__(channel)
        self.pid = pid


def main(channel_fd: int, plan_fd: int, pidfd: int, pid: int, stdio: tuple[int, ...]) -> NoReturn:
    """Never returns.  ``stdio`` are the standard streams; without any there will be a terminal."""
    step: tuple[Any, ...] = ("prepare",)
    try:
        for number, fd in enumerate(stdio or (0, 0, 0)):
            os.dup2(fd, number)
        os.dup2(channel_fd, child.SOCKET_FD, inheritable=False)
        os.dup2(plan_fd, child.PLAN_FD, inheritable=False)
        os.dup2(pidfd, PIDFD, inheritable=False)
        kernel.close_range(_FIRST_FREE_FD)
        entering = Entering(_socket.socket(fileno=child.SOCKET_FD), pid)
        child.prepare()
        for step in marshal.loads(os.pread(child.PLAN_FD, os.fstat(child.PLAN_FD).st_size, 0)):
            _STEPS[step[0]](entering, *step[1:])
    except BaseException as error:  # noqa: BLE001 - returning would run a second spawner
        child.report(step, error)
    finally:
        os._exit(1)


def _enter_container(entering: Entering, procs: list[str], own_cgroups: bool) -> None:
    for path in procs:
        write_text(path, "0")
    remapped = _differs(entering.pid, "user")
    flags = _ALWAYS | (linux.CLONE_NEWUSER if remapped else 0)
    if own_cgroups:  # in a group below the container's it sees what it would see in that
        kernel.unshare(linux.CLONE_NEWCGROUP)
        flags &= ~linux.CLONE_NEWCGROUP
    if _differs(entering.pid, "time"):
        flags |= linux.CLONE_NEWTIME
    if remapped:
        _hand_over_streams(_host_id(entering.pid, "uid"), _host_id(entering.pid, "gid"))
    kernel.setns(PIDFD, flags)
    os.close(PIDFD)
    if remapped:  # what we were is nobody there
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    entering.root = os.open("/", linux.O_PATH | os.O_DIRECTORY)


def _differs(pid: int, namespace: str) -> bool:
    try:
        return os.stat(f"/proc/{pid}/ns/{namespace}").st_ino != os.stat(f"/proc/self/ns/{namespace}").st_ino
    except FileNotFoundError:  # this kernel has no such namespaces
        return False


def _hand_over_streams(uid: int, gid: int) -> None:
    """Pipes become those of the container's root, who may hand them on."""
    for stream in (0, 1, 2):
        if stat.S_ISFIFO(os.fstat(stream).st_mode):
            os.fchown(stream, uid, gid)


def _host_id(pid: int, kind: str) -> int:
    """Who the first user or group of the container is on the host."""
    with open(f"/proc/{pid}/{kind}_map", encoding="ascii") as file:
        return int(file.readline().split()[1])


def _terminal(entering: Entering, rows: int, columns: int) -> None:
    master, slave = terminals.open_pair(entering.root, rows, columns)
    wire.send(entering.channel, wire.encode("terminal", ""), (master,))
    os.close(master)
    terminals.take(slave)


def _program(entering: Entering, name: str, path: str) -> None:
    child.STEPS["program"](entering, name, path)
    # The end of the channel alone does not say whether we became the program or were killed before.
    os.write(child.SOCKET_FD, wire.encode("executing", ""))


_STEPS: dict[str, Any] = {
    **child.STEPS,
    "enter_container": _enter_container,
    "terminal": _terminal,
    "program": _program,
}
