"""Which devices a container may use: the rules, and that program and lines tell the kernel the same."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.model.errors import Invalid
from swarmd.node.runtime import hostdevices
from swarmd.node.runtime.core import device_filter, oci
from swarmd.node.runtime.core.device_filter import ANYTHING, DEFAULTS, NOTHING
from swarmd.node.runtime.core.oci_resources import DeviceRule
from swarmd.node.runtime.port import ContainerConfig, Device

_BITS = {"m": 1, "r": 2, "w": 4}
_KINDS = {"b": 1, "c": 2}
ORDINARY = (NOTHING, *DEFAULTS)


def runs(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """Runs a device program as the kernel would."""
    memory = struct.pack("<III", sum(_BITS[letter] for letter in access) << 16 | _KINDS[kind], major, minor)
    registers = [0] * 6
    insns = list(struct.iter_unpack("<BBhi", program))
    counter = 0
    while True:
        code, both, jump, value = insns[counter]
        target, source = both & 15, both >> 4
        counter += 1
        if code == 0x61:
            registers[target] = struct.unpack_from("<I", memory, jump)[0]
        elif code == 0xBF:
            registers[target] = registers[source]
        elif code == 0x54:
            registers[target] &= value
        elif code == 0x74:
            registers[target] >>= value
        elif code == 0xB7:
            registers[target] = value
        elif code == 0x95:
            return registers[0] == 1
        else:
            taken = {0x05: True, 0x45: bool(registers[target] & value), 0x55: registers[target] != value}[
                code
            ]
            counter += jump if taken else 0


def test_dockers_devices_may_be_used_and_any_node_made() -> None:
    program = device_filter.program(ORDINARY)
    for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, 0), (136, 99)):
        assert runs(program, "c", major, minor, "rw")
        assert not runs(program, "b", major, minor, "r")
    for major, minor in ((1, 1), (1, 2), (1, 11), (5, 3), (10, 229), (137, 0)):
        assert not runs(program, "c", major, minor, "r")
        assert not runs(program, "c", major, minor, "mr")
        assert runs(program, "c", major, minor, "m")
    assert runs(program, "b", 254, 0, "m")


RULES = st.builds(
    DeviceRule,
    allow=st.booleans(),
    type=st.sampled_from(["", "a", "b", "c"]),
    major=st.sampled_from([None, -1, 1, 8]),
    minor=st.sampled_from([None, 0, 3]),
    access=st.sampled_from(["", "r", "w", "m", "rw", "rm", "rwm"]),
)


@given(
    st.lists(RULES, max_size=8),
    st.sampled_from("bc"),
    st.sampled_from([1, 8, 9]),
    st.sampled_from([0, 3, 4]),
    st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"]),
)
def test_the_program_says_what_the_rules_say(
    rules: list[DeviceRule], kind: str, major: int, minor: int, access: str
) -> None:
    expected = device_filter.allows(rules, kind, major, minor, access)
    assert runs(device_filter.program(rules), kind, major, minor, access) == expected


def test_the_lines_of_v1_come_in_the_order_of_the_rules() -> None:
    rules = (
        NOTHING,
        DeviceRule(allow=True, type="c", major=13, access="r"),
        DeviceRule(allow=False, access="w"),
    )
    assert device_filter.lines(rules) == (
        ("devices.deny", "a"),
        ("devices.allow", "c 13:* r"),
        ("devices.deny", "b *:* w"),
        ("devices.deny", "c *:* w"),
    )
    assert ("devices.allow", "c 136:* rwm") in device_filter.lines(ORDINARY)


def config(**fields: Any) -> ContainerConfig:
    return ContainerConfig(id="c", lower_dirs=("/x",), args=("true",), **fields)


def node(path: str, kind: Literal["b", "c"], major: int, minor: int) -> oci.Device:
    return oci.Device(type=kind, path=path, major=major, minor=minor)


def test_a_container_gets_its_devices_its_rules_and_the_defaults() -> None:
    nodes = (node("/dev/kvm", "c", 10, 232), node("/dev/snd/seq", "c", 116, 1))
    devices = (Device("/dev/kvm", permissions="rw"), Device("/dev/snd", permissions="r"))
    rules = device_filter.rules(config(devices=devices, device_rules=("b 7:* r",)), nodes)
    assert device_filter.allows(rules, "c", 10, 232, "rw")
    assert device_filter.allows(rules, "c", 116, 1, "r")
    assert not device_filter.allows(rules, "c", 116, 1, "w")
    assert device_filter.allows(rules, "b", 7, 5, "r")
    assert not device_filter.allows(rules, "b", 7, 5, "w")
    assert not device_filter.allows(rules, "c", 10, 229, "r")
    assert device_filter.allows(rules, "c", 1, 3, "rw")


def test_nothing_is_loaded_for_a_container_that_may_have_everything() -> None:
    assert device_filter.is_everything(device_filter.rules(config(privileged=True), ()))
    assert device_filter.is_everything((NOTHING, DeviceRule(allow=True)))
    assert not device_filter.is_everything(())
    for last in (NOTHING, DeviceRule(allow=True, type="c"), DeviceRule(allow=True, access="r")):
        assert not device_filter.is_everything((DeviceRule(allow=True), last))
    assert device_filter.allows(ANYTHING, "b", 254, 0, "rwm")


def test_permissions_that_do_not_exist_are_refused() -> None:
    with pytest.raises(Invalid, match="device /dev/kvm: permissions 'rx'"):
        device_filter.rules(config(devices=(Device("/dev/kvm", permissions="rx"),)), ())


def test_a_device_that_is_unplugged_while_its_directory_is_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "gone")
    (tmp_path / "below").mkdir()
    listed = list(os.scandir(tmp_path))
    (tmp_path / "gone").unlink()
    (tmp_path / "below").rmdir()
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed if path == str(tmp_path) else scandir(path))
    config = ContainerConfig(id="c", lower_dirs=(), args=("true",), devices=(Device(str(tmp_path)),))
    assert hostdevices.nodes(config) == ()
