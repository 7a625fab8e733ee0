"""A daemon killed at any point of a task's life: the next one takes the task to the same end."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.model.spec import ContainerSpec, MountSpec, PortSpec, TaskTemplate
from swarmd.model.states import TaskState
from tests.unit.agent_fakes import Disk
from tests.unit.agent_rig import IMAGE, NODE, Daemon, Managers, assignments

SPEC = TaskTemplate(container=ContainerSpec(image=IMAGE, mounts=(MountSpec(target="/data"),)))
PORTS = (PortSpec(target=80),)
READY, RUNNING, SHUTDOWN = TaskState.READY, TaskState.RUNNING, TaskState.SHUTDOWN


class Life:
    """What managers want of one task, in turn, through daemons that die at the given points."""

    def __init__(self, volumes: Path, cuts: Sequence[int], *, short: bool = False) -> None:
        self.disk, self.managers = Disk(), Managers()
        self.volumes, self.cuts, self.short = volumes, list(cuts), short
        self.wanted: TaskState | None = None
        self.points = 0
        self.daemon: Daemon | None = None

    async def want(self, wanted: TaskState | None, reached: TaskState | None) -> None:
        """Have it, whatever dies meanwhile.  None: the task is withdrawn."""
        self.wanted = wanted
        await self._assign()
        while True:
            daemon = await self._alive()
            if reached is None:
                await daemon.eventually(lambda: self.disk.is_empty)
            else:
                await daemon.eventually(self.managers.have(reached))
            if not daemon.is_cut:
                return

    async def end(self) -> None:
        if self.daemon is not None:
            self.points += self.daemon.points.passed
            await self.daemon.kill()

    async def _alive(self) -> Daemon:
        while self.daemon is None or self.daemon.is_cut:
            if self.daemon is not None:
                self.disk = await self.daemon.kill()
            cut_at = self.cuts.pop(0) if self.cuts else 0
            self.daemon = Daemon(self.disk, self.managers, self.volumes, cut_at=cut_at)
            self.daemon.runtime.short = self.short
            await self.daemon.do(self.daemon.open())
            await self._assign()
        return self.daemon

    async def _assign(self) -> None:
        if self.daemon is None:
            await self._alive()
            return
        wanted = () if self.wanted is None else (("t1", self.wanted),)
        message = assignments(*wanted, spec=SPEC, ports=PORTS)
        await self.daemon.do(self.daemon.worker.assign(message, NODE))


async def whole_life(volumes: Path, cuts: Sequence[int] = ()) -> int:
    """Held, run, shut down, forgotten; answers how many points there are."""
    life = Life(volumes, cuts)
    await life.want(READY, READY)
    await life.want(RUNNING, RUNNING)
    running = life.disk.record().status
    assert life.disk.interfaces == {"t1": running.address}
    assert life.disk.containers["t1"].status == "running"
    await life.want(SHUTDOWN, SHUTDOWN)
    assert life.managers.last().exit_code == 143
    assert life.disk.runs["t1"] == 1, "the program is run once"
    await life.want(None, None)
    await life.end()
    states = life.managers.states()
    assert states == sorted(states), "states only grow"
    assert list(volumes.iterdir()) == []
    return life.points


async def short_life(volumes: Path, cuts: Sequence[int] = ()) -> int:
    """A program that ends by itself at once, whether or not a daemon is there to see it."""
    life = Life(volumes, cuts, short=True)
    await life.want(RUNNING, TaskState.COMPLETE)
    assert (life.disk.runs["t1"], life.managers.last().exit_code) == (1, 0)
    assert life.disk.record().status.state is TaskState.COMPLETE
    await life.want(None, None)
    await life.end()
    states = life.managers.states()
    assert states == sorted(states)
    return life.points


@pytest.mark.parametrize("life", [whole_life, short_life])
async def test_a_daemon_may_be_killed_at_any_point_of_a_task_s_life(life: object, tmp_path: Path) -> None:
    assert callable(life)
    points = await life(tmp_path)
    assert points > 20
    for cut in range(1, points + 1):
        await life(tmp_path, (cut,))


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(1, 40), min_size=2, max_size=5))
async def test_daemons_may_be_killed_again_and_again(cuts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as volumes:
        await whole_life(Path(volumes), cuts)
