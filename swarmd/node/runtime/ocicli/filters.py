"""The compiled system call filters of containers, kept in the state directory: compiling one takes longer
than all else that is done to make a container."""

from __future__ import annotations

import contextlib
import os

from swarmd.node.runtime.core import oci
from swarmd.node.runtime.seccomp import Compiler

_DIRECTORY = ".filters"
_KEPT = 64


def program(spec: oci.Spec, root: str) -> bytes | None:
    """None without a profile.  ``root`` is the state directory."""
    profile = spec.linux.seccomp
    if profile is None:
        return None
    import hashlib  # it loads a library that containers without a profile do not need

    release = os.uname().release  # another kernel may know more system calls
    name = hashlib.sha256(release.encode() + oci.encode(profile)).hexdigest()
    path = f"{root}/{_DIRECTORY}/{name}"
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        return file.read()
    compiled = Compiler().program(profile)
    _keep(path, compiled)
    return compiled


def _keep(path: str, compiled: bytes) -> None:
    """A full disk only makes the next one slower."""
    directory = os.path.dirname(path)
    with contextlib.suppress(OSError):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        kept = sorted(os.scandir(directory), key=lambda entry: entry.stat().st_mtime)
        for entry in kept[: max(0, len(kept) - _KEPT)]:
            os.unlink(entry.path)
        new = f"{path}.{os.getpid()}"
        with open(new, "wb") as file:
            file.write(compiled)
        os.replace(new, path)
