"""Decide whether what a service says about its containers can be accepted.

A refusal names the field, the value and the way out.  What depends on a node (its devices, its runtimes, how
many CPUs it has) is for the scheduler and the node.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from swarmd.control.core.probes import probes
from swarmd.model.errors import Invalid
from swarmd.model.kernel import ULIMITS, is_capability, sysctl_namespace
from swarmd.model.spec import ContainerSpec, DeviceSpec, MountSpec, UlimitSpec

MOST_TEXTS = 1 << 18
"""Characters of everything a container is told: an update writes it three times into one change of 1 MiB."""

_MAX_SECCOMP = 1 << 17
_MAX_ENTRIES = 10_000
_MAX_HOSTNAME = 64
_RULE = re.compile(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}")
_SYSCTL = re.compile(r"[^\s/]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_MODES = {
    "pid": ("host",),
    "ipc": ("private", "shareable", "host"),
    "uts": ("host",),
    "cgroupns": ("private", "host"),
    "userns": ("host",),
}


def container(spec: ContainerSpec, runtime: str) -> None:
    """Raises Invalid with the first thing that is wrong; mounts are for :mod:`validate_mounts`."""
    _sizes(spec)
    _texts(spec)
    probes(spec)
    for name in ("cap_add", "cap_drop"):
        _capabilities(name.replace("_", "-"), getattr(spec, name))
    _ulimits(spec.ulimits)
    _modes(spec)
    _sysctls(spec)
    _devices(spec.devices)
    for rule in spec.device_rules:
        if not _RULE.fullmatch(rule):
            raise Invalid(f'device-cgroup-rule "{rule}" is not understood: write it as c 1:3 rwm')
    _names(spec)
    if spec.workdir and not spec.workdir.startswith("/"):
        raise Invalid(f'the working directory "{spec.workdir}" is invalid, it needs to be an absolute path')
    _numbers(spec)
    _seccomp(spec.seccomp)
    if runtime and not _NAME.fullmatch(runtime):
        raise Invalid(
            f'runtime "{runtime}" is no name of one: write local, crun, runc, or as a node calls it'
        )


def _sizes(spec: ContainerSpec) -> None:
    """Measured as a whole: many small texts weigh as much as a large one."""
    size = sum(len(text) for _, texts in _all_texts(spec) for text in texts)
    if size > MOST_TEXTS:
        raise Invalid(
            f"ContainerSpec: {size} characters are more than the {MOST_TEXTS} a service may say about its "
            "containers: shorten env, labels, args or the seccomp profile"
        )
    for field in msgspec.structs.fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, tuple | dict) and len(value) > _MAX_ENTRIES:
            raise Invalid(f"{field.name}: {len(value)} entries are more than {_MAX_ENTRIES}")


def _texts(spec: ContainerSpec) -> None:
    """No process can be given a text with a zero byte in it, no file of lines one with a line break."""
    for what, texts in _all_texts(spec):
        for text in texts:
            if "\0" in text:
                raise Invalid(f"{what} {text!r} contains a zero byte: remove it")
    for what, texts in (
        ("host", spec.hosts), ("dns", spec.dns), ("dns-search", spec.dns_search),
        ("dns-option", spec.dns_options), ("hostname", (spec.hostname,)), ("domainname", (spec.domainname,)),
    ):  # fmt: skip
        for text in texts:
            if any(ord(letter) < 32 for letter in text):
                raise Invalid(f"{what} {text!r} contains a control character: remove it")


def _all_texts(spec: ContainerSpec) -> Iterable[tuple[str, Iterable[str]]]:
    for field in msgspec.structs.fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, str):
            yield field.name, (value,)
        elif isinstance(value, dict):
            yield field.name, (*value.keys(), *value.values())
        elif field.name == "mounts":
            yield "mount", [text for mount in spec.mounts for text in _mount_texts(mount)]
        elif isinstance(value, tuple):
            yield field.name, (one for one in value if isinstance(one, str))


def _mount_texts(mount: MountSpec) -> tuple[str, ...]:
    return (mount.source, mount.target, mount.subpath, *mount.labels.keys(), *mount.labels.values())


def _capabilities(flag: str, names: Iterable[str]) -> None:
    for name in names:
        if not is_capability(name):
            raise Invalid(f'{flag}: there is no capability "{name}": see capabilities(7)')


def _ulimits(limits: Sequence[UlimitSpec]) -> None:
    _once("ulimit", [one.name for one in limits])
    for one in limits:
        if one.name not in ULIMITS:
            raise Invalid(f'ulimit "{one.name}" is not known: use one of {", ".join(sorted(ULIMITS))}')
        if one.soft < -1 or one.hard < -1:
            raise Invalid(
                f"ulimit {one.name}={one.soft}:{one.hard}: limits are 0 or more, or -1 for unlimited"
            )
        if one.hard != -1 and (one.soft > one.hard or one.soft == -1):
            raise Invalid(
                f"ulimit {one.name}: soft limit must be less than or equal to hard limit: "
                f"{one.soft} > {one.hard}"
            )


def _modes(spec: ContainerSpec) -> None:
    given = {
        "pid": spec.pid_mode,
        "ipc": spec.ipc_mode,
        "uts": spec.uts_mode,
        "cgroupns": spec.cgroupns_mode,
        "userns": spec.userns,
    }
    for flag, mode in given.items():
        if mode and mode not in _MODES[flag]:
            ours = " or ".join(_MODES[flag])
            raise Invalid(f'{flag}: mode "{mode}" is not known: use {ours}, or leave it out')
    if spec.init and spec.pid_mode:
        raise Invalid("init needs a process namespace of the container's own: leave out init, or pid")
    if spec.uts_mode == "host" and (spec.hostname or spec.domainname):
        raise Invalid("uts=host takes the node's own host name: leave out hostname and domainname")


def _sysctls(spec: ContainerSpec) -> None:
    for name in spec.sysctls:
        if not _SYSCTL.fullmatch(name) or ".." in name or name.startswith("."):
            raise Invalid(f'sysctl "{name}": write it with single dots, like net.core.somaxconn')
        namespace = sysctl_namespace(name)
        if not namespace:
            raise Invalid(
                f'sysctl "{name}" is not separate per container: set it on the nodes, and leave it out'
            )
        if (namespace == "ipc" and spec.ipc_mode == "host") or (
            namespace == "uts" and spec.uts_mode == "host"
        ):
            raise Invalid(f'sysctl "{name}" is the node\'s own with {namespace}=host: leave one of them out')


def _devices(devices: Sequence[DeviceSpec]) -> None:
    _once("device", [one.target or one.source for one in devices])
    for one in devices:
        for path in filter(None, (one.source, one.target)):
            if not path.startswith("/") or ".." in path.split("/"):
                raise Invalid(f'device "{path}" must be an absolute path without "..", as /dev/fuse')
        if not one.source:
            raise Invalid("device: a source is needed, as /dev/fuse")
        if not set(one.permissions) <= set("rwm"):
            raise Invalid(f'device {one.source}: permissions "{one.permissions}" are not of r, w and m')


def _names(spec: ContainerSpec) -> None:
    for what, name in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if len(name.encode()) > _MAX_HOSTNAME:
            raise Invalid(f'{what} "{name}" is longer than {_MAX_HOSTNAME} bytes')
    for line in spec.hosts:
        address, _, names = line.partition(" ")
        _address("host", address)
        if not names.split() or not all(_HOST_NAME.fullmatch(name) for name in names.split()):
            raise Invalid(f'host "{line}" has no name that fits into a hosts file: write NAME:ADDRESS')
    for server in spec.dns:
        _address("dns", server)
    _each("dns-search", spec.dns_search, lambda text: text == "." or bool(_HOST_NAME.fullmatch(text)))
    _each("dns-option", spec.dns_options, lambda text: bool(text) and " " not in text)
    _each("group", spec.groups, lambda text: bool(text) and ":" not in text)


def _numbers(spec: ContainerSpec) -> None:
    if not -1000 <= spec.oom_score_adj <= 1000:
        raise Invalid(f"oom-score-adj must be between -1000 and 1000, not {spec.oom_score_adj}")
    if spec.shm_size < 0:
        raise Invalid(f"shm-size must be 0 (64 MiB) or more, not {spec.shm_size}")


def _seccomp(profile: str) -> None:
    if profile in ("", "unconfined"):
        return
    if len(profile) > _MAX_SECCOMP:
        raise Invalid(f"seccomp: a profile of {len(profile)} bytes; it may have {_MAX_SECCOMP}")
    try:
        document = msgspec.json.decode(profile)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"seccomp: the profile is no JSON: {error}") from error
    if not isinstance(document, dict) or "defaultAction" not in document:
        raise Invalid("seccomp: the profile has no defaultAction: see Docker's default profile for its shape")


def _address(what: str, text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise Invalid(f'{what}: "{text}" is not an IP address') from None


def _each(flag: str, texts: Iterable[str], fits: Callable[[str], bool]) -> None:
    for text in texts:
        if not fits(text):
            raise Invalid(f'{flag}: "{text}" cannot be used: leave it out or write it otherwise')


def _once(flag: str, keys: Sequence[str]) -> None:
    for key, times in Counter(keys).items():
        if times > 1:
            raise Invalid(f"{flag} {key} is given twice: leave one of them out")
