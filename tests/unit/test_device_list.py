"""The devices a node offers to services: patterns of its configuration against what is really there."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.daemon import config
from swarmd.model.errors import Invalid, Refused
from swarmd.node.runtime.core.device_patterns import Found, allows, check_patterns, fixed_part
from swarmd.node.runtime.device_list import DeviceList, block_devices


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/dev/kvm", "/dev/kvm", True),
        ("/dev/kvm", "/dev/kvm2", False),
        ("/dev/dri/*", "/dev/dri/card0", True),
        ("/dev/dri/*", "/dev/dri/by-path/x", False),
        ("/dev/dri/**", "/dev/dri/by-path/x", True),
        ("/dev/tty[0-3]", "/dev/tty2", True),
        ("/dev/tty[!0-3]", "/dev/tty2", False),
        ("/dev/tty[!0-3]", "/dev/tty7", True),
        ("/dev/tty?", "/dev/tty", False),
        ("/dev/a.c", "/dev/abc", False),
        ("*", "/dev/anything/at/all", True),
    ],
)
def test_patterns_match_within_a_directory(pattern: str, path: str, expected: bool) -> None:
    assert allows([pattern], Found(path, path)) is expected


def test_a_link_counts_by_either_of_its_names() -> None:
    link = Found("/dev/cdrom", "/dev/sr0")
    assert allows(["/dev/sr0"], link)
    assert allows(["/dev/cdrom"], link)
    assert not allows(["/dev/cd"], link)


def test_the_disk_of_the_node_needs_its_very_path() -> None:
    disk = Found("/dev/sda", "/dev/sda", of_root_disk=True)
    assert not allows(["/dev/sd*", "*"], disk)
    assert allows(["/dev/sda"], disk)


@pytest.mark.parametrize("pattern", ["kvm", "", "/dev/../etc/*"])
def test_a_pattern_that_means_nothing_is_refused_at_the_start(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="device_allow"):
        check_patterns([pattern])
    file = tmp_path / "swarmd.toml"
    file.write_text(f'device_allow = ["{pattern}"]\n')
    with pytest.raises(Invalid, match="device_allow"):
        config.load(file)


def test_the_search_begins_where_the_wildcards_do() -> None:
    assert [fixed_part(pattern) for pattern in ("*", "/dev/dri/c*", "/dev/kvm")] == [
        "/dev",
        "/dev/dri",
        "/dev",
    ]


def test_a_device_that_is_not_listed_is_refused_with_node_and_setting() -> None:
    with pytest.raises(Refused, match=r"device /dev/null is not offered by node w1: .* device_allow"):
        DeviceList().check(["/dev/null"], node="w1")
    listed = DeviceList(["/dev/nu*"])
    listed.check(["/dev/null"], node="w1")
    with pytest.raises(Refused, match="/dev/zero"):
        listed.check(["/dev/null", "/dev/zero"], node="w1")
    assert listed.offers() == ("/dev/null",)
    assert DeviceList().offers() == ()
    assert DeviceList(["/dev/null", "*"]).offers() == ("*",)


def test_rules_by_number_need_a_node_that_offers_everything() -> None:
    with pytest.raises(Refused, match=r"c 1:3 rwm.* node w1"):
        DeviceList(["/dev/null"]).check([], ["c 1:3 rwm"], node="w1")
    DeviceList(["*"]).check([], ["c 1:3 rwm"], node="w1")


def test_what_is_no_device_is_said_to_be_none() -> None:
    with pytest.raises(Invalid, match="is not a device"):
        DeviceList(["*"]).check([__file__], node="w1")
    with pytest.raises(Invalid, match="No such file"):
        DeviceList(["*"]).check(["/dev/not-there"], node="w1")
    with pytest.raises(Invalid, match=r"read_bps: /dev/null is not a block device"):
        block_devices("read_bps", ["/dev/null"])


def test_a_directory_stands_for_the_devices_in_it(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "zero").symlink_to("/dev/zero")
    both = DeviceList(["/dev/null", "/dev/zero", f"{tmp_path}/*"])
    both.check([str(tmp_path)], node="w1")
    assert both.offers() == ("/dev/null", "/dev/zero", str(tmp_path), f"{tmp_path}/null", f"{tmp_path}/zero")
    with pytest.raises(Refused, match="zero is not offered"):
        DeviceList(["/dev/null"]).check([str(tmp_path)], node="w1")
