"""What nodes say of their certificates between two hellos, gathered while the last commit is in flight."""

from __future__ import annotations

import asyncio

from swarmd.model.errors import OutOfSequence
from swarmd.model.objects import Node, NodeCertificate
from swarmd.model.replace import replace
from swarmd.rpc import codec
from swarmd.rpc.v1 import types_pb2
from swarmd.store.core.transaction import Put
from swarmd.store.store import Store

BATCH = 100
"""Rows in one transaction."""


class Certificates:
    """The reports of all sessions, for one term."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reports: dict[str, NodeCertificate] = {}
        self._reported = asyncio.Event()

    def take(self, node_id: str, report: types_pb2.NodeCertificate) -> None:
        """What a node said last counts."""
        self._reports[node_id] = codec.from_proto(NodeCertificate, report)
        self._reported.set()

    async def run(self) -> None:
        """Until cancelled at the end of the term."""
        while True:
            await self._reported.wait()
            self._reported.clear()
            reports, self._reports = list(self._reports.items()), {}
            for start in range(0, len(reports), BATCH):
                await self._store_batch(dict(reports[start : start + BATCH]))

    async def _store_batch(self, reports: dict[str, NodeCertificate]) -> None:
        while True:
            rows = (self._store.get(Node, node_id) for node_id in reports)
            changed = [
                replace(row, status=replace(row.status, certificate=reports[row.id]))
                for row in rows
                if row is not None and row.status.certificate != reports[row.id]
            ]
            try:
                await self._store.commit([Put(row) for row in changed])
            except OutOfSequence:
                continue  # a verdict changed one of them meanwhile: read again
            return
