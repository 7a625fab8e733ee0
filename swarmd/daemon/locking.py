"""Who holds the key to a manager's disk: the swarm's row says it, each manager carries it out on its own.

    cluster row: autolock, unlock key ──► newer than what was carried out last? ──► the ring is wrapped anew
    this node is a worker             ──► the key lies beside the ring: workers are never locked

A manager that was away needs the key from before it left, and follows the row when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from swarmd.kit.clock import Clock
from swarmd.model.errors import SwarmError
from swarmd.model.objects import Cluster
from swarmd.security.vault import Vault
from swarmd.store.store import Store
from swarmd.store.watch import Overrun

RETRY = 10.0
"""Seconds before the key ring is written again that a full disk did not take."""


class Locking:
    """Keeps ``vault`` as the swarm wants it; ``reseal`` seals anew what is this node's own."""

    def __init__(self, vault: Vault, reseal: Callable[[], None], clock: Clock) -> None:
        self.vault = vault
        self._reseal = reseal
        self._clock = clock
        self._log = structlog.get_logger()
        self._problem = ""

    async def run(self, store: Store) -> None:
        """Follow the row in ``store``, until cancelled."""
        watch = store.watch()
        while True:
            cluster = store.cluster()
            if cluster is not None and not await self._carry_out(cluster):
                await self._clock.sleep(RETRY)
                continue
            with contextlib.suppress(Overrun):
                await watch.next()

    def follow(self, cluster: Cluster) -> None:
        """Carry out what a row says, unless a newer one was carried out before.  Raises Unavailable."""
        if self._is_due(cluster):
            self.vault.rewrap(_key(cluster), followed=cluster.version)
            self._carried_out(cluster)

    def release(self) -> None:
        """This node is no manager: nobody has to unlock it.  Raises Unavailable."""
        if not self.vault.is_held(b""):
            self.vault.rewrap(b"", followed=0)
            self._reseal()

    def problems(self) -> list[str]:
        """A sentence when this disk is not locked as the swarm wants it."""
        return [f"autolock cannot be applied on this node: {self._problem}"] if self._problem else []

    async def _carry_out(self, cluster: Cluster) -> bool:
        """As :meth:`follow` does, but for the disk in a thread: a leader's heartbeats do not wait for it."""
        try:
            if self._is_due(cluster):
                await _to_its_end(lambda: self.vault.rewrap(_key(cluster), followed=cluster.version))
                self._carried_out(cluster)
        except SwarmError as error:
            self._problem = str(error)
            self._log.error("keys_not_rewrapped", reason=str(error))
            return False
        self._problem = ""
        return True

    def _is_due(self, cluster: Cluster) -> bool:
        return cluster.version > self.vault.ring.followed and not self.vault.is_held(_key(cluster))

    def _carried_out(self, cluster: Cluster) -> None:
        self._log.info("keys_rewrapped", autolock=cluster.spec.autolock)
        self._reseal()


def _key(cluster: Cluster) -> bytes:
    return cluster.unlock_key if cluster.spec.autolock else b""


async def _to_its_end(work: Callable[[], None]) -> None:
    """Do blocking ``work`` in a thread.  Who is cancelled meanwhile ends after it: changes do not overlap."""
    doing = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait({doing})
        raise
