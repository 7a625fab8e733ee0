"""The languages of ``--mount``, ``--volume`` and ``--tmpfs``.  Pure; ValueError with a sentence."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from swarmd.cli.spec_text import fields_of, parse_boolean
from swarmd.cli.units import parse_size

KINDS = ("bind", "volume", "tmpfs", "image")
PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
RECURSIVE = ("enabled", "disabled", "writable", "readonly")


class Mount(NamedTuple):
    """Fields as in MountSpec."""

    kind: str
    source: str
    target: str
    readonly: bool = False
    tmpfs_size: int = 0
    tmpfs_mode: int = 0o1777
    propagation: str = ""
    recursive: str = ""
    create_source: bool = False
    no_copy: bool = False
    subpath: str = ""
    labels: Mapping[str, str] = MappingProxyType({})
    driver: str = ""
    tmpfs_options: tuple[str, ...] = ()


_SPELLINGS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_KEYS = (
    "type", "source", "target", "readonly", "consistency", "bind-propagation", "bind-recursive",
    "bind-create-src", "volume-nocopy", "volume-subpath", "volume-label", "volume-driver", "volume-opt",
    "image-subpath", "tmpfs-size", "tmpfs-mode",
)  # fmt: skip
_BARE = ("readonly", "ro", "bind-create-src", "volume-nocopy")


def parse_mount(text: str) -> Mount:
    """``type=bind,source=/etc,target=/x,readonly``; a relative bind source is taken from here."""
    given, labels = _given(text)
    kind, source = given.get("type", "volume").lower(), given.get("source", "")
    if kind not in KINDS:
        raise ValueError(f"invalid mount type '{kind}': write {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    if not given.get("target"):
        raise ValueError(f"target is required in '{text}'")
    for key in (*given, *(["volume-label"] if labels else [])):
        own, dash, _ = key.partition("-")
        if dash and own != kind:
            raise ValueError(f"cannot mix '{own}-*' options with mount type '{kind}'")
    return Mount(
        kind=kind,
        source=os.path.abspath(source) if kind == "bind" and source.startswith(".") else source,
        target=given["target"],
        readonly=_flag(given, "readonly"),
        tmpfs_size=parse_size(given.get("tmpfs-size", "0")),
        tmpfs_mode=_octal(given.get("tmpfs-mode", "1777")),
        propagation=_choice(given, "bind-propagation", PROPAGATIONS),
        recursive=_choice(given, "bind-recursive", RECURSIVE),
        create_source=_flag(given, "bind-create-src"),
        no_copy=_flag(given, "volume-nocopy"),
        subpath=given.get(f"{kind}-subpath", ""),
        labels=labels,
        driver=given.get("volume-driver", ""),
    )


def parse_volume(text: str) -> Mount:
    """``[SOURCE:]TARGET[:OPTIONS]`` as of ``docker run -v``: a source with a slash is a path."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not parts[min(1, len(parts) - 1)]:
        raise ValueError(f"invalid volume '{text}': write [SOURCE:]TARGET[:OPTIONS]")
    if len(parts) == 1:
        return Mount("volume", "", parts[0])
    source = os.path.abspath(os.path.expanduser(parts[0])) if _is_path(parts[0]) else parts[0]
    bind = source.startswith("/")
    found: dict[str, Any] = {"create_source": bind}
    for option in filter(None, (parts[2] if len(parts) == 3 else "").split(",")):
        found |= _volume_option(option, bind, text)
    return Mount("bind" if bind else "volume", source, parts[1], **found)


def parse_tmpfs(text: str) -> Mount:
    """``TARGET[:OPTIONS]`` as of ``docker run --tmpfs``: ``size=64m,mode=1777,noexec``."""
    target, _, options = text.partition(":")
    if not target:
        raise ValueError(f"invalid tmpfs '{text}': write TARGET[:OPTIONS]")
    found: dict[str, Any] = {}
    plain: list[str] = []
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name == "size":
            found["tmpfs_size"] = parse_size(value)
        elif name == "mode":
            found["tmpfs_mode"] = _octal(value)
        elif option in ("ro", "rw"):
            found["readonly"] = option == "ro"
        else:
            plain.append(option)
    return Mount("tmpfs", "", target, tmpfs_options=tuple(plain), **found)


def _given(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """(the keys with their values, the labels)."""
    given: dict[str, str] = {}
    labels: dict[str, str] = {}
    for name, value in fields_of(text, bare=_BARE):
        key = _SPELLINGS.get(name, name)
        if key not in _KEYS:
            raise ValueError(f"unexpected key '{name}' in '{text}': known are {', '.join(_KEYS)}")
        if key == "volume-label":
            labels[value.partition("=")[0]] = value.partition("=")[2]
        elif key == "volume-opt":
            raise ValueError("volume-opt: volumes are directories of the node and take no driver options")
        elif key != "consistency":  # means nothing but on a Mac, and Docker ignores it as well
            given[key] = value
    return given, labels


def _is_path(source: str) -> bool:
    return source.startswith((".", "~")) or "/" in source


def _volume_option(option: str, bind: bool, text: str) -> dict[str, Any]:
    if option in ("ro", "rw"):
        return {"readonly": option == "ro"}
    if option == "nocopy" and not bind:
        return {"no_copy": True}
    if option in PROPAGATIONS and bind:
        return {"propagation": option}
    raise ValueError(f"invalid option '{option}' in '{text}': known are ro, rw, nocopy of a volume, and "
                     f"{', '.join(PROPAGATIONS)} of a directory")  # fmt: skip


def _flag(given: dict[str, str], key: str) -> bool:
    return parse_boolean(key, given.get(key, "false"))


def _choice(given: dict[str, str], key: str, known: tuple[str, ...]) -> str:
    value = given.get(key, "").lower()
    if value and value not in known:
        raise ValueError(f"invalid value for {key}: {value} (known are {', '.join(known)})")
    return value


def _octal(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise ValueError(f"invalid value for tmpfs-mode: {text} (write it in octal, as 1777)") from None
