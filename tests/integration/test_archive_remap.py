"""Files of containers whose users are others on the host: an archive has the container's numbers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import Mount
from tests.integration.runtime_rig import Rig, running, start, until_line
from tests.integration.test_archive import an_archive, put, taken
from tests.integration.test_runtime_remap import FIRST, Remapped

pytestmark = pytest.mark.root


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Remapped(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as started:
        yield started


@pytest.mark.parametrize("state", ["running", "exited"])
async def test_an_archive_has_the_containers_numbers(rig: Rig, runtime: LocalRuntime, state: str) -> None:
    config = rig.shell("mkdir /d; touch /d/own; chown 1000:1000 /d/own; echo ready; exec sleep 1000")
    await start(runtime, config)
    await until_line(runtime, config.id, "ready")
    if state == "exited":
        await runtime.stop(config.id, grace=0)
    await put(runtime, config.id, "/d", an_archive(("in", b"x"), ("dir", None), ("dir/f", b"y"), uid=7))
    await put(runtime, config.id, "/d", an_archive(("kept", b"x"), uid=7), keep_owners=True)
    got = await taken(runtime, config.id, "/d")
    owners = {info.name: (info.uid, info.gid) for info in got.getmembers()}
    assert owners == {
        "d": (0, 0), "d/dir": (0, 0), "d/dir/f": (0, 0), "d/in": (0, 0), "d/kept": (7, 7),
        "d/own": (1000, 1000),
    }  # fmt: skip
    upper = runtime.container_dir(config.id) / "upper/d"
    assert [(upper / name).stat().st_uid for name in ("in", "kept")] == [FIRST, FIRST + 7]
    image = await taken(runtime, config.id, "/etc/passwd")
    assert image.getmember("passwd").uid == 0


async def test_a_volume_with_mapped_users_takes_files(rig: Rig, runtime: LocalRuntime) -> None:
    volume = rig.base / "volume"
    volume.mkdir()
    config = rig.shell("exec sleep 1000", mounts=(Mount(target="/v", source=str(volume), kind="volume"),))
    await start(runtime, config)
    await put(runtime, config.id, "/v", an_archive(("f", b"x"), ("d", None), ("l", "f")))
    assert [(volume / name).lstat().st_uid for name in ("f", "d", "l")] == [0, 0, 0]
    assert (await taken(runtime, config.id, "/v/f")).getmember("f").uid == 0
