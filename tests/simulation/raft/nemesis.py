"""What goes wrong: each fault begins at a random moment and is over after a random time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from tests.simulation.raft.machine import Machine
from tests.simulation.raft.world import World


class Nemesis:
    """Draws faults by the weights of the profile."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = Random(f"{world.seed}/nemesis")
        self._faults: dict[str, Callable[[], None]] = {
            "power": lambda: self._end(power=True),
            "kill": lambda: self._end(power=False),
            "restart": self._restart,
            "power all": lambda: self._end_all(power=True),
            "restart all": lambda: self._end_all(power=False),
            "pause": self._pause,
            "pause leader": self._pause_leader,
            "cut": self._cut,
            "isolate": self._isolate,
            "one way": self._one_way,
            "bridge": self._bridge,
            "break lanes": lambda: self._world.network.break_lanes(self._rng.choice((0.1, 0.5, 1.0))),
            "spike": self._spike,
            "slow disk": self._slow_disk,
            "full disk": lambda: self._fail_disk("full"),
            "little room": self._little_room,
            "broken disk": lambda: self._fail_disk("broken"),
            "rot": lambda: self._lose_disk(erase=False),
            "erase": lambda: self._lose_disk(erase=True),
            "move": self._move,
        }

    async def run(self) -> None:
        profile = self._world.profile
        if not profile.faults or not profile.fault_rate:
            return
        names, weights = list(profile.faults), list(profile.faults.values())
        while self._world.faulty:
            await asyncio.sleep(min(8.0, self._rng.expovariate(profile.fault_rate)))
            if self._world.faulty:
                self._world.note("fault", name := self._rng.choices(names, weights)[0])
                self._faults[name]()

    def _later(self, after: float, action: Callable[[], object]) -> None:
        self._world.loop.call_later(after, action)

    def _some(self) -> Machine | None:
        """A running machine; more often than not the one that leads."""
        leader = self._world.leader()
        if leader is not None and self._rng.random() < 0.5:
            return leader
        running = [machine for machine in self._world.up() if machine.state == "up"]
        return self._rng.choice(running) if running else None

    # -- processes -----------------------------------------------------------------------------------

    def _end(self, *, power: bool) -> None:
        machine = self._some()
        if machine is not None:
            machine.die(power=power)
            self._world.again_later(machine, self._rng.choice((0.05, 0.5, 2.0, 6.0)) * self._rng.random())

    def _end_all(self, *, power: bool) -> None:
        for machine in self._world.up():
            machine.die(power=power)
            self._world.again_later(machine, 2.0 * self._rng.random())

    def _restart(self) -> None:
        machine = self._some()
        if machine is not None:
            self._world.loop.create_task(self._restarting(machine))

    async def _restarting(self, machine: Machine) -> None:
        await machine.stop()
        self._world.again_later(machine, self._rng.random())

    def _pause(self) -> None:
        machine = self._some()
        if machine is not None:
            machine.freeze()
            self._later(self._rng.uniform(0.1, 6.0), machine.thaw)

    def _pause_leader(self) -> None:
        leader = self._world.leader()
        if leader is not None:
            leader.freeze()
            self._later(self._rng.uniform(1.5, 5.0), leader.thaw)

    # -- network -------------------------------------------------------------------------------------

    def _heal_later(self) -> None:
        self._later(self._rng.uniform(0.2, 5.0), self._world.network.heal)

    def _cut(self) -> None:
        names = sorted(self._world.machines)
        some = [name for name in names if self._rng.random() < 0.5]
        others = [name for name in names if name not in some]
        self._world.note("cut", some, others)
        self._world.network.cut(some, others)
        self._heal_later()

    def _isolate(self) -> None:
        machine = self._world.leader() or self._some()
        if machine is not None:
            self._world.note("isolate", machine.name)
            self._world.network.cut([machine.name], self._world.machines)
            self._heal_later()

    def _one_way(self) -> None:
        machine = self._some()
        if machine is None:
            return
        names = [name for name in self._world.machines if name != machine.name]
        others = self._rng.sample(names, self._rng.randint(1, len(names))) if names else []
        pair = ([machine.name], others) if self._rng.random() < 0.5 else (others, [machine.name])
        self._world.note("one way", *pair)
        self._world.network.cut(*pair, both_ways=False)
        self._heal_later()

    def _bridge(self) -> None:
        """Two halves that both reach one machine between them."""
        names = sorted(self._world.machines)
        self._rng.shuffle(names)
        half = len(names) // 2
        self._world.note("bridge", *names)
        self._world.network.cut(names[:half], names[half + 1 :])
        self._heal_later()

    def _spike(self) -> None:
        self._world.network.spike = self._rng.uniform(0.05, 0.8)
        self._later(self._rng.uniform(0.5, 4.0), lambda: setattr(self._world.network, "spike", 0.0))

    def _move(self) -> None:
        """A machine comes back at another address; the next one only when the others have heard of it.

        The only member stays: whoever does not hear it just then could learn from nobody where it is.
        """
        machine = self._some()
        alone = len(self._world.checker.members()) == 1
        if machine is not None and not alone and self._world.is_located():
            machine.die(power=False)
            machine.moves += 1
            self._world.note("moved", machine.name, machine.address)
            self._world.again_later(machine, self._rng.random())

    # -- disks ---------------------------------------------------------------------------------------

    def _slow_disk(self) -> None:
        machine = self._some()
        if machine is not None:
            self._world.slow[machine.name] = self._rng.choice((0.02, 0.1, 0.5, 2.0))
            self._world.note("slow", machine.name, self._world.slow[machine.name])
            self._later(self._rng.uniform(0.5, 5.0), lambda: self._world.slow.pop(machine.name, None))

    def _fail_disk(self, how: str) -> None:
        machine = self._some()
        if machine is not None:
            setattr(machine.disk, how, True)
            self._world.note(how, machine.name)
            self._later(self._rng.uniform(0.1, 3.0), lambda: setattr(machine.disk, how, False))

    def _little_room(self) -> None:
        """Enough for the log, not for a base."""
        machine = self._some()
        if machine is not None:
            disk = machine.disk
            disk.room, disk.low = 500, self._rng.random() < 0.5
            self._world.note("little room", machine.name, disk.low)
            after = self._rng.uniform(1.0, 8.0)
            self._later(after, lambda: setattr(disk, "room", None))
            self._later(after, lambda: setattr(disk, "low", False))

    def _lose_disk(self, *, erase: bool) -> None:
        """One member's promises are damaged or lost; no second one until it was replaced."""
        world = self._world
        members = world.checker.members()
        machine = self._some()
        settled = world.loop.now > world.changing and not world.gone & set(members)
        if machine is None or machine.name not in members or len(members) < 3 or not settled:
            return
        machine.die(power=False)
        world.changing = world.loop.now + 8.0
        if erase:
            machine.disk.erase()
            world.note("erased", machine.name)
        else:
            world.note("rot", machine.name, machine.disk.rot())
        world.again_later(machine, self._rng.random())
