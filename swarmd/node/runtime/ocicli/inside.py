"""The cloned child of ``swarmd-runtime``: obeys a plan as the daemon's children do, but waits to be started
on a socket in the state directory, since whoever created it has left by then.

It is a copy of the command, so every way out is an exec or ``_exit``.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from swarmd.node.runtime import child, kernel, terminals, wire
from swarmd.node.runtime.child_paths import Child, write_text
from swarmd.node.runtime.core import linux
from swarmd.node.runtime.core.plan import Step

PACKET = wire.MAX_PACKET
GO, START = b"go", b"start"
_STREAMS = 3
_HIGH = 128  # out of the way of what the program is to find


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """What the child brings along: its end of the line to the command, where it waits for ``start`` (-1: it
    does not), the descriptors after the standard streams that the program keeps, a pidfd to enter (-1)."""

    channel: int
    listener: int = -1
    preserved: int = 0
    pidfd: int = -1
    keyring: bool = True


class Inside(Child):
    """A child with what it brought."""

    def __init__(self, brought: Brought) -> None:
        channel, listener, pidfd, *kept = _settle(brought)
        super().__init__(socket.socket(fileno=channel))
        self.brought = brought
        self.listener = listener
        self.pidfd = pidfd
        self.preserved = kept


def _settle(brought: Brought) -> list[int]:
    """Descriptors of our own to high numbers, all else that is not the program's closed."""
    wanted = [brought.channel, brought.listener, brought.pidfd]
    wanted += range(_STREAMS, _STREAMS + brought.preserved)
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH) if fd >= 0 else -1 for fd in wanted]
    first = _STREAMS
    for kept in sorted(fd for fd in moved if fd >= 0):
        if kept > first:
            kernel.close_range(first, kept - 1)
        first = kept + 1
    kernel.close_range(first)
    return moved


def main(brought: Brought, steps: list[Step]) -> NoReturn:
    """Never returns."""
    step: tuple[Any, ...] = ("prepare",)
    me: Inside | None = None
    try:
        me = Inside(brought)
        child.prepare(keyring=brought.keyring)
        for step in steps:
            STEPS[step[0]](me, *step[1:])
    except BaseException as error:  # noqa: BLE001 - returning would run the command twice
        child.report(step, error, fd=me.channel.fileno() if me is not None else brought.channel)
    finally:
        os._exit(1)


def _terminal(me: Inside, rows: int, columns: int) -> None:
    master, slave = terminals.open_pair(me.root, rows, columns)
    wire.send(me.channel, wire.encode("terminal", ""), (master,))
    os.close(master)
    terminals.take(slave)


def _ready(me: Inside) -> None:
    """Only when the command has written down that there is this container; else nobody will start it."""
    me.channel.send(wire.encode("ready", ""))
    if me.channel.recv(PACKET) != GO:
        os._exit(0)
    if me.listener < 0:
        return
    me.channel.close()
    me.channel = _started(socket.socket(fileno=me.listener))


def _started(listener: socket.socket) -> socket.socket:
    """The line to the command that starts us; one that leaves before it says so does not count."""
    while True:
        line, _ = listener.accept()
        if line.recv(16) == START:
            listener.close()
            return line
        line.close()


def _enter(me: Inside, procs: list[str], flags: int, remapped: bool) -> None:
    for path in procs:
        write_text(path, "0")
    kernel.setns(me.pidfd, flags)
    os.close(me.pidfd)
    if remapped:  # what we were is nobody there
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    me.root = os.open("/", linux.O_PATH | os.O_DIRECTORY)


def _look_up(me: Inside, name: str, path: str, cwd: str) -> None:
    """Said at create, where it can be answered, and not only at start; the user may see less than root."""
    if "/" in name and not name.startswith("/"):
        name = f"{cwd}/{name}"
    child.find(name, path)


def _program(me: Inside, name: str, path: str) -> None:
    child.STEPS["program"](me, name, path)
    for number, fd in enumerate(me.preserved, _STREAMS):
        os.dup2(fd, number)


STEPS: dict[str, Callable[..., None]] = {
    **child.STEPS,
    "enter_container": _enter,
    "look_up": _look_up,
    "program": _program,
    "ready": _ready,
    "terminal": _terminal,
}
