"""The swarm under test: a local cluster of managers only, what can be done to it, when it is whole again.

Handled as a user would: ``swarmctl local``, commands inside the nodes, the gRPC API of each node's socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.cluster.clocks import FOLLOWING, set_clock
from tests.cluster.lab import DAEMON, Lab
from tests.nemesis import cables
from tests.nemesis.disks import SmallDisk
from tests.nemesis.machine import Work, slowness, starvation, work
from tests.nemesis.manager import SECONDS, CallFailed, Manager

_LOOK_SECONDS = 4.0
_OURS = ("ended by signal 9;", "ended by signal 15;", "ended with exit code 0;")
"""How a daemon ends when it was told to."""


class NotHealed(AssertionError):
    """The swarm was not whole again in time."""


class Site:
    """``site.managers`` are the ways into the nodes, by node.

    ``clocks``: their wall clocks can be set.
    """

    def __init__(self, managers: int, now: Callable[[], float], *, clocks: bool) -> None:
        self._count = managers
        self._clocks = clocks
        self.now = now
        # A short path: the nodes' sockets are below it.
        self.root = Path(tempfile.mkdtemp(prefix="nms", dir="/var/tmp"))
        self.lab = Lab(f"nm{os.getpid() % 1000000}", self.root)
        self.managers: dict[str, Manager] = {}
        self.disks: dict[str, SmallDisk] = {}
        self.obstacle = ""
        """What stood last in the way of the swarm's being whole."""
        self._healings = 0

    @property
    def nodes(self) -> list[str]:
        return [f"node{number + 1}" for number in range(self._count)]

    # -- life ----------------------------------------------------------------------------------------

    def up(self) -> None:
        """Start the swarm, with small disks."""
        self.lab.up(nodes=self._count, managers=self._count, images=[])
        for node in self.nodes:
            self.lab.local("stop", node)
        self._change_environment()
        for node in self.nodes:
            self.disks[node] = SmallDisk(self.lab.directory(node) / "data", self.root / f"{node}.ext4")
            self.disks[node].install()
            self.lab.local("start", node)

    def _change_environment(self) -> None:
        """A daemon that crashes writes its stacks to the log of its node; its wall clock follows a file."""
        adjustable = FOLLOWING if self._clocks else ()
        record = self.lab.directory("node1").parent / "cluster.json"
        cluster = json.loads(record.read_text())
        cluster["daemon"] = ["/usr/bin/env", "PYTHONFAULTHANDLER=1", *adjustable, *cluster["daemon"]]
        record.write_text(json.dumps(cluster))
        for node in self.nodes:
            self.set_clock(node, 0)

    def down(self, keep: Path | None) -> None:
        """Remove everything, whatever goes wrong with some of it; the nodes' logs go to ``keep`` first."""
        with contextlib.ExitStack() as steps:  # the last of these is the first to be taken
            steps.callback(shutil.rmtree, self.root)
            steps.callback(self.lab.down)
            for disk in self.disks.values():
                steps.callback(disk.remove)
            for node in self.nodes:
                steps.callback(self.lab.run, "local", "kill", "--name", self.lab.name, node)
            if keep is not None:
                for node in self.lab.nodes:
                    shutil.copytree(self.lab.directory(node) / "log", keep / node, dirs_exist_ok=True)

    def connect(self) -> None:
        """Make the ways into the nodes, inside the event loop that will use them."""
        for node in self.nodes:
            self.managers[node] = Manager(node, str(self.lab.directory(node) / "run" / "swarmd.sock"))

    async def close(self) -> None:
        """Hang up."""
        for manager in self.managers.values():
            await manager.close()

    def crashes(self) -> list[str]:
        """Daemons that ended by themselves, with what they said about it."""
        found = []
        for node in self.lab.nodes:
            text = (self.lab.directory(node) / "log" / "node.log").read_text(errors="replace")
            lines = text.splitlines()
            for number, line in enumerate(lines):
                if line.startswith("init: the daemon ended") and not any(each in line for each in _OURS):
                    said = [each.strip() for each in lines[max(0, number - 60) : number] if "File " in each]
                    found.append(f"{node}: {line.removeprefix('init: ')}: {' < '.join(said[:6])}")
        return found

    # -- looks ---------------------------------------------------------------------------------------

    async def leader(self) -> str:
        """The node that says that it leads; "" when none does."""
        nodes = list(self.managers)
        said = await asyncio.gather(*(self.managers[node].leads() for node in nodes))
        return next((node for node, leads in zip(nodes, said, strict=True) if leads), "")

    async def healed(self, seconds: float) -> float:
        """Wait until every manager knows all as reachable and takes a write; answers the seconds it took.

        ``seconds`` are those of a machine with a core to spare: a slower one may take longer in proportion.
        """
        began, looked, slow, done = self.now(), self.now(), 1.0, await self._work()
        self.obstacle = ""
        while self.now() - began < seconds * slow:
            if self.now() - looked > _LOOK_SECONDS:
                before, done = done, await self._work()
                slow = max(slow, starvation(before, done), await asyncio.to_thread(slowness))
                looked = self.now()
            problem = await self._problem(SECONDS * slow)
            if not problem:
                return self.now() - began
            self.obstacle = problem
            await asyncio.sleep(0.1)
        waited, factor = self.now() - began, f"{slow:.1f} times slower than with a core to spare"
        raise NotHealed(f"not whole again within {waited:.0f} s ({factor}): {self.obstacle}")

    async def _work(self) -> dict[int, Work]:
        return await asyncio.to_thread(work, f"--data-dir {self.root}/".replace(" ", "\0"))

    async def _problem(self, seconds: float) -> str:
        self._healings += 1
        for node, manager in self.managers.items():
            try:
                statuses = await manager.statuses(seconds)
                if sorted(statuses.values()) != ["Leader", *["Reachable"] * (self._count - 1)]:
                    return f"{node} shows the managers as {statuses}"
                await manager.label(node, f"whole-{node}", str(self._healings), seconds)
            except CallFailed as error:
                return f"{node}: {error}"
        return ""

    # -- what can be done ----------------------------------------------------------------------------

    async def local(self, verb: str, node: str) -> None:
        """``swarmctl local VERB NODE``."""
        await asyncio.to_thread(self.lab.local, verb, node)

    async def signal(self, node: str, name: str) -> None:
        """A signal to the daemon alone; what keeps it in the node starts it again when it ends."""
        await asyncio.to_thread(self._signal, node, name)

    def _signal(self, node: str, name: str) -> None:
        for pid in self.lab.processes(node, DAEMON):
            self.lab.inside(node, "kill", f"-{name}", pid)

    async def rules(self, node: str, text: str) -> None:
        """Load nft rules in the node."""
        file = self.lab.directory(node) / "run" / "nemesis.nft"
        file.write_text(text)
        done = await asyncio.to_thread(self.lab.inside, node, "nft", "-f", str(file))
        assert done.code == 0, done.err

    async def slow(self, node: str) -> str:
        """Make its link slow, as well as the kernel can; answers with what."""
        for words in cables.SLOW:
            done = await asyncio.to_thread(self.lab.inside, node, "tc", *words)
            if done.code == 0:
                return words[5]
        raise AssertionError("this kernel has no queue that slows a link: neither netem nor tbf")

    async def fast(self, node: str) -> None:
        """Undo ``slow``."""
        await asyncio.to_thread(self.lab.inside, node, "tc", "qdisc", "del", "dev", "eth0", "root")

    def set_clock(self, node: str, offset: int) -> None:
        """Step the wall clock of the node's daemon to ``offset`` seconds from the true time."""
        set_clock(self.lab.directory(node) / "data", offset)
