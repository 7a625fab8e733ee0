"""Decide whether the mounts of a service can be accepted."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from swarmd.model import image_ref, volume_name
from swarmd.model.errors import Invalid
from swarmd.model.spec import MountSpec

_KINDS = ("bind", "volume", "tmpfs", "image")
_PROPAGATIONS = ("", "private", "rprivate", "shared", "rshared", "slave", "rslave")
_RECURSIVE = ("", "enabled", "disabled", "writable", "readonly")
_MAX_MODE = 0o7777
_MAX_PATH = 4095
_OPTION = re.compile(r"[a-z_]+(=[A-Za-z0-9_%.-]+)?")
_LABEL_BYTES = 64 * 1024


def mounts(all_of_them: Sequence[MountSpec]) -> None:
    """Raises Invalid with the first thing that is wrong: each on its own, and all of them together."""
    targets: set[str] = set()
    for mount in all_of_them:
        _mount(mount)
        target = posixpath.normpath(mount.target)
        if target in targets:
            raise Invalid(f"ContainerSpec: duplicate mount point: {mount.target}")
        targets.add(target)


def _mount(mount: MountSpec) -> None:
    if mount.kind not in _KINDS:
        raise Invalid(f'mount type "{mount.kind}" is not supported: use bind, volume, tmpfs or image')
    if not mount.target.startswith("/"):
        raise Invalid(f'invalid mount target, must be an absolute path: "{mount.target}"')
    if posixpath.normpath(mount.target) in ("/", "//"):
        raise Invalid(f'invalid mount target "{mount.target}": the root itself cannot be mounted over')
    if posixpath.normpath(mount.target).lstrip("/").split("/")[0] in ("proc", "sys"):
        raise Invalid(f'invalid mount target "{mount.target}": nothing can be mounted on /proc and /sys')
    for path in (mount.source, mount.target, mount.subpath):
        if len(path.encode()) > _MAX_PATH:
            raise Invalid(f"mount {mount.target[:60]}: a path is longer than {_MAX_PATH} bytes")
    {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs, "image": _image}[mount.kind](mount)
    _strangers(mount)


def _bind(mount: MountSpec) -> None:
    if not mount.source.startswith("/"):
        raise Invalid(f'invalid bind mount source, must be an absolute path: "{mount.source}"')
    if mount.propagation not in _PROPAGATIONS:
        raise Invalid(f'bind-propagation "{mount.propagation}" is not one of {", ".join(_PROPAGATIONS[1:])}')
    if mount.recursive not in _RECURSIVE:
        raise Invalid(f'bind-recursive "{mount.recursive}" is not one of {", ".join(_RECURSIVE[1:])}')
    if mount.recursive in ("writable", "readonly") and not mount.readonly:
        raise Invalid(f"bind-recursive={mount.recursive} of {mount.target} makes sense with readonly only")
    if mount.recursive == "readonly" and mount.propagation not in ("", "rprivate"):
        raise Invalid(f"bind-recursive=readonly of {mount.target} needs bind-propagation=rprivate")


def _volume(mount: MountSpec) -> None:
    if mount.driver not in ("", "local"):
        raise Invalid(
            f'volume-driver "{mount.driver}" of {mount.target} is not known: volumes are directories of the '
            "node (local); mount other storage on the nodes and use type=bind"
        )
    if mount.source.startswith("/"):
        raise Invalid(
            f"invalid volume mount source, must not be an absolute path: {mount.source}: use type=bind for a "
            "directory of the node"
        )
    if mount.source:
        volume_name.check(mount.source)
    _subpath(mount)
    if not mount.source and mount.subpath:
        raise Invalid(f"volume-subpath of {mount.target}: a volume without a name is empty: name its source")
    size = sum(len(key) + len(value) for key, value in mount.labels.items())
    if size > _LABEL_BYTES:
        raise Invalid(f"volume-label of {mount.target}: {size} bytes are more than {_LABEL_BYTES}")
    if "" in mount.labels:
        raise Invalid(f"volume-label of {mount.target}: a label needs a name: write NAME=VALUE")


def _tmpfs(mount: MountSpec) -> None:
    if mount.source:
        raise Invalid(f'a tmpfs mount has no source, not even "{mount.source}"')
    if mount.tmpfs_size < 0:
        raise Invalid(f"tmpfs-size must be 0 (no limit) or more, not {mount.tmpfs_size}")
    if not 0 <= mount.tmpfs_mode <= _MAX_MODE:
        raise Invalid(f"tmpfs-mode must be between 0 and 7777 (octal), not {mount.tmpfs_mode:o}")
    for option in mount.tmpfs_options:
        if not _OPTION.fullmatch(option):
            raise Invalid(f'tmpfs option "{option}" of {mount.target} is not understood: write as noexec')


def _image(mount: MountSpec) -> None:
    try:
        image_ref.parse(mount.source)
    except Invalid as error:
        raise Invalid(f'image mount source "{mount.source}" is not a valid repository/tag') from error
    _subpath(mount)


def _subpath(mount: MountSpec) -> None:
    if mount.subpath.startswith("/") or ".." in mount.subpath.split("/"):
        raise Invalid(
            f'{mount.kind}-subpath "{mount.subpath}" of {mount.target} must be a path below the '
            f'{mount.kind}, without ".."'
        )


def _strangers(mount: MountSpec) -> None:
    """What belongs to another kind of mount is a mistake, not nothing."""
    own = {
        "bind": ("propagation", "recursive", "create_source"),
        "volume": ("no_copy", "subpath", "labels", "driver"),
        "tmpfs": ("tmpfs_size", "tmpfs_options"),
        "image": ("subpath",),
    }
    for kind, names in own.items():
        for name in names:
            if kind != mount.kind and name not in own[mount.kind] and getattr(mount, name):
                raise Invalid(
                    f"{name} of {mount.target}: {kind} mounts have it, a {mount.kind} mount does not"
                )
