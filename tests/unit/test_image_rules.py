"""What a layer's entries mean, and what they may not do."""

from __future__ import annotations

import pytest

from swarmd.image.core.rules import Act, Limits, Step, attributes, link_target, step_for
from swarmd.image.core.tar import Entry, Kind
from swarmd.model.errors import Invalid

LIMITS = Limits()


def step(name: bytes, kind: Kind = Kind.FILE) -> Step:
    return step_for(Entry(name, kind), LIMITS)


@pytest.mark.parametrize("name", [b"a/b", b"./a/b", b"/a/b", b"a//b/", b"/./a/./b"])
def test_every_spelling_of_a_path_lands_below_the_root(name: bytes) -> None:
    assert step(name) == Step(Act.MAKE, (b"a", b"b"))


@pytest.mark.parametrize("name", [b"..", b"../a", b"a/../b", b"/..", b"a/.."])
def test_a_path_that_climbs_is_refused(name: bytes) -> None:
    with pytest.raises(Invalid, match="climbs out"):
        step(name)


def test_names_paths_and_levels_have_limits() -> None:
    assert step(b"n" * 255).parts == (b"n" * 255,)
    with pytest.raises(Invalid, match="name of 256 bytes"):
        step(b"n" * 256)
    with pytest.raises(Invalid, match="path of 4098 bytes"):
        step(b"ab" * 2049)
    with pytest.raises(Invalid, match="257 levels"):
        step(b"a/" * 257)
    with pytest.raises(Invalid, match="NUL"):
        step(b"a\0b")


def test_whiteouts_hide_a_name_or_a_directorys_lowers() -> None:
    assert step(b"a/.wh.b") == Step(Act.WHITEOUT, (b"a", b"b"))
    assert step(b"a/.wh..wh..opq") == Step(Act.OPAQUE, (b"a",))
    assert step(b".wh..wh..opq") == Step(Act.OPAQUE, ())


@pytest.mark.parametrize("name", [b".wh..wh.plnk/1.2", b".wh..wh.aufs", b"a/.wh..wh.orph/x"])
def test_aufs_metadata_is_dropped(name: bytes) -> None:
    assert step(name).act is Act.DROP


@pytest.mark.parametrize("name", [b".wh.", b"a/.wh..", b"a/.wh...", b".wh.a/b"])
def test_senseless_whiteouts_are_refused(name: bytes) -> None:
    with pytest.raises(Invalid, match="whiteout"):
        step(name)


def test_the_root_can_only_be_a_directory() -> None:
    assert step(b"./", Kind.DIR) == Step(Act.MAKE, ())
    with pytest.raises(Invalid, match="makes its root a symbolic link"):
        step(b"./", Kind.SYMLINK)


def test_a_hard_link_points_inside_and_not_to_a_whiteout() -> None:
    assert link_target(Entry(b"a", Kind.HARDLINK, link=b"/x/y"), LIMITS) == (b"x", b"y")
    for bad in (b"", b"/", b".wh.x"):
        with pytest.raises(Invalid, match="no such file"):
            link_target(Entry(b"a", Kind.HARDLINK, link=bad), LIMITS)
    with pytest.raises(Invalid, match="climbs out"):
        link_target(Entry(b"a", Kind.HARDLINK, link=b"../../etc/shadow"), LIMITS)


def test_attributes_that_steer_the_overlay_or_the_machine_never_pass() -> None:
    names = (
        b"trusted.overlay.redirect", b"trusted.overlay.opaque", b"user.overlay.metacopy", b"security.selinux",
        b"user.mine", b"security.capability", b"system.posix_acl_access", b"user.a\0b",
    )  # fmt: skip
    entry = Entry(b"a", Kind.FILE, xattrs=tuple((name, b"v") for name in names))
    assert [key for key, _ in attributes(entry)] == [
        b"user.mine", b"security.capability", b"system.posix_acl_access",
    ]  # fmt: skip
