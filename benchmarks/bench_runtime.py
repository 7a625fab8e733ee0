"""Starts a busybox ``true`` with the local runtime and with ``crun run``, interleaved, and prints the ratio.

Both make, start, wait for and remove a container with the same rootfs, capabilities, masks and system call
filter; ours also mounts an overlay and pumps logs.  On a machine with hybrid cgroups crun runs without the
v2 mount, which it refuses.  Needs root, busybox and crun.

    python -m benchmarks.bench_runtime [rounds]
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id
from swarmd.node.runtime.core import defaults, seccomp
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import ContainerConfig

_OPS = {"eq": "SCMP_CMP_EQ", "lt": "SCMP_CMP_LT", "masked_eq": "SCMP_CMP_MASKED_EQ"}
_UNIFIED = "/sys/fs/cgroup/unified"
_TICK = os.sysconf("SC_CLK_TCK")


def make_rootfs(directory: Path) -> Path:
    for name in ("bin", "proc", "sys", "dev", "etc"):
        (directory / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", directory / "bin/busybox")
    (directory / "bin/true").symlink_to("busybox")
    return directory


def crun_bundle(directory: Path, rootfs: Path) -> list[str]:
    """The command line that runs one container; ``{}`` stands for its id."""
    subprocess.run(["crun", "spec"], cwd=directory, check=True)
    config = json.loads((directory / "config.json").read_text())
    config["ociVersion"] = "1.0.2"
    config["process"] |= {"terminal": False, "args": ["/bin/true"], "rlimits": []}
    names = [f"CAP_{name}" for name in defaults.CAPS]
    config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    config["root"] = {"path": str(rootfs), "readonly": False}
    config["linux"]["seccomp"] = _profile()
    (directory / "config.json").write_text(json.dumps(config))
    run = f"exec crun run --bundle {directory} "
    if Path(_UNIFIED).is_mount():
        return ["unshare", "-m", "sh", "-c", f"umount -l {_UNIFIED}; {run}$0"]
    return ["sh", "-c", f"{run}$0"]


def _profile() -> dict[str, Any]:
    capabilities = frozenset(defaults.CAPS)
    calls = []
    for rule in seccomp.rules(capabilities, os.uname().machine):
        entry: dict[str, Any] = {"names": [rule.call], "action": "SCMP_ACT_ALLOW"}
        if rule.error:
            entry |= {"action": "SCMP_ACT_ERRNO", "errnoRet": rule.error}
        if rule.op:
            entry["args"] = [{"index": rule.argument, "value": rule.value, "op": _OPS[rule.op]}]
        calls.append(entry)
    archs = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    if os.uname().machine == "aarch64":
        archs = ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    return {"defaultAction": "SCMP_ACT_ERRNO", "architectures": archs, "syscalls": calls}


def run_crun(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of one container."""
    begin = time.monotonic()
    process = subprocess.Popen([*command, new_id()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"crun failed with {process.returncode}")
    return time.monotonic() - begin, usage.ru_utime + usage.ru_stime


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


async def measure(base: Path, rounds: int) -> None:
    rootfs = make_rootfs(base / "rootfs")
    (base / "bundle").mkdir()
    command = crun_bundle(base / "bundle", rootfs)
    runtime = LocalRuntime(base / "data", base / "run", SystemClock(), print)
    await runtime.start_up()
    exits: list[float] = []
    whole: list[float] = []
    crun: list[float] = []
    crun_cpu = ours_cpu = 0.0
    try:
        await run_ours(runtime, rootfs)
        run_crun(command)
        stats = helpers(base / "run")
        for _ in range(rounds):
            before = cpu_of(stats)
            ended, removed = await run_ours(runtime, rootfs)
            ours_cpu += cpu_of(stats) - before
            wall, cpu = run_crun(command)
            exits.append(ended)
            whole.append(removed)
            crun.append(wall)
            crun_cpu += cpu
    finally:
        await runtime.shut_down(stop_containers=True)
    report("ours, to the exit", exits, ours_cpu / rounds)
    report("ours, removed", whole, ours_cpu / rounds)
    report("crun run", crun, crun_cpu / rounds)
    print(
        f"ours / crun: CPU {ours_cpu / crun_cpu:.2f}, p10 {p10(whole) / p10(crun):.2f}, "
        f"median {statistics.median(whole) / statistics.median(crun):.2f}  (to the exit: "
        f"p10 {p10(exits) / p10(crun):.2f}, median {statistics.median(exits) / statistics.median(crun):.2f})"
    )


def p10(values: list[float]) -> float:
    return sorted(values)[len(values) // 10]


def report(name: str, walls: list[float], cpu: float) -> None:
    median = statistics.median(walls)
    print(f"{name:20} p10 {p10(walls) * 1e3:6.1f} ms  median {median * 1e3:6.1f} ms  CPU {cpu * 1e3:6.1f} ms")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    base = Path(tempfile.mkdtemp(prefix="bench-runtime-"))
    try:
        asyncio.run(measure(base, rounds))
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
