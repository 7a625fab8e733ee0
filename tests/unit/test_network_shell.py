"""What looks after a node's network goes on, whatever it meets."""

from __future__ import annotations

import asyncio

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.node.network import shell


async def test_the_keeper_of_the_network_outlives_what_it_did_not_expect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shell, "CHECK_SECONDS", 0.001)
    reported: list[BaseException] = []
    network = shell.Network("n1", SystemClock(), lambda _, error: reported.append(error))
    looked = asyncio.Event()

    async def stale() -> bool:
        if reported:
            looked.set()
            return False
        raise ValueError("an address that is none")

    monkeypatch.setattr(network._publishing, "stale", stale)
    network._ready = True
    network._nursery.start("network keeper", network._keep())
    async with asyncio.timeout(60):
        await looked.wait()
    assert [str(error) for error in reported] == ["an address that is none"]
    await network.stop(clean=False)
