"""One machine: its disk outlives its processes, each of which runs a real RaftNode."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from random import Random
from typing import Any

from swarmd.model.errors import SwarmError
from swarmd.store.raft.node import RaftNode
from swarmd.store.raft.records import Marker
from swarmd.store.raft.snapshots import Base, SnapshotStore
from swarmd.store.raft.timing import Timing
from tests.simulation.raft.checks import Checker, Register, Violation
from tests.simulation.raft.disk import SimDisk
from tests.simulation.raft.loop import Process, SimLoop
from tests.simulation.raft.network import SimNetwork, SimTransport


class ConnectionLost(Exception):
    """The machine asked is gone; what it did is not known."""


class SimClock:
    """A :class:`~swarmd.kit.clock.Clock` in virtual time."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return 1.7e9 + self._loop.now

    def monotonic(self) -> float:
        return self._loop.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Machine:
    """``state``: up, frozen, down, or refused (it may not come back under this name)."""

    def __init__(
        self,
        name: str,
        number: int,
        *,
        loop: SimLoop,
        network: SimNetwork,
        checker: Checker,
        directory: Path,
        seed: str,
        roll_entries: int,
        note: Callable[..., None],
        on_stopped: Callable[[Machine], None],
    ) -> None:
        self.name = name
        self.number = number
        self.moves = 0
        self.heard_of: dict[str, str] = {}
        self.loop = loop
        self.network = network
        self.checker = checker
        self.directory = directory / name
        self.rng = Random(f"{seed}/{name}")
        self.disk = SimDisk(self.directory, Random(f"{seed}/disk of {name}"))
        self.state = "down"
        self.problem = ""
        self.freezes = 0
        self.runs = 0
        self.node: RaftNode | None = None
        self.register: Register | None = None
        self.process: Process | None = None
        self.graves: list[Process] = []
        self._seen: dict[int, int] = {}
        self._roll_entries = roll_entries
        self._note = note
        self._on_stopped = on_stopped
        self._callers: dict[asyncio.Future[Any], None] = {}

    @property
    def address(self) -> str:
        return f"10.0.{self.moves}.{self.number}:2377"

    def is_up(self) -> bool:
        return self.state in ("up", "frozen") and self.node is not None

    # -- running -------------------------------------------------------------------------------------

    def start(
        self, *, founders: Mapping[str, str] | None = None, peers: Mapping[str, str] | None = None
    ) -> None:
        """Switch on and start the daemon."""
        assert self.state == "down"
        self.state = "up"
        self.runs += 1
        self._seen = {}
        process = Process(self.name, self.loop)
        self.process = process
        process.on_step = self._step
        self._note("start", self.name)
        process.run(self._boot(process, founders, peers), f"boot {self.name}")

    async def _boot(
        self, process: Process, founders: Mapping[str, str] | None, peers: Mapping[str, str] | None
    ) -> None:
        register = Register(self.checker, self.name, self._note)
        try:
            node = RaftNode(
                node_id=self.name,
                address=self.address,
                data_dir=self.directory,
                state_machine=register,
                transport=SimTransport(self.network, process, self.address),
                clock=SimClock(self.loop),
                timing=Timing(),
                roll_entries=self._roll_entries,
                ids=lambda: f"session-{self.name}-{self.runs}",
                disk=self.disk,
            )
            self._watch(node)
            self.node, self.register = node, register
            await node.start(bootstrap_members=founders, peers=peers)
            if self.process is process:
                node.on_change(lambda: self._changed(process))
        except SwarmError as error:
            self.problem = str(error)
            self._note("refused", self.name, self.problem)
            self.die(power=False)
            self.state = "refused" if "amaged" in self.problem or "does not have" in self.problem else "down"
            self._on_stopped(self)
        except Exception as error:  # noqa: BLE001 - a crash of the product is a finding
            self.loop.fail(Violation(f"{self.name} failed to start: {error!r}"))

    def _watch(self, node: RaftNode) -> None:
        """Tell the checker of each epoch that begins here, and of each base that is written."""
        begin, open_store = node._held._begin, node._held._open_store

        async def watched(epoch: int, members: Mapping[str, str], marker: Marker | None) -> None:
            self._note("epoch", self.name, epoch, "marker" if marker else "", ",".join(sorted(members)))
            self.checker.began(self.name, epoch, dict(members))
            if marker is not None:
                self.checker.based(self.name, marker)
            await begin(epoch, members, marker)

        def opened() -> SnapshotStore:
            store = open_store()
            save = store.save

            def saved(base: Base) -> None:
                self.checker.based(self.name, base)
                self._note("base", self.name, base.epoch)
                save(base)

            store.save = saved  # type: ignore[method-assign]
            return store

        node._held._begin = watched  # type: ignore[method-assign]
        node._held._open_store = opened

    def _changed(self, process: Process) -> None:
        assert self.node is not None
        status = self.node.status()
        self._note("role", self.name, status.role, status.epoch, status.term, status.leader)
        if status.role == "stopped" and self.process is process and self.state == "up":
            self.problem = status.problem or ""
            self._on_stopped(self)

    def _step(self) -> None:
        """After each event of this machine."""
        if self.node is None:
            return
        for epoch, live in self.node._held.live.items():
            since = self._seen.get(epoch, 1)
            if live.engine._applied > since:
                self._seen[epoch] = live.engine._applied
                with contextlib.suppress(Violation):
                    self.checker.progressed(self.name, epoch, live.engine, since)

    # -- ending --------------------------------------------------------------------------------------

    def die(self, *, power: bool) -> None:
        """Its process ends in the middle of whatever it does; with ``power`` the disk forgets as well."""
        if self.process is None:
            return
        if not self.network.loop.over:
            self._note("power lost" if power else "killed", self.name)
        process, node = self.process, self.node
        if node is not None:
            self.heard_of.update(node.status().members)
        self.process, self.node, self.state = None, None, "down"
        process.kill()
        self.graves.append(process)
        if node is not None:
            for live in node._held.live.values():
                live.wal.close()
        self.network.gone(self.name, power=power)
        self.disk.back(power=power)
        self.checker.forget(self.name)
        for caller in list(self._callers):
            if not caller.done():
                caller.set_exception(ConnectionLost(self.name))
        self._callers.clear()

    async def stop(self) -> None:
        """End the daemon as an administrator does."""
        process, node = self.process, self.node
        if process is None or node is None or self.state != "up":
            return
        self._note("stop", self.name)
        done = self.loop.create_future()

        async def stopping() -> None:
            await node.stop()
            if not done.done():
                done.set_result(None)

        process.run(stopping(), f"stop {self.name}")
        await asyncio.wait([done], timeout=10.0)
        if self.process is process:
            self.die(power=False)

    def freeze(self) -> None:
        if self.process is not None and self.state == "up":
            self._note("frozen", self.name)
            self.state, self.process.frozen = "frozen", True
            self.freezes += 1

    def thaw(self) -> None:
        if self.process is not None and self.state == "frozen":
            self._note("thawed", self.name)
            self.state = "up"
            self.process.thaw()

    # -- being asked ---------------------------------------------------------------------------------

    async def call(self, work: Callable[[RaftNode], Coroutine[Any, Any, Any]], patience: float) -> Any:
        """What ``work`` gives inside this machine's process.

        Raises what it raises, ConnectionLost when the machine dies, TimeoutError after ``patience``.
        """
        process, node = self.process, self.node
        freezes = self.freezes if self.state == "up" else -1
        if process is None or node is None:
            raise ConnectionLost(self.name)
        answer = self.loop.create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._callers[answer] = None

        async def handle() -> None:
            try:
                result = await work(node)
            except SwarmError as error:
                if not answer.done():
                    answer.set_exception(error)
            except Exception as error:  # noqa: BLE001 - a crash of the product is a finding
                self.loop.fail(Violation(f"a call at {self.name} failed with {error!r}"))
            else:
                if not answer.done():
                    answer.set_result(result)

        process.run(handle(), "call")
        try:
            async with asyncio.timeout(patience):
                return await answer
        except TimeoutError:
            if self.process is process and self.freezes == freezes:
                self.loop.fail(Violation(f"a call at {self.name} was never answered"))
            raise
        finally:
            self._callers.pop(answer, None)
