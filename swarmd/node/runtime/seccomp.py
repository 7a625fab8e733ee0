"""Compiles system call filters with the machine's libseccomp, each once."""

from __future__ import annotations

import ctypes
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from swarmd.model.errors import Invalid, Unavailable
from swarmd.node.runtime.core import oci

_EPERM, _EEXIST = 1, 17
_ATTRIBUTE_NNP, _ATTRIBUTE_OPTIMIZE = 3, 8
_ACTIONS = {
    "SCMP_ACT_KILL": 0, "SCMP_ACT_KILL_THREAD": 0, "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000, "SCMP_ACT_ERRNO": 0x00050000, "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000, "SCMP_ACT_ALLOW": 0x7FFF0000,
}  # fmt: skip
_WITH_NUMBER = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_OPS = {
    "SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6, "SCMP_CMP_MASKED_EQ": 7,
}  # fmt: skip
_ARCHITECTURES = {
    "SCMP_ARCH_X86": 0x40000003, "SCMP_ARCH_X86_64": 0xC000003E, "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028, "SCMP_ARCH_AARCH64": 0xC00000B7, "SCMP_ARCH_MIPS": 0x8,
    "SCMP_ARCH_MIPS64": 0x80000008, "SCMP_ARCH_MIPS64N32": 0xA0000008, "SCMP_ARCH_MIPSEL": 0x40000008,
    "SCMP_ARCH_MIPSEL64": 0xC0000008, "SCMP_ARCH_MIPSEL64N32": 0xE0000008, "SCMP_ARCH_PPC": 0x14,
    "SCMP_ARCH_PPC64": 0x80000015, "SCMP_ARCH_PPC64LE": 0xC0000015, "SCMP_ARCH_S390": 0x16,
    "SCMP_ARCH_S390X": 0x80000016, "SCMP_ARCH_PARISC": 0xF, "SCMP_ARCH_PARISC64": 0x8000000F,
    "SCMP_ARCH_RISCV64": 0xC00000F3,
}  # fmt: skip
_MAX_ARGUMENT = 5
_KEPT = 64


class _Compare(ctypes.Structure):
    _fields_ = [
        ("argument", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


class Compiler:
    """Filters as arrays of struct sock_filter.  Compiling costs ~10 ms of CPU, so the last ones are kept."""

    def __init__(self, library: str = "libseccomp.so.2") -> None:
        self._library = library
        self._cache: dict[bytes, bytes] = {}

    def program(self, profile: oci.Seccomp) -> bytes:
        """The program of a profile.

        Raises :class:`Invalid` for a profile that cannot be, :class:`Unavailable` when this machine cannot
        compile one.
        """
        key = oci.encode(profile)
        program = self._cache.get(key)
        if program is None:
            program = _compile(self._load(), profile)
            while len(self._cache) >= _KEPT:
                del self._cache[next(iter(self._cache))]
            self._cache[key] = program
        return program

    def _load(self) -> Any:
        try:
            library = ctypes.CDLL(self._library)
        except OSError as error:
            raise Unavailable(
                f"containers are confined by a system call filter, which needs {self._library}: install the "
                f"package libseccomp2 on this node, or run with seccomp=unconfined ({error})"
            ) from error
        library.seccomp_init.argtypes = [ctypes.c_uint32]
        library.seccomp_init.restype = ctypes.c_void_p
        for name, types in {
            "seccomp_release": [ctypes.c_void_p],
            "seccomp_arch_add": [ctypes.c_void_p, ctypes.c_uint32],
            "seccomp_attr_set": [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32],
            "seccomp_syscall_resolve_name": [ctypes.c_char_p],
            "seccomp_export_bpf": [ctypes.c_void_p, ctypes.c_int],
            "seccomp_rule_add_array": [
                ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Compare),
            ],
        }.items():  # fmt: skip
            getattr(library, name).argtypes = types
        return library


def _compile(library: Any, profile: oci.Seccomp) -> bytes:
    default = _action(profile.default_action, profile.default_errno_ret)
    context = library.seccomp_init(default)
    if not context:
        raise Unavailable("libseccomp could not start a filter on this kernel")
    try:
        for name in profile.architectures:
            if name not in _ARCHITECTURES:
                raise Invalid(f"seccomp: architectures: {name!r} is not known; write it as SCMP_ARCH_X86_64")
            added = library.seccomp_arch_add(context, _ARCHITECTURES[name])
            _check(added, f"add the architecture {name}", allowed=(-_EEXIST,))
        _check(library.seccomp_attr_set(context, _ATTRIBUTE_NNP, 0), "leave no_new_privs alone")
        # A tree is found through in log(n) steps and installs faster; before 2.5 there is only the list.
        library.seccomp_attr_set(context, _ATTRIBUTE_OPTIMIZE, 2)
        for rule in profile.syscalls:
            action = _action(rule.action, rule.errno_ret)
            if action != default:  # libseccomp refuses a rule that changes nothing
                _add(library, context, rule, action)
        return _export(library, context)
    finally:
        library.seccomp_release(context)


def _action(name: str, number: int | None) -> int:
    if name == "SCMP_ACT_NOTIFY":
        raise Invalid("seccomp: SCMP_ACT_NOTIFY is not supported: no listener is started for containers")
    if name not in _ACTIONS:
        raise Invalid(f"seccomp: action {name!r} is not known; use one of {', '.join(_ACTIONS)}")
    if name not in _WITH_NUMBER:
        return _ACTIONS[name]
    return _ACTIONS[name] | (_EPERM if number is None else number & 0xFFFF)


def _add(library: Any, context: Any, rule: oci.Syscall, action: int) -> None:
    conditions = list(_conditions(rule))
    for call in rule.names:
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number == -1:  # newer than this libseccomp: the default answer stands
            continue
        for compares in conditions:
            array = (_Compare * max(1, len(compares)))(*compares)
            status = library.seccomp_rule_add_array(context, action, number, len(compares), array)
            _check(status, f"add a rule for {call}", allowed=(-_EEXIST,))


def _conditions(rule: oci.Syscall) -> Iterator[list[_Compare]]:
    """Arguments must all compare so; two conditions on one argument are two rules, of which one must hold."""
    compares = [_compare(argument) for argument in rule.args]
    if any(count > 1 for count in Counter(argument.index for argument in rule.args).values()):
        yield from ([compare] for compare in compares)
    else:
        yield compares


def _compare(argument: oci.SyscallArg) -> _Compare:
    if argument.op not in _OPS:
        raise Invalid(f"seccomp: op {argument.op!r} is not known; use one of {', '.join(_OPS)}")
    if argument.index > _MAX_ARGUMENT:
        raise Invalid(f"seccomp: a system call has no argument {argument.index}; 0 to {_MAX_ARGUMENT}")
    return _Compare(argument=argument.index, op=_OPS[argument.op], a=argument.value, b=argument.value_two)


def _export(library: Any, context: Any) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        _check(library.seccomp_export_bpf(context, fd), "write the filter")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def _check(status: int, what: str, allowed: tuple[int, ...] = ()) -> None:
    if status < 0 and status not in allowed:
        raise Unavailable(f"libseccomp could not {what}: {os.strerror(-status)}")
