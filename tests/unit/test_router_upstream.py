"""Connections of a router to tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from swarmd.node.router.upstream import Pool, Upstream


class Transport(asyncio.Transport):
    """Of a connection that is open."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass


@pytest.mark.parametrize("is_reset", [False, True])
async def test_nothing_is_left_of_a_connection_that_is_reset_as_soon_as_it_is_made(
    is_reset: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def create(make: Callable[[], Upstream], address: str, port: int) -> tuple[Transport, Upstream]:
        made = make()
        made.connection_made(Transport())
        if is_reset:
            made.connection_lost(ConnectionResetError())
        return Transport(), made

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", create)
    pool = Pool(lambda: 0.0)
    made = await pool.connect(("10.0.0.9", 80))
    assert pool._open == (set() if is_reset else {made})
    assert not made.is_quiet if is_reset else made.is_quiet
