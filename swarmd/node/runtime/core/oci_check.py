"""What a config.json may not say although its form is right: each finding is a sentence with the field."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core.linux import IO_CLASSES, RLIMITS, SCHED_FLAGS, SCHED_POLICIES
from swarmd.node.runtime.core.mountopts import PROPAGATION, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from swarmd.node.runtime.core.oci import Hook, Linux, Process, Spec

_VERSION = re.compile(r"1\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_HOST_NAME_MAX = 64


def check(spec: Spec) -> None:
    """Raises :class:`Invalid` for the first thing that cannot be right."""
    if not _VERSION.fullmatch(spec.oci_version):
        raise Invalid(f"config.json: ociVersion {spec.oci_version!r}: versions 1.x.y are understood")
    if spec.root is None or not spec.root.path:
        raise Invalid("config.json: root.path is missing: it names the container's root directory")
    if spec.process is not None:
        _check_process(spec.process)
    _check_linux(spec.linux)
    _check_names(spec)
    for index, mount in enumerate(spec.mounts):
        if not mount.destination or "\0" in mount.destination:
            raise Invalid(f"config.json: mounts[{index}].destination {mount.destination!r} is not a path")
        parse(mount.options, where=f"config.json: mounts[{index}].options")
    if spec.hooks is not None:
        for name in spec.hooks.__struct_fields__:
            _check_hooks(name, getattr(spec.hooks, name))


def _check_process(process: Process) -> None:
    if not process.cwd.startswith("/"):
        raise Invalid(f"config.json: process.cwd {process.cwd!r} must be an absolute path")
    for text in (*process.args, *process.env, process.cwd):
        if "\0" in text:
            raise Invalid(
                f"config.json: process: {text!r} contains a zero byte, which no program can be given"
            )
    _check_rlimits(process)
    if process.oom_score_adj is not None and not -1000 <= process.oom_score_adj <= 1000:
        raise Invalid(f"config.json: process.oomScoreAdj {process.oom_score_adj} is not in -1000..1000")
    _check_priorities(process)


def _check_priorities(process: Process) -> None:
    if process.scheduler is not None:
        for name, known in (
            (process.scheduler.policy, SCHED_POLICIES),
            *((flag, SCHED_FLAGS) for flag in process.scheduler.flags),
        ):
            if name not in known:
                raise Invalid(f"config.json: process.scheduler: {name!r}: use one of {', '.join(known)}")
    if process.io_priority is not None:
        if process.io_priority.io_class not in IO_CLASSES:
            raise Invalid(
                f"config.json: process.ioPriority.class {process.io_priority.io_class!r}: "
                f"use one of {', '.join(IO_CLASSES)}"
            )
        if not 0 <= process.io_priority.priority <= 7:
            raise Invalid("config.json: process.ioPriority.priority must be 0 to 7")


def _check_rlimits(process: Process) -> None:
    _refuse_twice("process.rlimits", (limit.type for limit in process.rlimits))
    for limit in process.rlimits:
        if limit.type.removeprefix("RLIMIT_").lower() not in RLIMITS or not limit.type.startswith("RLIMIT_"):
            raise Invalid(f"config.json: process.rlimits: there is no limit {limit.type!r}; see setrlimit(2)")
        if limit.soft > limit.hard:
            raise Invalid(
                f"config.json: process.rlimits: {limit.type}: soft limit {limit.soft} is above "
                f"hard limit {limit.hard}"
            )


def _check_linux(linux: Linux) -> None:
    _refuse_twice("linux.namespaces", (space.type for space in linux.namespaces))
    for space in linux.namespaces:
        if space.path and not space.path.startswith("/"):
            raise Invalid(
                f"config.json: linux.namespaces: path {space.path!r} of {space.type} is not absolute"
            )
    own = {space.type: space for space in linux.namespaces}
    if (linux.uid_mappings or linux.gid_mappings) and "user" not in own:
        raise Invalid(
            "config.json: linux.uidMappings and gidMappings need a user namespace in linux.namespaces"
        )
    if linux.time_offsets and "time" not in own:
        raise Invalid("config.json: linux.timeOffsets needs a time namespace in linux.namespaces")
    if linux.rootfs_propagation not in ("", *PROPAGATION):
        raise Invalid(
            f"config.json: linux.rootfsPropagation {linux.rootfs_propagation!r}: "
            f"use one of {', '.join(PROPAGATION)}"
        )
    for index, device in enumerate(linux.devices):
        if not device.path.startswith("/"):
            raise Invalid(f"config.json: linux.devices[{index}].path {device.path!r} must be absolute")
    _check_rest(linux)


def _check_rest(linux: Linux) -> None:
    if linux.mount_label:
        raise Invalid(f"config.json: linux.mountLabel {linux.mount_label!r} is not supported; leave it out")
    if linux.personality is not None and linux.personality.flags:
        raise Invalid("config.json: linux.personality.flags: no flags exist")
    if linux.personality is not None and linux.personality.domain not in ("LINUX", "LINUX32"):
        raise Invalid(
            f"config.json: linux.personality.domain {linux.personality.domain!r}: use LINUX or LINUX32"
        )


def _check_names(spec: Spec) -> None:
    for name, value in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if value and spec.namespace("uts") is None:
            raise Invalid(f"config.json: {name} needs a uts namespace in linux.namespaces")
        if len(value.encode()) > _HOST_NAME_MAX:
            raise Invalid(f"config.json: {name} {value!r} is longer than {_HOST_NAME_MAX} bytes")


def _check_hooks(name: str, hooks: tuple[Hook, ...]) -> None:
    for hook in hooks:
        if not hook.path.startswith("/"):
            raise Invalid(f"config.json: hooks.{name}: path {hook.path!r} must be absolute")
        if hook.timeout is not None and hook.timeout <= 0:
            raise Invalid(f"config.json: hooks.{name}: timeout {hook.timeout} must be more than 0 seconds")


def _refuse_twice(field: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise Invalid(f"config.json: {field}: {name} is given {count} times; once is enough")
