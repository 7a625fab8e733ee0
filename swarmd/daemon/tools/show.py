"""What lies in a manager's state, for a person or as JSON.  Pure.

No secret is shown: rows by kind, id and name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from google.protobuf.message import DecodeError

from swarmd.model.objects import Node, Row, Service, Task
from swarmd.model.states import Role
from swarmd.store.core.transaction import NAMES, Change, Put, decode, decode_rows
from swarmd.store.raft.envelope import Barrier, Command, Envelope, Seal
from swarmd.store.raft.reading import BaseFile, LogFile, Picture, envelopes, replay
from swarmd.store.store import StoreState


class Standing(msgspec.Struct, frozen=True):
    """How far the state in ``name`` is, and what a manager that goes on from it has.

    ``epoch``, ``term`` and ``entry`` order the managers of one swarm: the greater one knows more.
    """

    name: str
    epoch: int
    term: int
    entry: int
    change: int
    members: tuple[str, ...]
    counts: dict[str, int]
    services: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def position(self) -> tuple[int, int, int]:
        return self.epoch, self.term, self.entry


def standing(name: str, picture: Picture) -> Standing | None:
    """None where there is nothing to go on from."""
    if picture.newest is None:
        return None
    found = replay(picture.newest.base, picture.chain, StoreState())
    rows = decode_rows(found.base.state)[1] if found.base.state else []
    epoch, term, entry = picture.position
    return Standing(
        name=name,
        epoch=epoch,
        term=term,
        entry=entry,
        change=found.base.applied,
        members=tuple(sorted(found.base.members)),
        counts=dict(sorted(Counter(NAMES[type(row)] for row in rows).items())),
        services=tuple(sorted(row.spec.name for row in rows if isinstance(row, Service))),
        nodes=tuple(sorted(_node(row) for row in rows if isinstance(row, Node))),
    )


def standing_lines(found: Standing) -> list[str]:
    """A standing in words."""
    counts = found.counts
    return [
        f"State in {found.name}:",
        f"  epoch {found.epoch}, last entry {found.entry} of term {found.term}, change {found.change}",
        f"  managers in the group: {', '.join(found.members)}",
        f"  {counts.get('node', 0)} nodes: {', '.join(found.nodes) or 'none'}",
        f"  {counts.get('service', 0)} services: {', '.join(found.services) or 'none'}",
        f"  {counts.get('task', 0)} tasks",
    ]


def comparison(found: Iterable[Standing]) -> list[str]:
    """A table of standings, the most current first, and a sentence."""
    ordered = sorted(found, key=lambda one: one.position, reverse=True)
    rows = [("EPOCH", "TERM", "ENTRY", "CHANGE", "SERVICES", "DIRECTORY")]
    for one in ordered:
        numbers = (one.epoch, one.term, one.entry, one.change, len(one.services))
        rows.append((*(str(number) for number in numbers), one.name))  # type: ignore[arg-type]
    lines = ["  ".join([*(cell.ljust(8) for cell in row[:-1]), row[-1]]) for row in rows]
    equal = [one.name for one in ordered if one.position == ordered[0].position]
    if len(equal) > 1:
        return [*lines, f"Equally current: {', '.join(equal)}."]
    return [*lines, f"The most current is {equal[0]}."]


def dump_lines(picture: Picture, *, entries: bool) -> list[str]:
    """Epochs, members, files and, if asked for, log entries."""
    floor = picture.floor
    lines = [f"{picture.directory}", f"floor      epoch {floor.epoch}: {_members(floor.members)}"]
    for epoch in sorted({*picture.bases, *picture.logs}):
        held, log = picture.bases.get(epoch), picture.logs.get(epoch)
        if held is not None:
            lines += [f"epoch {epoch}", f"  members  {_members(held.base.members)}", _base_line(held)]
        else:
            lines += [f"epoch {epoch}", "  base     none here yet: it follows from the log before"]
        if log is not None:
            lines += _marker_lines(log)
            lines.append(_log_line(log))
            lines += _entry_lines(log) if entries else []
    return [*lines, *(f"damaged    {problem.text}" for problem in picture.problems)]


def dump_data(picture: Picture, *, entries: bool) -> dict[str, Any]:
    """The same for a program."""
    return {
        "directory": str(picture.directory),
        "floor": {"epoch": picture.floor.epoch, "members": picture.floor.members},
        "bases": [_base_data(held) for _, held in sorted(picture.bases.items())],
        "logs": [_log_data(log, entries=entries) for _, log in sorted(picture.logs.items())],
        "problems": [{"file": str(one.path), "text": one.text} for one in picture.problems],
    }


def _base_line(held: BaseFile) -> str:
    base = held.base
    return (
        f"  base     change {base.applied}, {len(base.sessions)} sessions, {_rows_text(base.state)}; "
        f"{held.size} bytes, checksum right ({held.path.name})"
    )


def _marker_lines(log: LogFile) -> list[str]:
    if log.marker is None:
        return []
    begun = f"change {log.marker.applied}, behind entry {log.marker.sealed} of epoch {log.epoch - 1}"
    return [f"  begun    {begun}: {_members(log.marker.members)}"]


def _log_line(log: LogFile) -> str:
    torn = log.size - log.good_bytes
    text = (
        f"  log      {len(log.entries)} entries in {log.records} records, term {log.term}, "
        f"voted for {log.vote or 'nobody'}; {log.good_bytes} bytes, checksums right ({log.path.name})"
    )
    return f"{text}; then {torn} bytes of a write that a crash cut short" if torn else text


def _entry_lines(log: LogFile) -> list[str]:
    lines = []
    for entry, envelope in envelopes(log):
        proposal = f"{envelope.session[:8]}#{envelope.sequence}" if envelope is not None else ""
        lines.append(f"    {entry.index:>8}  term {entry.term:<4} {proposal:<15} {_said(envelope)}")
    return lines


def _base_data(held: BaseFile) -> dict[str, Any]:
    base = held.base
    return {
        "file": held.path.name,
        "bytes": held.size,
        "epoch": base.epoch,
        "members": base.members,
        "change": base.applied,
        "sessions": len(base.sessions),
        "rows": _counts(base.state),
    }


def _log_data(log: LogFile, *, entries: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "file": log.path.name,
        "bytes": log.good_bytes,
        "torn_bytes": log.size - log.good_bytes,
        "epoch": log.epoch,
        "members": log.marker.members if log.marker is not None else None,
        "records": log.records,
        "term": log.term,
        "vote": log.vote,
        "entries": len(log.entries),
    }
    if entries:
        data["log"] = [
            {
                "index": entry.index,
                "term": entry.term,
                "session": envelope.session if envelope is not None else None,
                "sequence": envelope.sequence if envelope is not None else None,
                "says": _said(envelope),
            }
            for entry, envelope in envelopes(log)
        ]
    return data


def _said(envelope: Envelope | None) -> str:
    if envelope is None:
        return "the beginning of a term"
    match envelope.body:
        case Seal(members):
            return f"seal: the next epoch is of {_members(members)}"
        case Barrier():
            return "barrier"
        case Command(data):
            try:
                return ", ".join(_change(one) for one in decode(data).changes)
            except (DecodeError, KeyError, ValueError) as error:
                return f"a change that this version cannot read ({error!r})"


def _change(change: Change) -> str:
    if not isinstance(change, Put):
        return f"delete {NAMES[change.kind]} {change.id}"
    row: Row = change.row
    kind = f"put {NAMES[type(row)]} {row.id}"
    if isinstance(row, Service):
        return f"{kind} {row.spec.name}"
    if isinstance(row, Task):
        return f"{kind} {row.name} {row.state.name.lower()}/{row.desired_state.name.lower()}"
    return f"{kind} {row.status.state.value}" if isinstance(row, Node) else kind


def _node(node: Node) -> str:
    role = Role.MANAGER if Role.MANAGER in (node.role, node.spec.role) else Role.WORKER
    return f"{node.description.hostname or node.id} ({role.value}, {node.status.address})"


def _members(members: Mapping[str, str]) -> str:
    return ", ".join(f"{node_id} at {address}" for node_id, address in sorted(members.items())) or "nobody"


def _counts(state: bytes) -> dict[str, int]:
    rows = decode_rows(state)[1] if state else []
    return dict(sorted(Counter(NAMES[type(row)] for row in rows).items()))


def _rows_text(state: bytes) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in _counts(state).items()) or "no rows"
