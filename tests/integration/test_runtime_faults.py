"""One system call after the other fails while a container is made: each time a sentence, and nothing left."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from swarmd.model.errors import SwarmError
from swarmd.node.runtime import launch
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import ContainerConfig, Files, Limits, Mount, Ulimit
from tests.integration.runtime_rig import Rig, cgroup_dirs, eventually, pid_of, running

pytestmark = pytest.mark.root

SPAWNER = Path(__file__).with_name("faulty_spawnd.py")


@pytest.fixture
async def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Rig, LocalRuntime]]:
    monkeypatch.setattr(launch, "SCRIPT", SPAWNER)
    monkeypatch.setattr(launch, "code_version", lambda: "faulty")
    rig = Rig(tmp_path)
    async with running(rig) as runtime:
        yield rig, runtime


def full(rig: Rig) -> ContainerConfig:
    """Something of everything."""
    (rig.base / "bound").mkdir(exist_ok=True)
    return rig.shell(
        "true",
        user="web",
        hostname="h",
        read_only=True,
        no_new_privileges=True,
        cap_drop=("NET_RAW",),
        files=Files(hosts="127.0.0.1 localhost\n", hostname="h\n", resolv_conf="nameserver 127.0.0.1\n"),
        limits=Limits(memory=64 * 1024 * 1024, pids=50),
        ulimits=(Ulimit("nofile", 100, 100),),
        sysctls={"net.ipv4.ip_forward": "1"},
        mounts=(
            Mount(source=str(rig.base / "bound"), target="/bound", readonly=True),
            Mount(kind="tmpfs", target="/scratch"),
        ),
    )


def children(pid: int) -> set[str]:
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def is_clean(rig: Rig, held: int) -> bool:
    """No child but perhaps the log pump, and no descriptor more than before."""
    spawner, known = pid_of(rig, SPAWNER.name), {str(pid_of(rig, "logd.py"))}
    try:
        return children(spawner) <= known and len(os.listdir(f"/proc/{spawner}/fd")) <= held
    except FileNotFoundError:
        return False  # it could not come back from a namespace, and another one takes its place


async def attempt(rig: Rig, runtime: LocalRuntime, config: ContainerConfig) -> str:
    """The sentence, empty if it ran."""
    try:
        await runtime.create(config)
        await runtime.start(config.id)
    except SwarmError as error:
        return str(error)
    else:
        assert (await runtime.wait(config.id)).exit_code == 0
        return ""
    finally:
        if runtime.inspect(config.id) is not None:
            await runtime.stop(config.id, grace=0)
            await runtime.remove(config.id)


async def walk(rig: Rig, runtime: LocalRuntime, where: str) -> dict[int, str]:
    """Fail the first, the second ... call until none is left to fail; what was said each time."""
    assert await attempt(rig, runtime, full(rig)) == ""
    fired, said = rig.run / "fired", dict[int, str]()
    held = len(os.listdir(f"/proc/{pid_of(rig, SPAWNER.name)}/fd"))
    for number in range(1, 2000):
        (rig.run / "fault").write_text(f"{where} {number}")
        config = full(rig)
        sentence = await attempt(rig, runtime, config)
        if fired.read_bytes() == b"\0":
            assert sentence == ""
            return said
        with fired.open("r+b") as file:  # in place: it is mapped
            file.write(b"\0")
        said[number] = sentence
        assert cgroup_dirs(runtime, config.id) == []
        assert list((rig.data / "containers").iterdir()) == []
        assert list((rig.run / "ctr").iterdir()) == []
        assert runtime.list() == []
        await eventually(partial(is_clean, rig, held))
    raise AssertionError("it never came to an end")


async def test_whatever_fails_in_the_child_is_said_and_leaves_nothing(
    faulty: tuple[Rig, LocalRuntime],
) -> None:
    said = await walk(*faulty, "child")
    assert len(said) > 60
    unnoticed = [number for number, sentence in said.items() if not sentence]
    assert len(unnoticed) < len(said) / 4, "what may fail without harm: a keyring, a stream that is not ours"


async def test_whatever_fails_in_the_spawner_is_said_and_leaves_nothing(
    faulty: tuple[Rig, LocalRuntime],
) -> None:
    said = await walk(*faulty, "spawner")
    assert len(said) > 5
