"""The steps about the process itself that only some containers need, and the hooks of foreign bundles."""

from __future__ import annotations

import errno
import marshal
import os
import resource
import select
import struct
from ctypes import c_char_p, c_int, c_uint, c_ulong

from swarmd.node.runtime import kernel, kernel_mounts
from swarmd.node.runtime.child_paths import Child, write_text
from swarmd.node.runtime.core import linux

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable

_ioprio_set = kernel.call("ioprio_set", c_int, c_int, c_int)
_personality_set = kernel.call("personality", c_ulong)
_sched_setattr = kernel.call("sched_setattr", c_int, c_char_p, c_uint)
_IOPRIO_WHO_PROCESS = 1
_MAX_STATE = 64 * 1024


def _time(child: Child, offsets: list[tuple[str, int, int]]) -> None:
    """The new namespace begins with the execution of the program."""
    kernel.unshare(linux.CLONE_NEWTIME)
    for clock, seconds, nanoseconds in offsets:
        write_text("/proc/self/timens_offsets", f"{clock} {seconds} {nanoseconds}")


def _oom_score_adj(child: Child, value: int) -> None:
    write_text("/proc/self/oom_score_adj", str(value))


def _rlimit(child: Child, number: int, soft: int, hard: int) -> None:
    resource.setrlimit(number, (soft, hard))


def _scheduler(
    child: Child, policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int
) -> None:
    size = 48
    attributes = struct.pack("<IIQiIQQQ", size, policy, flags, nice, priority, runtime, deadline, period)
    _sched_setattr(0, attributes, 0)


def _io_priority(child: Child, value: int) -> None:
    _ioprio_set(_IOPRIO_WHO_PROCESS, 0, value)


def _personality(child: Child, value: int) -> None:
    _personality_set(value)


def _label(child: Child, name: str, text: str) -> None:
    """Through a procfs of our own: the container's may be covered."""
    if child.proc < 0:
        child.proc = kernel_mounts.new_filesystem("proc", "proc", [], linux.MOUNT_ATTR_NOSUID)
    lookup = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_XDEV | linux.RESOLVE_NO_SYMLINKS
    fd = kernel.openat2(child.proc, f"{os.getpid()}/attr/{name}", os.O_WRONLY, lookup)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _hooks(child: Child, name: str, hooks: list[tuple[str, list[str], dict[str, str], int]]) -> None:
    child.channel.send(marshal.dumps(("paused", name)))
    state = child.channel.recv(_MAX_STATE)
    if not state:  # whoever drives us is gone
        os._exit(0)
    for path, args, env, timeout in hooks:
        _run(path, args, env, timeout, state)


def _run(path: str, args: list[str], env: dict[str, str], timeout: int, state: bytes) -> None:
    told = os.memfd_create("state", os.MFD_CLOEXEC)
    try:
        os.write(told, state)
        os.lseek(told, 0, os.SEEK_SET)
        pid = os.posix_spawn(path, args, env, file_actions=[(os.POSIX_SPAWN_DUP2, told, 0)])
    except OSError as error:
        raise OSError(error.errno, f"hook {path}: {os.strerror(error.errno or 0)}") from None
    finally:
        os.close(told)
    pidfd = os.pidfd_open(pid)
    waiting = select.poll()
    waiting.register(pidfd, select.POLLIN)
    in_time = waiting.poll(timeout * 1000 if timeout else None)
    if not in_time:
        kernel.pidfd_send_signal(pidfd, linux.SIGKILL)
    os.close(pidfd)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not in_time:
        raise OSError(errno.ETIME, f"hook {path} did not end within {timeout} s")
    if status:
        raise OSError(errno.ECANCELED, f"hook {path} ended with status {status}")


STEPS: dict[str, Callable[..., None]] = {
    "time": _time,
    "oom_score_adj": _oom_score_adj,
    "rlimit": _rlimit,
    "scheduler": _scheduler,
    "io_priority": _io_priority,
    "personality": _personality,
    "label": _label,
    "hooks": _hooks,
}
