"""System call filters: Docker's JSON, and what the compiled program answers (a small BPF interpreter)."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import oci
from swarmd.node.runtime.core.seccomp import profile
from swarmd.node.runtime.core.seccomp_docker import from_docker
from swarmd.node.runtime.seccomp import Compiler

X86_64, I386 = 0xC000003E, 0x40000003
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0, 0x50001, 0x50026
CLONE, CLONE3, SOCKET, MOUNT, READ, PERSONALITY, KEYCTL, UNSHARE = 56, 435, 41, 165, 0, 135, 250, 272
DOCKERS = frozenset({"CHOWN", "SETUID", "SYS_CHROOT"})


def answer(program: bytes, number: int, *args: int, arch: int = X86_64) -> int:
    """What the kernel would do with a call: runs the classic BPF program on its struct seccomp_data."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *(*args, *[0] * (6 - len(args))))
    instructions = list(struct.iter_unpack("<HBBI", program))
    accumulator = at = 0
    while True:
        code, yes, no, k = instructions[at]
        at += 1
        if code == 0x20:  # load a word
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif code == 0x54:  # and
            accumulator &= k
        elif code == 0x05:  # jump
            at += k
        elif code == 0x06:  # return
            return int(k)
        else:
            test = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: accumulator & k,
            }
            at += yes if test[code] else no


def compiled(**fields: Any) -> bytes:
    return Compiler().program(oci.Seccomp(**{"default_action": "SCMP_ACT_ALLOW", **fields}))


def docker(document: dict[str, Any], capabilities: frozenset[str] = DOCKERS) -> oci.Seccomp:
    return from_docker(json.dumps(document), capabilities, "x86_64", (6, 1))


def test_the_default_filter_answers_as_dockers() -> None:
    program = Compiler().program(profile(DOCKERS, "x86_64"))
    assert answer(program, READ) == ALLOW
    assert [answer(program, call) for call in (MOUNT, KEYCTL, UNSHARE)] == [EPERM] * 3
    assert answer(program, CLONE, 0x11) == ALLOW
    assert answer(program, CLONE, 0x10000000) == EPERM
    assert answer(program, CLONE3) == ENOSYS
    assert answer(program, SOCKET, 2) == ALLOW
    assert [answer(program, SOCKET, family) for family in (38, 40)] == [EPERM] * 2
    assert [answer(program, PERSONALITY, value) for value in (0, 8, 1)] == [ALLOW, ALLOW, EPERM]


def test_other_architectures_are_filtered_and_unknown_ones_killed() -> None:
    program = Compiler().program(profile(DOCKERS, "x86_64"))
    assert answer(program, 3, arch=I386) == ALLOW
    assert answer(program, 21, arch=I386) == EPERM  # mount of i386
    assert answer(program, 0x40000000 | MOUNT) == EPERM  # the same call by its x32 number
    assert answer(program, READ, arch=0x16) == KILL


def test_a_capability_allows_what_it_is_for() -> None:
    program = Compiler().program(profile(DOCKERS | {"SYS_ADMIN"}, "x86_64"))
    assert [answer(program, call) for call in (MOUNT, UNSHARE, CLONE3)] == [ALLOW] * 3
    assert answer(program, CLONE, 0x10000000) == ALLOW


def test_rules_of_docker_depend_on_capability_machine_and_kernel() -> None:
    rules = [
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["keyctl"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"name": "unshare", "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
        {"names": ["write"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        {"names": ["close"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
    ]
    document = {
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": rules,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    }  # fmt: skip
    found = docker(document)
    assert [rule.names for rule in found.syscalls] == [("keyctl",), ("unshare",)]
    assert found.architectures == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")
    program = Compiler().program(found)
    assert (answer(program, KEYCTL), answer(program, MOUNT)) == (ALLOW, ENOSYS)
    admin = docker(document, frozenset({"SYS_ADMIN"}))
    assert [rule.names for rule in admin.syscalls] == [("mount",), ("unshare",)]


@pytest.mark.parametrize(
    ("op", "value", "two", "hits", "misses"),
    [
        ("SCMP_CMP_NE", 5, 0, 4, 5),
        ("SCMP_CMP_LT", 5, 0, 4, 5),
        ("SCMP_CMP_LE", 5, 0, 5, 6),
        ("SCMP_CMP_EQ", 2**40, 0, 2**40, 0),
        ("SCMP_CMP_GE", 5, 0, 5, 4),
        ("SCMP_CMP_GT", 5, 0, 6, 5),
        ("SCMP_CMP_MASKED_EQ", 0xF0, 0x20, 0x2F, 0x3F),
    ],
)
def test_every_comparison_is_understood(op: str, value: int, two: int, hits: int, misses: int) -> None:
    argument = oci.SyscallArg(index=1, value=value, value_two=two, op=op)
    rule = oci.Syscall(names=("read",), action="SCMP_ACT_ERRNO", errno_ret=7, args=(argument,))
    program = compiled(syscalls=(rule,))
    assert (answer(program, READ, 0, hits), answer(program, READ, 0, misses)) == (0x50007, ALLOW)


def test_two_conditions_on_one_argument_are_alternatives() -> None:
    args = tuple(oci.SyscallArg(index=0, value=value, op="SCMP_CMP_EQ") for value in (3, 9))
    program = compiled(syscalls=(oci.Syscall(names=("read",), action="SCMP_ACT_KILL_PROCESS", args=args),))
    assert [answer(program, READ, value) for value in (3, 9, 4)] == [0x80000000, 0x80000000, ALLOW]


def test_a_filter_is_compiled_once() -> None:
    compiler = Compiler()
    first = compiler.program(profile(DOCKERS, "x86_64"))
    assert compiler.program(profile(DOCKERS, "x86_64")) is first
    assert compiler.program(profile(frozenset(), "x86_64")) != first


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"default_action": "SCMP_ACT_PRAY"}, "action 'SCMP_ACT_PRAY'"),
        ({"default_action": "SCMP_ACT_NOTIFY"}, "no listener"),
        ({"architectures": ("SCMP_ARCH_VAX",)}, "'SCMP_ARCH_VAX'"),
        ({"syscalls": (oci.Syscall(names=("read",), action="SCMP_ACT_X"),)}, "SCMP_ACT_X"),
        ({"syscalls": (oci.Syscall(names=("read",), action="SCMP_ACT_TRAP", args=(
            oci.SyscallArg(index=0, value=1, op="SCMP_CMP_X"),)),)}, "op 'SCMP_CMP_X'"),
        ({"syscalls": (oci.Syscall(names=("read",), action="SCMP_ACT_TRAP", args=(
            oci.SyscallArg(index=6, value=1, op="SCMP_CMP_EQ"),)),)}, "no argument 6"),
    ],
)  # fmt: skip
def test_a_filter_that_cannot_be_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        compiled(**fields)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"defaultAction": 1}, "seccomp profile: defaultAction: expected `str`, got `int`"),
        ({"defaultAction": "X", "syscalls": [{"action": "Y"}]}, "either names or a name"),
        ({"defaultAction": "X", "architectures": ["A"], "archMap": [{"architecture": "B"}]}, "not both"),
        ({"defaultAction": "X", "syscalls": [{"name": "a", "action": "Y", "includes": {"minKernel": "x"}}]},
         "write it as 4.8"),
    ],
)  # fmt: skip
def test_a_profile_of_docker_that_cannot_be_is_refused(document: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid) as caught:
        docker(document)
    assert words in str(caught.value)
