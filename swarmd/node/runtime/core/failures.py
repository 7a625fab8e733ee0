"""Turns what the spawner or a cloned child reports into the error a user sees."""

from __future__ import annotations

import errno

from swarmd.model.errors import Conflict, Invalid, Refused, SwarmError, Unavailable
from swarmd.node.runtime.core.exits import CANNOT, NOT_STARTED, StartFailed, exec_failure

_DOING = {
    "overlay": "mounting the image layers",
    "mapped_overlay": "mounting the image layers with mapped ids",
    "mapped_root": "changing to the container's root",
    "user_namespace": "making the user namespace",
    "idmap": "mapping the ids of a mount",
    "inner": "making the namespaces",
    "filesystem": "mounting",
    "pivot": "changing to the container's root",
    "join": "entering the cgroup",
    "clone": "making the namespaces",
    "enter_container": "entering the container",
    "terminal": "opening a terminal",
    "console": "opening the container's terminal",
    "mount": "mounting",
    "attach": "mounting",
    "sysctl": "setting sysctl",
    "workdir": "making the working directory",
    "hostname": "setting the hostname",
    "rlimit": "setting a ulimit",
    "mask": "masking",
    "readonly": "making read-only",
    "enter": "entering the namespace",
    "rootfs": "mounting the root",
    "devices": "making the devices",
    "oom_score_adj": "setting the OOM score",
    "domainname": "setting the domain name",
    "chdir": "changing to the working directory",
    "seccomp": "installing the system call filter",
    "identity": "changing to the user",
}
_USERS_OWN = frozenset(
    {"runtime_create", "source", "attach", "mount", "devices", "user", "workdir", "sysctl", "rlimit"}
)
_WRITING = frozenset({"overlay", "mapped_overlay", "attach", "mount", "workdir"})
"""They make directories and files on a disk.  Others run out of room elsewhere: in the kernel's tables."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def creation_failure(step: str, subject: str, number: int, text: str) -> SwarmError:
    """Why a container could not be made: :class:`Invalid` if its config asks for the impossible."""
    if number == errno.EEXIST and step == "create":
        return Conflict(text)
    sentence = _sentence(step, subject, text)
    if number in _FULL and step in _WRITING:
        return Unavailable(f"{sentence}: free some (swarmctl system prune) or enlarge the disk")
    if step == "overlay" and number == errno.EINVAL:
        sentence += " (the data directory may be on an overlay itself: put it on a volume or a real disk)"
    return Invalid(sentence) if step in _USERS_OWN else Unavailable(sentence)


def start_failure(step: str, subject: str, number: int, text: str) -> StartFailed:
    """Why a container's program did not start, with the exit code Docker gives it."""
    if step in ("exec", "program", "runtime_start"):
        return exec_failure(number, text)
    if step == "chdir":
        return exec_failure(number, _sentence(step, subject, text))
    return StartFailed(_sentence(step, subject, text), NOT_STARTED)


def exec_failure_of(step: str, subject: str, number: int, text: str) -> SwarmError:
    """Why a further program was not executed: :class:`Refused` if the container is not there for it."""
    if number == errno.ESRCH and step in ("clone", "enter_container"):
        return Refused("the container is not running: programs can be run in a running one only")
    if step == "user":
        return StartFailed(text, CANNOT)
    return start_failure(step, subject, number, text)


def attach_failure(step: str, subject: str, number: int, text: str) -> SwarmError:
    """Why a container's terminal or input cannot be reached."""
    return Refused(text) if number == errno.ESRCH else Unavailable(_sentence(step, subject, text))


def _sentence(step: str, subject: str, text: str) -> str:
    doing = _DOING.get(step)
    if doing is None:
        return text
    return f"{doing} {subject}: {text}" if subject else f"{doing}: {text}"
