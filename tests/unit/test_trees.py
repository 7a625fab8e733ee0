"""Trees that somebody else has filled are removed and measured, whatever was built there."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.kit.trees import disk_use, remove_tree
from swarmd.node.runtime.storage import Storage


@pytest.fixture(autouse=True)
def cleared(tmp_path: Path) -> Iterator[None]:
    """A failing test leaves what pytest itself cannot remove."""
    yield
    subprocess.run(["rm", "-rf", "--", *tmp_path.iterdir()], check=True)


def deep(path: Path, levels: int) -> None:
    """Directories in each other, deeper than any path can name, with a file at the end."""
    path.mkdir()
    here = os.open(path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT, dir_fd=here))
    os.close(here)


def test_a_tree_deeper_than_any_path_and_any_stack_is_removed(tmp_path: Path) -> None:
    deep(tmp_path / "tree", 5000)
    disk_use(tmp_path / "tree")
    remove_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


def test_depth_costs_no_descriptors(tmp_path: Path) -> None:
    deep(tmp_path / "tree", 600)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 10, before[1]))
    try:
        remove_tree(tmp_path / "tree")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert list(tmp_path.iterdir()) == []


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x" * 1_000_000)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "directory").symlink_to(outside)
    (tree / "file").symlink_to(outside / "precious")
    assert disk_use(tree) < 100_000
    remove_tree(tree)
    assert (outside / "precious").stat().st_size == 1_000_000
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        remove_tree(tmp_path / "link")
    assert disk_use(tmp_path / "link") == 0
    assert (outside / "precious").exists()


def test_names_that_look_like_ours_and_names_that_are_no_text_are_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in (".0", ".1", "a", os.fsdecode(b"\xff\xfe")):
        (tree / name / ".2" / ".0").mkdir(parents=True)
        (tree / name / ".1").write_text("x")
    os.mkfifo(tree / ".3")
    remove_tree(tree)
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_two_names_counts_once_and_a_sparse_one_as_what_it_takes(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "one").write_bytes(b"x" * 100_000)
    (tmp_path / "below" / "two").hardlink_to(tmp_path / "one")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert 100_000 <= disk_use(tmp_path) < 150_000


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert disk_use(tmp_path / "nothing") == 0
    with pytest.raises(FileNotFoundError):
        remove_tree(tmp_path / "nothing")


def test_what_a_container_nested_without_end_goes_with_it(tmp_path: Path) -> None:
    (tmp_path / "containers" / "c1").mkdir(parents=True)
    deep(tmp_path / "containers" / "c1" / "upper", 3000)
    Storage(tmp_path, tmp_path / "run").remove("c1")
    assert list((tmp_path / "containers").iterdir()) == []
