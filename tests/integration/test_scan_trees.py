"""What is installed, read from layers that are made to mislead; Debian's order against dpkg itself."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from swarmd.image.lowers import OPAQUE
from swarmd.image.scan import inventory, merged
from swarmd.image.scan.core import versions

pytestmark = pytest.mark.root


@pytest.fixture
def layer(tmp_path: Path) -> Callable[..., Path]:
    """Makes an unpacked layer of {path: text}."""
    count = itertools.count()

    def make(files: dict[str, str] | None = None) -> Path:
        root = tmp_path / f"layer{next(count)}"
        root.mkdir()
        for path, text in (files or {}).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        return root

    return make


def whiteout(layer: Path, path: str) -> None:
    (layer / path).parent.mkdir(parents=True, exist_ok=True)
    os.mknod(layer / path, 0o20600, os.makedev(0, 0))


def seen(*layers: Path) -> dict[str, str]:
    """``layers``: topmost first."""
    return {path: content.decode() for path, content in merged.files(layers, lambda path: 1 << 20)}


def test_upper_layers_replace_hide_and_empty_what_is_below(layer: Callable[..., Path]) -> None:
    low = layer({"a/kept": "1", "a/gone": "1", "a/new": "1", "b/x": "1", "c/x": "1", "d/x": "1", "e": "1"})
    high = layer({"a/new": "2", "b/y": "2", "c": "2", "e/x": "2"})
    whiteout(high, "a/gone")
    whiteout(high, "d")
    os.setxattr(high / "b", OPAQUE, b"y")
    assert seen(high, low) == {"a/kept": "1", "a/new": "2", "b/y": "2", "c": "2", "e/x": "2"}
    assert seen(layer({"c/z": "3", "d/z": "3"}), high, low) == {
        "a/kept": "1", "a/new": "2", "b/y": "2", "c/z": "3", "d/z": "3", "e/x": "2",
    }  # fmt: skip


def test_the_merged_view_is_overlayfss_own(layer: Callable[..., Path], tmp_path: Path) -> None:
    chosen = random.Random(7)
    layers = []
    for _ in range(6):
        root = layer()
        for _ in range(20):
            path = "/".join(chosen.choice("abcd") for _ in range(chosen.randint(1, 3)))
            target = root / path
            above = [one for one in target.parents if os.path.lexists(one)]
            if os.path.lexists(target) or any(one.is_symlink() or not one.is_dir() for one in above):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            kind = chosen.randrange(12)
            if kind == 0:
                whiteout(root, path)
            elif kind == 1:
                target.mkdir()
                os.setxattr(target, OPAQUE, b"y")
            elif kind == 2:
                target.symlink_to(chosen.choice(["a", "../b", "/c"]))
            else:
                target.write_text(f"{root.name} {path}")
        layers.append(root)
    at = tmp_path / "mounted"
    at.mkdir()
    lowers = ":".join(str(one) for one in layers)
    subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={lowers}", "overlay", at], check=True)
    try:
        real = {
            str(file.relative_to(at)): file.read_text()
            for file in at.rglob("*")
            if file.is_file() and not file.is_symlink() and not any(one.is_symlink() for one in file.parents)
        }
    finally:
        subprocess.run(["umount", at], check=True)
    assert len(real) > 5
    assert seen(*layers) == real


def test_links_pipes_and_devices_lead_nowhere(layer: Callable[..., Path], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "status").write_text("Package: secret\nVersion: 1\n")
    root = layer({"opt/a-1.dist-info/METADATA": "Name: a\nVersion: 1\n", "etc/os-release": "ID=debian\n"})
    (root / "var/lib").mkdir(parents=True)
    (root / "var/lib/dpkg").symlink_to(outside)
    (root / "opt/b-1.dist-info").mkdir()
    os.mkfifo(root / "opt/b-1.dist-info/METADATA")
    (root / "opt/c-1.dist-info").mkdir()
    os.mknod(root / "opt/c-1.dist-info/METADATA", 0o20600, os.makedev(1, 5))
    (root / "opt/d-1.dist-info").mkdir()
    (root / "opt/d-1.dist-info/METADATA").symlink_to("/etc/shadow")
    (root / os.fsdecode(b"opt/\xff-1.egg-info")).write_text("Name: e\nVersion: 2\n")
    found = inventory.of_layers([root])
    assert [(one.name, one.version) for one in found.packages] == [("a", "1"), ("e", "2")]
    assert found.distribution.id == "debian"
    assert found.packages[1].path == "opt/\ufffd-1.egg-info"


def test_a_deep_tree_is_visited_to_its_end(layer: Callable[..., Path]) -> None:
    root = layer()
    deep = "/".join(["d" * 40] * 80)
    os.makedirs(root / deep)
    (root / deep / "x.egg-info").write_text("Name: deep\nVersion: 1\n")
    assert [one.name for one in inventory.of_layers([root] * 5).packages] == ["deep"]


def test_debians_order_is_dpkgs() -> None:
    chosen = random.Random(11)
    pieces = ["0", "1", "10", "01", "a", "b", "Z", "~", "~rc", "+", ".", "-", "+b1", "~bpo"]

    def number() -> str:
        epoch = chosen.choice(["", "", "", "0:", "1:"])
        return f"{epoch}{chosen.randrange(3)}{''.join(chosen.choices(pieces, k=chosen.randrange(6)))}".rstrip(
            "-"
        )

    pairs = [(number(), number()) for _ in range(150)]
    for one, other in pairs:
        for sign, holds in (("lt", versions.debian(one) < versions.debian(other)),
                            ("eq", versions.debian(one) == versions.debian(other))):  # fmt: skip
            done = subprocess.run(
                ["dpkg", "--compare-versions", one, sign, other], check=False, stderr=subprocess.PIPE
            )
            assert (done.returncode == 0) is holds, (one, sign, other, done.stderr)
