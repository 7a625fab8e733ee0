"""One leader's term: everything a leader does, started together, ended together.

A crash in any loop ends the term, loudly: the manager hands leadership on, and the next leader (or this one
again) starts every loop from the store.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

from swarmd.kit.clock import Clock
from swarmd.kit.groups import TaskGroup
from swarmd.kit.ids import NewId, random_bytes
from swarmd.kit.supervise import caught
from swarmd.manager.allocator.allocating import AllocatorPlanner
from swarmd.manager.dispatcher.dispatcher import Dispatcher
from swarmd.manager.dispatcher.holdings import Registered
from swarmd.manager.ending import EndingPlanner
from swarmd.manager.gossip_keys import GossipKeyPlanner
from swarmd.manager.loop import ControlLoop, Planner
from swarmd.manager.orchestrator.enforcing import EnforcerPlanner
from swarmd.manager.orchestrator.reaping import ReaperPlanner
from swarmd.manager.orchestrator.services import ServicePlanner
from swarmd.manager.roles.loop import Group, RoleLoop
from swarmd.manager.rotation.loop import RotationLoop
from swarmd.manager.scheduler.scheduling import SchedulerPlanner
from swarmd.manager.untagged import UntaggedPlanner
from swarmd.rpc.v1 import agent_pb2
from swarmd.store.store import Store


class Term:
    """Made when leadership begins; :meth:`run` until it is cancelled or a loop fails."""

    def __init__(
        self,
        store: Store,
        group: Group,
        clock: Clock,
        new_id: NewId,
        *,
        members: Callable[[], Mapping[str, str]],
        gossip: Callable[[], Mapping[str, str]],
        managers: Callable[[], list[agent_pb2.ManagerPeer]],
        registered: Registered = lambda ref: "",
        keep_untagged: float = 0.0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._untagged = ControlLoop(store, clock, UntaggedPlanner(store, keep_untagged))
        self._rotation = RotationLoop(store, clock, self._wake)
        self.dispatcher = Dispatcher(
            store,
            clock,
            gossip=gossip,
            managers=managers,
            wanted_issuer=self._rotation.wanted_issuer,
            registered=registered,
        )
        self._roles = RoleLoop(store, group, clock, members=members, connected=self._connected)

    async def run(self) -> None:
        """Raises an ExceptionGroup when a loop fails."""
        async with TaskGroup() as group:
            group.create_task(_lasting("dispatcher", self.dispatcher.run()), name="dispatcher")
            group.create_task(_lasting("roles", self._roles.run()), name="roles")
            group.create_task(_lasting("rotation", self._rotation.run()), name="rotation")
            group.create_task(_lasting("untagged", self._untagged.run()), name="untagged")
            for name, loop in control_loops(self._store, self._clock, self._new_id).items():
                group.create_task(_lasting(name, loop.run()), name=name)

    def end(self) -> None:
        """Leadership is over, whether :meth:`run` came to its first step or not."""
        self.dispatcher.end()

    def _wake(self, nodes: Collection[str]) -> None:
        self.dispatcher.wake(nodes)

    def _connected(self) -> Collection[str]:
        return self.dispatcher.connected()


async def _lasting(name: str, loop: Coroutine[Any, Any, None]) -> None:
    """A loop ends with the term only.  A term that went on without one of them would look healthy."""
    error = await caught(loop)
    raise error or RuntimeError(f"the {name} loop ended by itself")


def control_loops(store: Store, clock: Clock, new_id: NewId) -> dict[str, ControlLoop]:
    """The loops that share the store and nothing else."""
    planners: dict[str, Planner] = {
        "services": ServicePlanner(store, new_id),
        "allocator": AllocatorPlanner(store),
        "scheduler": SchedulerPlanner(store),
        "enforcer": EnforcerPlanner(store),
        "reaper": ReaperPlanner(store),
        "endings": EndingPlanner(store),
        "gossip key": GossipKeyPlanner(store, lambda: random_bytes(32)),
    }
    return {name: ControlLoop(store, clock, planner) for name, planner in planners.items()}
