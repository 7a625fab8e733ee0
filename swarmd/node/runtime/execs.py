"""Runs further programs in running containers: asks the spawner, holds the other ends of their streams.

An exec'd program is the spawner's child.  It outlives this daemon, as one started by Docker outlives dockerd:
then nobody reads what it writes, and it is told so by the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os

from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import Refused, SwarmError
from swarmd.node.runtime import kernel, terminals
from swarmd.node.runtime.box import Box
from swarmd.node.runtime.client import SpawnClient
from swarmd.node.runtime.core import execution, exits, failures
from swarmd.node.runtime.core.signals import signal_number
from swarmd.node.runtime.exec_port import ExecConfig, Size
from swarmd.node.runtime.execgroups import Group
from swarmd.node.runtime.streams import Input, Output

_TRAILING = 2.0  # as long as Docker waits for those who inherited a program's output
_STATUS_PAUSE, _STATUS_PATIENCE = 0.02, 5.0


class ExecSession:
    """A program that was executed in a container; implements ``sessions.Session``."""

    def __init__(self, name: str, config: ExecConfig, group: Group) -> None:
        self.name = name
        self.config = config
        self.group = group
        self.pidfd = -1
        self.pid = 0
        self.gone = asyncio.Event()  # it has ended, however that was learned
        self.ended = asyncio.Event()  # and how is known
        self._exit_code = exits.LOST
        self._terminal = -1
        self._output = Output({})
        self._input: Input | None = None

    def connect(self, pid: int, pidfd: int, output: Output, stdin: Input | None, terminal: int) -> None:
        """It runs."""
        self.pid, self.pidfd, self._output, self._input, self._terminal = (
            pid, pidfd, output, stdin, terminal,
        )  # fmt: skip
        if self.ended.is_set():
            self._output.end_within(_TRAILING)

    def end(self, wait_status: int | None) -> None:
        """None: nobody saw it."""
        if not self.ended.is_set():
            self._exit_code = exits.LOST if wait_status is None else exits.exit_code(wait_status)
            self.gone.set()
            self.ended.set()
            self._output.end_within(_TRAILING)

    async def read(self) -> tuple[int, bytes] | None:
        return await self._output.read()

    async def write(self, data: bytes) -> None:
        if self._input is None:
            raise Refused("the program was started without standard input")
        await self._input.write(data)

    async def end_input(self) -> None:
        if self._input is not None and self._terminal < 0:
            self._input.close()

    async def resize(self, size: Size) -> None:
        execution.check_size(size)
        if self._terminal < 0:
            raise Refused("the program has no terminal")
        terminals.resize(self._terminal, size.rows, size.columns)

    async def signal(self, name: str) -> None:
        number = signal_number(name)
        if self.ended.is_set():
            raise Refused("the program has ended")
        try:
            kernel.pidfd_send_signal(self.pidfd, number)
        except (ProcessLookupError, OSError):
            raise Refused("the program has ended") from None

    async def wait(self) -> int:
        await self.ended.wait()
        return self._exit_code

    async def close(self, *, kill: bool = False) -> None:
        if kill:
            self.group.kill(self.pid, self.pidfd)
        self.let_go()

    def let_go(self) -> None:
        """Of its streams; who reads or writes hears that they are closed."""
        self._output.close()
        if self._input is not None:
            self._input.close()
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1


class Execs:
    """All sessions of this daemon with exec'd programs."""

    def __init__(self, spawner: SpawnClient, nursery: Nursery, clock: Clock, new_id: NewId) -> None:
        self._ask = spawner.ask
        self._nursery = nursery
        self._clock = clock
        self._new_id = new_id
        self._sessions: dict[str, ExecSession] = {}
        self._leftovers: list[Group] = []  # groups whose program has ended, but not all of its children

    async def start(self, box: Box, config: ExecConfig, plan: bytes) -> ExecSession:
        """See ``port.Runtime.exec``; ``plan`` is compiled for this request."""
        if box.state.status != "running":
            state = f"is {box.state.status}" if box.state.status != "created" else "has not been started"
            raise Refused(f"container {box.state.id} {state}: programs can be run in a running one only")
        if box.state.paused:
            raise Refused(f"container {box.state.id} is paused: resume it, then programs can be run in it")
        self._sweep()
        name = self._new_id()
        group = Group(box.stored.groups, name, own=config.own_group)
        session = ExecSession(name, config, group)
        self._sessions[session.name] = session
        opened: list[int] = []
        try:
            group.make()
            await self._execute(box.state.id, session, plan, opened)
        except BaseException:
            for fd in opened:
                os.close(fd)
            self._forget(session)
            self._nursery.start(f"drop exec {session.name}", self._drop(session.name))
            raise
        self._nursery.start(f"exec {session.name}", self._watch(session))
        return session

    async def _execute(self, container_id: str, session: ExecSession, plan: bytes, ours: list[int]) -> None:
        """``ours`` gets the descriptors to close if this fails."""
        config = session.config
        theirs = [_memory(plan)]
        try:
            if not config.tty:
                theirs += _streams(config, ours)
            fds = tuple(theirs)
            (pid,), given = await self._ask(
                "exec",
                session.name,
                container_id,
                session.group.path,
                fds=fds,
                failed=failures.exec_failure_of,
            )
        finally:
            for fd in theirs:
                os.close(fd)
        stdin, output, terminal = ours[2:], ours[:2], -1
        if config.tty:
            terminal = given[1]
            os.set_blocking(terminal, False)
            output, stdin = [_copy(terminal)], [_copy(terminal)] if config.stdin else []
        session.connect(
            int(pid),
            given[0],
            Output(dict(zip(output, (1, 2), strict=False))),
            Input(stdin[0]) if stdin else None,
            terminal,
        )

    def close(self) -> None:
        """The daemon ends: the programs go on, with broken streams."""
        for session in list(self._sessions.values()):
            session.let_go()
            self._forget(session)

    def heard(self, name: str, wait_status: int | None) -> None:
        """The spawner's event."""
        session = self._sessions.get(name)
        if session is not None:
            session.end(wait_status)

    async def _watch(self, session: ExecSession) -> None:
        """Until it has ended.  Without its parent the kernel knows how, on those from 6.15."""
        loop = asyncio.get_running_loop()
        loop.add_reader(session.pidfd, session.gone.set)
        try:
            await session.gone.wait()
            loop.remove_reader(session.pidfd)
            deadline = self._clock.monotonic() + _STATUS_PATIENCE
            while not session.ended.is_set():
                status = kernel.pidfd_exit_status(session.pidfd)
                if status is None and self._clock.monotonic() < deadline:
                    await self._clock.sleep(_STATUS_PAUSE)
                else:
                    session.end(status)
        finally:
            self._forget(session)
        if session.group in self._leftovers:  # its status is known a moment before it has left its cgroup
            await self._clock.sleep(_STATUS_PAUSE)
            self._sweep()

    def _sweep(self) -> None:
        self._leftovers = [group for group in self._leftovers if not group.remove()]

    async def _drop(self, name: str) -> None:
        with contextlib.suppress(SwarmError):
            await self._ask("exec_drop", name, failed=failures.exec_failure_of)

    def _forget(self, session: ExecSession) -> None:
        if self._sessions.pop(session.name, None) is None:
            return
        if session.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(session.pidfd)
            os.close(session.pidfd)
            session.pidfd = -1
        if not session.group.remove():
            self._leftovers.append(session.group)


def _streams(config: ExecConfig, ours: list[int]) -> list[int]:
    """What the program gets as stdin, stdout, stderr; ``ours`` becomes [stdout, stderr, stdin?]."""
    null = "/dev/null"
    if config.detach:
        return [os.open(null, os.O_RDWR | os.O_CLOEXEC) for _ in range(3)]
    outputs = []
    for _ in range(2):
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        ours.append(reading)
        outputs.append(writing)
    if not config.stdin:
        return [os.open(null, os.O_RDONLY | os.O_CLOEXEC), *outputs]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    ours.append(writing)
    return [reading, *outputs]


def _memory(data: bytes) -> int:
    fd = os.memfd_create("plan", os.MFD_CLOEXEC)
    os.write(fd, data)
    return fd


def _copy(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
