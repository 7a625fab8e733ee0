"""The images of a node as a part of the swarm: what it says of an order to fetch one ahead."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from swarmd.daemon.imaging import Imaging
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import NotFound
from swarmd.rpc.v1 import agent_pb2
from tests.unit.test_control_bed import ManualClock


class Node:
    """Its image store, session and fetcher in one; ``fails``: with what a fetch ends."""

    content = None

    def __init__(self, path: Path, fails: Exception | None) -> None:
        self.fails = fails
        self.said: list[tuple[str, str]] = []
        self.failures: list[BaseException] = []
        me: Any = self
        nursery = Nursery(lambda _, error: self.failures.append(error))
        self.imaging = Imaging(
            me, me, session=lambda: me, memory=lambda: me, clock=ManualClock(), nursery=nursery,
            policy=path / "trust.json",
        )  # fmt: skip
        self.imaging.fetcher = me

    async def ensure(self, ref: str, *, progress: Any) -> None:
        if self.fails is not None:
            raise self.fails

    async def prepare(self, ref: str) -> None:
        pass

    def say(self, status: agent_pb2.PreloadStatus) -> None:
        self.said.append((status.state, status.message))

    async def order(self) -> None:
        self.imaging.preload(agent_pb2.Preload(id="p", ref="app:1"))
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))


@pytest.mark.parametrize(
    ("fails", "state", "text"),
    [
        (None, "done", ""),
        (NotFound("No such image: app:1"), "failed", "No such image: app:1"),
        (ZeroDivisionError("by nothing"), "failed", "ZeroDivisionError: by nothing"),
    ],
)
async def test_an_order_ends_whatever_happens(
    tmp_path: Path, fails: Exception | None, state: str, text: str
) -> None:
    node = Node(tmp_path, fails)
    await node.order()
    assert node.said[0] == ("fetching", "")
    assert (node.said[-1][0], text in node.said[-1][1]) == (state, True)
    assert bool(node.failures) == isinstance(fails, ZeroDivisionError)
