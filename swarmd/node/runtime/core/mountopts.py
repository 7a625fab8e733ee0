"""The option strings of a mount, as mount(8) and the OCI runtime specification have them, as numbers.

The runtime-spec's list is closed, but a file system has options of its own: what is not in the tables is
handed to it as data.
"""

from __future__ import annotations

import msgspec

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core.linux import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)

ATIME_MASK, NOATIME, STRICTATIME = 0x70, 0x10, 0x20
PROPAGATION = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | MS_REC,
}
_ATTRIBUTES: dict[str, tuple[int, int]] = {  # set, clear
    "ro": (MOUNT_ATTR_RDONLY, 0),
    "rw": (0, MOUNT_ATTR_RDONLY),
    "nosuid": (MOUNT_ATTR_NOSUID, 0),
    "suid": (0, MOUNT_ATTR_NOSUID),
    "nodev": (MOUNT_ATTR_NODEV, 0),
    "dev": (0, MOUNT_ATTR_NODEV),
    "noexec": (MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, MOUNT_ATTR_NOEXEC),
    "noatime": (NOATIME, ATIME_MASK),
    "atime": (0, ATIME_MASK),
    "strictatime": (STRICTATIME, ATIME_MASK),
    "nostrictatime": (0, ATIME_MASK),
    "relatime": (0, ATIME_MASK),
    "norelatime": (0, ATIME_MASK),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, MOUNT_ATTR_NOSYMFOLLOW),
}
_SUPERBLOCK = {"sync": "sync", "async": "async", "dirsync": "dirsync", "lazytime": "lazytime", "mand": "mand"}
_IGNORED = frozenset(
    {"defaults", "remount", "nolazytime", "nomand", "silent", "loud", "iversion", "noiversion"}
)
_COPY_UP = frozenset({"tmpcopyup", "copyup"})
_NO_DATA = _IGNORED | _COPY_UP | {"bind", "rbind", "idmap", "ridmap"}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """``set``/``clear`` are bits of mount_setattr(2), ``below_*`` those for mounts below as well.

    ``bind`` and ``recursive`` say whether a tree is taken; ``propagation`` are MS_ bits, 0: as made; ``data``
    are the file system's own options; ``idmap`` asks for ids as the user namespace (or the mount's mappings)
    has them, ``below_idmap`` for mounts below too.
    """

    set: int = 0
    clear: int = 0
    below_set: int = 0
    below_clear: int = 0
    bind: bool = False
    recursive: bool = False
    propagation: tuple[int, ...] = ()
    data: tuple[str, ...] = ()
    copy_up: bool = False
    idmap: bool = False
    below_idmap: bool = False


def parse(options: tuple[str, ...], *, where: str = "mount options") -> Options:
    """The options in order: a later one overrides an earlier one.  :class:`Invalid` for impossible text."""
    bits = {"": [0, 0], "r": [0, 0]}
    propagation: list[int] = []
    data: list[str] = []
    words = set(options)
    for option in options:
        below = option[:1] == "r" and option[1:] in _ATTRIBUTES and option not in _ATTRIBUTES
        attribute = _ATTRIBUTES.get(option[1:] if below else option)
        if attribute is not None:
            _lay(bits["r" if below else ""], *attribute)
        elif option in PROPAGATION:
            propagation.append(PROPAGATION[option])
        elif not option or "\0" in option:
            raise Invalid(f"{where}: {option!r} is not an option")
        elif option not in _NO_DATA:
            data.append(_SUPERBLOCK.get(option, option))
    return Options(
        set=bits[""][0],
        clear=bits[""][1],
        below_set=bits["r"][0],
        below_clear=bits["r"][1],
        bind=bool(words & {"bind", "rbind"}),
        recursive="rbind" in words,
        propagation=tuple(propagation),
        data=tuple(data),
        copy_up=bool(words & _COPY_UP),
        idmap=bool(words & {"idmap", "ridmap"}),
        below_idmap="ridmap" in words,
    )


def names() -> tuple[str, ...]:
    """Every option that is understood here and not left to a file system."""
    below = {f"r{name}" for name in _ATTRIBUTES}
    others = {*PROPAGATION, *_SUPERBLOCK, *_NO_DATA}
    return tuple(sorted({*_ATTRIBUTES, *below, *others}))


def _lay(bits: list[int], wanted: int, unwanted: int) -> None:
    bits[0] = bits[0] & ~unwanted | wanted
    bits[1] = bits[1] & ~wanted | unwanted
