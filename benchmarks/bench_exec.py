"""Runs ``true`` in a running container, ours and crun's in turn, and prints the ratios.

Ours collects the output and the exit code, as a health check does, once with a cgroup of its own and once in
that of the container; crun's are run by a shell.  Needs root, busybox and crun.

    python -m benchmarks.bench_exec [rounds of 20]
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bench_runtime import Bed, cpu_of, helpers
from benchmarks.crun import Crun
from swarmd.kit.ids import new_id
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import ContainerConfig
from swarmd.node.runtime.sessions import ExecConfig, run

_EACH = 20


async def ours_probe(runtime: LocalRuntime, name: str) -> None:
    code, _ = await run(runtime, name, ExecConfig(args=("/bin/true",)), limit=4096, timeout=60)
    if code:
        raise SystemExit(f"our exec failed with {code}")


async def ours_plain(runtime: LocalRuntime, name: str) -> None:
    session = await runtime.exec(name, ExecConfig(args=("/bin/true",)))
    while await session.read() is not None:
        pass
    if await session.wait():
        raise SystemExit("our exec failed")
    await session.close()


def loop(crun: Crun, program: str) -> tuple[float, float]:
    """Wall and CPU seconds of each of them, run by a shell."""
    script = f"i=0; while [ $i -lt {_EACH} ]; do {program} || exit 1; i=$((i+1)); done"
    wall, cpu = crun.timed(["sh", "-c", script])
    return wall / _EACH, cpu / _EACH


async def measure(base: Path, rounds: int) -> None:
    bed = Bed(base)
    await bed.begin()
    config = ContainerConfig(id=new_id(), lower_dirs=(str(bed.rootfs),), args=("/bin/sleep", "100000"))
    await bed.runtime.create(config)
    await bed.runtime.start(config.id)
    theirs = bed.crun.start()
    stats = helpers(base / "run")
    walls: dict[str, list[float]] = {}
    cpu: dict[str, float] = {}

    def note(name: str, wall: float, used: float) -> None:
        walls.setdefault(name, []).append(wall)
        cpu[name] = cpu.get(name, 0.0) + used / rounds

    try:
        for _ in range(rounds):
            for name, one in {"ours, a probe": ours_probe, "ours": ours_plain}.items():
                before, begin = cpu_of(stats), time.monotonic()
                for _ in range(_EACH):
                    await one(bed.runtime, config.id)
                note(name, (time.monotonic() - begin) / _EACH, (cpu_of(stats) - before) / _EACH)
            note("crun exec", *loop(bed.crun, f"{bed.crun.command} exec {theirs} /bin/true"))
            note("a shell's fork", *loop(bed.crun, "/bin/true"))
    finally:
        bed.crun.remove(theirs)
        await bed.end()
    for name, values in walls.items():
        print(f"{name:16} median {statistics.median(values) * 1e3:6.2f} ms  CPU {cpu[name] * 1e3:6.2f} ms")
    for name in ("ours", "ours, a probe"):
        ratio = statistics.median(walls[name]) / statistics.median(walls["crun exec"])
        print(f"{name} / crun exec: CPU {cpu[name] / cpu['crun exec']:.2f}, median {ratio:.2f}")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    base = Path(tempfile.mkdtemp(prefix="bench-exec-"))
    try:
        asyncio.run(measure(base, rounds))
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
