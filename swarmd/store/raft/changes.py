"""Changing who decides: another group of members, or another leader in the same group."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping

import msgspec

from swarmd.model.errors import Unavailable
from swarmd.store.raft.envelope import Seal
from swarmd.store.raft.epochs import View, check_members, lagging, may_seal, not_ready, refuse_seal
from swarmd.store.raft.keeper import Keeper
from swarmd.store.raft.member import Member
from swarmd.store.raft.port import not_leader

_log = logging.getLogger(__name__)

_ROUND_SECONDS = 1.0

ProposeSeal = Callable[[Seal, float], Awaitable[object]]


class _Round(msgspec.Struct, frozen=True):
    """At ``since`` (monotonic seconds), ``reached`` entries of ``epoch`` were agreed upon."""

    epoch: int
    reached: int
    since: float


class Changes:
    """Acts on ``member`` from outside its pump; ``next_turn`` waits until the pump has turned."""

    def __init__(
        self,
        member: Member,
        keeper: Keeper,
        *,
        is_leader: Callable[[], bool],
        next_turn: Callable[[], Awaitable[None]],
        propose: ProposeSeal,
    ) -> None:
        self._member = member
        self._keeper = keeper
        self._is_leader = is_leader
        self._next_turn = next_turn
        self._propose = propose
        self._changing = asyncio.Lock()
        self._round = _Round(0, 0, 0.0)

    async def change_members(self, members: Mapping[str, str], timeout: float) -> None:
        """See :meth:`swarmd.store.raft.port.Proposer.change_members`."""
        check_members(members)
        member = self._member
        async with self._changing:
            deadline = member.clock.monotonic() + timeout
            await self._await_ready(members, timeout / 2)
            if member.peers.located(member.held.members) == dict(members):
                return
            await self._propose(Seal(dict(members)), max(0.0, deadline - member.clock.monotonic()))
            _log.info("the managers are now %s", ", ".join(sorted(members)))

    async def _await_ready(self, members: Mapping[str, str], patience: float) -> None:
        """Wait until the group of ``members`` could run at once; raises Refused after ``patience``."""
        missing: list[str] = []
        self._begin_round()
        try:
            async with asyncio.timeout(patience):
                while missing := self._not_ready(members):
                    await self._next_turn()
        except TimeoutError:
            raise refuse_seal(missing, self._behind(missing)) from None

    def _begin_round(self) -> None:
        member = self._member
        self._round = _Round(member.held.newest, member.held.position, member.clock.monotonic())

    def _not_ready(self, members: Mapping[str, str]) -> list[str]:
        """Who keeps ``members`` from being the group; empty when they can be.

        A learner has to have what was agreed upon when the round began.  If that took it long, there is much
        new meanwhile, and another round begins.
        """
        self._require_leader()
        if self._round.epoch != self._member.held.newest:
            self._begin_round()
        missing = self._missing(members)
        if not missing and self._member.clock.monotonic() - self._round.since > _ROUND_SECONDS:
            self._begin_round()
            missing = self._missing(members)
        return missing

    def _missing(self, members: Mapping[str, str]) -> list[str]:
        held, views = self._member.held, self._views()
        missing = not_ready(held.newest, members, views)
        missing += [node for node in lagging(held.newest, self._round.reached, views) if node in members]
        return [] if may_seal(missing, held.members, members) else missing

    def _views(self) -> dict[str, View]:
        """What one said a second ago does not count when its connection has closed since."""
        connected = self._member.links | {self._keeper.self_id}
        return {node_id: view for node_id, view in self._keeper.views().items() if node_id in connected}

    def _behind(self, missing: Collection[str]) -> dict[str, int]:
        """How many entries each learner among ``missing`` lacks."""
        held, views = self._member.held, self._views()
        behind = lagging(held.newest, held.position, views)
        return {node: held.position - views[node].applied for node in behind if node in missing}

    def _require_leader(self) -> None:
        if not self._is_leader():
            raise not_leader(self._member.leader())

    async def transfer(self, among: Collection[str]) -> None:
        """See :meth:`swarmd.store.raft.port.Proposer.transfer`."""
        self._require_leader()
        member = self._member
        # The next leader must have the whole log, so nothing new goes in meanwhile.
        member.holding = True
        again = 0.0
        try:
            async with asyncio.timeout(2 * member.timing.election_max):
                while self._is_leader():
                    now = member.clock.monotonic()
                    if now >= again and self._ask_successor(among):
                        # The answer takes a round trip and two fsyncs; a lost question is put again.
                        again = now + member.timing.heartbeat
                    await self._next_turn()
        except TimeoutError:
            raise Unavailable("No other manager is current enough to lead the swarm now.") from None
        finally:
            member.holding = False

    def _ask_successor(self, among: Collection[str]) -> bool:
        """Ask the most current member, or one of ``among``, to take over; False when none is current yet."""
        member = self._member
        current = member.held.current
        if current is None or member.proposals.in_flight:
            return False
        wanted = sorted(member.links.intersection(among, current.engine.members)) if among else [None]
        if not any(current.engine.transfer(to) for to in wanted):
            return False
        member.wake()
        return True
