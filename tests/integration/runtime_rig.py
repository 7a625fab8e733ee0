"""A runtime in a temporary directory with a busybox image, for the tests of the container runtime."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id
from swarmd.node.runtime import launch, rundir
from swarmd.node.runtime.core import cgroups
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.logs import read_logs
from swarmd.node.runtime.port import ContainerConfig, ContainerState
from swarmd.node.runtime.sessions import Session

BUSYBOX = "/bin/busybox"
SPAWNER = "spawnd.py"
_NAMES = """
sh true false sleep echo cat ls id mount hostname ip seq kill grep dd head test mknod mkdir env pwd sort tail
yes touch ps wc rm tr readlink unshare stat umount setsid stty tty mv ln cut uname mkfifo rmdir
"""
APPLETS = _NAMES.split()
PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n"
GROUP = "root:x:0:\nweb:x:1000:\nextra:x:2000:web\n"


def make_image(directory: Path) -> Path:
    """A layer with busybox and its applets."""
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (directory / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, directory / "bin/busybox")
    for applet in APPLETS:
        (directory / "bin" / applet).symlink_to("busybox")
    (directory / "etc/passwd").write_text(PASSWD)
    (directory / "etc/group").write_text(GROUP)
    (directory / "tmp").chmod(0o1777)
    return directory


def failed(name: str, error: BaseException) -> None:
    print(f"background work failed: {name}: {error!r}")


class Rig:
    """One node's directories; :meth:`runtime` can be called again after a daemon "died"."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.data, self.run = base / "data", base / "run"
        self.image = make_image(base / "image")

    def runtime(self) -> LocalRuntime:
        return LocalRuntime(self.data, self.run, SystemClock(), failed)

    def config(self, *args: str, **fields: Any) -> ContainerConfig:
        fields.setdefault("id", new_id())
        fields.setdefault("lower_dirs", (str(self.image),))
        return ContainerConfig(args=args, **fields)

    def shell(self, script: str, **fields: Any) -> ContainerConfig:
        return self.config("sh", "-c", script, **fields)


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[LocalRuntime]:
    """A started runtime; in the end its containers and its spawner are gone."""
    runtime = rig.runtime()
    await runtime.start_up()
    try:
        yield runtime
    finally:
        for state in runtime.list():
            await runtime.stop(state.id, grace=0)
            await runtime.remove(state.id)
        await runtime.shut_down(stop_containers=True)


async def start(runtime: LocalRuntime, config: ContainerConfig) -> int:
    pid = await runtime.create(config)
    await runtime.start(config.id)
    return pid


async def output(runtime: LocalRuntime, config: ContainerConfig) -> tuple[ContainerState, str]:
    """Run to the end; the final state and all it wrote, removed afterwards."""
    await start(runtime, config)
    state = await runtime.wait(config.id)
    text = await log_text(runtime, config.id)
    await runtime.remove(config.id)
    return state, text


async def log_text(runtime: LocalRuntime, container_id: str) -> str:
    lines = [line.data async for line in read_logs(runtime.container_dir(container_id), follow=True)]
    return b"".join(lines).decode()


async def until_line(runtime: LocalRuntime, container_id: str, text: str) -> None:
    """Wait until the container has written a line with ``text``."""
    async for line in read_logs(runtime.container_dir(container_id), follow=True):
        if text in line.data.decode():
            return
    raise AssertionError(f"{container_id} ended without writing {text!r}")


async def until_pumped(rig: Rig, container_id: str) -> None:
    """Wait until the pump has dealt with all that a container has written and will not do so again.

    It writes to the log first and lets the pipe forget it then: killed in between it leaves lines that the
    next one writes once more.
    """

    def waiting() -> int:
        descriptor = os.open(rig.run / "ctr" / container_id / rundir.PIPES[0], os.O_RDONLY | os.O_NONBLOCK)
        try:
            return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)
        finally:
            os.close(descriptor)

    await eventually(lambda: waiting() == 0)


def cgroup_dirs(runtime: LocalRuntime, container_id: str) -> list[str]:
    layout = runtime._groups.layout
    return [path for path in cgroups.place(layout, container_id).paths() if os.path.exists(path)]


@contextmanager
def as_if_only(layout: cgroups.Cgroups, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runtimes find ``layout``, a part of what this machine has; what they hand down there is taken back."""
    monkeypatch.setattr(cgroups, "discover", lambda *_: layout)
    control = Path(layout.v2, "cgroup.subtree_control")
    before = set(control.read_text().split()) if layout.v2 else set()
    yield
    if layout.v2 and not layout.v1:
        for each in (Path(layout.v2, "swarmd", control.name), control):
            for name in sorted(set(each.read_text().split()) - before):
                with suppress(OSError):  # somebody else uses it meanwhile
                    each.write_text(f"-{name}")


def end(pid: int) -> None:
    assert pid > 0, "there is no such process, and 0 would be all of ours"
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def read_until(session: Session, words: bytes) -> bytes:
    """What is read from a session up to and with ``words``, carriage returns left out."""
    text = b""
    async with asyncio.timeout(60):
        while words not in text:
            piece = await session.read()
            assert piece is not None, f"the output ended: {text!r}"
            text += piece[1].replace(b"\r", b"")
    return text


async def eventually(what: Callable[[], object]) -> None:
    """Wait for other processes' doing: there is nothing to be woken by.  An awaitable answer is awaited."""
    async with asyncio.timeout(90):
        while True:
            answer = what()
            if await answer if isinstance(answer, Awaitable) else answer:
                return
            await asyncio.sleep(0.01)


def release(runtime: LocalRuntime, container_id: str) -> None:
    """Make the file /tmp/go that a container waits for."""
    state = runtime.inspect(container_id)
    assert state is not None
    Path(f"/proc/{state.pid}/root/tmp/go").touch()


def pid_of(rig: Rig, script: str) -> int:
    """The process that runs ``script`` for this rig's run directory; 0 if there is none."""
    if script.endswith(SPAWNER):  # what it has cloned looks like it until it is a program
        connection = launch.try_connect(str(rig.run / rundir.SOCKET))
        if connection is None:
            return 0
        with connection:
            return launch.peer_pid(connection)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if os.fsencode(rig.run) in words and any(word.endswith(script.encode()) for word in words):
                return int(entry.name)
    return 0
