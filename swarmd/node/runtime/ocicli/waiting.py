"""The socket at which a created container waits for its start, and the start."""

from __future__ import annotations

import contextlib
import marshal
import os
import socket

from swarmd.model.errors import Refused
from swarmd.node.runtime.core import oci_state
from swarmd.node.runtime.core.failures import creation_failure
from swarmd.node.runtime.core.oci_state import Record
from swarmd.node.runtime.ocicli import inside
from swarmd.node.runtime.ocicli.context import Context
from swarmd.node.runtime.ocicli.store import SOCKET


def listen(directory: str) -> socket.socket:
    """Through a descriptor, since the path of a state directory may be longer than a socket's may be."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{fd}/{SOCKET}")
        listener.listen(4)
    finally:
        os.close(fd)
    return listener


def start(context: Context, record: Record) -> None:
    """Run the program; returns when it has been executed.  The caller holds the lock of the container."""
    directory = context.store.directory(record.id)
    context.require(record, "created", doing="start")
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
            line.connect(f"/proc/self/fd/{fd}/{SOCKET}")
            line.send(inside.START)
            while (answer := line.recv(inside.PACKET)) and marshal.loads(answer)[0] == "paused":
                line.send(oci_state.hook_state(record, "created"))
    except ConnectionError as error:
        raise Refused(f"cannot start container `{record.id}`: it was started already") from error
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{directory}/{SOCKET}")
    if answer:
        raise creation_failure(*marshal.loads(answer)[1:])
