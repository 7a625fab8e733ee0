"""Which content a service's image means: asked once, at its creation, so that all its tasks run the same.

the registry, if it answers soon ──► what the nodes hold under that name ──► nobody knows
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

import structlog

from swarmd.model.errors import NotFound, SwarmError
from swarmd.model.image_ref import ImageRef

SOON, LATE = 3.0, 10.0
"""Seconds that a registry is given when the nodes know an answer, and when they do not."""

Ask = Callable[[ImageRef], Awaitable[str]]
"""The digest a registry knows; raises SwarmError."""


async def nobody_knows(ref: ImageRef) -> str:
    """For a manager that asks no registry."""
    raise NotFound("no registry is asked")


class Locator(Protocol):
    """The digest of an image name, in the swarm's registry and among the nodes; "" when nobody has it."""

    def __call__(self, ref: ImageRef) -> str: ...


class Pinning:
    """``locate``: as the present leader knows; ``own``: hosts that mean the swarm's registry."""

    def __init__(self, locate: Callable[[], Locator], ask: Ask, *, own: Collection[str] = ()) -> None:
        self._own = own
        self._locate = locate
        self.ask = ask
        self._log = structlog.get_logger()

    async def digest(self, ref: ImageRef) -> str:
        """The digest of what ``ref`` means now; "" when nobody knows."""
        held = self._locate()(ref)
        if ref.name.partition("/")[0] in self._own:
            return held
        try:
            async with asyncio.timeout(SOON if held else LATE):
                return await self.ask(ref)
        except (SwarmError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            self._log.info("image_not_resolved", image=ref.familiar(), held=held, reason=reason)
            return held
