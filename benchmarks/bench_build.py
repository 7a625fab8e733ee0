"""Builds a Dockerfile of ten instructions with ``swarmctl build`` and with ``buildah bud --layers``, in turn.

Cold, with everything known, with one file changed, and three stages that only wait; the commands as a user
types them, so the start of each program counts.  Needs root, busybox and buildah.

    python -m benchmarks.bench_build [rounds]
"""

from __future__ import annotations

import compileall
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

_SWARMCTL = str(Path(sys.executable).with_name("swarmctl"))
_APPLETS = ("sh", "cat", "cp", "echo", "ls", "mkdir", "seq", "sleep", "tar", "touch", "wc")
_TEN = """FROM bench/base
LABEL kind=bench
ENV MODE=fast
WORKDIR /srv
COPY requirements.txt .
RUN for i in $(seq 200); do echo $i > /srv/part-$i; done
COPY lib/ lib/
COPY app.txt .
EXPOSE 8080
CMD ["cat", "/srv/app.txt"]
"""
_WAITING = """FROM bench/base AS a
RUN sleep 2 && echo a > /a
FROM bench/base AS b
RUN sleep 2 && echo b > /b
FROM bench/base AS c
RUN sleep 2 && echo c > /c
FROM bench/base
COPY --from=a /a /
COPY --from=b /b /
COPY --from=c /c /
"""


def run(*command: str, env: dict[str, str] | None = None, data: bytes | None = None) -> None:
    done = subprocess.run(command, capture_output=True, check=False, env=env, input=data)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.decode(errors='replace')}")


class Ours:
    """A daemon of its own, in no swarm."""

    def __init__(self, base: Path, pid: int) -> None:
        self.pid = pid
        self.command = [_SWARMCTL, "-H", f"unix://{base}/run/swarmd.sock"]
        self._env = {**os.environ, "XDG_CACHE_HOME": str(base / "cache")}

    def run(self, *words: str) -> None:
        run(*self.command, *words, env=self._env)

    def build(self, context: Path, *flags: str) -> None:
        self.run("build", "-q", "-t", "bench/app", *flags, str(context))

    def take(self, archive: bytes) -> None:
        run(*self.command, "image", "import", "-", "bench/base", data=archive)

    def is_up(self) -> bool:
        return subprocess.run([*self.command, "info"], capture_output=True, check=False).returncode == 0


class Buildah:
    """With storage of its own."""

    def __init__(self, base: Path) -> None:
        self._command = ["buildah", "--root", str(base / "root"), "--runroot", str(base / "runroot"),
                         "--storage-driver", "overlay"]  # fmt: skip

    def build(self, context: Path, *flags: str) -> None:
        how = ("bud", "--layers", "--isolation", "chroot", "-q", "-t", "bench/app")
        run(*self._command, *how, *flags, str(context))

    def take(self, rootfs: Path) -> None:
        archive = rootfs.with_name("base.Dockerfile")
        archive.write_text("FROM scratch\nCOPY . /\n")
        run(*self._command, "bud", "-q", "-t", "localhost/bench/base", "-f", str(archive), str(rootfs))

    def clear(self) -> None:
        subprocess.run([*self._command, "rm", "-a"], capture_output=True, check=False)
        subprocess.run([*self._command, "rmi", "-a", "-f"], capture_output=True, check=False)


@contextlib.contextmanager
def daemon(base: Path) -> Iterator[Ours]:
    """Running until the block ends."""
    base.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "swarmd.daemon.main", "--data-dir", str(base / "data"),
         "--run-dir", str(base / "run"), "--log-file", str(base / "log")]
    )  # fmt: skip
    ours = Ours(base, process.pid)
    try:
        deadline = time.monotonic() + 60
        while not ours.is_up():
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit("the daemon did not start")
        yield ours
    finally:
        process.terminate()
        process.wait(30)


def taken(rounds: int, works: Sequence[Callable[[], None]], before: Callable[[], None]) -> list[list[float]]:
    """The seconds of each, in turn, so that what else the machine does meets both."""
    found: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for index, work in enumerate(works):
            before()
            begun = time.perf_counter()
            work()
            found[index].append(time.perf_counter() - begun)
    return found


def make(base: Path) -> tuple[Path, Path, Path]:
    """(root file system, context, context of the three stages)."""
    rootfs, context, waiting = base / "rootfs", base / "context", base / "waiting"
    for directory in (rootfs / "bin", rootfs / "tmp", context / "lib", waiting):
        directory.mkdir(parents=True)
    shutil.copy("/bin/busybox", rootfs / "bin")
    for name in _APPLETS:
        (rootfs / "bin" / name).symlink_to("busybox")
    for number in range(200):
        (context / "lib" / f"module{number}.py").write_text(f"value = {number}\n" * 50)
    (context / "requirements.txt").write_text("nothing\n")
    (context / "app.txt").write_text("0\n")
    (context / "Dockerfile").write_text(_TEN)
    (waiting / "Dockerfile").write_text(_WAITING)
    return rootfs, context, waiting


def measure(base: Path, rounds: int) -> None:
    compileall.compile_dir(Path(__file__).parents[1] / "swarmd", quiet=1)  # as an installation is
    rootfs, context, waiting = make(base)
    theirs = Buildah(base / "buildah")
    with daemon(base / "ours") as ours:
        archive = subprocess.run(["tar", "-C", str(rootfs), "-c", "."], capture_output=True, check=True)
        ours.take(archive.stdout)
        theirs.take(rootfs)
        counter = iter(range(1, 1000))

        def change() -> None:
            (context / "app.txt").write_text(f"{next(counter)}\n")

        try:
            for builder in (ours, theirs):
                builder.build(context)

            def both(rounds: int, what: Path, *flags: str, before: Callable[[], None]) -> list[list[float]]:
                return taken(rounds, [partial(it.build, what, *flags) for it in (ours, theirs)], before)

            rows = {
                "cold": both(rounds, context, "--no-cache", before=lambda: None),
                "all cached": both(rounds, context, before=lambda: None),
                "one file changed": both(rounds, context, before=change),
                "three stages of sleep 2": both(1, waiting, "--no-cache", before=lambda: None),
            }
        finally:
            theirs.clear()
    print(f"load {os.getloadavg()[0]:.1f}")
    for name, times in rows.items():
        for what, (mine, other) in (("least", map(min, times)), ("median", map(median, times))):
            ratio = f"ratio {mine / other:.2f}"
            print(f"{name:24} {what:6} swarmctl {mine:6.3f} s   buildah {other:6.3f} s   {ratio}")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(prefix="bench-build-") as directory:
        measure(Path(directory), rounds)


if __name__ == "__main__":
    main()
