"""Containers whose users are others on the host: what they see, and who owns what they leave."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.model.errors import Invalid
from swarmd.node.runtime.exec_port import ExecConfig, Size
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import Files, Mount
from tests.integration.runtime_rig import Rig, failed, output, read_until, running, start, until_line
from tests.integration.test_archive import an_archive, pieces, taken

pytestmark = pytest.mark.root

FIRST, SIZE = 200_000, 65_536


class Remapped(Rig):
    def runtime(self) -> LocalRuntime:
        return LocalRuntime(self.data, self.run, SystemClock(), failed, remap=(FIRST, SIZE))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Remapped(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as started:
        yield started


async def test_root_inside_is_nobody_outside(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("touch /made; stat -c %u /made /bin/sh; exec sleep 1000")
    pid = await start(runtime, config)
    await until_line(runtime, config.id, "0")
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"Uid:\t{FIRST}\t{FIRST}" in status
    assert os.stat(runtime.container_dir(config.id) / "upper/made").st_uid == FIRST
    session = await runtime.exec(config.id, ExecConfig(args=("cat", "/proc/self/uid_map")))
    said = await session.read()
    assert said is not None
    assert said[1].split() == [b"0", str(FIRST).encode(), str(SIZE).encode()]
    assert await session.wait() == 0
    state = await runtime.stop(config.id, grace=0)
    assert state.exit_code == 137


async def test_it_looks_as_without(rig: Rig, runtime: LocalRuntime) -> None:
    script = (
        "id -u; stat -c %u:%g /bin/busybox /etc/hosts /dev/null; hostname; cat /proc/1/comm; "
        "ls /dev | wc -l; "
        "cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l; grep ^CapEff /proc/self/status; "
        "mount | grep -c ' on /proc/sys '; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; "
        "echo words > /dev/stdout; ip -o a | grep -c lo; head -c 3 /dev/zero | wc -c"
    )
    config = rig.shell(script, hostname="box", files=Files(hosts="127.0.0.1 localhost\n"))
    state, text = await output(runtime, config)
    assert state.exit_code == 0
    assert text.splitlines() == [
        "0", "0:0", "0:0", "65534:65534", "box", "sh", "14", "0", "0", "CapEff:\t00000000a80425fb", "1", "0",
        "words", "2", "3",
    ]  # fmt: skip


async def test_another_user_can_write_to_its_streams(rig: Rig, runtime: LocalRuntime) -> None:
    _, text = await output(runtime, rig.shell("id -u; echo words > /dev/stdout", user="web"))
    assert text == "1000\nwords\n"


async def test_a_volume_keeps_the_numbers_of_the_container(rig: Rig, runtime: LocalRuntime) -> None:
    """The control is a directory of the host, which is shown as it is: as nobody's."""
    volume, shared = rig.base / "volume", rig.base / "shared"
    for directory in (volume, shared):
        directory.mkdir()
        (directory / "old").touch()
    mounts = (
        Mount(source=str(volume), target="/v", kind="volume"), Mount(source=str(shared), target="/s"),
    )  # fmt: skip
    script = (
        "stat -c %u /v/old /s/old; touch /v/new; chown 1000 /v/new; touch /s/new 2>/dev/null || echo refused"
    )
    _, text = await output(runtime, rig.shell(script, mounts=mounts))
    assert text.split() == ["0", "65534", "refused"]
    assert os.stat(volume / "new").st_uid == 1000


async def test_an_image_shown_inside_is_the_containers_too(rig: Rig, runtime: LocalRuntime) -> None:
    """One of its layers is also the root's."""
    (rig.base / "top").mkdir()
    (rig.base / "top/new").touch()
    for layers in ((), (str(rig.image),)):
        mount = Mount(target="/i", kind="image", source=str(rig.base / "top"), layers=layers)
        _, text = await output(runtime, rig.shell("stat -c %u /i/new /i/bin/sh 2>/dev/null", mounts=(mount,)))
        assert text.split() == ["0"] * (1 + len(layers))


@pytest.mark.parametrize("stopped", [False, True])
async def test_files_go_in_and_out_with_the_containers_numbers(
    rig: Rig, runtime: LocalRuntime, stopped: bool
) -> None:
    config = rig.shell("touch /mine; echo up; exec sleep 1000")
    await start(runtime, config)
    await until_line(runtime, config.id, "up")
    if stopped:
        await runtime.stop(config.id, grace=0)
    await runtime.archives.write(config.id, "/", pieces(an_archive(("given", b"x"), uid=7)), keep_owners=True)
    assert os.stat(runtime.container_dir(config.id) / "upper/given").st_uid == FIRST + 7
    for name, uid in (("mine", 0), ("given", 7), ("bin/busybox", 0)):
        (member,) = (await taken(runtime, config.id, f"/{name}")).getmembers()
        assert member.uid == uid, name


async def test_another_runtime_cannot_do_that(rig: Rig, runtime: LocalRuntime) -> None:
    with pytest.raises(Invalid, match="userns=host"):
        await runtime.create(rig.config("true", runtime="crun"))


async def test_it_can_be_left_out_and_some_things_need_that(rig: Rig, runtime: LocalRuntime) -> None:
    _, text = await output(runtime, rig.shell("cat /proc/self/uid_map", userns="host"))
    assert text.split() == ["0", "0", "4294967295"]
    for fields in ({"network_mode": "host"}, {"privileged": True}):
        with pytest.raises(Invalid, match="add userns=host"):
            await runtime.create(rig.config("true", **fields))
    _, text = await output(runtime, rig.config("true", network_mode="host", userns="host"))
    assert text == ""


async def test_a_failure_leaves_nothing(rig: Rig, runtime: LocalRuntime) -> None:
    with pytest.raises(Invalid, match="unable to find user"):
        await runtime.create(rig.config("true", user="nobody-knows"))
    assert runtime.list() == []


@pytest.mark.parametrize("user", ["", "web"])
async def test_streams_and_terminals_belong_to_the_user_inside(
    rig: Rig, runtime: LocalRuntime, user: str
) -> None:
    """Also of what is executed: who could not open them could not write to /dev/stdout either."""
    uid = "1000" if user else "0"
    script = "tty; stat -c '%u %g' $(tty) /dev/console; echo x > /dev/console; read l; echo got $l"
    config = rig.shell(script, tty=True, stdin=True, user=user)
    await runtime.create(config)
    attached = await runtime.attach(config.id)
    await runtime.start(config.id)
    assert await read_until(attached, b"x\n") == f"/dev/pts/0\n{uid} 5\n{uid} 5\nx\n".encode()
    await attached.write(b"line\n")
    await read_until(attached, b"got line\n")
    assert await attached.wait() == 0
    await attached.close()
    config = rig.shell("sleep 1000")
    await start(runtime, config)
    piped = "cat > /dev/stdout; echo err > /dev/stderr; cat < /dev/stdin; id -u"
    session = await runtime.exec(config.id, ExecConfig(args=("sh", "-c", piped), stdin=True, user=user))
    await session.write(b"in\n")
    await session.end_input()
    assert (await read_until(session, f"{uid}\n".encode())).splitlines().count(b"in") == 1
    assert await session.wait() == 0
    await session.close()
    script = "stty size; stat -c '%u %g' $(tty); echo x > /dev/tty"
    wanted = ExecConfig(args=("sh", "-c", script), tty=True, size=Size(33, 44), user=user)
    session = await runtime.exec(config.id, wanted)
    assert await read_until(session, b"x\n") == f"33 44\n{uid} 5\nx\n".encode()
    await session.close()
