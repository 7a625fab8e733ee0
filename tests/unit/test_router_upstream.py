"""Connections of a router to tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from swarmd.node.router.talk import NEVER, expire
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


class Due:
    """A connection whose time is over; with ``broken`` that cannot be said."""

    def __init__(self, broken: bool = False) -> None:
        self.deadline = 5.0
        self.broken = broken
        self.ends: list[str] = []

    def expire(self) -> None:
        if self.broken:
            raise ValueError("nobody has thought of that")
        self.deadline = NEVER
        self.ends.append("expired")

    def abort(self) -> None:
        self.ends.append("cut off")


def test_of_connections_whose_time_is_over_one_that_fails_keeps_no_other_from_ending() -> None:
    several = [Due(), Due(broken=True), Due()]
    errors: list[BaseException] = []
    for _ in range(2):
        expire(several, 6.0, lambda name, error: errors.append(error))
    assert [one.ends for one in several] == [["expired"], ["cut off"], ["expired"]]
    assert [type(error) for error in errors] == [ValueError], "and is told once"
