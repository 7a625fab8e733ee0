"""A container's file system that no process shows: its layers, mounted without a place in any tree.

The mount is held by a descriptor alone and is gone when that is closed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same numbers on every architecture
_FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 1, 6
_CLOEXEC = 1
_OPTION_MAX = 255

_libc = ctypes.CDLL(None, use_errno=True)
_NOTHING = ctypes.c_void_p(None)


@contextlib.contextmanager
def overlay(lowers: tuple[str, ...], upper: str, work: str) -> Iterator[int]:
    """The root of an overlay mount, as a descriptor; OSError when the kernel makes none."""
    fds: list[int] = []
    try:
        # By descriptor: ':' and ',' in a path would need escapes.
        for path in (*lowers, upper, work):
            fds += [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
        names = [f"/proc/self/fd/{fd}" for fd in fds]
        options = [*_layers(names[:-2]), ("upperdir", names[-2]), ("workdir", names[-1])]
        root = _mounted("overlay", options)
    finally:
        for fd in fds:
            os.close(fd)
    try:
        yield root
    finally:
        os.close(root)


def _layers(names: list[str]) -> list[tuple[str, str]]:
    """One by one, which needs Linux 6.7, where they do not fit into one option."""
    together = ":".join(names)
    if len(together) <= _OPTION_MAX:
        return [("lowerdir", together)]
    return [("lowerdir+", name) for name in names]


def _mounted(kind: str, options: list[tuple[str, str]]) -> int:
    context = _call(_FSOPEN, kind.encode(), ctypes.c_uint(_CLOEXEC))
    try:
        for key, value in options:
            _configure(context, _FSCONFIG_SET_STRING, key.encode(), value.encode())
        _configure(context, _FSCONFIG_CMD_CREATE, _NOTHING, _NOTHING)
        return _call(_FSMOUNT, ctypes.c_int(context), ctypes.c_uint(_CLOEXEC), ctypes.c_uint(0))
    finally:
        os.close(context)


def _configure(context: int, command: int, key: object, value: object) -> None:
    _call(_FSCONFIG, ctypes.c_int(context), ctypes.c_uint(command), key, value, ctypes.c_int(0))


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
