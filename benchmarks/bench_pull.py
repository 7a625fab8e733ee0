"""A pull of one large layer by swarmd and by dockerd from the same registry, in turns.

Debian's docker-registry serves on loopback an image whose only layer is made of files of this machine.  Each
pull is into a fresh data directory, for deleting slows ext4 down; both check both digests and unpack.
CPU is what each engine used, with its helpers (containerd, unpigz, the spawner); the clients are not in it.
Needs root, docker-registry and dockerd (with the docker client); says so and measures ours alone without it.

    python -m benchmarks.bench_pull [rounds]
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.bench_build import daemon, run
from benchmarks.bench_images import furnish
from benchmarks.bench_registry import THEIRS, running

_PORT = 18_561
_IMAGE = f"127.0.0.1:{_PORT}/bench/app:1"
_BYTES, _FILES = 330 << 20, 16_000
_TICKS = os.sysconf("SC_CLK_TCK")

Took = tuple[float, float]
"""Wall and CPU seconds."""


def used_by(roots: list[int]) -> float:
    """CPU seconds of processes and of all below them, those that have ended and were waited for included."""
    parents: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
                ticks[int(entry.name)] = sum(int(field) for field in fields[11:15])
    found, waiting = 0, list(roots)
    while waiting:
        pid = waiting.pop()
        found += ticks.get(pid, 0)
        waiting += parents.get(pid, [])
    return found / _TICKS


def timed(pid: int, work: Callable[[], None]) -> Took:
    os.sync()  # nobody pays for what another wrote
    begun, used = time.perf_counter(), used_by([pid])
    work()
    return time.perf_counter() - begun, used_by([pid]) - used


def ours(work: Path) -> Took:
    with daemon(work) as one:
        return timed(one.pid, lambda: one.run("pull", "-q", _IMAGE))


def theirs(work: Path) -> Took:
    with dockerd(work) as (pid, docker):
        return timed(pid, lambda: run(*docker, "pull", "-q", _IMAGE))


@contextlib.contextmanager
def dockerd(work: Path) -> Iterator[tuple[int, list[str]]]:
    """(its pid, the client's command), without a network of its own."""
    work.mkdir()
    host = f"unix://{work}/docker.sock"
    process = subprocess.Popen(
        ["dockerd", "--config-file", str(_settings(work)), "--data-root", str(work / "data"),
         "--exec-root", str(work / "run"), "--pidfile", str(work / "pid"), "--host", host,
         "--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"],
        stdout=subprocess.DEVNULL, stderr=(work / "log").open("w"),
    )  # fmt: skip
    docker = ["docker", "--host", host]
    try:
        deadline = time.monotonic() + 60
        while subprocess.run([*docker, "info"], capture_output=True, check=False).returncode:
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"dockerd did not start: {(work / 'log').read_text()[-500:]}")
            time.sleep(0.2)
        yield process.pid, docker
    finally:
        process.terminate()
        process.wait(60)


def _settings(work: Path) -> Path:
    path = work / "daemon.json"
    path.write_text("{}")
    return path


def publish(work: Path) -> None:
    """The image, in the registry."""
    tree = work / "tree"
    furnish(tree, most=_BYTES, files=_FILES)
    with daemon(work / "publisher") as one:
        archive = subprocess.run(["tar", "-C", str(tree), "-cz", "."], capture_output=True, check=True)
        run(*one.command, "image", "import", "-", _IMAGE, data=archive.stdout)
        one.run("push", "-q", _IMAGE)
    blobs = (work / "registry" / "docker" / "registry" / "v2" / "blobs").rglob("data")
    size = max(path.stat().st_size for path in blobs)
    print(
        f"a layer of {len(archive.stdout) >> 20} MB, {size >> 20} MB as gzip; load {os.getloadavg()[0]:.1f}"
    )


def measure(work: Path, rounds: int) -> None:
    has_peer = shutil.which("dockerd") is not None and shutil.which("docker") is not None
    with running(THEIRS, _PORT, work / "registry"):
        publish(work)
        mine: list[Took] = []
        peer: list[Took] = []
        for turn in range(rounds):
            mine.append(ours(work / f"ours-{turn}"))
            if has_peer:
                peer.append(theirs(work / f"theirs-{turn}"))
    wall, used = (min(column) for column in zip(*mine, strict=True))
    print(f"swarmd  {wall:6.2f} s wall, {used:6.2f} s CPU")
    if not has_peer:
        print("dockerd is not installed (Debian: docker.io, docker-cli): no ratio")
        return
    other_wall, other_used = (min(column) for column in zip(*peer, strict=True))
    print(f"dockerd {other_wall:6.2f} s wall, {other_used:6.2f} s CPU")
    print(f"ours / dockerd: wall {wall / other_wall:.2f}, CPU {used / other_used:.2f}")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    work = Path(tempfile.mkdtemp(prefix="bench-pull-", dir="/var/tmp"))
    try:
        measure(work, rounds)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
