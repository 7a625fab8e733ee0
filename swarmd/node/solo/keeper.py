"""Keeps the single containers of this node: starts, stops, starts again, remembers.

    user ──► create ──► start ──► (program ends) ──► policy: again after a wait, or rest, or removed
                  ▲________stop, remove, restart_________│

A container is changed by one at a time; a wait before a restart holds nobody up.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery, until
from swarmd.model.errors import NotFound, Refused, SwarmError
from swarmd.model.network import NetworkAttachment
from swarmd.node.containers.core import naming
from swarmd.node.containers.core.naming import Named
from swarmd.node.network.port import Attachment
from swarmd.node.runtime.core.signals import signal_number
from swarmd.node.runtime.port import ContainerState, Runtime
from swarmd.node.solo.core import networks, policy
from swarmd.node.solo.core import record as rules
from swarmd.node.solo.core.record import Record
from swarmd.node.solo.maker import Maker
from swarmd.node.solo.managers import Managers, Nobody
from swarmd.node.solo.places import Held, Places
from swarmd.node.solo.shelf import Shelf

LINGER = 5.0
"""Seconds for which a container that is removed at its end can still be read."""

_SIGKILL, _SIGTERM = 9, 15


class Keeper:
    """:meth:`open` before the swarm is resumed, :meth:`begin` after it."""

    def __init__(
        self,
        runtime: Runtime,
        maker: Maker,
        shelf: Shelf,
        clock: Clock,
        nursery: Nursery,
        managers: Managers | None = None,
    ) -> None:
        self._runtime = runtime
        self._maker = maker
        self._shelf = shelf
        self._clock = clock
        self._nursery = nursery
        self._held: dict[str, Held] = {}
        self._log = structlog.get_logger()
        self.places = Places(
            managers or Nobody(),
            maker,
            clock,
            held=lambda: self._held.values(),
            save=lambda held, joined: self._save(held, networks=joined),
            lives=self._is_there,
        )

    # -- life ------------------------------------------------------------------------------------

    def open(self) -> None:
        """Read what there is."""
        self._held = {record.id: Held(record) for record in self._shelf.load()}

    async def begin(self) -> None:
        """Take over what runs, start what is to run."""
        self._nursery.start("networks of containers", self.places.run())
        for held in self._held.values():
            state = self._runtime.inspect(held.record.id)
            held.up = self._is_there(held.record.id)
            if state is not None and state.status == "running":
                self._watch(held)
            elif held.record.auto_remove:
                self._nursery.start("removal", self._remove_soon(held))
            elif policy.starts_with_daemon(held.record, (state and state.exit_code) or 0):
                held.up = True
                self._save(held, wanted=True, by_user=False)
                self._nursery.start(f"start of {held.record.name}", self._again(held))

    # -- what there is ---------------------------------------------------------------------------

    def all(self) -> list[Record]:
        """The oldest first."""
        return [held.record for held in self._held.values()]

    def get(self, container_id: str) -> Record | None:
        held = self._held.get(container_id)
        return held.record if held is not None else None

    def waits(self, container_id: str) -> bool:
        """Whether it is between two runs."""
        held = self._held.get(container_id)
        return held is not None and held.is_waiting

    def names(self) -> dict[str, str]:
        """Id → name."""
        return {held.record.id: held.record.name for held in self._held.values()}

    def find(self, ref: str) -> Record:
        """By name, id or its beginning.  Raises NotFound, Invalid."""
        named = [Named(record.id, (record.name,)) for record in self.all()]
        found = naming.exact(ref, named) or naming.by_prefix(ref, named)
        if found is None:
            raise NotFound(f"No such container: {ref}")
        return self._held[found].record

    def others(self) -> dict[str, Attachment | None]:
        """By id; with the place of those that are on the network."""
        return {record.id: self._place(record) for record in self.all()}

    def _place(self, record: Record) -> Attachment | None:
        state = self._runtime.inspect(record.id)
        is_there = record.address and state is not None and state.status != "exited"
        return networks.place(record, state.pid) if state is not None and is_there else None

    # -- what users do ---------------------------------------------------------------------------

    async def create(self, record: Record) -> Record:
        """Make it, without starting it.  Raises Invalid, Conflict, and what making it fails with."""
        rules.check(record, self.all())
        held = Held(record)
        self._held[record.id] = held  # its name is taken from now on
        try:
            async with held.change:
                self._shelf.save(record)
                await self._make(held)
        except BaseException:
            await self._maker.undo(record.id)
            await self.places.leave(held)
            del self._held[record.id]
            await asyncio.to_thread(self._shelf.remove, record.id)
            raise
        return held.record

    async def start(self, container_id: str) -> None:
        """Run its program (again).  One that runs is left alone."""
        held = self._of(container_id)
        held.waited = 0.0
        held.changed.set()
        async with held.change:
            self._save(held, wanted=True, by_user=False, restarts=0)
            if not self._runs(container_id):
                await self._launch(held)

    async def stop(self, container_id: str, *, signal: str = "", grace: float | None = None) -> None:
        """Stop its program for good.  ``grace``: seconds before a kill, by default its own."""
        held = self._of(container_id)
        async with held.change:
            self._save(held, wanted=False, by_user=True)
            held.changed.set()
            state = self._runtime.inspect(container_id)
            if state is not None and state.status == "running":
                spec = held.record.spec
                await self._runtime.stop(
                    container_id,
                    signal=signal or spec.stop_signal,
                    grace=spec.stop_grace if grace is None else grace,
                )

    async def restart(self, container_id: str, *, signal: str = "", grace: float | None = None) -> None:
        await self.stop(container_id, signal=signal, grace=grace)
        await self.start(container_id)

    def killed(self, container_id: str, signal: str) -> None:
        """A user sent that signal: one that ends it means that it is not to be started again."""
        held = self._held.get(container_id)
        if held is not None and signal_number(signal) in (_SIGKILL, _SIGTERM):
            self._save(held, wanted=False, by_user=True)

    async def remove(self, container_id: str, *, force: bool, volumes: bool) -> None:
        """Nothing of it stays; with ``volumes`` neither do those without a name.  Refused while it runs."""
        held = self._of(container_id)
        if self._runs(container_id) and not force:
            raise Refused(
                f'cannot remove container "{held.record.name}": container is running: '
                "stop the container before removing or force remove"
            )
        async with held.change:
            self._save(held, wanted=False, by_user=True)
            held.changed.set()
            await self._maker.unmake(container_id)
            if volumes or held.record.auto_remove:
                await self._maker.forget_volumes(container_id)
            await self.places.leave(held)
            await asyncio.to_thread(self._shelf.remove, container_id)
            self._held.pop(container_id, None)

    async def connect(self, container_id: str, wanted: NetworkAttachment) -> None:
        """It joins a network of the swarm."""
        held = self._of(container_id)
        async with held.change:
            await self.places.connect(held, *networks.asked((wanted,)))

    async def disconnect(self, container_id: str, ref: str) -> None:
        """It leaves a network of the swarm."""
        held = self._of(container_id)
        async with held.change:
            await self.places.disconnect(held, ref)

    # -- what happens ----------------------------------------------------------------------------

    async def _make(self, held: Held) -> None:
        self._shelf.lay_out(held.record.id)
        await self.places.take(held)
        try:
            address = await self._maker.make(held.record)
        except BaseException:
            await self.places.rest(held)
            raise
        self._save(held, address=address)

    async def _launch(self, held: Held) -> None:
        container_id = held.record.id
        state = self._runtime.inspect(container_id)
        if state is None or state.status != "created":
            await self._maker.unmake(container_id)
            await self._make(held)
        await self._runtime.start(container_id)
        self._watch(held)

    def _watch(self, held: Held) -> None:
        self._nursery.start(f"end of {held.record.name}", self._to_the_end(held))

    async def _to_the_end(self, held: Held) -> None:
        state = await self._runtime.wait(held.record.id)
        async with held.change:
            now = self._runtime.inspect(held.record.id)
            if now is None or (now.status, now.finished_at) != ("exited", state.finished_at):
                return  # removed, or started again by a user
            await self._maker.disconnect(held.record.id)
            again = policy.starts_again(held.record, state.exit_code or 0)
            if not again:
                await self.places.rest(held)
        if again:
            await self._again(held, ran=_ran(state))
        elif held.record.auto_remove:
            await self._remove_soon(held)

    async def _again(self, held: Held, *, ran: float = 0.0) -> None:
        """Wait and start, until that works or nobody wants it any more."""
        while True:
            held.waited = policy.wait_before(held.waited, ran)
            held.changed.clear()
            held.is_waiting = True
            try:
                await until(self._clock.sleep(held.waited), held.changed)
            finally:
                held.is_waiting = False
            try:
                async with held.change:
                    gone = held.record.id not in self._held or held.record.by_user
                    if gone or self._runs(held.record.id):
                        return
                    self._save(held, wanted=True, restarts=held.record.restarts + 1)
                    await self._launch(held)
                    return
            except SwarmError as error:
                self._log.warning("container_not_started", container=held.record.name, reason=str(error))
                ran = 0.0
                if not policy.starts_again(held.record, 1):
                    return

    async def _remove_soon(self, held: Held) -> None:
        await self._clock.sleep(LINGER)
        if held.record.id in self._held and not self._runs(held.record.id):
            await self.remove(held.record.id, force=True, volumes=True)

    def _save(self, held: Held, **changes: object) -> None:
        fresh = msgspec.structs.replace(held.record, **changes)
        if fresh != held.record:
            self._shelf.save(fresh)
            held.record = fresh

    def _of(self, container_id: str) -> Held:
        held = self._held.get(container_id)
        if held is None:
            raise Refused(
                f"container {container_id} is a task of the swarm: change its service, or look at it with ps"
            )
        return held

    def _is_there(self, container_id: str) -> bool:
        state = self._runtime.inspect(container_id)
        return state is not None and state.status != "exited"

    def _runs(self, container_id: str) -> bool:
        state = self._runtime.inspect(container_id)
        return state is not None and state.status == "running"


def _ran(state: ContainerState) -> float:
    return max(0.0, state.finished_at - state.started_at) if state.started_at else 0.0
