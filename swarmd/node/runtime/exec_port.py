"""The port of exec and attach: what is asked for, and the session with a program in a container."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Size(msgspec.Struct, frozen=True):
    """Of a terminal, in characters."""

    rows: int = 24
    columns: int = 80


class ExecConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A program to run in a container.

    ``env`` (``NAME=value``) is laid over the container's; an empty ``cwd`` or ``user`` is the container's,
    and ``groups`` are more groups of the user, by name or id.  ``privileged`` gives every capability, as in
    Docker, and nothing else.  ``detach``: nobody reads or writes.  ``own_group``: its processes get a cgroup
    below the container's where there is a v2 tree, so that all of them can be killed together.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    tty: bool = False
    stdin: bool = False
    privileged: bool = False
    size: Size = Size()
    detach: bool = False
    own_group: bool = False


class Session(Protocol):
    """One reader and one writer at a time; every call may be cancelled."""

    async def read(self) -> tuple[int, bytes] | None:
        """The next output: (1 stdout or 2 stderr, at most 32 KiB); None when all has been given.

        A terminal has one stream, stdout.  What is not read is not lost: the program waits.
        """
        ...

    async def write(self, data: bytes) -> None:
        """To standard input.  Waits while the program does not read.

        :class:`Refused` when it cannot read any more, or was started without input.
        """
        ...

    async def end_input(self) -> None:
        """The program reads end of file; with a terminal nothing happens (send it Ctrl-D)."""
        ...

    async def resize(self, size: Size) -> None:
        """Of its terminal; :class:`Refused` if it has none."""
        ...

    async def signal(self, name: str) -> None:
        """To the program; :class:`Refused` when it has ended."""
        ...

    async def wait(self) -> int:
        """The exit code, as soon as there is one: N, or 128 + signal; 255 if nobody saw the end."""
        ...

    async def close(self, *, kill: bool = False) -> None:
        """Let go.  An attached container runs on; an exec'd program too, without anybody to write to, unless
        ``kill``: then it and, as far as they can be found, its descendants are killed."""
        ...
