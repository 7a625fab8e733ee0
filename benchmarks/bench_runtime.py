"""Runs a busybox ``true`` with the local runtime and with others, interleaved, and prints the ratios.

All make, start, wait for and remove a container.  crun runs the very bundle ours is made of, on a plain
directory; ours also mounts an overlay, pumps logs and notes states.  crun compiles its filter at every start,
so it also runs without one; ``unshare`` isolates far less and stands for what the kernel alone costs.

Then isolated starts, 100 containers at once, the memory of many that run, and whether a thousand starts leave
anything.
Needs root, busybox and crun.

    python -m benchmarks.bench_runtime [rounds] [containers that run at once]
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.crun import Crun, timed
from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import ContainerConfig

_BURST, _WIDTH, _PAUSE = 100, 10, 0.2
_TICK = os.sysconf("SC_CLK_TCK")


def make_rootfs(directory: Path) -> Path:
    for name in ("bin", "proc", "sys", "dev", "etc"):
        (directory / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", directory / "bin/busybox")
    for name in ("true", "sleep"):
        (directory / "bin" / name).symlink_to("busybox")
    return directory


async def run_ours(runtime: LocalRuntime, rootfs: Path) -> tuple[float, float]:
    """Wall seconds to the exit, and with the removal."""
    config = ContainerConfig(id=new_id(), lower_dirs=(str(rootfs),), args=("/bin/true",))
    begin = time.monotonic()
    await runtime.create(config)
    await runtime.start(config.id)
    state = await runtime.wait(config.id)
    ended = time.monotonic() - begin
    if state.exit_code:
        raise SystemExit(f"our container failed: {state}")
    await runtime.remove(config.id)
    return ended, time.monotonic() - begin


def helpers(run_dir: Path) -> list[Path]:
    """The spawner and the log pump that serve ``run_dir``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if os.fsencode(run_dir) in words:
                found.append(entry / "stat")
    return found


def cpu_of(stats: list[Path]) -> float:
    """CPU seconds of this process, and of the helpers with all their children so far."""
    total = 0.0
    for path in stats:
        fields = path.read_text().rsplit(")", 1)[1].split()
        total += sum(int(value) for value in fields[11:15]) / _TICK
    return total + time.process_time()


class Bed:
    """A rootfs, a runtime of ours on it, and crun with our bundle."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.rootfs = make_rootfs(base / "rootfs")
        self.unshare = ["unshare", "-fpmuinC", "--mount-proc", "-R", str(self.rootfs), "/bin/true"]
        self.runtime = LocalRuntime(base / "data", base / "run", SystemClock(), print)

    async def begin(self) -> None:
        await self.runtime.start_up()
        config = ContainerConfig(id=new_id(), lower_dirs=(str(self.rootfs),), args=("/bin/true",))
        await self.runtime.create(config)
        bundle = (self.runtime.container_dir(config.id) / "config.json").read_bytes()
        await self.runtime.remove(config.id)
        self.crun = Crun(self.base, self.rootfs, bundle)

    async def end(self) -> None:
        self.crun.close()
        await self.runtime.shut_down(stop_containers=True)

    def spawner(self) -> Path:
        return next(path.parent for path in helpers(self.base / "run") if b"spawnd.py" in command_line(path))


def command_line(stat: Path) -> bytes:
    return (stat.parent / "cmdline").read_bytes()


async def one_by_one(bed: Bed, rounds: int) -> None:
    others: dict[str, Callable[[], tuple[float, float]]] = {
        "crun run": lambda: bed.crun.run(bed.crun.filtered),
        "crun, no filter": lambda: bed.crun.run(bed.crun.unfiltered),
        "unshare": lambda: timed(bed.unshare),
    }
    walls: dict[str, list[float]] = {name: [] for name in ("ours, to the exit", "ours, removed", *others)}
    cpu = dict.fromkeys(walls, 0.0)
    await run_ours(bed.runtime, bed.rootfs)
    stats = helpers(bed.base / "run")
    for _ in range(rounds):
        before = cpu_of(stats)
        ended, removed = await run_ours(bed.runtime, bed.rootfs)
        walls["ours, to the exit"].append(ended)
        walls["ours, removed"].append(removed)
        cpu["ours, removed"] += (cpu_of(stats) - before) / rounds
        for name, run in others.items():
            wall, used = run()
            walls[name].append(wall)
            cpu[name] += used / rounds
    cpu["ours, to the exit"] = cpu["ours, removed"]
    for name, values in walls.items():
        report(name, values, cpu[name])
    for name in others:
        print(f"ours / {name}: CPU {cpu['ours, removed'] / cpu[name]:.2f}", end="")
        for part in ("ours, to the exit", "ours, removed"):
            print(f"; {part[6:]} {ratios(walls[part], walls[name])}", end="")
        print()


def ratios(ours: list[float], theirs: list[float]) -> str:
    return (
        f"p10 {p10(ours) / p10(theirs):.2f}, median {statistics.median(ours) / statistics.median(theirs):.2f}"
    )


async def isolated(bed: Bed, rounds: int) -> None:
    """After a pause each: then nothing has warmed the kernel's lock of the cgroups."""
    walls: list[float] = []
    others: list[float] = []
    for _ in range(rounds):
        await asyncio.sleep(_PAUSE)
        walls.append((await run_ours(bed.runtime, bed.rootfs))[0])
        await asyncio.sleep(_PAUSE)
        others.append(bed.crun.run(bed.crun.filtered)[0])
    report("ours, isolated", walls, 0.0)
    report("crun, isolated", others, 0.0)
    print(f"ours / crun, isolated: median {statistics.median(walls) / statistics.median(others):.2f}")


async def at_once(bed: Bed, rounds: int = 3) -> None:
    """Containers a second, from the first create to the last removal; crun ten at a time, which helps it."""
    ours: list[float] = []
    crun: list[float] = []
    for _ in range(rounds):
        begin = time.monotonic()
        await asyncio.gather(*(run_ours(bed.runtime, bed.rootfs) for _ in range(_BURST)))
        ours.append(_BURST / (time.monotonic() - begin))
        begin = time.monotonic()
        with ThreadPoolExecutor(_WIDTH) as pool:
            list(pool.map(bed.crun.run, [bed.crun.filtered] * _BURST))
        crun.append(_BURST / (time.monotonic() - begin))
    rates = statistics.median(ours), statistics.median(crun)
    print(f"{_BURST} at once: ours {rates[0]:.0f}/s, crun {rates[1]:.0f}/s, ratio {rates[0] / rates[1]:.1f}")


def memory(process: Path) -> tuple[int, int]:
    """Resident and private kilobytes."""
    text = (process / "smaps_rollup").read_text()
    sizes = {line.split()[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
    return sizes["Rss:"], sizes["Private_Clean:"] + sizes["Private_Dirty:"]


async def many(bed: Bed, count: int) -> None:
    await run_ours(bed.runtime, bed.rootfs)
    processes = [path.parent for path in helpers(bed.base / "run")]
    before = sum(memory(process)[1] for process in processes)
    configs = [
        ContainerConfig(id=new_id(), lower_dirs=(str(bed.rootfs),), args=("/bin/sleep", "100000"))
        for _ in range(count)
    ]
    for first in range(0, count, _WIDTH):
        group = configs[first : first + _WIDTH]
        await asyncio.gather(*(bed.runtime.create(config) for config in group))
        await asyncio.gather(*(bed.runtime.start(config.id) for config in group))
    after = sum(memory(process)[1] for process in processes)
    print(
        f"{count} running: spawner {memory(bed.spawner())[0] / 1024:.1f} MiB resident; spawner and pump "
        f"{(after - before) / count:.1f} kB private for each container"
    )
    for config in configs:
        await bed.runtime.stop(config.id, grace=0)
        await bed.runtime.remove(config.id)


async def flat(bed: Bed, count: int) -> None:
    def footprint() -> str:
        spawner, here = bed.spawner(), str(bed.base)
        mounts = sum(here in line for line in (spawner / "mountinfo").read_text().splitlines())
        left = sum(len(os.listdir(bed.base / place)) for place in ("data/containers", "run/ctr"))
        held = len(os.listdir(spawner / "fd"))
        return f"{held} descriptors, {mounts} mounts, {left} containers, {memory(spawner)[0]} kB resident"

    before = footprint()
    for _ in range(count // _WIDTH):
        await asyncio.gather(*(run_ours(bed.runtime, bed.rootfs) for _ in range(_WIDTH)))
    print(f"spawner before {count} starts: {before}; after: {footprint()}")


async def measure(base: Path, rounds: int, running: int) -> None:
    bed = Bed(base)
    await bed.begin()
    try:
        await one_by_one(bed, rounds)
        await isolated(bed, rounds // 2)
        await at_once(bed)
        await many(bed, running)
        await flat(bed, 1000)
    finally:
        await bed.end()


def p10(values: list[float]) -> float:
    return sorted(values)[len(values) // 10]


def report(name: str, walls: list[float], cpu: float) -> None:
    median = statistics.median(walls)
    used = f"  CPU {cpu * 1e3:6.1f} ms" if cpu else ""
    print(f"{name:20} p10 {p10(walls) * 1e3:6.1f} ms  median {median * 1e3:6.1f} ms{used}")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    running = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    base = Path(tempfile.mkdtemp(prefix="bench-runtime-"))
    (base / "run").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", base / "run"], check=True)  # as /run is, for crun's too
    try:
        asyncio.run(measure(base, rounds, running))
    finally:
        subprocess.run(["umount", "--lazy", base / "run"], check=True)
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
