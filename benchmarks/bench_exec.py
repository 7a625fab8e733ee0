"""Runs ``true`` in a running container, ours and crun's in turn, and prints the ratios.

Ours collects the output and the exit code, as a health check does, once with a cgroup of its own and once in
that of the container.  crun's are run by a shell in a mount namespace without the v2 mount it refuses, so
that only it counts.  Needs root, busybox and crun.

    python -m benchmarks.bench_exec [rounds of 20]
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
from pathlib import Path

from benchmarks.bench_runtime import Bed, cpu_of, helpers
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


class Crun:
    """A container of crun's that sleeps."""

    def __init__(self, bed: Bed) -> None:
        self._name = new_id()
        self._prefix = bed.crun[:-1]
        self._run = bed.crun[-1]
        bundle = bed.base / "bundle" / "config.json"
        bundle.write_text(bundle.read_text().replace('"/bin/true"', '"/bin/sleep", "100000"'))
        self._shell(self._run.replace("crun run", "crun run --detach") + "</dev/null >/dev/null 2>&1")

    def _shell(self, script: str) -> tuple[float, float]:
        begin = time.monotonic()
        process = subprocess.Popen([*self._prefix, script, self._name])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"crun failed with {process.returncode}")
        return time.monotonic() - begin, usage.ru_utime + usage.ru_stime

    def execute(self, program: str) -> tuple[float, float]:
        """Wall and CPU seconds of each."""
        before = self._run.partition("exec crun")[0]
        loop = f"i=0; while [ $i -lt {_EACH} ]; do {program} || exit 1; i=$((i+1)); done"
        wall, cpu = self._shell(f"{before} {loop}")
        return wall / _EACH, cpu / _EACH

    def remove(self) -> None:
        before = self._run.partition("exec crun")[0]
        self._shell(f"{before} crun delete --force $0")


async def measure(base: Path, rounds: int) -> None:
    bed = Bed(base)
    await bed.runtime.start_up()
    config = ContainerConfig(id=new_id(), lower_dirs=(str(bed.rootfs),), args=("/bin/sleep", "100000"))
    await bed.runtime.create(config)
    await bed.runtime.start(config.id)
    crun = Crun(bed)
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
            note("crun exec", *crun.execute("crun exec $0 /bin/true"))
            note("a shell's fork", *crun.execute("/bin/true"))
    finally:
        crun.remove()
        await bed.runtime.shut_down(stop_containers=True)
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
