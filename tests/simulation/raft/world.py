"""All machines of one run, the story of what happens to them, and its end."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from contextvars import copy_context
from pathlib import Path
from random import Random

from swarmd.rpc.v1 import peer_pb2 as pb
from tests.simulation.raft.checks import Checker, Violation
from tests.simulation.raft.loop import PROCESS, Process, SimExecutor, SimLoop
from tests.simulation.raft.machine import Machine
from tests.simulation.raft.network import SimNetwork
from tests.simulation.raft.profiles import Profile

_QUIET = frozenset({"frame", "apply", "ack", "read", "no", "link"})
_GONE = ("amaged", "lost its disk", "does not have", "has entry")


class World:
    """Everything of one seed."""

    def __init__(self, loop: SimLoop, seed: int, profile: Profile, members: int, directory: Path) -> None:
        self.loop = loop
        self._context = copy_context()
        self.profile = profile
        self.seed = f"{seed}"
        self.directory = directory
        self.checker = Checker()
        self.checker.on_violation = loop.fail
        loop.spinning = lambda: Violation("something is busy without end while no time passes")
        self.network = SimNetwork(loop, self.seed, self.note, self._spoke)
        self.network.delay = profile.delay
        self.rng = Random(f"{seed}/world")
        self.roll_entries = self.rng.randint(*profile.roll_entries)
        self.base_cost = Random(f"{seed}/bases").choice((1, 20, 200))
        self.machines: dict[str, Machine] = {}
        self.founders: dict[str, str] = {}
        self.gone: set[str] = set()
        self.faulty = True
        self.slow: dict[str, float] = {}
        self.changing = 0.0
        self.story: list[str] = []
        self.counts: Counter[str] = Counter()
        self.spoken: Counter[str] = Counter()
        self._trace = hashlib.blake2b(digest_size=12)
        self._disk_rng = Random(f"{seed}/latency")
        for _ in range(members):
            self.add()

    # -- the story -----------------------------------------------------------------------------------

    def note(self, what: str, *details: object) -> None:
        """One thing that happened: part of the trace, and of the story when people care."""
        # Where the files are differs from run to run.
        details = tuple(d.replace(str(self.directory), "") if isinstance(d, str) else d for d in details)
        self._trace.update(f"{self.loop.now:.9f} {what} {details!r}\n".encode())
        self.counts[what] += 1
        if what not in _QUIET:
            self.story.append(f"{self.loop.now - 1000:9.4f}  {what:12} {' '.join(str(d) for d in details)}")

    def trace(self) -> str:
        return self._trace.hexdigest()

    # -- machines ------------------------------------------------------------------------------------

    def add(self) -> Machine:
        number = len(self.machines) + 1
        name = f"m{number}"
        machine = Machine(
            name,
            number,
            loop=self.loop,
            network=self.network,
            checker=self.checker,
            directory=self.directory,
            seed=self.seed,
            roll_entries=self.roll_entries,
            note=self.note,
            on_stopped=self._stopped,
        )
        machine.disk.crash_rate = self.profile.crash_rate
        self.machines[name] = machine
        return machine

    def up(self) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.is_up()]

    def leader(self) -> Machine | None:
        """Whoever leads the newest epoch, as far as it knows itself."""
        leading = [m for m in self.up() if m.state == "up" and m.node is not None and m.node.is_leader()]
        return max(leading, key=lambda m: m.node.status().epoch if m.node else 0, default=None)

    def addresses(self, names: Iterable[str] | None = None) -> dict[str, str]:
        chosen = self.machines if names is None else list(names)
        return {name: self.machines[name].address for name in chosen}

    def is_located(self) -> bool:
        """Whether everybody who is up knows where the managers are now."""
        knowing = (machine.node.status().members for machine in self.up() if machine.node is not None)
        return all(self.machines[name].address == a for members in knowing for name, a in members.items())

    def found(self) -> None:
        """Start all machines as the founders of a swarm."""
        self.founders = self.addresses()
        for machine in list(self.machines.values()):
            machine.start(founders=self.founders)

    def again(self, machine: Machine) -> None:
        """Switch ``machine`` on again, unless it is, or may not be."""
        if machine.state == "down" and machine.name not in self.gone:
            others = {n: a for n, a in self.addresses().items() if n != machine.name}
            begins = machine.name in self.founders and machine.disk.is_blank() and not machine.disk.erased
            # From its disk alone a member knows where everybody was when it last heard of them; who is none
            # any more is told by whoever makes it one again.
            is_member = machine.name in self.checker.members()
            alone = is_member and machine.disk.has_base() and self.rng.random() < 0.5
            peers = {n: a for n, a in machine.heard_of.items() if n in others} if alone else others
            machine.start(founders=self.founders if begins else None, peers=None if begins else peers)

    def again_later(self, machine: Machine, after: float) -> None:
        self.later(after, self.again, machine)

    def later(self, after: float, callback: Callable[..., object], *args: object) -> None:
        """Outside of any machine: what is asked for while one runs must outlive it."""
        self.loop.call_later(after, callback, *args, context=self._context)

    def lose_power(self, process: Process) -> None:
        """In the middle of an operation of its disk."""
        machine = self.machines[process.name]
        if machine.process is process:
            self.note("crash inside", machine.name)
            machine.die(power=self.rng.random() < 0.7)
            self.again_later(machine, self.rng.uniform(0.05, 3.0))

    def _stopped(self, machine: Machine) -> None:
        """A daemon gave up or left.  Who is told to join anew never comes back under its old name."""
        self.note("stopped", machine.name, machine.problem)
        if any(sign in machine.problem for sign in _GONE):
            self.gone.add(machine.name)
        if (
            "failed:" in machine.problem
            or "take back" in machine.problem
            or "cannot go back" in machine.problem
        ):
            self.loop.fail(Violation(f"{machine.name} stopped by itself: {machine.problem}"))
        if machine.problem:
            self.later(self.rng.uniform(0.1, 2.0), self._end_stopped, machine, machine.process)
        else:
            self.later(1.0, self._look_after_left, machine, machine.process)

    def _look_after_left(self, machine: Machine, process: Process | None) -> None:
        """Its daemon starts replication again when it finds itself a manager after all."""
        if machine.process is not process or process is None:
            return
        if machine.name in self.checker.members() and machine.state == "up":
            self.note("named again", machine.name)
            machine.die(power=False)
            self.again(machine)
        else:
            self.later(1.0, self._look_after_left, machine, process)

    def _end_stopped(self, machine: Machine, process: Process | None) -> None:
        if machine.process is not process:
            return
        # What a failed sync left behind is as uncertain as after a loss of power.
        machine.die(power=True)
        self.again_later(machine, self.rng.uniform(0.1, 2.0))

    # -- the environment -----------------------------------------------------------------------------

    def latency(self, name: str, thread: str) -> tuple[float, float]:
        """How long the disk of ``name`` takes for the next piece of work, before and after it is done."""
        mean = self.profile.fsync + self.slow.get(name, 0.0)
        if thread == "raft-base":
            mean = min(2.0, mean * self.base_cost)
        return self._disk_rng.expovariate(1 / mean) * 0.5, self._disk_rng.expovariate(1 / mean) * 0.5

    def _spoke(self, name: str, frame: pb.PeerFrame) -> None:
        node = self.machines[name].node
        if node is not None:
            self.checker.spoke(name, node, frame)
        if frame.WhichOneof("body") == "status":
            self.checker.claims(name, self.machines[name].disk, frame.status)
        for message in frame.raft.messages:
            self.spoken[pb.RaftMessage.Type.Name(message.type)] += 1

    def heal(self) -> None:
        """No faults from now on; every machine that may run does."""
        self.note("heal")
        self.faulty = False
        self.network.heal()
        self.network.spike = 0.0
        self.slow.clear()
        for machine in self.machines.values():
            machine.disk.crash_rate = 0.0
            machine.disk.crash_at = None
            machine.disk.full = machine.disk.low = machine.disk.broken = False
            machine.disk.room = None
            machine.thaw()
            self.again(machine)

    def unfinished(self, *, learners: bool = True) -> list[str]:
        """What keeps the machines from being in the same state, all at rest; ``learners``: those too."""
        members = self.checker.members()
        wrong = []
        newest, count = max(self.checker.members_of), len(self.checker.history)
        for name, machine in self.machines.items():
            if name in self.gone:
                continue
            node, register = machine.node, machine.register
            if node is None or register is None:
                wrong.append(f"{name} is {machine.state}: {machine.problem}")
                continue
            status = node.status()
            if name in members:
                if (status.epoch, register.index) != (newest, count) or status.role not in (
                    "leader",
                    "follower",
                ):
                    wrong.append(
                        f"{name} is {status.role} at {status.epoch}/{register.index}: {status.problem}"
                    )
            elif status.role == "learner":
                if learners and (status.epoch, register.index) != (newest, count):
                    wrong.append(f"{name} follows {status.epoch}/{register.index} and not {newest}/{count}")
            elif status.role != "stopped":
                wrong.append(f"{name} is {status.role} of epoch {status.epoch} and not a member")
            if node._proposals:
                wrong.append(f"proposals wait at {name}")
        return wrong

    def close(self) -> None:
        """Give the files of all machines back."""
        self.loop.over = True
        for machine in self.machines.values():
            if machine.process is not None:
                machine.die(power=False)
            machine.disk.close()
            for process in machine.graves:
                self.loop.bury(process.tasks)

    def install(self) -> None:
        """The disk threads of the product are this world's."""
        SimExecutor.latency = staticmethod(self.latency)
        SimExecutor.on_power_lost = staticmethod(self.lose_power)


__all__ = ["PROCESS", "World"]
