"""The door to the kernel: system calls Python has no name for, by number, through ctypes.

Every call raises :class:`OSError` with the kernel's errno.  Only light modules are imported, because the
spawner loads this file too.  Every call has a function object of its own with declared argument types:
a pointer to a temporary that is passed untyped may be collected before the kernel reads it.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_uint64, c_ulong, c_void_p

from swarmd.node.runtime.core import linux

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NUMBERS: dict[str, tuple[int, int]] = {  # x86_64, aarch64
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "unshare": (272, 97),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "setns": (308, 268),
    "prctl": (157, 167),
    "personality": (135, 92),
    "ioprio_set": (251, 30),
    "sched_setattr": (314, 274),
    "capset": (126, 91),
    "seccomp": (317, 277),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "inotify_rm_watch": (255, 28),
    "pidfd_send_signal": (424, 424),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "clone3": (435, 435),
    "close_range": (436, 436),
    "openat2": (437, 437),
    "mount_setattr": (442, 442),
    "fstatfs": (138, 44),
    "ioctl": (16, 29),
    "tee": (276, 77),
    "waitid": (247, 95),
}
_MACHINES = {"x86_64": 0, "aarch64": 1}

_PIDFD_GET_INFO = (3 << 30) | (64 << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT = 8
_CAPABILITY_VERSION_3 = 0x20080522
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SECCOMP_SET_MODE_FILTER = 1
_SPLICE_F_NONBLOCK = 2

_libc = ctypes.PyDLL(None, use_errno=True)


def call(name: str, *types: Any) -> Callable[..., int]:
    """A system call as a function of arguments of these types."""
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        raise OSError(f"containers need x86_64 or aarch64, this machine is {os.uname().machine}")
    number = _NUMBERS[name][machine]
    function = _libc["syscall"]
    function.argtypes = (c_long, *types)
    function.restype = c_long

    def invoke(*arguments: Any) -> int:
        result = int(function(number, *arguments))
        if result < 0:
            errno = ctypes.get_errno()
            raise OSError(errno, f"{name}: {os.strerror(errno)}")
        return result

    return invoke


class _CloneArgs(ctypes.Structure):
    _fields_ = [(name, c_uint64) for name in (
        "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls",
        "set_tid", "set_tid_size", "cgroup",
    )]  # fmt: skip


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64)]


class _MountAttr(ctypes.Structure):
    _fields_ = [("set", c_uint64), ("clear", c_uint64), ("propagation", c_uint64), ("userns", c_uint64)]


class _PidfdInfo(ctypes.Structure):
    _fields_ = [("mask", c_uint64), ("cgroup", c_uint64), ("ids", c_uint * 11), ("exit_code", c_int)]


class _SockFprog(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", c_void_p)]


_mount = call("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = call("umount2", c_char_p, c_int)
_pivot_root = call("pivot_root", c_char_p, c_char_p)
_unshare = call("unshare", c_ulong)
_sethostname = call("sethostname", c_char_p, c_size_t)
_setdomainname = call("setdomainname", c_char_p, c_size_t)
_setns = call("setns", c_int, c_int)
_prctl = call("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_capset = call("capset", c_char_p, c_char_p)
_seccomp = call("seccomp", c_uint, c_uint, ctypes.POINTER(_SockFprog))
_keyctl = call("keyctl", c_int, c_char_p)
_bpf = call("bpf", c_int, c_char_p, c_uint)
_inotify_init1 = call("inotify_init1", c_int)
_inotify_add_watch = call("inotify_add_watch", c_int, c_char_p, c_uint)
inotify_remove = call("inotify_rm_watch", c_int, c_int)
_pidfd_send_signal = call("pidfd_send_signal", c_int, c_int, c_void_p, c_uint)
_open_tree = call("open_tree", c_int, c_char_p, c_uint)
_move_mount = call("move_mount", c_int, c_char_p, c_int, c_char_p, c_uint)
_clone3 = call("clone3", ctypes.POINTER(_CloneArgs), c_size_t)
_close_range = call("close_range", c_uint, c_uint, c_uint)
_openat2 = call("openat2", c_int, c_char_p, ctypes.POINTER(_OpenHow), c_size_t)
_mount_setattr = call("mount_setattr", c_int, c_char_p, c_uint, ctypes.POINTER(_MountAttr), c_size_t)
_tee = call("tee", c_int, c_int, c_size_t, c_uint)
_ioctl_info = call("ioctl", c_int, c_ulong, ctypes.POINTER(_PidfdInfo))


def clone(flags: int, cgroup_fd: int = -1) -> tuple[int, int]:
    """Clone this single-threaded process: ``(0, -1)`` in the child, ``(pid, pidfd)`` in the parent."""
    pidfd = c_int(-1)
    ending = 0 if flags & linux.CLONE_PARENT else linux.SIGCHLD
    args = _CloneArgs(flags=flags | linux.CLONE_PIDFD, pidfd=ctypes.addressof(pidfd), exit_signal=ending)
    if cgroup_fd >= 0:
        args.flags |= linux.CLONE_INTO_CGROUP
        args.cgroup = cgroup_fd
    pid = _clone3(ctypes.byref(args), ctypes.sizeof(args))
    return (pid, pidfd.value) if pid else (0, -1)


def unshare(flags: int) -> None:
    _unshare(flags)


def setns(fd: int, flags: int) -> None:
    """Enter the namespaces ``flags`` of a process (a pidfd), or the one that ``fd`` is."""
    _setns(fd, flags)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    _mount(_bytes(source), _bytes(target), _bytes(kind), flags, _bytes(data))


def umount(target: str, flags: int = 0) -> None:
    _umount2(_bytes(target), flags)


def pivot_root(new: str, old: str) -> None:
    _pivot_root(_bytes(new), _bytes(old))


def sethostname(name: str) -> None:
    _sethostname(_bytes(name), len(os.fsencode(name)))


def setdomainname(name: str) -> None:
    _setdomainname(_bytes(name), len(os.fsencode(name)))


def prctl(option: int, value: int = 0) -> None:
    _prctl(option, value, 0, 0, 0)


def capset(effective: int, permitted: int, inheritable: int) -> None:
    header = _CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4)
    sets = (effective, permitted, inheritable)
    halves = [(mask >> shift & 0xFFFFFFFF).to_bytes(4, "little") for shift in (0, 32) for mask in sets]
    _capset(header, b"".join(halves))


def ambient(number: int) -> None:
    """Raise one ambient capability."""
    _prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_RAISE, number, 0, 0)


def seccomp_filter(program: bytes, flags: int = 0) -> None:
    """Install a classic BPF program (array of struct sock_filter) on this thread."""
    buffer = ctypes.create_string_buffer(program, len(program))
    _seccomp(
        _SECCOMP_SET_MODE_FILTER,
        flags,
        ctypes.byref(_SockFprog(length=len(program) // 8, filter=ctypes.addressof(buffer))),
    )


def new_session_keyring() -> None:
    _keyctl(_KEYCTL_JOIN_SESSION_KEYRING, None)


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2); pointers inside ``attributes`` must stay alive by the caller's care."""
    return _bpf(command, attributes, len(attributes))


def open_tree(path: str, *, recursive: bool = False, directory: int = linux.AT_FDCWD) -> int:
    """A detached clone of the mount at ``path`` (empty: at ``directory`` itself), as a descriptor."""
    flags = linux.OPEN_TREE_CLONE | os.O_CLOEXEC | (linux.AT_RECURSIVE if recursive else 0)
    flags |= 0 if path else linux.AT_EMPTY_PATH
    return _open_tree(directory, _bytes(path), flags)


def move_mount(tree: int, target: int) -> None:
    """Attach a detached mount on the place an O_PATH descriptor stands for."""
    _move_mount(tree, b"", target, b"", linux.MOVE_MOUNT_F_EMPTY_PATH | linux.MOVE_MOUNT_T_EMPTY_PATH)


def mount_setattr(
    tree: int, attributes: int, *, clear: int = 0, recursive: bool, propagation: int = 0, userns: int = 0
) -> None:
    flags = linux.AT_EMPTY_PATH | (linux.AT_RECURSIVE if recursive else 0)
    change = _MountAttr(set=attributes, clear=clear, propagation=propagation, userns=userns)
    _mount_setattr(tree, b"", flags, ctypes.byref(change), ctypes.sizeof(change))


def openat2(directory: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    how = _OpenHow(flags=flags | os.O_CLOEXEC, mode=mode, resolve=resolve)
    return _openat2(directory, _bytes(path), ctypes.byref(how), ctypes.sizeof(how))


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    _close_range(first, last, flags)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    _pidfd_send_signal(pidfd, number, None, 0)


def pidfd_exit_status(pidfd: int) -> int | None:
    """The wait status of a process that ended and was reaped by whomever; None if it is not known (yet)."""
    info = _PidfdInfo(mask=_PIDFD_INFO_EXIT)
    try:
        _ioctl_info(pidfd, _PIDFD_GET_INFO, ctypes.byref(info))
    except OSError:  # a kernel before 6.15, or the process is gone and kept no record
        return None
    return int(info.exit_code) if info.mask & _PIDFD_INFO_EXIT else None


def tee(source: int, target: int, size: int) -> int:
    """What is in one pipe also into another; the bytes that were, 0 at the end of file."""
    return _tee(source, target, size, _SPLICE_F_NONBLOCK)


def inotify(path: str, mask: int) -> int:
    """A non-blocking descriptor that becomes readable when something of ``mask`` happens at ``path``."""
    fd = inotify_init()
    try:
        inotify_add(fd, path, mask)
    except OSError:
        os.close(fd)
        raise
    return fd


def inotify_init() -> int:
    """A non-blocking descriptor that becomes readable when something happens where it is told to look."""
    return _inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)


def inotify_add(fd: int, path: str, mask: int) -> int:
    """The number of the watch; the same for the same directory."""
    return _inotify_add_watch(fd, _bytes(path), mask)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)
