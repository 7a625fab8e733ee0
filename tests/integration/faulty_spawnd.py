"""The spawner, one of whose system calls fails: the test of what is left then starts this file in its place.

``fault`` in the run directory says which, for the next container: ``child N`` or ``spawner N``, the N-th call
of the cloned child, or of the spawner while it makes one.  The byte in ``fired`` is 1 when it has.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from swarmd.node.runtime import child, kernel, spawnd

_OS = (
    *(
        "open",
        "mkdir",
        "mknod",
        "symlink",
        "dup2",
        "write",
        "chdir",
        "fchdir",
        "fchown",
        "chown",
        "setgroups",
    ),
    *("setresuid", "setresgid", "execve", "setsid", "mkfifo", "rename", "pread", "fstat", "stat", "lstat"),
    *("readlink", "access", "getcwd", "listdir", "set_blocking"),
)
_real = {name: getattr(os, name) for name in _OS}


class Fault:
    """Counts while it is armed for the process that it runs in."""

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        self.where, self.left = "", 0
        self.armed = False
        path = Path(run_dir, "fired")
        if not path.exists():
            path.write_bytes(b"\0")
        with path.open("r+b") as file:  # a child reaches no path any more, but its memory
            self.fired = mmap.mmap(file.fileno(), 1)

    def load(self) -> None:
        try:
            self.where, number = Path(self.run_dir, "fault").read_text().split()
            Path(self.run_dir, "fault").unlink()
        except FileNotFoundError:
            self.where, number = "", "0"
        self.left = int(number)

    def meets(self) -> bool:
        if not self.armed or self.left <= 0:
            return False
        self.left -= 1
        if self.left:
            return False
        self.armed = False
        self.fired[0] = 1
        return True


fault = Fault(sys.argv[1])


def failing(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        if fault.meets():
            raise OSError(errno.EIO, f"{name}: made to fail")
        return function(*arguments, **named)

    return call


def create(self: spawnd.Spawner, *arguments: Any) -> None:
    fault.load()
    fault.armed = fault.where == "spawner"
    try:
        _create(self, *arguments)
    finally:
        fault.armed = False


def main(*arguments: Any) -> None:
    fault.armed = fault.where == "child"
    _main(*arguments)


_create, _main = spawnd.Spawner.do_create, child.main
for each in _OS:
    setattr(os, each, failing(_real[each], each))
for each in [name for name, value in vars(kernel).items() if getattr(value, "__name__", "") == "invoke"]:
    setattr(kernel, each, failing(getattr(kernel, each), each))
for module in [module for name, module in sys.modules.items() if name.startswith("swarmd.node.runtime.")]:
    if module is not kernel:
        for each, value in list(vars(module).items()):
            if getattr(value, "__name__", "") == "invoke":
                setattr(module, each, failing(value, each))
spawnd.Spawner.do_create = create  # type: ignore[method-assign]
child.main = main  # type: ignore[assignment]

if __name__ == "__main__":
    sys.exit(spawnd.main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
