"""Single containers of a node on a real runtime: started again by policy, kept over restarts."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import Conflict, NotFound, Refused, SwarmError
from swarmd.model.spec import ContainerSpec
from swarmd.node.runtime import draining
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.solo import keeper as keeper_module
from swarmd.node.solo.core.record import Record, parse_restart
from swarmd.node.solo.keeper import Keeper
from swarmd.node.solo.shelf import Shelf
from tests.integration.runtime_rig import Rig, eventually, failed, log_text, pid_of

pytestmark = pytest.mark.root


class RigMaker:
    """Makes containers of the rig's image; ``trouble`` is raised instead."""

    def __init__(self, rig: Rig, runtime: LocalRuntime) -> None:
        self._rig = rig
        self._runtime = runtime
        self.trouble: SwarmError | None = None
        self.log: list[str] = []
        self.made = 0

    async def make(self, record: Record) -> str:
        if self.trouble is not None:
            raise self.trouble
        await self._runtime.create(self._rig.config(*record.spec.args, id=record.id))
        self.made += 1
        return ""

    async def unmake(self, container_id: str) -> None:
        state = self._runtime.inspect(container_id)
        if state is not None:
            if state.status != "exited":
                await self._runtime.stop(container_id, grace=0.0)
            await self._runtime.remove(container_id)

    async def undo(self, container_id: str) -> None:
        await self.unmake(container_id)

    async def disconnect(self, container_id: str) -> None:
        self.log.append("disconnect")

    async def forget_volumes(self, container_id: str) -> None:
        self.log.append("volumes")


class Node:
    """One start of a daemon."""

    def __init__(self, rig: Rig) -> None:
        self.runtime = rig.runtime()
        self.nursery = Nursery(failed)
        self.maker = RigMaker(rig, self.runtime)
        self.keeper = Keeper(
            self.runtime, cast("Any", self.maker), Shelf(rig.data), SystemClock(), self.nursery
        )

    async def begin(self) -> None:
        await self.runtime.start_up()
        self.keeper.open()
        await self.keeper.begin()

    async def die(self) -> None:
        await self.nursery.close()
        await self.runtime.shut_down(stop_containers=False)

    async def run(self, script: str, *, restart: str = "no", name: str = "box", **fields: Any) -> str:
        record = Record(
            id=new_id(), name=name, image="busybox",
            spec=ContainerSpec(args=("sh", "-c", script), stop_grace=0.1),
            restart=parse_restart(restart), network="none", **fields,
        )  # fmt: skip
        await self.keeper.create(record)
        await self.keeper.start(record.id)
        return record.id

    def status(self, container_id: str) -> str:
        state = self.runtime.inspect(container_id)
        return "" if state is None else state.status


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


@asynccontextmanager
async def a_node(rig: Rig) -> AsyncIterator[Node]:
    node = Node(rig)
    await node.begin()
    try:
        yield node
    finally:
        for record in node.keeper.all():
            await node.keeper.remove(record.id, force=True, volumes=True)
        await node.die()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_it_runs_again_with_its_files_and_its_log(rig: Rig) -> None:
    async with a_node(rig) as node:
        box = await node.run("echo x >>/n; wc -l </n", restart="on-failure:2")
        await until(lambda: node.status(box) == "exited")
        await node.keeper.start(box)
        await until(lambda: node.status(box) == "exited")
        assert await log_text(node.runtime, box) == "1\n2\n"
        assert await node.runtime.archives.diff(box) == [("A", "/n")]


async def test_its_last_words_are_kept_when_it_runs_again_before_they_are_in_the_log(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "PATIENCE", 60.0)
    async with a_node(rig) as node:
        await eventually(lambda: pid_of(rig, "logd.py") != 0)
        pump = pid_of(rig, "logd.py")
        os.kill(pump, signal.SIGSTOP)
        try:
            box = await node.run("echo why; exit 3")
            await until(lambda: node.status(box) == "exited")
            again = asyncio.ensure_future(node.keeper.start(box))
            await asyncio.wait({again}, timeout=0.5)
        finally:
            os.kill(pump, signal.SIGCONT)
        await again
        await until(lambda: node.status(box) == "exited")
        assert await log_text(node.runtime, box) == "why\nwhy\n"


async def test_failures_are_counted(rig: Rig) -> None:
    async with a_node(rig) as node:
        box = await node.run("echo run; exit 3", restart="on-failure:2")
        await until(lambda: node.maker.made == 3 and node.status(box) == "exited")
        assert node.keeper.find("box").restarts == 2
        assert not node.keeper.waits(box)
        assert await log_text(node.runtime, box) == "run\n" * 3
        assert node.runtime.inspect(box).exit_code == 3  # type: ignore[union-attr]


async def test_one_that_a_user_stopped_stays_stopped(rig: Rig) -> None:
    async with a_node(rig) as node:
        box = await node.run("exec sleep 1000", restart="always")
        await node.keeper.stop(box)
        assert node.status(box) == "exited"
        assert not node.keeper.waits(box)
        waiting = await node.run("exit 1", restart="always", name="waiting")
        await until(lambda: node.keeper.waits(waiting))
        await node.keeper.stop(waiting)
        await until(lambda: not node.keeper.waits(waiting))
        assert node.status(waiting) == "exited"
        killed = await node.run("exec sleep 1000", restart="always", name="killed")
        node.keeper.killed(killed, "SIGKILL")
        await node.runtime.kill(killed)
        await node.runtime.wait(killed)
        assert not node.keeper.find("killed").wanted


async def test_a_name_is_one_containers_and_a_running_one_is_not_removed(rig: Rig) -> None:
    async with a_node(rig) as node:
        box = await node.run("exec sleep 1000")
        with pytest.raises(Conflict, match='The container name "box" is already in use'):
            await node.run("true")
        with pytest.raises(Refused, match='cannot remove container "box": container is running'):
            await node.keeper.remove(box, force=False, volumes=False)
        await node.keeper.remove(box, force=True, volumes=True)
        assert node.maker.log[-1] == "volumes"
        assert not (rig.data / "solo" / box).exists()
        assert not (rig.data / "containers" / box).exists()
        with pytest.raises(NotFound, match="No such container: box"):
            node.keeper.find("box")


async def test_one_to_be_removed_at_its_end_is(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "LINGER", 0.05)
    async with a_node(rig) as node:
        await node.run("true", auto_remove=True)
        await until(lambda: not node.keeper.all())
        assert node.runtime.list() == []


async def test_one_that_cannot_be_made_anew_keeps_its_files(rig: Rig) -> None:
    async with a_node(rig) as node:
        box = await node.run("echo x >>/n")
        await until(lambda: node.status(box) == "exited")
        node.maker.trouble = Refused("no room")
        with pytest.raises(Refused, match="no room"):
            await node.keeper.start(box)
        node.maker.trouble = None
        await node.keeper.start(box)
        await until(lambda: node.status(box) == "exited")
        assert (rig.data / "solo" / box / "upper/n").read_text() == "x\nx\n"


async def test_a_daemon_that_starts_takes_over_what_runs_and_starts_what_is_to_run(rig: Rig) -> None:
    node = Node(rig)
    await node.begin()
    runs = await node.run("exec sleep 1000", name="runs")
    ended = await node.run("exec sleep 1000", restart="unless-stopped", name="ended")
    stopped = await node.run("exec sleep 1000", restart="unless-stopped", name="stopped")
    always = await node.run("exec sleep 1000", restart="always", name="always")
    for each in (stopped, always):
        await node.keeper.stop(each)
    pid = node.runtime.inspect(runs).pid  # type: ignore[union-attr]
    await node.nursery.close()  # the daemon is gone; one ends meanwhile
    await node.runtime.kill(ended)
    await node.runtime.wait(ended)
    await node.die()
    async with a_node(rig) as after:
        assert after.runtime.inspect(runs).pid == pid  # type: ignore[union-attr]
        await until(lambda: after.status(ended) == "running" and after.status(always) == "running")
        assert after.status(stopped) == "exited"
