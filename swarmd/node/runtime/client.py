"""The daemon's end of the line to the spawner: starting it, asking it, hearing its events."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import structlog

from swarmd.kit.clock import Clock
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.node.runtime import launch, rundir, wire

_ANSWER_TIMEOUT = 60.0
_ONLINE_PATIENCE = 60.0
_HELLO_PATIENCE = 20.0
_PROBE_INTERVAL = 5.0
_ATTEMPTS = 3

log = structlog.get_logger()

Values = tuple[Any, ...]


class SpawnerError(Exception):
    """The spawner or a cloned child refused: which step, about what, errno, and a text."""

    def __init__(self, step: str, subject: str, number: int, text: str) -> None:
        super().__init__(f"{step} {subject}: {text}" if subject else f"{step}: {text}")
        self.step, self.subject, self.number, self.text = step, subject, number, text


class SpawnerLost(Unavailable):
    """The spawner went away before it answered; what was asked may have been done."""

    kind: ClassVar[str] = "unavailable"


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
        self._established = False
        self._gone = asyncio.Event()
        self.online = asyncio.Event()  # set by the owner once it knows what the spawner knows

    async def connect(self) -> int:
        """Reach the spawner, starting it if there is none; answers its pid.

        One that runs another version of our program becomes ours in place; one that cannot, or does not
        answer, is killed and replaced, which containers survive.  Raises :class:`Unavailable`.
        """
        self._established = False
        for _ in range(_ATTEMPTS):
            await self._reach()
            try:
                pid = await self._agree()
            except (Unavailable, SpawnerError) as error:
                await self._replace(str(error))
            else:
                self._established = True
                return pid
        raise Unavailable(f"the container spawner does not get along with us; see {self._log_file}")

    @property
    def _log_file(self) -> Path:
        return self._run_dir / "spawnd.log"

    async def _reach(self) -> None:
        path = str(self._run_dir / rundir.SOCKET)
        connection = launch.try_connect(path)
        if connection is None:
            self._reap()
            self._pid = await launch.launch(self._run_dir)
            connection = launch.try_connect(path)
        if connection is None:
            raise Unavailable(f"the container spawner does not answer on {path}; see {self._log_file}")
        self._connection = connection
        self._gone.clear()
        asyncio.get_running_loop().add_reader(connection.fileno(), self._readable, connection)

    async def _agree(self) -> int:
        """Its pid, when it runs our version of the program."""
        (_, pid), _ = await self.call("hello", patience=_HELLO_PATIENCE)
        (code,), _ = await self.call("code", patience=_HELLO_PATIENCE)
        if code != launch.code_version():
            log.info("spawner_upgrade", pid=pid, was=code, becomes=launch.code_version())
            await self._upgrade()
        return int(pid)

    async def _upgrade(self) -> None:
        interpreter = os.path.realpath(sys.executable)
        image = launch.readonly_clone(interpreter)
        try:
            arguments = (interpreter, str(launch.SCRIPT), launch.code_version())
            await self.call("upgrade", *arguments, fds=(image,) if image >= 0 else ())
        finally:
            if image >= 0:
                os.close(image)

    async def _replace(self, reason: str) -> None:
        """Kill it: its containers go on, and the next one finds them."""
        connection = self._connection
        if connection is None:  # it has gone by itself
            return
        log.warning("spawner_replaced", pid=launch.kill_peer(connection), reason=reason)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HELLO_PATIENCE):
                await self._gone.wait()
        if self._connection is connection:
            self.close()

    async def watch(self, clock: Clock) -> None:
        """For as long as the daemon runs: replace a spawner that lives but does not answer."""
        while True:
            await clock.sleep(_PROBE_INTERVAL)
            if self._connection is None or not self._established:
                continue
            try:
                await self.call("hello", patience=_HELLO_PATIENCE)
            except Unavailable as error:
                await self._replace(str(error))

    async def is_back(self) -> None:
        """Waits for a spawner that is being replaced; :class:`Unavailable` if that takes too long."""
        try:
            async with asyncio.timeout(_ONLINE_PATIENCE):
                await self.online.wait()
        except TimeoutError:
            raise Unavailable("the container spawner cannot be reached; see spawnd.log") from None

    async def ask(
        self,
        operation: str,
        *arguments: Any,
        fds: tuple[int, ...] = (),
        failed: Callable[[str, str, int, str], SwarmError],
    ) -> tuple[Values, list[int]]:
        """:meth:`call` as soon as there is a spawner; a refusal is raised as ``failed`` translates it."""
        await self.is_back()
        try:
            return await self.call(operation, *arguments, fds=fds)
        except SpawnerError as error:
            raise failed(error.step, error.subject, error.number, error.text) from None

    async def call(
        self, operation: str, *arguments: Any, fds: tuple[int, ...] = (), patience: float = _ANSWER_TIMEOUT
    ) -> tuple[Values, list[int]]:
        """Ask; the values of the answer and the descriptors that came with it.

        Raises :class:`SpawnerError` when refused, :class:`SpawnerLost` when the connection breaks,
        :class:`Unavailable` when nothing is heard for ``patience`` seconds.
        """
        self._number += 1
        number = self._number
        future: asyncio.Future[tuple[Values, list[int]]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            async with asyncio.timeout(patience):
                await self._send(wire.encode(number, operation, *arguments), fds)
                return await future
        except TimeoutError:
            raise Unavailable(f"the container spawner did not answer {operation!r} in time") from None
        finally:
            self._waiting.pop(number, None)
            future.cancel()  # also of an error that was met while sending: nobody reads it here

    async def quit(self) -> None:
        """Have the spawner end, and wait for it: the next one must not meet it.  Raises Unavailable."""
        try:
            await self.call("quit")
        except SpawnerLost:  # it has just been killed: only another one takes away what it has left
            await self.connect()
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
                    raise SpawnerLost("the container spawner is not connected; retry in a moment")
                try:
                    wire.send(connection, packet, fds)
                except BlockingIOError:
                    await _writable(connection)
                except OSError as error:
                    if self._connection is connection:  # who asks again is to wait for the next one
                        self._broken()
                    raise SpawnerLost(f"the container spawner went away: {error}") from error
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
        if self._established:
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
                future.set_exception(SpawnerLost("the container spawner went away; retry in a moment"))


async def _writable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(connection.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(connection.fileno())
