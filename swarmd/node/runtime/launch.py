"""Starts the spawner, or says what it has to become: its program, and the version of that.

The version is a digest of the files it loads, so that a spawner that was started from other files, before an
update, is recognized.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import hashlib
import os
import select
import socket
import sys
from pathlib import Path

from swarmd.model.errors import Unavailable
from swarmd.node.runtime import kernel
from swarmd.node.runtime.core import linux

SCRIPT = Path(__file__).with_name("spawnd.py")
_LOADED = ("spawnd*.py", "child*.py", "kernel.py", "wire.py", "rundir.py", "logd.py", "core/*.py")
_START_TIMEOUT = 30.0
_READY_FD = 3


@functools.cache
def code_version() -> str:
    """Of the files as they were when this daemon first asked."""
    digest = hashlib.sha256(sys.version.encode())
    for pattern in _LOADED:
        for path in sorted(SCRIPT.parent.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def try_connect(path: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    connection.setblocking(False)
    return connection


def peer_pid(connection: socket.socket) -> int:
    """Whoever listens at the other end, also if it has become another program since."""
    return int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)


def kill_peer(connection: socket.socket) -> int:
    """Kill the process at the other end of a connection that is still open; its pid, 0 if it was gone."""
    pid = peer_pid(connection)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return 0
    try:
        poll = select.poll()
        poll.register(connection, 0)
        if poll.poll(0):  # hung up: the number may be somebody else's by now
            return 0
        kernel.pidfd_send_signal(pidfd, linux.SIGKILL)
    except ProcessLookupError:
        return 0
    finally:
        os.close(pidfd)
    return pid


async def launch(run_dir: Path) -> int:
    """Start a spawner that outlives us, and wait until it listens (or has given up); answers its pid."""
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    try:
        try:
            pid = _spawn(run_dir, writing)
        finally:
            os.close(writing)
        loop.add_reader(reading, closed.set)
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                await closed.wait()
        except TimeoutError:
            raise Unavailable(f"the container spawner (pid {pid}) does not get ready") from None
        finally:
            loop.remove_reader(reading)
    finally:
        os.close(reading)
    return pid


def _spawn(run_dir: Path, ready: int) -> int:
    interpreter = os.path.realpath(sys.executable)
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    image = readonly_clone(interpreter)
    try:
        return os.posix_spawn(
            interpreter if image < 0 else f"/proc/self/fd/{image}",
            [interpreter, "-I", "-S", str(SCRIPT), str(run_dir), str(_READY_FD), code_version(), "-1"],
            {"LC_ALL": "C.UTF-8"},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(run_dir / "spawnd.log"), log_flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, ready, _READY_FD),
            ],
            setsid=True,
            scheduler=(_scheduling(), os.sched_param(0)),
        )
    finally:
        if image >= 0:
            os.close(image)


def _scheduling() -> int:
    """Ours, unless it is real time: cgroup v1 takes no such process without a budget, and no container may
    run before everything else only because its daemon does."""
    ours = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
    return ours if ours in (os.SCHED_BATCH, os.SCHED_IDLE) else os.SCHED_OTHER


def readonly_clone(path: str) -> int:
    """The interpreter through a read-only mount of its own, so that no container can write to it by way
    of /proc/PID/exe; -1 where the kernel cannot do that."""
    try:
        tree = kernel.open_tree(path)
    except OSError:
        return -1
    try:
        kernel.mount_setattr(tree, linux.MOUNT_ATTR_RDONLY, recursive=False)
    except OSError:
        os.close(tree)
        return -1
    # Out of the way of the descriptors the new process is given.
    high = fcntl.fcntl(tree, fcntl.F_DUPFD_CLOEXEC, 64)
    os.close(tree)
    return high
