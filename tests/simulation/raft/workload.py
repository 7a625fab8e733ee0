"""What people do meanwhile: write, read, change who the managers are, and hand over leadership."""

from __future__ import annotations

import asyncio
from random import Random

from swarmd.model.errors import Invalid, OutcomeUnknown, Refused, SwarmError
from swarmd.store.raft.node import RaftNode
from tests.simulation.raft.machine import ConnectionLost, Machine
from tests.simulation.raft.world import World

_GRACE = 5.0


class Client:
    """Writes unique commands and reads, through whoever leads or any machine."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._rng = Random(f"{world.seed}/{name}")
        self._number = 0

    async def run(self) -> None:
        while self._world.faulty:
            await asyncio.sleep(self._rng.expovariate(12.0))
            machine = self._choose()
            if machine is None:
                continue
            if self._rng.random() < 0.7:
                await asyncio.gather(
                    *(
                        self.write(machine)
                        for _ in range(self._rng.choice((1, 1, 1, self._world.profile.burst)))
                    )
                )
            else:
                # Whoever it is: followers answer reads as the leader does.
                await self.read(self._rng.choice((machine, self._rng.choice(self._world.up()))))

    def _choose(self) -> Machine | None:
        up = self._world.up()
        if not up:
            return None
        if self._rng.random() < 0.85:
            leading = [m for m in up if m.node is not None and m.node.is_leader()]
            up = leading or up
        return self._rng.choice(up)

    async def write(self, machine: Machine) -> bool:
        """True when it was acknowledged."""
        world = self._world
        self._number += 1
        command = f"{self._name}-{self._number}"
        timeout = self._rng.uniform(0.3, 6.0)

        async def work(node: RaftNode) -> object:
            return await node.propose(command.encode(), timeout=timeout)

        try:
            index = await machine.call(work, timeout + _GRACE)
        except (ConnectionLost, TimeoutError):
            world.note("lost", machine.name, command)
        except SwarmError as error:
            sure = not isinstance(error, OutcomeUnknown)
            world.note("no" if sure else "unknown", machine.name, command)
            if sure:
                world.checker.deny(command)
        else:
            world.note("ack", machine.name, command, index)
            world.checker.wrote(command, index)
            return True
        return False

    async def read(self, machine: Machine) -> None:
        world = self._world
        known = world.checker.newest_known
        timeout = self._rng.uniform(0.3, 4.0)

        async def work(node: RaftNode) -> int:
            index = await node.read_index(timeout=timeout)
            assert machine.register is not None
            assert machine.register.index >= index
            return machine.register.index

        try:
            seen = await machine.call(work, timeout + _GRACE)
        except (ConnectionLost, TimeoutError, SwarmError):
            return
        world.note("read", machine.name, known, seen)
        world.checker.read(machine.name, known, seen)


class Admin:
    """Changes the managers, one change at a time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = Random(f"{world.seed}/admin")

    async def run(self) -> None:
        world = self._world
        while world.faulty:
            rate = world.profile.changes or 0.2
            await asyncio.sleep(min(8.0, self._rng.expovariate(rate)))
            if not world.faulty:
                return
            if not world.checker.members():
                continue  # nobody has begun yet
            lost = world.gone & set(world.checker.members())
            if lost:
                await self._replace(min(lost))
            elif world.profile.changes:
                await self._rng.choice(
                    (self._grow, self._grow, self._shrink, self._shrink, self._swap, self._hand)
                )()

    async def _grow(self) -> None:
        members = list(self._world.checker.members())
        if len(members) < 7:
            joiner = await self._learner()
            await self._change([*members, joiner.name])

    async def _shrink(self) -> None:
        members = list(self._world.checker.members())
        if len(members) > 1:
            members.remove(self._rng.choice(members))
            await self._change(members)

    async def _swap(self) -> None:
        await self._replace(self._rng.choice(sorted(self._world.checker.members())))

    async def _replace(self, leaving: str) -> None:
        members = [name for name in self._world.checker.members() if name != leaving]
        joiner = await self._learner()
        await self._change([*members, joiner.name])

    async def _hand(self) -> None:
        leader = self._world.leader()
        if leader is not None:
            self._world.note("transfer", leader.name)
            await self._ask(leader, lambda node: node.transfer(), 10.0)

    async def _learner(self) -> Machine:
        """A machine that follows: one that left before, or a new one."""
        world = self._world
        members = world.checker.members()
        for machine in world.machines.values():
            node = machine.node
            if machine.name in members or machine.name in world.gone or node is None or machine.state != "up":
                continue
            if node.status().role == "stopped":
                await machine.stop()
                world.again(machine)
            await asyncio.sleep(self._rng.uniform(0.0, 2.0))
            return machine
        machine = world.add()
        machine.start(peers={n: a for n, a in world.addresses().items() if n != machine.name})
        await asyncio.sleep(self._rng.uniform(0.0, 3.0))
        return machine

    async def _change(self, names: list[str]) -> None:
        world = self._world
        leader = world.leader()
        if leader is None:
            return
        world.note("change", leader.name, ",".join(sorted(names)))
        timeout = self._rng.uniform(1.0, 8.0)
        world.changing = world.loop.now + timeout + _GRACE + 10.0
        wanted = world.addresses(names)
        world.checker.asked[frozenset(names)] += 1
        if await self._ask(
            leader, lambda node: node.change_members(wanted, timeout=timeout), timeout + _GRACE
        ):
            world.checker.asked[frozenset(names)] -= 1

    async def _ask(self, machine: Machine, work: object, patience: float) -> bool:
        """True when its outcome is known for good."""
        world = self._world
        try:
            await machine.call(work, patience)  # type: ignore[arg-type]
        except (ConnectionLost, TimeoutError) as error:
            world.note("unknown", machine.name, repr(error))
        except (Refused, Invalid) as error:
            world.note("not done", machine.name, str(error)[:90])
            return True
        except SwarmError as error:
            world.note("unavailable", machine.name, str(error)[:90])
            return not isinstance(error, OutcomeUnknown)
        else:
            world.note("done", machine.name)
            return True
        return False
