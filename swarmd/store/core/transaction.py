"""One definition of four things: the log's entry, the change to the tables, the events, the snapshot.

A transaction carries the version of each row it read.  Every replica checks them while applying, in the
same way, so many transactions can be in flight and none holds a lock over a round trip.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from swarmd.model import containers, objects, registry
from swarmd.model.errors import NotUnderstood
from swarmd.model.objects import FEATURE_LEVEL, Row
from swarmd.rpc import codec
from swarmd.rpc.v1 import types_pb2
from swarmd.store.core.levels import check_readable

KINDS: dict[str, type[Row]] = {
    "service": objects.Service,
    "spec_version": objects.SpecVersion,
    "task": objects.Task,
    "node": objects.Node,
    "cluster": objects.Cluster,
    "network": objects.Network,
    "port": objects.PortAllocation,
    "removed_node": objects.RemovedNode,
    "join_token": objects.JoinToken,
    "registry_manifest": registry.RegistryManifest,
    "registry_tag": registry.RegistryTag,
    "registry_credential": registry.RegistryCredential,
    "trust_key": registry.TrustKey,
    "trust_rule": registry.TrustRule,
    "image_scan": registry.ImageScan,
    "address": objects.AddressAllocation,
    "container": containers.SingleContainer,
    "secret": objects.Secret,
}
NAMES: dict[type[Row], str] = {kind: name for name, kind in KINDS.items()}
_ROWS_PER_PIECE = 32


class Put(msgspec.Struct, frozen=True):
    """Create or replace a row.  ``row.version`` is the version that was read; 0: it must not exist."""

    row: Row


class Delete(msgspec.Struct, frozen=True):
    """Remove a row, if it still is at ``version``."""

    kind: type[Row]
    id: str
    version: int


Change = Put | Delete


class Transaction(msgspec.Struct, frozen=True):
    """Changes that happen together or not at all.

    ``at``: seconds since 1970, the proposer's clock.  ``level``: the feature level they were written at.
    """

    at: float
    changes: tuple[Change, ...]
    level: int = 0


def encode(at: float, changes: Sequence[Change], level: int = 0) -> bytes:
    """A transaction as the log keeps it."""
    message = types_pb2.Transaction(at=at, level=level)
    for change in changes:
        message.changes.append(_change_to_proto(change))
    data: bytes = message.SerializeToString()
    return data


def decode(data: bytes, understood: int = FEATURE_LEVEL) -> Transaction:
    """A log entry as a transaction.

    Raises NotUnderstood for one of a newer version, google.protobuf.message.DecodeError on garbage.
    """
    message = types_pb2.Transaction.FromString(data)
    check_readable(message.level, understood)
    changes = tuple(_change_from_proto(one) for one in message.changes)
    return Transaction(at=message.at, changes=changes, level=message.level)


def encode_rows(index: int, rows: Sequence[Row], level: int = 0) -> Iterator[bytes]:
    """Every row, as a snapshot, in pieces: protobuf messages that follow one another are one."""
    yield types_pb2.StoreSnapshot(index=index, level=level).SerializeToString()
    for start in range(0, len(rows), _ROWS_PER_PIECE):
        message = types_pb2.StoreSnapshot()
        for row in rows[start : start + _ROWS_PER_PIECE]:
            message.rows.append(_change_to_proto(Put(row)))
        yield message.SerializeToString()


def decode_rows(data: bytes, understood: int = FEATURE_LEVEL) -> tuple[int, list[Row]]:
    """Index and rows of a snapshot.  Raises NotUnderstood for one of a newer version."""
    message = types_pb2.StoreSnapshot.FromString(data)
    check_readable(message.level, understood)
    return message.index, [codec.decode(_kind(one.kind), one.object) for one in message.rows]


def _change_to_proto(change: Change) -> types_pb2.Change:
    if isinstance(change, Put):
        return types_pb2.Change(kind=NAMES[type(change.row)], object=codec.encode(change.row))
    return types_pb2.Change(kind=NAMES[change.kind], delete_id=change.id, delete_version=change.version)


def _change_from_proto(message: types_pb2.Change) -> Change:
    kind = _kind(message.kind)
    if message.delete_id:
        return Delete(kind, message.delete_id, message.delete_version)
    return Put(codec.decode(kind, message.object))


def _kind(name: str) -> type[Row]:
    kind = KINDS.get(name)
    if kind is None:
        raise NotUnderstood(
            f"The managers have agreed on a row of the kind {name!r}, which this version of swarmd does not "
            "know. Upgrade this manager to the version the others run."
        )
    return kind
