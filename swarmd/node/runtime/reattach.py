"""What the spawner knows, when a daemon comes (back) to it."""

from __future__ import annotations

from typing import Any

import msgspec

from swarmd.kit.clock import Clock
from swarmd.node.runtime.client import SpawnClient

_SETTLE_PAUSE = 0.02
_SETTLE_PATIENCE = 10.0
_TRANSITIONAL = ("creating", "starting")


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One container as the spawner tells of it (``spawnd.py`` has the meaning of the fields)."""

    id: str
    status: str
    pid: int
    started: float
    finished: float
    wait_status: int | None
    failure: tuple[str, str, int, str] | None


def row(values: tuple[Any, ...]) -> Row:
    return msgspec.convert(values, Row)


async def settled_rows(spawner: SpawnClient, clock: Clock) -> list[Row]:
    """All containers; those between two states are waited for, which takes milliseconds."""
    end = clock.monotonic() + _SETTLE_PATIENCE
    while True:
        rows = await _rows(spawner)
        if all(each.status not in _TRANSITIONAL for each in rows) or clock.monotonic() > end:
            return rows
        await clock.sleep(_SETTLE_PAUSE)


async def _rows(spawner: SpawnClient) -> list[Row]:
    rows: list[Row] = []
    after = ""
    while True:
        (page,), _ = await spawner.call("list", after)
        if not page:
            return rows
        rows += [row(values) for values in page]
        after = rows[-1].id
