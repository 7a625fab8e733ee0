"""The spawner becomes its own successor: it executes the new program in place, with the same pid.

Children stay children, and every descriptor that matters (pidfds, channels, pipes, clients, the listening
socket, the lock) is inherited; what they mean is handed over in a memfd as named values.  A successor
ignores names it does not know and does without those that are missing, so both directions work.

::

    do_upgrade ─ save ─► memfd ─ execve ─► main ─ load ─ keep ─► the loop goes on, and answers
                           └─ execve failed: everything as before, and the error is answered
"""

from __future__ import annotations

import fcntl
import marshal
import os
import sys

from swarmd.node.runtime import child, kernel, wire

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from typing import Any

FORMAT = 1
PLACEHOLDERS = 16
_FRESH = "-1"


def reserve(ready_fd: int) -> int:
    """Low numbers belong to the children: they put their own descriptors there and close all others.

    Answers where ``ready_fd`` went; whatever else was inherited is closed.
    """
    spare = fcntl.fcntl(ready_fd, fcntl.F_DUPFD_CLOEXEC, PLACEHOLDERS + 1)
    os.dup2(spare, PLACEHOLDERS, inheritable=False)
    kernel.close_range(PLACEHOLDERS + 1)
    _fill()
    return PLACEHOLDERS


def _fill() -> None:
    for number in range(child.SOCKET_FD, PLACEHOLDERS):
        os.dup2(0, number, inheritable=False)


def execute(program: tuple[str, str, str, int], run_dir: str, state: dict[str, Any], fds: list[int]) -> None:
    """Become ``program`` (interpreter, script, code version, descriptor of the interpreter or -1).

    Returns only by raising :class:`OSError`, with nothing changed.
    """
    interpreter, script, code, image = program
    memory = os.memfd_create("spawner", os.MFD_CLOEXEC)
    try:
        _write(memory, marshal.dumps({"format": FORMAT, "fds": fds, **state}))
        for fd in (*fds, memory):
            os.set_inheritable(fd, True)
        arguments = [interpreter, "-I", "-S", script, run_dir, _FRESH, code, str(memory)]
        sys.stderr.flush()
        path = interpreter if image < 0 else f"/proc/self/fd/{image}"
        os.execve(path, arguments, {"LC_ALL": "C.UTF-8"})
    finally:
        for fd in fds:
            os.set_inheritable(fd, False)
        os.close(memory)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def load(memory: int) -> dict[str, Any]:
    """What the predecessor left, empty if it cannot be read; all it did not mean to leave is closed."""
    state: dict[str, Any] = {}
    with wire.ignoring(OSError, ValueError, EOFError, TypeError):
        loaded = marshal.loads(os.pread(memory, os.fstat(memory).st_size, 0))
        if isinstance(loaded, dict) and loaded.get("format") == FORMAT:
            state = loaded
    kept = set(state.get("fds", ()))
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd in kept:
            os.set_inheritable(fd, False)
        elif fd >= child.SOCKET_FD:
            with wire.ignoring(OSError):  # the one that lists the directory is gone already
                os.close(fd)
    _fill()
    return state
