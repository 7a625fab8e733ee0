"""The files that a Dockerfile makes are those that buildah makes of it."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.build_rig import BuildRig, building, make_files

pytestmark = pytest.mark.root

DOCKERFILE = """FROM busybox AS source
COPY tree /q/
COPY --chown=5:6 run.sh /q/owned.sh
FROM busybox
COPY a.txt /
COPY a.txt /made/on/the/way
COPY a.txt b.txt /two/
COPY tree /dd
COPY tree/ /de/
COPY empty /em
COPY *.txt /g/
COPY t* /h/
COPY tree/*.txt ?.txt /i/
COPY --chown=web a.txt /o1
COPY --chown=web:extra tree /o2
COPY --chown=7:8 a.txt /o3/
COPY --chmod=0711 tree /o4
COPY a.txt /way/
COPY tree /rel
COPY b.txt /up/z/
COPY tree /old
COPY tree/x.txt /old
COPY deep /old/sub
COPY ["file with space", "/sp ace/"]
COPY ./tree/../a.txt /p/
COPY . /all/
COPY --from=source /q /q2
COPY --from=source /q/lnk /solo
COPY --from=source /q/* /star/
ADD packed.tgz /unpacked/
ADD a.txt tree /added/
COPY packed.tgz /packed/
WORKDIR /w
WORKDIR sub
COPY a.txt .
COPY a.txt ./again/
"""


class Buildah:
    """With storage of its own below ``base``."""

    def __init__(self, base: Path) -> None:
        self._command = ["buildah", "--root", str(base / "root"), "--runroot", str(base / "runroot"),
                         "--storage-driver", "overlay"]  # fmt: skip

    def say(self, *words: str) -> str:
        done = subprocess.run([*self._command, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[Buildah]:
    made = Buildah(tmp_path / "buildah")
    yield made
    made.say("umount", "-a")
    made.say("rm", "-a")
    made.say("rmi", "-a", "-f")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[BuildRig]:
    image = tmp_path / "more"
    make_files(
        image, {"real/kept": "kept", "old/x.txt": "old", "way@": "/real", "rel@": "real", "up@": "../../real"}
    )
    (image / "old").chmod(0o700)
    async with building(tmp_path, image) as made:
        yield made


def files(top: Path) -> dict[str, tuple[object, ...]]:
    """Kind and mode, owner, content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in top.rglob("*"):
        seen = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[str(path.relative_to(top))] = (oct(seen.st_mode), seen.st_uid, seen.st_gid, content)
    return found


def make_context(top: Path) -> Path:
    context = make_files(
        top,
        {"a.txt": "a", "b.txt": "b", "run.sh": ("#!/bin/sh\n", 0o755), "tree/x.txt": "x",
         "tree/sub/y.txt": ("y", 0o755), "tree/lnk@": "x.txt", "tree/.hidden": "h", "deep/f/g/h.txt": "h",
         "file with space": "s"},
    )  # fmt: skip
    (context / "empty").mkdir()
    (context / "empty").chmod(0o1777)
    (context / "tree").chmod(0o750)
    subprocess.run(
        ["tar", "-C", context / "tree", "-czf", context / "packed.tgz", "x.txt", "sub"], check=True
    )
    return context


async def test_copy_and_add_make_what_they_make_in_buildah(
    rig: BuildRig, buildah: Buildah, tmp_path: Path
) -> None:
    context = make_context(tmp_path / "context")
    (tmp_path / "base").write_text("FROM scratch\nCOPY . /\n")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    buildah.say("bud", "-q", "-t", "localhost/busybox", "-f", str(tmp_path / "base"), str(rig.image))
    buildah.say(
        "bud",
        "-q",
        "--layers=false",
        "-t",
        "localhost/judged",
        "-f",
        str(tmp_path / "Dockerfile"),
        str(context),
    )
    theirs = files(Path(buildah.say("mount", buildah.say("from", "localhost/judged"))))
    await rig.build(DOCKERFILE, context, tags=("judged",))
    async with rig.shown("judged") as top:
        ours = files(top)
    assert len(theirs) > 100
    assert {name: ours.get(name) for name in theirs} == theirs
    assert sorted(ours.keys() - theirs.keys()) == []


def test_the_comparison_sees_modes(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    before = files(tmp_path)
    (tmp_path / "x").chmod(0o600 | stat.S_ISUID)
    assert files(tmp_path) != before
