"""What ``swarmd-runtime`` remembers of a container, what state that is, and how it is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from swarmd.model.errors import Invalid

VERSION = "1.0.2"
Status = Literal["creating", "created", "running", "paused", "stopped"]

_ID = re.compile(r"[A-Za-z0-9_+@:-][A-Za-z0-9_+.@:-]*")
_MAX_ID = 255


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """``pid`` is 0 until the container's process exists, ``started`` when that began (clock ticks) and
    ``boot`` the boot it belongs to; ``v2`` and ``v1`` its cgroups, ``made`` those directories among them and
    above that did not exist before; ``has_poststop``: there are hooks for its end."""

    id: str
    bundle: str
    rootfs: str
    created: str
    owner: str
    pid: int = 0
    started: str = ""
    boot: str = ""
    annotations: Mapping[str, str] = {}
    v2: str = ""
    v1: Mapping[str, str] = {}
    made: tuple[str, ...] = ()
    has_poststop: bool = False


class Seen(msgspec.Struct, frozen=True):
    """What can be observed of a container: whether somebody makes it now, whether its process lives, waits
    to be started, and is frozen."""

    making: bool = False
    alive: bool = False
    waiting: bool = False
    frozen: bool = False


def check_id(text: str) -> None:
    """Raises :class:`Invalid`: the id names a directory."""
    if not _ID.fullmatch(text) or len(text) > _MAX_ID:
        raise Invalid(f"container id {text!r}: use letters, digits and _ + - . @ : only")


def status(seen: Seen) -> Status:
    if seen.making:
        return "creating"
    if not seen.alive:
        return "stopped"
    if seen.frozen:
        return "paused"
    return "created" if seen.waiting else "running"


def hook_state(record: Record, at: str) -> bytes:
    """What a hook reads: the state as the specification has it."""
    return msgspec.json.encode(_state(record, at, pid=record.pid))


def state(record: Record, now: Status) -> str:
    """As ``state`` prints it."""
    pid = 0 if now == "stopped" else record.pid
    document = _state(record, now, pid=pid)
    document |= {
        "rootfs": record.rootfs, "created": record.created, "systemd-scope": "", "owner": record.owner,
    }  # fmt: skip
    return pretty(document)


def _state(record: Record, now: str, *, pid: int) -> dict[str, Any]:
    document: dict[str, Any] = {
        "ociVersion": VERSION, "id": record.id, "pid": pid, "status": now, "bundle": record.bundle,
    }  # fmt: skip
    if record.annotations:
        document["annotations"] = dict(record.annotations)
    return document


def listing(rows: Iterable[tuple[Record, Status]]) -> str:
    """As ``list --format json`` prints it."""
    return pretty(
        [
            {
                "id": record.id,
                "pid": 0 if now == "stopped" else record.pid,
                "status": now,
                "bundle": record.bundle,
                "created": record.created,
                "owner": record.owner,
            }
            for record, now in rows
        ]
    )


def pretty(document: Any) -> str:
    """JSON for people."""
    return msgspec.json.format(msgspec.json.encode(document), indent=4).decode()


def table(rows: Iterable[tuple[Record, Status]]) -> str:
    """As ``list`` prints it: columns as wide as what is in them."""
    lines = [("NAME", "PID", "STATUS", "BUNDLE PATH", "CREATED", "OWNER")]
    for record, now in rows:
        pid = 0 if now == "stopped" else record.pid
        lines.append((record.id, str(pid), now, record.bundle, record.created, record.owner))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        " ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
