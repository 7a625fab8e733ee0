"""Looks at device nodes of this machine: what they are, and which of them services may be given."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping

from swarmd.model.errors import Invalid, Refused
from swarmd.model.objects import EVERY_DEVICE
from swarmd.node.runtime import kernfiles
from swarmd.node.runtime.core import device_patterns
from swarmd.node.runtime.core.device_patterns import Found

_MOST_OFFERED = 256  # they are in a row that every manager has
_OF_THE_PROCESS = {"stdin", "stdout", "stderr"}  # links to whatever this daemon was started with
Node = tuple[str, int, int]  # b or c, major, minor


class DeviceList:
    """What the operator of this node lets services have: nothing, unless ``device_allow`` lists it."""

    def __init__(self, patterns: Iterable[str] = (), *, keeps: Iterable[str] = ("/",)) -> None:
        """``keeps``: paths whose disks hold the node's own files.  Raises :class:`Invalid` for a pattern."""
        self._patterns = tuple(patterns)
        device_patterns.check_patterns(self._patterns)
        self._keeps = tuple(keeps)

    def check(self, paths: Iterable[str], rules: Iterable[str] = (), *, node: str) -> None:
        """Raises :class:`Refused` for a device this node does not offer, :class:`Invalid` for none at all.

        ``rules`` speak of devices by number, so only a node that offers all of them takes any.
        """
        for rule in rules:
            if EVERY_DEVICE not in self._patterns:
                raise Refused(
                    f'device-cgroup-rule "{rule}" is refused by node {node}: rules name devices by number, '
                    'and device_allow in its configuration does not have "*" (all devices)'
                )
        for path in (each for asked in paths for each in _meant(asked)):
            found = self._found(path)
            if not device_patterns.allows(self._patterns, found):
                listed = ", ".join(self._patterns) or "nothing now"
                own = "; it holds the node's own files, so no wildcard means it" if found.of_root_disk else ""
                raise Refused(
                    f"device {path} is not offered by node {node}: its operator lists devices for services "
                    f"in device_allow of its configuration ({listed}){own}"
                )

    def offers(self) -> tuple[str, ...]:
        """The devices of the list that are there, by path, and directories with nothing else in them.

        ``*`` alone says all of it; of a very long list the first ones.
        """
        if EVERY_DEVICE in self._patterns:
            return (EVERY_DEVICE,)
        found = {path for pattern in self._patterns for path in _below(device_patterns.fixed_part(pattern))}
        listed = {path for path in found if device_patterns.allows(self._patterns, self._found(path))}
        whole = {place for place in map(os.path.dirname, listed) if set(_below(place)) <= listed}
        return tuple(sorted(listed | whole)[:_MOST_OFFERED])

    def _found(self, path: str) -> Found:
        real = os.path.realpath(path)
        kind, major, minor = _look_up(path)
        own = kind == "b" and bool(_disks(f"{major}:{minor}") & self._own_disks())
        return Found(path, real, own)

    def _own_disks(self) -> set[str]:
        return {disk for path in self._keeps for device in _device_under(path) for disk in _disks(device)}


def block_devices(field: str, paths: Iterable[str]) -> Mapping[str, tuple[int, int]]:
    """Path → (major, minor) of what can be throttled; else :class:`Invalid` naming ``field``."""
    found = {}
    for path in paths:
        kind, major, minor = _look_up(path)
        if kind != "b":
            raise Invalid(f"{field}: {path} is not a block device, so it has no rate to be limited")
        found[path] = (major, minor)
    return found


def _look_up(path: str) -> Node:
    try:
        found = os.stat(path)
    except OSError as error:
        raise Invalid(f"device {path!r}: {error.strerror} on this node") from error
    if not stat.S_ISBLK(found.st_mode) and not stat.S_ISCHR(found.st_mode):
        raise Invalid(f"device {path!r} is not a device on this node")
    kind = "b" if stat.S_ISBLK(found.st_mode) else "c"
    return kind, os.major(found.st_rdev), os.minor(found.st_rdev)


def _meant(path: str) -> Iterable[str]:
    """A directory stands for the devices in it."""
    return sorted(_below(path)) if os.path.isdir(path) else [path]


def _below(directory: str) -> Iterator[str]:
    for parent, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if name not in ("pts", "mqueue", "shm", "fd")]
        for name in set(names) - _OF_THE_PROCESS:
            path = f"{parent}/{name}"
            try:
                mode = os.stat(path).st_mode
            except OSError:  # a link that leads nowhere
                continue
            if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
                yield path


def _device_under(path: str) -> list[str]:
    """MAJOR:MINOR of what a path is stored on, also where the file system has no number of its own."""
    device = os.stat(path).st_dev
    numbers = f"{os.major(device)}:{os.minor(device)}"
    if os.major(device):
        return [numbers]
    for line in kernfiles.read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        source = right.split(" ")[1] if len(right.split(" ")) > 1 else ""
        if left.split(" ")[2] == numbers and source.startswith("/dev/") and os.path.exists(source):
            kind, major, minor = _look_up(source)
            return [f"{major}:{minor}"] if kind == "b" else []
    return []


def _disks(device: str) -> set[str]:
    """The device with the whole disk it is a part of, and what both are made of (LVM, RAID, encryption)."""
    found: set[str] = set()
    waiting = [f"/sys/dev/block/{device}"]
    while waiting:
        place = os.path.realpath(waiting.pop())
        number = kernfiles.read(f"{place}/dev").strip()
        if not number or number in found:
            continue
        found.add(number)
        if os.path.exists(f"{place}/partition"):
            waiting.append(os.path.dirname(place))
        slaves = f"{place}/slaves"
        if os.path.isdir(slaves):
            waiting += [f"{slaves}/{name}" for name in os.listdir(slaves)]
    return found
