"""Questions to the spawner that wait while it is being replaced, and whose refusals are errors for users."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from swarmd.kit.clock import Clock
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.node.runtime.client import SpawnClient, SpawnerError

_RECONNECT_PAUSE = 0.5
_ONLINE_PATIENCE = 60.0

Failed = Callable[[str, str, int, str], SwarmError]


class Line:
    """``online`` is set while the spawner is connected and what it knows has been taken over."""

    def __init__(self, spawner: SpawnClient) -> None:
        self._spawner = spawner
        self.online = asyncio.Event()

    async def is_back(self) -> None:
        """Waits for a spawner that is being replaced; :class:`Unavailable` if that takes too long."""
        try:
            async with asyncio.timeout(_ONLINE_PATIENCE):
                await self.online.wait()
        except TimeoutError:
            raise Unavailable("the container spawner cannot be reached; see spawnd.log") from None

    async def reconnect(self, connect: Callable[[], Awaitable[None]], clock: Clock) -> None:
        """Call ``connect`` until somebody's has succeeded."""
        while not self.online.is_set():
            try:
                await connect()
            except (SwarmError, OSError, SpawnerError):
                self._spawner.close()
                await clock.sleep(_RECONNECT_PAUSE)

    async def ask(
        self, operation: str, *arguments: Any, fds: tuple[int, ...] = (), failed: Failed
    ) -> tuple[tuple[Any, ...], list[int]]:
        """The values of the answer and its descriptors.

        ``failed`` makes an error of (step, subject, errno, text); :class:`Unavailable` without a spawner.
        """
        await self.is_back()
        try:
            return await self._spawner.call(operation, *arguments, fds=fds)
        except SpawnerError as error:
            raise failed(error.step, error.subject, error.number, error.text) from None
