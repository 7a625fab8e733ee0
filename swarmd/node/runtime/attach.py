"""Attaches to running containers: their output as it is written, their input, their terminal.

Any number may be attached at once: each gets all output, and what they write is mixed as it comes.
"""

from __future__ import annotations

import os
from pathlib import Path

from swarmd.kit.clock import Clock
from swarmd.model.errors import Refused
from swarmd.node.runtime import terminals
from swarmd.node.runtime.box import Box
from swarmd.node.runtime.client import SpawnClient
from swarmd.node.runtime.core import exits, failures
from swarmd.node.runtime.core.execution import check_size
from swarmd.node.runtime.core.signals import signal_number
from swarmd.node.runtime.exec_port import Size
from swarmd.node.runtime.following import Follower
from swarmd.node.runtime.spawnd_logs import hold_input
from swarmd.node.runtime.streams import Input

_PATIENCE, _RETRY = 5.0, 0.1


class Attached:
    """One who is attached to a container; implements ``sessions.Session``."""

    def __init__(
        self, owner: Attachments, box: Box, output: Follower, stdin: Input | None, terminal: int
    ) -> None:
        self._owner = owner
        self._box = box
        self._output = output
        self._terminal = terminal
        self.input = stdin

    async def read(self) -> tuple[int, bytes] | None:
        return await self._output.read()

    async def write(self, data: bytes) -> None:
        if self.input is None:
            raise Refused(f"container {self._box.state.id} was made without standard input")
        await self.input.write(data)

    async def end_input(self) -> None:
        if self.input is not None and self._terminal < 0:
            await self._owner.end_input(self._box.state.id)

    async def resize(self, size: Size) -> None:
        check_size(size)
        if self._terminal < 0:
            raise Refused(f"container {self._box.state.id} has no terminal")
        terminals.resize(self._terminal, size.rows, size.columns)

    async def signal(self, name: str) -> None:
        self._box.signal(signal_number(name))

    async def wait(self) -> int:
        await self._box.done.wait()
        code = self._box.state.exit_code
        return exits.LOST if code is None else code

    async def close(self, *, kill: bool = False) -> None:
        if kill and not self._box.done.is_set():
            self._box.signal(signal_number("SIGKILL"))
        self._owner.left(self._box.state.id, self)
        self._output.close()
        if self.input is not None:
            self.input.close()
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1


class Attachments:
    """All who are attached through this daemon."""

    def __init__(self, spawner: SpawnClient, run_dir: Path, clock: Clock) -> None:
        self._ask = spawner.ask
        self._run_dir = run_dir
        self._clock = clock
        self._attached: dict[str, list[Attached]] = {}

    async def attach(self, box: Box, container_dir: Path, *, logs: bool) -> Attached:
        """See ``port.Runtime.attach``."""
        config = box.stored.config
        if box.done.is_set():
            raise Refused(
                f"container {config.id} is exited: only one that is created or runs can be attached to"
            )
        terminal, stdin = -1, None
        output = Follower(config.id, self._run_dir, container_dir, self._clock, logs=logs)
        try:
            if config.tty:
                terminal = await self._terminal(box)
            if config.stdin:
                stdin = Input(os.dup(terminal) if config.tty else self._open_input(config.id))
            await output.begin()
        except BaseException:
            output.close()
            if terminal >= 0:
                os.close(terminal)
            if stdin is not None:
                stdin.close()
            raise
        attached = Attached(self, box, output, stdin, terminal)
        self._attached.setdefault(config.id, []).append(attached)
        return attached

    async def _terminal(self, box: Box) -> int:
        """A spawner that has just been replaced has it only when the log pump has come to it."""
        deadline = self._clock.monotonic() + _PATIENCE
        while True:
            try:
                _, (terminal,) = await self._ask("terminal", box.state.id, failed=failures.attach_failure)
            except Refused:
                if box.done.is_set() or self._clock.monotonic() > deadline:
                    raise
                await self._clock.sleep(_RETRY)
            else:
                return terminal

    def _open_input(self, name: str) -> int:
        """-1 if it was ended by somebody, or the program has closed it."""
        try:
            return hold_input(str(self._run_dir), name)
        except OSError:
            return -1

    async def end_input(self, name: str) -> None:
        """The program reads end of file, whoever else is attached."""
        await self._ask("input_end", name, failed=failures.attach_failure)
        for attached in self._attached.get(name, ()):
            if attached.input is not None:
                attached.input.close()

    def left(self, name: str, attached: Attached) -> None:
        others = self._attached.get(name, [])
        if attached in others:
            others.remove(attached)
        if not others:
            self._attached.pop(name, None)
