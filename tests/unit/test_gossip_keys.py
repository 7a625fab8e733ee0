"""The gossip key changes when a node that knows it was removed, and nobody is cut off by that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import pairwise

import pytest

from swarmd.manager.core.gossip_keys import PHASE_SECONDS, plan_gossip_key
from swarmd.manager.gossip_keys import GossipKeyPlanner
from swarmd.manager.loop import ControlLoop
from swarmd.manager.plan import Plan
from swarmd.model.objects import Cluster, GossipChange, Node, NodeDescription, NodeStatus, RemovedNode
from swarmd.model.replace import replace
from swarmd.model.states import NodeState
from swarmd.node.membership.codec import Codec
from swarmd.node.membership.core.messages import Ping
from swarmd.store.core.transaction import Put
from tests.unit.test_control_bed import Bed, settle

OLD, NEW = b"o" * 32, b"n" * 32
SWARM = Cluster(id="c", gossip_key=OLD)
PRESENT = Node(id="n", description=NodeDescription(feature_level=2), status=NodeStatus(state=NodeState.READY))
ANCIENT = Node(id="a", status=NodeStatus(state=NodeState.READY))
GONE = RemovedNode(id="gone", version=7)


def plan(
    cluster: Cluster, removed: Iterable[RemovedNode] = (GONE,), *nodes: Node, now: float = 100.0
) -> Plan:
    return plan_gossip_key(cluster, removed, nodes or (PRESENT,), now=now, new_key=lambda: NEW)


def written(found: Plan) -> Cluster:
    ((put,),) = found.steps
    assert isinstance(put, Put)
    assert isinstance(put.row, Cluster)
    return put.row


def test_as_long_as_nobody_was_removed_the_key_stays() -> None:
    assert plan(SWARM, ()) == Plan()
    assert plan(replace(SWARM, gossip_removed=7)) == Plan()


def test_a_removed_node_costs_the_swarm_its_key_in_three_steps() -> None:
    spread = written(plan(SWARM))
    assert (spread.gossip_key, spread.gossip_removed) == (OLD, 7)
    assert spread.gossip_change == GossipChange(phase="spread", key=NEW, at=100.0)
    early = plan(spread, now=100.0 + PHASE_SECONDS - 1)
    assert (early.steps, early.wake_at) == ((), 100.0 + PHASE_SECONDS)

    retire = written(plan(spread, now=110.0))
    assert (retire.gossip_key, retire.gossip_change) == (NEW, GossipChange(phase="retire", key=OLD, at=110.0))
    assert plan(retire, now=119.0).steps == ()

    done = written(plan(retire, now=120.0))
    assert (done.gossip_key, done.gossip_change) == (NEW, None)
    assert plan(done, now=200.0) == Plan()


def test_one_that_is_removed_meanwhile_knows_the_new_key_and_costs_another() -> None:
    spread = written(plan(SWARM))
    later = replace(GONE, id="later", version=9)
    retire = written(plan(spread, (GONE, later), now=110.0))
    done = written(plan(retire, (GONE, later), now=120.0))
    again = written(plan(done, (GONE, later), now=120.0))
    assert (again.gossip_removed, again.gossip_change is not None) == (9, True)


def test_a_leader_whose_clock_is_behind_does_not_wait_for_the_time_of_another() -> None:
    spread = written(plan(SWARM, now=5000.0))
    assert written(plan(spread, now=100.0)).gossip_key == NEW


@pytest.mark.parametrize(
    ("cluster", "nodes", "changes"),
    [
        (replace(SWARM, feature_level=1), (PRESENT,), False),
        (SWARM, (PRESENT, ANCIENT), False),
        (SWARM, (PRESENT, replace(ANCIENT, status=NodeStatus(state=NodeState.DOWN))), True),
        (replace(SWARM, gossip_key=b""), (PRESENT,), False),
    ],
    ids=["an old manager", "an old agent", "an old agent that is away", "no key yet"],
)
def test_no_key_is_made_that_somebody_would_not_follow(
    cluster: Cluster, nodes: tuple[Node, ...], changes: bool
) -> None:
    assert bool(plan(cluster, (GONE,), *nodes).steps) == changes


def ring(cluster: Cluster) -> list[bytes]:
    """What an agent is told: the first seals, all open."""
    return [cluster.gossip_key, *([cluster.gossip_change.key] if cluster.gossip_change else [])]


def test_whoever_is_one_step_behind_is_understood_and_the_removed_one_understands_nobody() -> None:
    steps = [SWARM]
    for now in (100.0, 110.0, 120.0):
        steps.append(written(plan(steps[-1], now=now)))
    for before, after in pairwise(steps):
        for said, heard in ((before, after), (after, before)):
            datagram = Codec("a", ring(said)).seal(Ping(1, "b"), 5)
            assert Codec("b", ring(heard)).open(datagram) is not None
    removed = Codec("gone", ring(SWARM))
    assert removed.open(Codec("a", ring(steps[-1])).seal(Ping(1, "b"), 5)) is None
    assert Codec("a", ring(steps[-1])).open(removed.seal(Ping(1, "b"), 5)) is None


async def test_the_leader_changes_the_key_and_goes_on_where_another_left_off() -> None:
    bed = Bed()
    await bed.put(SWARM, PRESENT)
    keys = iter((NEW, b"2" * 32))

    async def led(seconds: float) -> Cluster:
        loop = ControlLoop(bed.store, bed.clock, GossipKeyPlanner(bed.store, lambda: next(keys)))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(loop.run())
            await settle()
            bed.clock.advance(seconds)
            await settle()
            running.cancel()
        cluster = bed.store.cluster()
        assert cluster is not None
        return cluster

    assert (await led(60.0)).gossip_key == OLD
    await bed.put(RemovedNode(id="gone", until=2e9))
    first = await led(1.0)
    assert (first.gossip_key, first.gossip_change is not None) == (OLD, True)
    assert (await led(PHASE_SECONDS)).gossip_key == NEW
    last = await led(PHASE_SECONDS)
    assert (last.gossip_key, last.gossip_change) == (NEW, None)
    assert (await led(60.0)).gossip_key == NEW
