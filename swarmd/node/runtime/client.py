"""The daemon's end of the line to the spawner: starting it, asking it, hearing its events."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swarmd.model.errors import Unavailable
from swarmd.node.runtime import kernel, rundir, wire
from swarmd.node.runtime.core import linux

_ANSWER_TIMEOUT = 60.0
_START_TIMEOUT = 30.0
_READY_FD = 3

Values = tuple[Any, ...]


class SpawnerError(Exception):
    """The spawner or a cloned child refused: which step, about what, errno, and a text."""

    def __init__(self, step: str, subject: str, number: int, text: str) -> None:
        super().__init__(f"{step} {subject}: {text}" if subject else f"{step}: {text}")
        self.step, self.subject, self.number, self.text = step, subject, number, text


class SpawnClient:
    """One connection; when it breaks, ``lost`` is called once and every question fails."""

    def __init__(self, run_dir: Path, *, event: Callable[[Values], None], lost: Callable[[], None]) -> None:
        self._run_dir = run_dir
        self._event = event
        self._lost = lost
        self._connection: socket.socket | None = None
        self._waiting: dict[int, asyncio.Future[tuple[Values, list[int]]]] = {}
        self._number = 0
        self._sending = asyncio.Lock()
        self._pid = 0
        self._gone = asyncio.Event()

    async def connect(self) -> int:
        """Reach the spawner, starting it if there is none; answers its pid."""
        path = str(self._run_dir / rundir.SOCKET)
        connection = _try_connect(path)
        if connection is None:
            self._reap()
            self._pid = await _launch(self._run_dir)
            connection = _try_connect(path)
        if connection is None:
            log = self._run_dir / "spawnd.log"
            raise Unavailable(f"the container spawner does not answer on {path}; see {log}")
        self._connection = connection
        self._gone.clear()
        asyncio.get_running_loop().add_reader(connection.fileno(), self._readable, connection)
        (version, pid), _ = await self.call("hello")
        if version != wire.VERSION:
            raise Unavailable(
                f"the running spawner (pid {pid}) speaks version {version}, this daemon {wire.VERSION}; "
                "stop its containers and the spawner, then start the daemon again"
            )
        return int(pid)

    async def call(
        self, operation: str, *arguments: Any, fds: tuple[int, ...] = ()
    ) -> tuple[Values, list[int]]:
        """Ask; the values of the answer and the descriptors that came with it.

        Raises :class:`SpawnerError` when refused, :class:`Unavailable` when the connection breaks or
        nothing is heard for a minute.
        """
        self._number += 1
        number = self._number
        future: asyncio.Future[tuple[Values, list[int]]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                await self._send(wire.encode(number, operation, *arguments), fds)
                return await future
        except TimeoutError:
            raise Unavailable(f"the container spawner did not answer {operation!r} in time") from None
        finally:
            self._waiting.pop(number, None)

    async def quit(self) -> None:
        """Have the spawner end, and wait for it: the next one must not meet it.  Raises Unavailable."""
        await self.call("quit")
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                await self._gone.wait()
        except TimeoutError:
            raise Unavailable("the container spawner did not end in time") from None

    async def _send(self, packet: bytes, fds: tuple[int, ...]) -> None:
        async with self._sending:
            while True:
                connection = self._connection
                if connection is None:
                    raise Unavailable("the container spawner is not connected; retry in a moment")
                try:
                    wire.send(connection, packet, fds)
                except BlockingIOError:
                    await _writable(connection)
                except OSError as error:
                    raise Unavailable(f"the container spawner went away: {error}") from error
                else:
                    return

    def _readable(self, connection: socket.socket) -> None:
        while self._connection is connection:
            try:
                message, fds = wire.receive(connection)
            except BlockingIOError:
                return
            except (OSError, EOFError, ValueError):
                self._broken()
                return
            self._heard(message, fds)

    def _heard(self, message: Values, fds: list[int]) -> None:
        number, kind, *values = message
        future = self._waiting.get(number)
        if number == 0:
            self._event((kind, *values))
        elif future is None or future.done():
            for fd in fds:
                os.close(fd)
        elif kind == "ok":
            future.set_result((tuple(values), fds))
        else:
            future.set_exception(SpawnerError(*values))

    def _broken(self) -> None:
        self.close()
        self._lost()

    def _reap(self) -> None:
        """A spawner we started and that died is our zombie."""
        if self._pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, os.WNOHANG)
            self._pid = 0

    def close(self) -> None:
        """Let go of the connection; open questions fail."""
        connection, self._connection = self._connection, None
        self._gone.set()
        if connection is not None:
            asyncio.get_running_loop().remove_reader(connection.fileno())
            connection.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Unavailable("the container spawner went away; retry in a moment"))


def _try_connect(path: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    connection.setblocking(False)
    return connection


async def _writable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(connection.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(connection.fileno())


async def _launch(run_dir: Path) -> int:
    """Start a spawner that outlives us, and wait until it listens (or has given up); answers its pid."""
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    try:
        try:
            pid = _spawn(run_dir, writing)
        finally:
            os.close(writing)
        loop.add_reader(reading, closed.set)
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                await closed.wait()
        except TimeoutError:
            raise Unavailable(f"the container spawner (pid {pid}) does not get ready") from None
        finally:
            loop.remove_reader(reading)
    finally:
        os.close(reading)
    return pid


def _spawn(run_dir: Path, ready: int) -> int:
    interpreter = os.path.realpath(sys.executable)
    script = str(Path(__file__).with_name("spawnd.py"))
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    image = _readonly_clone(interpreter)
    try:
        return os.posix_spawn(
            interpreter if image < 0 else f"/proc/self/fd/{image}",
            [interpreter, "-I", "-S", script, str(run_dir), str(_READY_FD)],
            {"LC_ALL": "C.UTF-8"},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(run_dir / "spawnd.log"), log_flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, ready, _READY_FD),
            ],
            setsid=True,
        )
    finally:
        if image >= 0:
            os.close(image)


def _readonly_clone(path: str) -> int:
    """The interpreter through a read-only mount of its own, so that no container can write to it by way
    of /proc/PID/exe; -1 where the kernel cannot do that."""
    try:
        tree = kernel.open_tree(path)
    except OSError:
        return -1
    try:
        kernel.mount_setattr(tree, linux.MOUNT_ATTR_RDONLY, recursive=False)
    except OSError:
        os.close(tree)
        return -1
    # Out of the way of the descriptors the new process is given.
    high = fcntl.fcntl(tree, fcntl.F_DUPFD_CLOEXEC, 64)
    os.close(tree)
    return high
