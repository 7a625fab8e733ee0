"""The freshly cloned child: obeys the steps of its plan, then becomes the container's program.

It runs as a copy of the spawner, so it must never return into the spawner's loop: every way out is an
exec or ``_exit``.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import errno
import fcntl
import marshal
import os
import stat
import struct

from swarmd.node.runtime import (
    child_foreign,
    child_layers,
    child_mounts,
    child_process,
    child_remap,
    kernel,
    terminals,
    wire,
)
from swarmd.node.runtime.child_paths import LOOKUP, STRICT, Child, ensure, read_text, write_text
from swarmd.node.runtime.core import linux, users

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

SOCKET_FD, PLAN_FD, FIRST_FREE_FD = 3, 4, 5
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_CLOSE_RANGE_CLOEXEC = 4
_NULL = os.makedev(1, 3)
# The interpreter ignores two and may have inherited more; an exec resets all others by itself.
_IGNORED = [number for number in range(1, 65) if _signal.getsignal(number) == _signal.SIG_IGN]


def main(channel_fd: int, plan_fd: int, stdio: tuple[int, ...]) -> NoReturn:
    """Never returns.  ``stdio`` are the standard streams; without any it opens a terminal.

    The descriptors of the spawner below ``FIRST_FREE_FD`` are placeholders.
    """
    step: tuple[Any, ...] = ("prepare",)
    try:
        for number, fd in enumerate(stdio or (0, 0, 0)):
            os.dup2(fd, number)
        os.dup2(channel_fd, SOCKET_FD, inheritable=False)
        os.dup2(plan_fd, PLAN_FD, inheritable=False)
        kernel.close_range(FIRST_FREE_FD)
        child = Child(_socket.socket(fileno=SOCKET_FD))
        prepare()
        for step in marshal.loads(os.pread(PLAN_FD, os.fstat(PLAN_FD).st_size, 0)):
            STEPS[step[0]](child, *step[1:])
    except BaseException as error:  # noqa: BLE001 - returning would run a second spawner
        report(step, error)
    finally:
        os._exit(1)


def prepare(*, keyring: bool = True) -> None:
    """A session of its own that nobody in a container can look into; ``keyring``: with new keys too."""
    kernel.prctl(linux.PR_SET_DUMPABLE, 0)
    os.setsid()
    os.umask(0)
    # a kernel without keyrings, or the quota is used up: then there is none to share
    with wire.ignoring(OSError):
        if keyring:
            kernel.new_session_keyring()


def report(step: tuple[Any, ...], error: BaseException, fd: int = SOCKET_FD) -> None:
    """Say on ``fd`` which step failed, about what, with which errno and text."""
    number = error.errno or errno.EINVAL if isinstance(error, OSError) else errno.EINVAL
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    subject = next((value for value in step[1:3] if isinstance(value, str)), "")
    os.write(fd, marshal.dumps(("error", step[0], subject, number, text[:4096])))


def _join(child: Child, procs: list[str], unshare: bool) -> None:
    for path in procs:
        write_text(path, "0")
    if unshare:
        kernel.unshare(linux.CLONE_NEWCGROUP)


def _enter(child: Child, path: str, flag: int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.setns(fd, flag)
    finally:
        os.close(fd)


def _loopback(child: Child) -> None:
    probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    request = struct.pack("16sH14x", b"lo", 0)
    flags = struct.unpack("16sH14x", fcntl.ioctl(probe.fileno(), _SIOCGIFFLAGS, request))[1]
    fcntl.ioctl(probe.fileno(), _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
    probe.close()


def _hostname(child: Child, name: str) -> None:
    kernel.sethostname(name)


def _domainname(child: Child, name: str) -> None:
    kernel.setdomainname(name)


def _user(child: Child, spec: str, groups: list[str]) -> None:
    passwd, group = read_text(child.root, "/etc/passwd"), read_text(child.root, "/etc/group")
    child.ids = users.resolve(spec, passwd, group, groups)


def _ids(child: Child, uid: int, gid: int, groups: list[int]) -> None:
    home = users.home(uid, read_text(child.root, "/etc/passwd"))
    child.ids = (uid, gid, groups, home)


def _console(child: Child, rows: int, columns: int) -> None:
    """A terminal of its own as standard streams, also at /dev/console; the master is given away."""
    master, slave = terminals.open_pair(child.root, rows, columns)
    wire.send(child.channel, wire.encode("terminal", ""), (master,))
    os.close(master)
    tree = kernel.open_tree("", directory=slave)
    console = ensure(child.root, "/dev/console", directory=False, resolve=STRICT)
    kernel.move_mount(tree, console)
    for fd in (tree, console):
        os.close(fd)
    terminals.take(slave)


def _ready(child: Child) -> None:
    child.channel.send(wire.encode("ready", ""))
    if not child.channel.recv(16):  # the spawner is gone, or this container is not wanted any more
        os._exit(0)


def _bounding(child: Child, mask: int) -> None:
    for number in range(64):
        if not mask >> number & 1:
            try:
                kernel.prctl(linux.PR_CAPBSET_DROP, number)
            except OSError as error:
                if error.errno == errno.EINVAL:  # past the last capability of this kernel
                    return
                raise


def _no_new_privs(child: Child) -> None:
    kernel.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)


def _seccomp(child: Child, program: bytes, flags: int) -> None:
    kernel.seccomp_filter(program, flags)


def _identity(
    child: Child, umask: int, effective: int, permitted: int, inheritable: int, ambient: int
) -> None:
    uid, gid, groups, _ = child.ids
    os.umask(umask)
    if uid:
        _give_streams(uid)
    if ambient:
        kernel.prctl(linux.PR_SET_KEEPCAPS, 1)
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if uid:  # an exec leaves it no others; until then it is to meet the permissions its program will meet
        effective = permitted = ambient
    kernel.capset(effective, permitted, inheritable)
    for number in range(64):
        if ambient >> number & 1:
            kernel.ambient(number)


def _give_streams(uid: int) -> None:
    """So that the program can open /dev/stdout; a terminal keeps its group."""
    for stream in (0, 1, 2):
        if os.fstat(stream).st_rdev != _NULL:
            # not ours to give: made outside of its user namespace
            with wire.ignoring(OSError):
                os.fchown(stream, uid, -1)


def _chdir(child: Child, path: str) -> None:
    fd = kernel.openat2(child.root, path, linux.O_PATH | os.O_DIRECTORY, LOOKUP)
    os.fchdir(fd)
    if not os.getcwd().startswith("/"):
        raise OSError(errno.ENOENT, f"{path} is outside of the container")


def _program(child: Child, name: str, path: str) -> None:
    """All that a filter could forbid, before there is one."""
    for number in _IGNORED:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    child.program = find(name, path)
    kernel.close_range(SOCKET_FD, flags=_CLOSE_RANGE_CLOEXEC)


def _exec(child: Child, args: list[str], env: dict[str, str]) -> None:
    env.setdefault("HOME", child.ids[3])
    try:
        os.execve(child.program, args, env)
    except OSError as error:
        raise OSError(error.errno, f'exec: "{args[0]}": {_reason(error)}') from None


def find(name: str, path: str) -> str:
    """The file of a program, looked for as a shell does; :class:`OSError` with the sentence to show."""
    candidates = [name] if "/" in name else [f"{part}/{name}" for part in path.split(":") if part]
    refused: OSError | None = None
    for candidate in candidates:
        try:
            _executable(candidate)
        except FileNotFoundError:
            continue
        except OSError as error:
            refused = refused or error
            continue
        return candidate
    if refused is not None:
        raise OSError(refused.errno, f'exec: "{name}": {_reason(refused)}')
    if "/" in name:
        raise OSError(errno.ENOENT, f'exec: "{name}": stat {name}: no such file or directory')
    raise OSError(errno.ENOENT, f'exec: "{name}": executable file not found in $PATH')


def _executable(path: str) -> None:
    """Magic links are refused: /proc/self/exe is the host's interpreter at this moment."""
    fd = kernel.openat2(linux.AT_FDCWD, path, linux.O_PATH, linux.RESOLVE_NO_MAGICLINKS)
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EISDIR, "is a directory")
    finally:
        os.close(fd)
    if not os.access(path, os.X_OK, effective_ids=True):
        raise OSError(errno.EACCES, "permission denied")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


STEPS: dict[str, Callable[..., None]] = {
    **child_layers.STEPS,
    **child_mounts.STEPS,
    **child_foreign.STEPS,
    **child_remap.STEPS,
    "join": _join,
    "enter": _enter,
    **child_process.STEPS,
    "loopback": _loopback,
    "hostname": _hostname,
    "domainname": _domainname,
    "user": _user,
    "ids": _ids,
    "console": _console,
    "ready": _ready,
    "bounding": _bounding,
    "no_new_privs": _no_new_privs,
    "seccomp": _seccomp,
    "identity": _identity,
    "chdir": _chdir,
    "program": _program,
    "exec": _exec,
}
