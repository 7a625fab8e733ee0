"""The device rules of a container as a BPF program of type ``cgroup_device``, and as v1 ``devices`` lines."""

from __future__ import annotations

import struct

_LOAD_WORD, _MOVE, _AND32, _SHIFT_RIGHT32 = 0x61, 0xBF, 0x54, 0x74
_JUMP, _JUMP_IF, _JUMP_UNLESS, _SET, _EXIT = 0x05, 0x15, 0x55, 0xB7, 0x95
_R0, _R1, _R2, _R3, _R4, _R5 = range(6)
_ONLY_MKNOD, _CHARACTER = 1, 2
ANY = -1

Insn = tuple[int, int, int, int, int]  # code, destination, source, jump, value


def program(devices: tuple[tuple[int, int], ...]) -> bytes:
    """Allows making any node, and opening the character ``devices`` (major, minor or ANY); all else EPERM."""
    body: list[Insn] = []
    for major, minor in devices:
        checks = [(_R4, major)] if minor == ANY else [(_R4, major), (_R5, minor)]
        for position, (register, value) in enumerate(checks):
            body.append((_JUMP_UNLESS, register, 0, len(checks) - position, value))
        body.append((_JUMP, 0, 0, 0, 0))  # to "allow"; filled in below
    head: list[Insn] = [
        (_LOAD_WORD, _R2, _R1, 0, 0),  # access << 16 | type
        (_MOVE, _R3, _R2, 0, 0),
        (_AND32, _R2, 0, 0, 0xFFFF),
        (_SHIFT_RIGHT32, _R3, 0, 0, 16),
        (_LOAD_WORD, _R4, _R1, 4, 0),  # major
        (_LOAD_WORD, _R5, _R1, 8, 0),  # minor
        (_JUMP_IF, _R3, 0, len(body) + 3, _ONLY_MKNOD),
        (_JUMP_UNLESS, _R2, 0, len(body), _CHARACTER),
    ]
    deny: list[Insn] = [(_SET, _R0, 0, 0, 0), (_EXIT, 0, 0, 0, 0)]
    allow: list[Insn] = [(_SET, _R0, 0, 0, 1), (_EXIT, 0, 0, 0, 0)]
    for index, insn in enumerate(body):
        if insn[0] == _JUMP:
            body[index] = (_JUMP, 0, 0, len(body) - index - 1 + len(deny), 0)
    return b"".join(
        struct.pack("<BBhi", code, source << 4 | destination, jump, value)
        for code, destination, source, jump, value in (*head, *body, *deny, *allow)
    )


def lines(devices: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    """The same for ``devices.allow`` of cgroup v1, after everything was denied."""
    rules = [f"c {major}:{'*' if minor == ANY else minor} rwm" for major, minor in devices]
    return ("c *:* m", "b *:* m", *rules)
