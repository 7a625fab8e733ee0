"""What must outlive the spawner, in files of the run directory: ``ctr/<id>/run``, ``exit``, ``out``, ``err``.

``run`` says which process a container is, ``exit`` how it ended; both are written before anybody is told.
They survive a killed process, not a reboot: after one no container runs anyway.  ``out`` and ``err`` are
the named pipes of its output, ``in`` of its input until that is ended, so that whoever lost a descriptor can
open them again.
"""

from __future__ import annotations

import marshal
import os

from swarmd.node.runtime import wire

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from typing import Any

SOCKET, LOCK, LOG_SOCKET, LOG_LOCK = "spawnd.sock", "spawnd.lock", "logd.sock", "logd.lock"
PIPES, INPUT = ("out", "err"), "in"


def directory(run_dir: str, container_id: str) -> str:
    return f"{run_dir}/ctr/{container_id}"


def identifiers(run_dir: str) -> list[str]:
    try:
        return sorted(os.listdir(f"{run_dir}/ctr"))
    except FileNotFoundError:
        return []


def save(run_dir: str, container_id: str, name: str, values: tuple[Any, ...]) -> None:
    """In one write over what was there, which a killed process cannot tear; what follows is not read."""
    path = f"{directory(run_dir, container_id)}/{name}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, marshal.dumps(values))
    finally:
        os.close(fd)


def load(run_dir: str, container_id: str, name: str) -> tuple[Any, ...] | None:
    try:
        with open(f"{directory(run_dir, container_id)}/{name}", "rb") as file:
            values = marshal.loads(file.read())
    except (OSError, ValueError, EOFError, TypeError):
        return None
    return values if isinstance(values, tuple) else None


def open_pipes(run_dir: str, container_id: str, flags: int) -> list[int]:
    """All of :data:`PIPES`, or none."""
    fds: list[int] = []
    try:
        fds.extend(os.open(f"{directory(run_dir, container_id)}/{pipe}", flags) for pipe in PIPES)
    except OSError:
        for fd in fds:
            os.close(fd)
        raise
    return fds


def forget(run_dir: str, container_id: str) -> None:
    """The end was taken note of elsewhere; the pipes stay until they are drained."""
    for name in ("run", "exit"):
        with wire.ignoring(FileNotFoundError):
            os.unlink(f"{directory(run_dir, container_id)}/{name}")
