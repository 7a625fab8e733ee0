"""One container as the daemon knows it: its config, where it stands, and how to signal it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import msgspec

from swarmd.model.errors import Refused
from swarmd.node.runtime import kernel
from swarmd.node.runtime.core import exits, failures
from swarmd.node.runtime.port import ContainerState
from swarmd.node.runtime.reattach import Row
from swarmd.node.runtime.storage import Stored


class Box:
    """Changes only through the methods below; ``done`` is set when the container has exited."""

    def __init__(self, stored: Stored, state: ContainerState) -> None:
        self.stored = stored
        self.state = state
        self.pidfd = -1
        self.done = asyncio.Event()
        self.turn = asyncio.Lock()  # one operation on it at a time
        self.oom_kills = 0
        self.observed = False
        self.looking = False
        self.on_close: list[Callable[[], None]] = []
        self.ready = False  # False while it is being made, or taken down again
        self.starting = False
        self.early_end: Row | None = None
        if state.status == "exited":
            self.done.set()

    def created(self, pid: int, pidfd: int) -> None:
        if self.done.is_set():
            os.close(pidfd)
            return
        self.pidfd = pidfd
        self.state = msgspec.structs.replace(self.state, status="created", pid=pid)

    def started(self, at: float) -> None:
        """The end may have been heard first: the answer and the event come in one read."""
        if not self.done.is_set():
            self.state = msgspec.structs.replace(self.state, status="running", started_at=at)

    def ended(self, row: Row, *, now: float, oom: bool) -> None:
        """A wait status of None means that nobody saw the end; ``now`` stands in for an unknown time."""
        if self.done.is_set():
            return
        wait_status = row.wait_status
        if wait_status is None and self.pidfd >= 0:
            wait_status = kernel.pidfd_exit_status(self.pidfd)
        if row.failure is not None:
            problem = failures.start_failure(*row.failure)
            code, error = problem.exit_code, str(problem)
        else:
            code, error = exits.outcome(wait_status, started=row.started > 0)
        self.state = msgspec.structs.replace(
            self.state,
            status="exited",
            pid=0,
            paused=False,
            exit_code=code,
            oom_killed=oom or self.state.oom_killed,
            started_at=row.started,
            finished_at=row.finished or now,
            error=error,
        )
        self.close()
        self.done.set()

    def close(self) -> None:
        """Let go of the process, which goes on."""
        while self.on_close:
            self.on_close.pop()()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def signal(self, number: int) -> None:
        """To the container's first process; :class:`Refused` unless there is one."""
        if self.pidfd < 0:
            raise Refused(f"container {self.state.id} is not running")
        try:
            kernel.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            raise Refused(f"container {self.state.id} is not running") from None
