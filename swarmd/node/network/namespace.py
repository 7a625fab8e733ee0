"""A netlink socket inside another process's network namespace.

Entering a namespace changes the calling thread, so it happens on a thread that lives for this one act and
never on the event loop's.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading

from swarmd.model.errors import NotFound
from swarmd.node.network import wire

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def open_namespace(pid: int) -> int:
    """A descriptor of the process's network namespace.  Raises :class:`NotFound` when it has ended."""
    try:
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"process {pid} is not there any more; its network cannot be set up") from None


def netlink_inside(namespace: int) -> wire.Netlink:
    """A route socket that acts inside ``namespace`` (a descriptor), usable from any thread."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def enter() -> None:
        try:
            if _libc.setns(namespace, _CLONE_NEWNET):
                raise wire.failure(ctypes.get_errno())
            made.append(wire.open_socket(wire.ROUTE))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=enter, name="enter-namespace")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return wire.Netlink(wire.ROUTE, made[0])
