"""A proposer for one node without disk or network, for tests: what is proposed is applied at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from swarmd.model.errors import Refused
from swarmd.store.raft.port import RaftStatus, StateMachine


class SingleProposer:
    """A :class:`~swarmd.store.raft.port.Proposer` over ``state_machine``, always the leader of itself."""

    def __init__(self, state_machine: StateMachine, *, node_id: str = "single") -> None:
        self._machine = state_machine
        self._node_id = node_id
        self._members = {node_id: "127.0.0.1:2377"}
        self._applied = 0
        self._epoch = 1
        self._callbacks: list[Callable[[], None]] = []

    async def propose(self, command: bytes, *, timeout: float = 10.0) -> object:
        self._applied += 1
        return self._machine.apply(self._applied, command)

    async def read_index(self, *, timeout: float = 10.0) -> int:
        return self._applied

    async def change_members(self, members: Mapping[str, str], *, timeout: float = 20.0) -> None:
        if set(members) != {self._node_id}:
            raise Refused("A single in-memory node cannot have other members.")
        self._members = dict(members)
        self._epoch += 1
        for callback in self._callbacks:
            callback()

    async def transfer(self, among: Collection[str] = ()) -> None:
        raise Refused("There is no other manager to give leadership to.")

    def status(self) -> RaftStatus:
        return RaftStatus(
            role="leader",
            term=1,
            epoch=self._epoch,
            leader=self._node_id,
            members=dict(self._members),
            reachable=frozenset({self._node_id}),
            applied=self._applied,
            has_quorum=True,
        )

    def is_leader(self) -> bool:
        return True

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)
