"""Decide what a container's file system gets: its spec's mounts, and the volumes its image asks for."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import Literal, cast

import msgspec

from swarmd.image.core.config import ImageConfig
from swarmd.model.errors import Invalid
from swarmd.model.spec import MountSpec
from swarmd.node.runtime.port import Mount

_KINDS = ("bind", "volume", "tmpfs", "image")
Recursive = Literal["enabled", "disabled", "writable", "readonly"]


class Source(msgspec.Struct, frozen=True):
    """Where the content of a mount is on this node; ``layers``: of an image, those below ``path``."""

    path: str = ""
    layers: tuple[str, ...] = ()


Sources = Mapping[str, Source]
"""By the mount's target."""


def wanted(mounts: Iterable[MountSpec], image: ImageConfig) -> tuple[MountSpec, ...]:
    """The mounts, and an anonymous volume for each that the image declares and no mount covers.

    Raises Invalid for two mounts on one place: templates may have led there.
    """
    given: dict[str, MountSpec] = {}
    for mount in mounts:
        place = posixpath.normpath(mount.target)
        if place in given:
            raise Invalid(f"duplicate mount point: {mount.target}")
        given[place] = mount
    for target in image.volumes:
        place = posixpath.normpath(target)
        if place.startswith("/") and place != "/":
            given.setdefault(place, MountSpec(target=target))
    return tuple(given.values())


def bind_sources(mounts: Iterable[MountSpec], *, create: bool) -> tuple[str, ...]:
    """Host paths that have to be there, or those that are made when they are not (``create``)."""
    return tuple(mount.source for mount in mounts if mount.kind == "bind" and mount.create_source is create)


def images(mounts: Iterable[MountSpec]) -> tuple[str, ...]:
    """References of the images that are mounted."""
    return tuple(mount.source for mount in mounts if mount.kind == "image")


def to_mount(mount: MountSpec, source: Source) -> Mount:
    """As the runtime is told it.  Raises Invalid for a kind that this version does not know."""
    if mount.kind not in _KINDS:
        raise Invalid(f'mount type "{mount.kind}" of {mount.target} is not known on this node: upgrade it')
    if mount.kind == "tmpfs":
        return Mount(
            target=mount.target,
            kind="tmpfs",
            readonly=mount.readonly,
            size=mount.tmpfs_size,
            mode=mount.tmpfs_mode,
            options=mount.tmpfs_options,
        )
    return Mount(
        target=mount.target,
        source=source.path,
        kind=cast("Literal['bind', 'volume', 'image']", mount.kind),
        readonly=mount.readonly or mount.kind == "image",
        subpath=mount.subpath,
        layers=source.layers,
        propagation=mount.propagation or "rprivate",
        recursive=cast("Recursive", mount.recursive or "enabled"),
        copy_up=mount.kind == "volume" and not mount.no_copy,
    )
