"""Cgroups of local clusters are made while others are removed beside them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from swarmd.cli.local import cgroup
from swarmd.cli.local.core.hierarchies import Hierarchy

NAMES = ("cpuset.cpus", "cpuset.mems")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cpuset hierarchy, in which new directories have no processors."""
    made = Path.mkdir

    def mkdir(path: Path, *, exist_ok: bool = False) -> None:
        made(path, exist_ok=exist_ok)
        for name in ("tasks", *NAMES):
            (path / name).touch()

    here = Hierarchy(mountpoint=str(tmp_path), kind="cgroup", options="cpuset", own=str(tmp_path))
    monkeypatch.setattr(cgroup, "here", lambda: (here,))
    for name in NAMES:
        (tmp_path / name).write_text("0-1")
    monkeypatch.setattr(Path, "mkdir", mkdir)
    return tmp_path


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV])
def test_a_directory_that_another_cluster_removes_is_made_again(
    base: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The kernel says that there is no such file, or of a file that is open that there is no such device."""
    read, failures = Path.read_text, [number, number]

    def read_text(path: Path) -> str:
        if failures and path.is_relative_to(base / "swarmd-local"):
            raise OSError(failures.pop(), os.strerror(number))
        return read(path)

    monkeypatch.setattr(Path, "read_text", read_text)
    cgroup.make([f"{base}/swarmd-local/one/node1"])
    assert failures == []
    assert [read(base / "swarmd-local/one/node1" / name) for name in NAMES] == ["0-1", "0-1"]


def test_a_directory_that_cannot_be_made_is_told(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *, exist_ok: bool) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError):
        cgroup.make([f"{base}/swarmd-local/one/node1"])
