"""One seed from beginning to end: build the world, let it suffer, heal it, and look at what is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import msgspec
from pysyncobj import monotonic, syncobj

from swarmd.store.raft import engine, held, transfer
from tests.simulation.raft.checks import Violation
from tests.simulation.raft.loop import SimExecutor, SimLoop
from tests.simulation.raft.nemesis import Nemesis
from tests.simulation.raft.profiles import PROFILES, Profile
from tests.simulation.raft.workload import Admin, Client
from tests.simulation.raft.world import World


class Result(msgspec.Struct, frozen=True):
    """``violation`` is None for a clean run; two runs of a seed have the same ``trace``."""

    seed: int
    violation: str | None
    trace: str
    story: list[str]
    counts: dict[str, int]
    acknowledged: int
    reads: int
    epochs: int
    healed_after: float


def run(seed: int, profile: str | Profile, members: int) -> Result:
    """Simulate ``seed``.  The order of sets follows PYTHONHASHSEED, so fix that to replay exactly."""
    chosen = PROFILES[profile] if isinstance(profile, str) else profile
    with simulated(seed, chosen, members) as world:
        healed_after, violation = 0.0, None
        try:
            healed_after = drive(world, _live(world))
        except Violation as found:
            violation = str(found)
        if violation is None and world.loop.failures:
            violation = f"a task failed: {world.loop.failures[0]}"
        return Result(
            seed=seed,
            violation=violation,
            trace=world.trace(),
            story=world.story,
            counts=dict(world.counts),
            acknowledged=len(world.checker.acknowledged),
            reads=world.checker.reads,
            epochs=max(world.checker.members_of, default=0),
            healed_after=healed_after,
        )


@contextmanager
def simulated(seed: int, profile: Profile, members: int) -> Iterator[World]:
    """A world of ``members`` machines that are switched off, with time and chance in our hands."""
    loop = SimLoop()
    home = Path("/dev/shm") if os.path.isdir("/dev/shm") else None
    directory = Path(tempfile.mkdtemp(prefix="sim-raft-", dir=home))
    logging.disable(logging.CRITICAL)
    core_rng = Random(f"{seed}/core")
    patches: list[Any] = [
        mock.patch.object(syncobj, "monotonicTime", loop.time),
        mock.patch.object(monotonic, "monotonic", loop.time),
        mock.patch.object(syncobj, "random", core_rng),
        mock.patch.object(held, "ThreadPoolExecutor", SimExecutor),
        mock.patch.object(transfer, "_CHUNK_BYTES", 300),
        # Small batches make long backlogs of few entries; each entry has to fit into one.
        mock.patch.object(engine, "_BATCH_BYTES", core_rng.choice((600, 4000, engine._BATCH_BYTES))),
    ]
    world = World(loop, seed, profile, members, directory)
    world.install()
    try:
        with contextlib.ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch)
            yield world
            world.close()
            loop.bury(list(asyncio.all_tasks(loop)))
            _collect(loop)
    finally:
        logging.disable(logging.NOTSET)
        shutil.rmtree(directory, ignore_errors=True)


def _collect(loop: SimLoop) -> None:
    """What was cut off in the middle cleans up now, when nobody looks any more."""
    loop._ready.clear()
    loop._scheduled.clear()
    gc.collect()
    loop._ready.clear()
    loop.close()


def drive(world: World, work: Any) -> Any:
    """Run ``work`` in the world's loop; raises the Violation that ended it."""
    loop = world.loop
    try:
        return loop.run_until_complete(work)
    except RuntimeError:
        if loop.stopped_by is None:
            raise
        raise loop.stopped_by from None
    finally:
        if isinstance(loop.stopped_by, Violation):
            raise loop.stopped_by


async def _live(world: World) -> float:
    loop, profile = world.loop, world.profile
    world.found()
    clients = [Client(world, f"c{number}") for number in range(profile.clients)]
    work = [client.run() for client in clients]
    work += [Admin(world).run(), Nemesis(world).run()]
    tasks = [loop.create_task(one) for one in work]
    await asyncio.sleep(profile.seconds)
    world.heal()
    healed_after = await _settle(world, Client(world, "last"))
    await asyncio.wait(tasks, timeout=profile.bound)
    for task in tasks:
        if not task.done():
            raise Violation(f"somebody still waits {profile.bound:g} s after healing: {task.get_coro()}")
        task.result()
    return max(healed_after, await _settle(world, Client(world, "end")))


async def _settle(world: World, last: Client) -> float:
    """Wait until a write of ``last`` gets through and all members have it; answers how long that took.

    Learners, which nobody waits for, then have three times as long to fetch what they lack.
    """
    loop = world.loop
    healed = loop.now
    written = False
    while loop.now < healed + world.profile.bound:
        machine = world.leader()
        if machine is not None and not written:
            written = await last.write(machine)
        if written and not world.unfinished(learners=False):
            break
        await asyncio.sleep(0.1)
    took = loop.now - healed
    while took < world.profile.bound and loop.now < healed + 4 * world.profile.bound:
        if not world.unfinished():
            return took
        await asyncio.sleep(0.1)
    wrong = "; ".join(world.unfinished()) or "no write was accepted"
    raise Violation(f"no progress within {loop.now - healed:.0f} s after healing: {wrong}")
