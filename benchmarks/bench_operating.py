"""What it costs to look at containers and to change them while they run: CPU time of the daemon's side.

The peer reads the very same files with ``cat``, once for each container, as a script would.  Needs root
and busybox.

    python -m benchmarks.bench_operating [containers] [rounds]
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.bench_runtime import make_rootfs
from swarmd.kit.clock import SystemClock
from swarmd.node.runtime.core import stats
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import ContainerConfig, Limits

MIB = 1 << 20


async def main(containers: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        rootfs = make_rootfs(base / "image")
        runtime = LocalRuntime(base / "data", base / "run", SystemClock(), lambda *_: None)
        await runtime.start_up()
        names = [f"bench{number}" for number in range(containers)]
        try:
            for name in names:
                await runtime.create(
                    ContainerConfig(
                        id=name,
                        lower_dirs=(str(rootfs),),
                        args=("/bin/sleep", "1000"),
                        limits=Limits(memory=64 * MIB, pids=20),
                    )
                )
                await runtime.start(name)
            await measure(runtime, names, rounds)
        finally:
            for state in runtime.list():
                await runtime.stop(state.id, grace=0)
                await runtime.remove(state.id)
            await runtime.shut_down(stop_containers=True)


async def measure(runtime: LocalRuntime, names: list[str], rounds: int) -> None:
    async def change(name: str) -> None:
        await runtime.update(name, Limits(memory=128 * MIB, pids=30))
        await runtime.update(name, Limits(memory=64 * MIB, pids=20))

    async def rest(name: str) -> None:
        await runtime.pause(name)
        await runtime.resume(name)

    files = [list(stats.files(runtime._box(name).stored.groups).values()) for name in names]
    peer = await asyncio.to_thread(cat, files)
    print(f"cat of the same files   {1000 * peer:7.3f} ms of CPU a container")
    for what, act in (("stats", runtime.stats), ("top", runtime.top), ("update", change), ("pause", rest)):
        cpu, wall = await cost(act, names, rounds)
        print(f"{what:<23} {1000 * cpu:7.3f} ms of CPU a container, {cpu / peer:.2f} of cat;", end=" ")
        print(f"{1000 * wall:.2f} ms")


def cat(files: list[list[str]]) -> float:
    """Seconds of CPU for one container."""
    begun = resource.getrusage(resource.RUSAGE_CHILDREN)
    for paths in files:
        subprocess.run(["cat", *paths], stdout=subprocess.DEVNULL, check=True)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime) / len(files)


async def cost(act: Callable[[str], Awaitable[object]], names: list[str], rounds: int) -> tuple[float, float]:
    """Seconds of CPU and of the clock for one container; the best of the rounds."""
    found = []
    for _ in range(rounds):
        cpu, wall = time.process_time(), time.monotonic()
        for name in names:
            await act(name)
        found.append(((time.process_time() - cpu) / len(names), (time.monotonic() - wall) / len(names)))
    return min(found)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    asyncio.run(main(*(given + [50, 5][len(given) :])))
