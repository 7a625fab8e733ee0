"""More of the door to the kernel: new file systems as detached mounts.  The spawner loads this file too."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_int, c_uint

from swarmd.node.runtime.core import linux
from swarmd.node.runtime.kernel import call

_fstatfs = call("fstatfs", c_int, c_char_p)
_fsopen = call("fsopen", c_char_p, c_uint)
_fsconfig = call("fsconfig", c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = call("fsmount", c_int, c_uint, c_uint)


def new_filesystem(kind: str, source: str, options: list[str], attributes: int) -> int:
    """A detached mount of a new file system; ``options`` as in the data of mount(2), one each."""
    context = _fsopen(os.fsencode(kind), linux.FSOPEN_CLOEXEC)
    try:
        _fsconfig(context, linux.FSCONFIG_SET_STRING, b"source", os.fsencode(source), 0)
        for option in options:
            name, given, value = option.partition("=")
            if given:
                _fsconfig(context, linux.FSCONFIG_SET_STRING, os.fsencode(name), os.fsencode(value), 0)
            else:
                _fsconfig(context, linux.FSCONFIG_SET_FLAG, os.fsencode(name), None, 0)
        _fsconfig(context, linux.FSCONFIG_CMD_CREATE, None, None, 0)
        return _fsmount(context, linux.FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)


def filesystem_type(fd: int) -> int:
    """The magic number of statfs(2)."""
    buffer = ctypes.create_string_buffer(120)
    _fstatfs(fd, buffer)
    return int.from_bytes(buffer.raw[:8], "little")
