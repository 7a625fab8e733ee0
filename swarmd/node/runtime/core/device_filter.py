"""Which devices a container may use: rules, their BPF program for cgroup v2 and their lines for cgroup v1.

The last rule that speaks of a kind of access to a device decides; what no rule speaks of is denied.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Literal

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import defaults, oci
from swarmd.node.runtime.core.oci_resources import DeviceRule
from swarmd.node.runtime.core.validate import device_rule
from swarmd.node.runtime.port import ContainerConfig, Device

# struct bpf_insn and struct bpf_cgroup_dev_ctx
_LOAD_WORD, _MOVE, _AND32, _SHIFT_RIGHT32 = 0x61, 0xBF, 0x54, 0x74
_GO, _IF_BIT, _IF_NOT, _SET, _EXIT = 0x05, 0x45, 0x55, 0xB7, 0x95
_R0, _R1, _R2, _R3, _R4, _R5 = range(6)
_TYPES = {"b": 1, "c": 2, "u": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_EVERY = "rwm"

Insn = tuple[int, int, int, int, int]  # code, destination, source, jump, value

ANYTHING = (DeviceRule(allow=True, access=_EVERY),)
NOTHING = defaults.DEVICE_RULES[0]
# Any node may be made, those of Docker's table may be used.
DEFAULTS = defaults.DEVICE_RULES[1:]


def rules(config: ContainerConfig, nodes: Iterable[oci.Device]) -> tuple[oci.DeviceRule, ...]:
    """The rules of a container that is given ``nodes``: those it asked for, alone or by their directory.

    Raises :class:`Invalid` for a rule or a permission that does not exist.
    """
    if config.privileged:
        return ANYTHING
    asked = {device.target or device.source: _permissions(device) for device in config.devices}
    wanted = [
        DeviceRule(allow=True, type=_letter(node.type), major=node.major, minor=node.minor, access=access)
        for node in nodes
        if (access := _access_to(node.path, asked))
    ]
    return (NOTHING, *DEFAULTS, *wanted, *map(device_rule, config.device_rules))


def is_everything(every: tuple[DeviceRule, ...]) -> bool:
    """Whether the last rule leaves nothing to be denied."""
    last = every[-1] if every else NOTHING
    anywhere = last.type in ("", "a") and _is(last.major, -1) and _is(last.minor, -1)
    return last.allow and anywhere and set(_access(last)) == set(_EVERY)


def _access_to(path: str, asked: Mapping[str, str]) -> str:
    """By the longest of the paths asked for that leads there."""
    leading = [each for each in asked if path == each or path.startswith(f"{each.rstrip('/')}/")]
    return asked[max(leading, key=len)] if leading else ""


def _letter(kind: str) -> Literal["b", "c"]:
    return "b" if kind == "b" else "c"


def _permissions(device: Device) -> str:
    if not device.permissions or not set(device.permissions) <= set(_EVERY):
        raise Invalid(
            f"device {device.source}: permissions {device.permissions!r} must be made of r, w and m"
        )
    return device.permissions


def allows(every: Iterable[DeviceRule], kind: str, major: int, minor: int, access: str) -> bool:
    """What the rules mean: :func:`program` and :func:`lines` say the same to the kernel."""
    return all(_decides(tuple(every), kind, major, minor, letter) for letter in access)


def _decides(every: tuple[DeviceRule, ...], kind: str, major: int, minor: int, letter: str) -> bool:
    for rule in reversed(every):
        same_kind = rule.type in ("", "a") or _TYPES.get(rule.type) == _TYPES[kind]
        if same_kind and _is(rule.major, major) and _is(rule.minor, minor) and letter in _access(rule):
            return rule.allow
    return False


def _is(wanted: int | None, number: int) -> bool:
    return wanted is None or wanted < 0 or wanted == number


def _access(rule: DeviceRule) -> str:
    return rule.access or _EVERY


def program(every: Iterable[DeviceRule]) -> bytes:
    """A BPF program of type ``cgroup_device``.

    It goes through the rules from the last to the first and keeps in one register what is not decided yet:
    an allowing rule takes its bits out, a denying rule ends it all if it meets one.
    """
    out: list[Insn] = [
        (_LOAD_WORD, _R2, _R1, 0, 0),  # access << 16 | type
        (_MOVE, _R3, _R2, 0, 0),
        (_AND32, _R2, 0, 0, 0xFFFF),
        (_SHIFT_RIGHT32, _R3, 0, 0, 16),
        (_LOAD_WORD, _R4, _R1, 4, 0),  # major
        (_LOAD_WORD, _R5, _R1, 8, 0),  # minor
    ]
    for rule in reversed(tuple(every)):
        out += _conditions(rule)
    out += _answer(0)
    return b"".join(
        struct.pack("<BBhi", code, source << 4 | target, jump, value)
        for code, target, source, jump, value in out
    )


def _conditions(rule: DeviceRule) -> list[Insn]:
    bits = sum(_ACCESS[letter] for letter in set(_access(rule)))
    verdict: list[Insn]
    if rule.allow:
        verdict = [(_AND32, _R3, 0, 0, ~bits & 7), (_IF_NOT, _R3, 0, 2, 0), *_answer(1)]
    else:
        verdict = [(_IF_BIT, _R3, 0, 1, bits), (_GO, 0, 0, 2, 0), *_answer(0)]
    checks: list[tuple[int, int]] = []
    if rule.type not in ("", "a"):
        checks.append((_R2, _TYPES[rule.type]))
    checks += [
        (register, number)
        for register, number in ((_R4, rule.major), (_R5, rule.minor))
        if number is not None and number >= 0
    ]
    left = len(checks) + len(verdict)
    return [
        *((_IF_NOT, register, 0, left - place - 1, value) for place, (register, value) in enumerate(checks)),
        *verdict,
    ]


def _answer(value: int) -> list[Insn]:
    return [(_SET, _R0, 0, 0, value), (_EXIT, 0, 0, 0, 0)]


def lines(every: Iterable[DeviceRule]) -> tuple[tuple[str, str], ...]:
    """(file, line) to be written one after the other into a v1 ``devices`` group."""
    out = []
    for rule in every:
        numbers = ":".join("*" if _is(part, -1) else str(part) for part in (rule.major, rule.minor))
        everything = rule.type in ("", "a") and numbers == "*:*" and set(_access(rule)) == set(_EVERY)
        kinds = ("b", "c") if rule.type in ("", "a") else (_letter(rule.type),)
        texts = ["a"] if everything else [f"{kind} {numbers} {_access(rule)}" for kind in kinds]
        out += [("devices.allow" if rule.allow else "devices.deny", text) for text in texts]
    return tuple(out)
