"""A snapshot of the whole swarm: made on the leader, and understood again wherever it is restored."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from google.protobuf.message import DecodeError

from swarmd import __version__
from swarmd.kit.clock import Clock
from swarmd.model.errors import Invalid, Unavailable
from swarmd.model.objects import Cluster, Row
from swarmd.rpc import snapshot_file
from swarmd.rpc.snapshot_file import Header
from swarmd.store.core.transaction import NAMES, decode_rows, encode_rows
from swarmd.store.store import Store


class Contents(msgspec.Struct, frozen=True):
    """What a snapshot file holds."""

    header: Header
    cluster: Cluster
    rows: list[Row]


class Snapshots:
    """The use case; runs on the leader."""

    def __init__(
        self, store: Store, barrier: Callable[[], Awaitable[object]], epoch: Callable[[], int], clock: Clock
    ) -> None:
        """``barrier`` returns when this store holds all that was ever acknowledged, anywhere."""
        self._store = store
        self._barrier = barrier
        self._epoch = epoch
        self._clock = clock

    async def take(self) -> bytes:
        """A snapshot file with everything acknowledged before the call.  Raises Unavailable."""
        await self._barrier()
        # One moment of the store; rows never change, so they can be encoded beside it.
        rows, index, epoch, now = self._store.rows(), self._store.index, self._epoch(), self._clock.now()
        return await asyncio.to_thread(lambda: pack(rows, index=index, epoch=epoch, now=now))


def pack(rows: Sequence[Row], *, index: int, epoch: int, now: float) -> bytes:
    """Rows as a snapshot file.  Raises Unavailable when they are of no swarm yet."""
    cluster = _cluster(rows)
    if cluster is None:
        raise Unavailable("the swarm is not initialised yet; try again in a moment")
    header = Header(
        swarmd=__version__,
        cluster_id=cluster.id,
        created_at=now,
        index=index,
        epoch=epoch,
        counts=dict(Counter(NAMES[type(row)] for row in rows)),
    )
    return snapshot_file.encode(header, b"".join(encode_rows(index, rows)))


def unpack(data: bytes, name: str) -> Contents:
    """The contents of the snapshot file ``name``.  Raises Invalid."""
    header, body = snapshot_file.decode(data, name)
    try:
        _, rows = decode_rows(body)
    except (DecodeError, KeyError, ValueError) as error:
        raise Invalid(
            f"The rows of the snapshot {name}, written by swarmd {header.swarmd}, cannot be understood by "
            f"swarmd {__version__} ({error!r}). Restore it with the version that wrote it."
        ) from error
    cluster = _cluster(rows)
    if cluster is None:
        raise Invalid(f"The snapshot {name} holds no swarm. Use another one.")
    return Contents(header, cluster, rows)


def _cluster(rows: Sequence[Row]) -> Cluster | None:
    return next((row for row in rows if isinstance(row, Cluster)), None)
