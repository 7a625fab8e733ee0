"""The way into a swarm and out of it.  Nothing is half done: what fails is undone, what crashed goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import structlog

from swarmd.control.cluster import Clusters
from swarmd.daemon import refusals
from swarmd.daemon.joining import Joiner, joiner_memory
from swarmd.daemon.leaving import clean_network, leave_group
from swarmd.daemon.member import Member
from swarmd.daemon.moving import how_chosen, own_address
from swarmd.daemon.ondisk import OnDisk
from swarmd.daemon.requests import availability_of, listen_address, prepared
from swarmd.daemon.state import NodeMemory
from swarmd.daemon.working import Machine
from swarmd.kit.ids import new_id
from swarmd.kit.supervise import Nursery, caught
from swarmd.model.errors import NotManager, Refused, SwarmError, Unavailable
from swarmd.model.states import Role
from swarmd.node.peer import TaskLogs
from swarmd.rpc.v1 import node_pb2
from swarmd.security.identity import Credentials
from swarmd.security.keyring import parse_unlock_key
from swarmd.security.vault import LOCKED, Locked

TASKS_LIMIT = 60.0
"""Seconds that the tasks of a node get to end that leaves by force; then they are killed."""

STOP_LIMIT = 30.0
"""Seconds that a daemon which is to stop waits for a change under way."""

START_LIMIT = 10.0
"""Seconds that a command waits for a daemon that is starting."""

MakeMachine = Callable[[str], Awaitable[Machine]]
Abandon = Callable[[], Coroutine[Any, Any, None]]
"""Ends the containers, and takes away the network, of a membership that could not do so itself."""


class Swarm:
    """At most one membership at a time."""

    def __init__(self, disk: OnDisk, machine: MakeMachine, logs: TaskLogs, abandon: Abandon) -> None:
        self._disk = disk
        self._make_machine = machine
        self._logs = logs
        self._abandon = abandon
        self._log = structlog.get_logger()
        self._joiner = Joiner()
        self._change = asyncio.Lock()
        self._nursery = Nursery(self._report)
        self.member: Member | None = None
        self.machine: Machine | None = None
        self.problem = ""
        self.locked = False
        self._resumed = asyncio.Event()
        self._under_way: dict[str, asyncio.Task[object]] = {}

    @property
    def state(self) -> str:
        """``active``, ``pending`` (the daemon is starting), ``locked``, ``error``, ``inactive``."""
        if self.member is not None:
            return "active"
        if self.locked:
            return "locked"
        if self.problem:
            return "error"
        return "inactive" if self.resumed else "pending"

    @property
    def resumed(self) -> bool:
        """Whether the membership on disk, if any, has been looked at."""
        return self._resumed.is_set()

    # -- from disk -------------------------------------------------------------------------------

    async def resume(self) -> None:
        """At start: take part again, or finish what a crash interrupted.  What fails is the problem then."""
        async with self._change:
            await self._take_up()
        self._resumed.set()

    async def unlock(self, key: str) -> None:
        """Take part again, with the operator's key.  Raises Invalid for another, Refused, Unavailable."""
        await self._started()
        async with self._change:
            if not self.locked:
                raise Refused("swarm is not locked")
            self._disk.vault.unlock(parse_unlock_key(key))
            self._log.info("swarm_unlocked")
            await self._take_up()
            if self.problem:
                raise Unavailable(self.problem)

    async def _take_up(self) -> None:
        self.problem = ""
        error = await caught(self._resume())
        self.locked = isinstance(error, Locked)
        if self.locked:
            self._log.warning("swarm_locked")
        elif error is not None:
            self.problem = str(error) if isinstance(error, SwarmError) else f"internal error: {error!r}"
            self._log.error("swarm_not_resumed", reason=self.problem, exc_info=error)

    async def _resume(self) -> None:
        found = self._disk.load()
        if found is not None:
            await self._begin(*found)

    async def _begin(self, credentials: Credentials, memory: NodeMemory) -> None:
        machine = await self._make_machine(memory.node_id)
        member = Member(
            machine,
            credentials,
            self._disk.identity,
            memory,
            self._disk.memory,
            self._disk.vault,
            logs=self._logs,
            new_id=new_id,
        )
        self.member, self.machine = member, machine
        try:
            await member.start(founding=memory.founding)
        except BaseException:
            self.member = self.machine = None
            await member.stop()
            await machine.network.stop(clean=False)
            raise

    async def stop(self) -> None:
        """The daemon ends; containers and mesh stay.  A change under way is waited for, a little."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_LIMIT), self._change:
                pass
        await self._nursery.close()
        await self._rest()

    async def _rest(self) -> None:
        if self.member is not None:
            await self.member.stop()
        if self.machine is not None:
            await self.machine.network.stop(clean=False)

    # -- init and join ---------------------------------------------------------------------------

    async def init(self, request: node_pb2.InitSwarmRequest, now: float) -> tuple[Member, Clusters]:
        """Begin a swarm with this node as its manager."""
        await self._started()
        async with self._change:
            self.check_outside()
            credentials, memory = prepared(request, now)
            await self.enter(credentials, memory)
            assert self.member is not None
            assert self.member.managing is not None
            return self.member, self.member.managing.cases.clusters

    async def join(self, request: node_pb2.JoinSwarmRequest) -> tuple[str, Role]:
        """Join with a token; answers the node's id and role."""
        await self._started()
        async with self._change:
            self.check_outside()
            if request.availability:
                availability_of(request.availability)
            address = own_address(request.advertise_addr)
            joined = await self._joiner.join(request.token, list(request.remote_addrs))
            memory = joiner_memory(
                joined,
                address=address,
                listen=listen_address(request.listen_addr),
                availability=request.availability,
                chosen=how_chosen(request.advertise_addr),
            )
            await self.enter(joined.credentials, memory)
            self._joiner.done()
            return joined.node_id, joined.role

    async def enter(
        self,
        credentials: Credentials,
        memory: NodeMemory,
        *,
        prepare: Callable[[NodeMemory], Awaitable[NodeMemory]] | None = None,
    ) -> None:
        """Take part as a new member; ``prepare`` does what the disk needs first.  Undone when it fails."""
        try:
            self._disk.save(credentials, memory)
            if prepare is not None:
                memory = await prepare(memory)
            await self._begin(credentials, memory)
        except BaseException:
            with contextlib.suppress(SwarmError):  # it is the problem then, and the first error is told
                self._out()
            raise

    # -- recovery --------------------------------------------------------------------------------

    async def insist(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do ``work`` as the one change of this membership, to its end, whoever waits for it or not."""
        failed: list[Exception] = []

        async def change() -> None:
            async with self._change:
                error = await caught(work())
            failed.extend([] if error is None else [error])

        await self._started()
        task = self._under_way[name] = self._nursery.start(name, change())
        await asyncio.shield(task)
        for error in failed:
            raise error

    @contextlib.asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """Take no part meanwhile, and then again, if the disk allows it.  Containers run on."""
        self._resumed.clear()
        try:
            await self._rest()
            self.member = self.machine = None
            yield
        finally:
            await self._take_up()
            self._resumed.set()

    # -- leave -----------------------------------------------------------------------------------

    async def leave(self, *, force: bool) -> None:
        """End this node's tasks and its membership.  Raises Refused for a manager without ``force``.

        Once begun it goes on to the end, also when the caller does not wait for it; one by force takes over.
        """
        if force and "leave" in self._under_way:
            self._under_way["leave"].cancel()
        await self.insist("leave", lambda: self._leave(force=force))

    async def _leave(self, *, force: bool) -> None:
        if self.member is None:
            await self._give_up(force=force)
            return
        if self.member.managing is not None:
            await leave_group(self.member.managing, self.member.memory.node_id, force=force)
        await self.member.stop(leave=True, limit=TASKS_LIMIT if force else None)
        await self._abandon()
        assert self.machine is not None
        error = await caught(self.machine.network.stop(clean=True))
        if error is not None:
            self._report("end of the network", error)
        self.member = self.machine = None
        self._out()
        self._log.info("left_swarm")

    async def _give_up(self, *, force: bool) -> None:
        """A membership that cannot be taken up again."""
        if not self.problem and not self.locked:
            raise NotManager("This node is not part of a swarm")
        if not force:
            raise refusals.staying(locked=self.locked, problem=self.problem)
        await self._abandon()
        await clean_network(self._make_machine, self._report)
        self._out()
        self._log.info("membership_given_up")

    def _out(self) -> None:
        try:
            self._disk.wipe()
        except SwarmError as error:
            self.problem = str(error)
            raise
        self.problem, self.locked = "", False

    def absence(self) -> SwarmError:
        """Why there is no member that could answer."""
        return refusals.absence(locked=self.locked, problem=self.problem, resumed=self.resumed)

    def check_outside(self) -> None:
        """Raises Refused where there is a membership already."""
        if self.locked:
            raise Locked(LOCKED)
        if self.member is not None or self.problem:
            raise Refused(refusals.ALREADY)

    async def _started(self) -> None:
        try:
            async with asyncio.timeout(START_LIMIT):
                await self._resumed.wait()
        except TimeoutError:
            raise Unavailable(refusals.STARTING) from None

    def _report(self, name: str, error: BaseException) -> None:
        self._log.error("background_failed", what=name, reason=str(error), exc_info=error)
