"""Compiles a system call filter with the machine's libseccomp, once per set of capabilities."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from typing import Any

from swarmd.model.errors import Unavailable
from swarmd.node.runtime.core import seccomp as profile

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM, _EEXIST = 1, 17
_ATTRIBUTE_NNP, _ATTRIBUTE_OPTIMIZE = 3, 8
_OPS = {"lt": 2, "eq": 4, "masked_eq": 7}
_OTHER_ARCHS = {"x86_64": (0x40000003, 0x4000003E), "aarch64": (0x40000028,)}


class _Compare(ctypes.Structure):
    _fields_ = [
        ("argument", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


class Compiler:
    """Filters as arrays of struct sock_filter.  Compiling costs ~10 ms of CPU, so results are kept."""

    def __init__(self, library: str = "libseccomp.so.2") -> None:
        self._library = library
        self._cache: dict[frozenset[str], bytes] = {}

    def filter_for(self, capabilities: frozenset[str]) -> bytes:
        """The program for a container with these capabilities.

        Raises :class:`Unavailable` when this machine cannot compile one.
        """
        program = self._cache.get(capabilities)
        if program is None:
            machine = os.uname().machine
            program = _compile(self._load(), profile.rules(capabilities, machine), machine)
            self._cache[capabilities] = program
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


def _compile(library: Any, rules: Iterable[profile.Rule], machine: str) -> bytes:
    context = library.seccomp_init(_ERRNO | _EPERM)
    if not context:
        raise Unavailable("libseccomp could not start a filter on this kernel")
    try:
        for arch in _OTHER_ARCHS.get(machine, ()):
            _check(library.seccomp_arch_add(context, arch), "add an architecture", allowed=(-_EEXIST,))
        _check(library.seccomp_attr_set(context, _ATTRIBUTE_NNP, 0), "leave no_new_privs alone")
        # A tree is found through in log(n) steps and installs faster; before 2.5 there is only the list.
        library.seccomp_attr_set(context, _ATTRIBUTE_OPTIMIZE, 2)
        for rule in rules:
            _add(library, context, rule)
        return _export(library, context)
    finally:
        library.seccomp_release(context)


def _add(library: Any, context: Any, rule: profile.Rule) -> None:
    number = library.seccomp_syscall_resolve_name(rule.call.encode())
    if number == -1:  # newer than this libseccomp: the default answer stands
        return
    action = _ERRNO | rule.error if rule.error else _ALLOW
    compare = _Compare(argument=rule.argument, op=_OPS.get(rule.op or "", 0), a=rule.value)
    if rule.op == "masked_eq":
        compare.b = 0
    status = library.seccomp_rule_add_array(
        context, action, number, 1 if rule.op else 0, ctypes.byref(compare)
    )
    _check(status, f"add a rule for {rule.call}", allowed=(-_EEXIST,))


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
