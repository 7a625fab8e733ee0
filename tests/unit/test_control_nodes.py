"""Nodes, tokens, and how things are named: what users change, what is refused, what is found."""

from __future__ import annotations

import pytest

from swarmd.control import lookup
from swarmd.control.again import ATTEMPTS
from swarmd.control.cluster import Clusters, Founding, first_rows
from swarmd.control.core import managers
from swarmd.control.nodes import BLACKLIST_GRACE, Group, NodeChange, Nodes
from swarmd.model.errors import Invalid, NotFound, OutOfSequence, Refused, Unavailable
from swarmd.model.objects import (
    Network,
    Node,
    NodeDescription,
    NodeStatus,
    RemovedNode,
    Service,
    Task,
)
from swarmd.model.replace import replace
from swarmd.model.spec import NodeSpec
from swarmd.model.states import Availability, NodeState, Role, TaskState
from tests.unit.test_control_bed import Bed, a_spec, a_task

MANAGER = NodeSpec(role=Role.MANAGER)


class Swarm(Bed):
    """A founded swarm of one manager m1, and what its Raft group looks like."""

    def __init__(self) -> None:
        super().__init__()
        self.members = ["m1"]
        self.reachable = ["m1"]
        self.nodes = Nodes(self.store, self.clock, lambda: Group(self.members, self.reachable, "m1"))
        self.clusters = Clusters(self.store, self.new_id)

    async def found(self) -> None:
        founding = Founding(
            cluster_id="c1", node_id="m1", address="10.0.0.1", root_ca=b"root", ca_key=b"key", gossip_key=b"g"
        )
        await self.store.commit(first_rows(founding, self.new_id))

    def node(self, node_id: str) -> Node:
        row = self.store.get(Node, node_id)
        assert row is not None
        return row


@pytest.fixture
async def swarm() -> Swarm:
    swarm = Swarm()
    await swarm.found()
    await swarm.put(a_node("w1", "worker"))
    return swarm


def a_node(node_id: str, name: str, state: NodeState = NodeState.READY, **fields: object) -> Node:
    base = Node(
        id=node_id,
        description=NodeDescription(hostname=name),
        status=NodeStatus(state=state, address="10.0.0.9"),
    )
    return replace(base, **fields)


async def test_a_swarm_begins_with_itself_its_manager_and_its_network(swarm: Swarm) -> None:
    cluster, manager = swarm.clusters.get(), swarm.node("m1")
    assert (cluster.id, cluster.gossip_key) == ("c1", b"g")
    assert (manager.role, manager.spec.role, manager.number) == (Role.MANAGER, Role.MANAGER, 1)
    assert [row.name for row in swarm.store.all(Network)] == ["ingress"]
    assert len({cluster.worker_token, cluster.manager_token}) == 2


def test_before_the_first_rows_there_is_nothing_to_ask() -> None:
    with pytest.raises(Unavailable, match="not initialised yet"):
        Swarm().clusters.get()


async def test_a_rotated_token_replaces_only_its_own(swarm: Swarm) -> None:
    worker, manager = swarm.clusters.tokens()
    fresh = await swarm.clusters.rotate_token("worker")
    assert fresh != worker
    assert swarm.clusters.tokens() == (fresh, manager)
    with pytest.raises(Invalid, match='unknown role "boss": use worker or manager'):
        await swarm.clusters.rotate_token("boss")


async def test_a_rotation_survives_a_change_of_the_row_meanwhile(swarm: Swarm) -> None:
    swarm.quicker(lambda: replace(swarm.clusters.get(), gossip_key=b"h"))
    fresh = await swarm.clusters.rotate_token("manager")
    assert swarm.clusters.tokens()[1] == fresh
    assert swarm.clusters.get().gossip_key == b"h"


async def test_an_update_says_whether_anything_was_different(swarm: Swarm) -> None:
    drain = NodeChange(availability="drain")
    assert await swarm.nodes.update("worker", drain) == ("w1", True)
    assert await swarm.nodes.update("w1", drain) == ("w1", False)
    assert swarm.node("w1").spec.availability is Availability.DRAIN


async def test_labels_are_added_and_removed(swarm: Swarm) -> None:
    await swarm.nodes.update("w1", NodeChange(label_add={"zone": "a", "disk": "ssd"}))
    await swarm.nodes.update("w1", NodeChange(label_add={"zone": "b"}, label_rm=("disk",)))
    assert swarm.node("w1").spec.labels == {"zone": "b"}
    with pytest.raises(Invalid, match="key disk doesn't exist in node's labels"):
        await swarm.nodes.update("w1", NodeChange(label_rm=("disk",)))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (NodeChange(availability="bogus"), 'invalid Availability: "bogus"'),
        (NodeChange(role="boss"), 'invalid Role: "boss"'),
    ],
)
async def test_what_is_no_availability_or_role_is_quoted(swarm: Swarm, change: NodeChange, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        await swarm.nodes.update("w1", change)
    assert str(caught.value) == text


async def test_a_heartbeat_written_meanwhile_does_not_undo_an_update(swarm: Swarm) -> None:
    swarm.quicker(lambda: replace(swarm.node("w1"), status=NodeStatus(state=NodeState.DOWN)))
    await swarm.nodes.update("w1", NodeChange(role="manager"))
    assert swarm.node("w1").spec.role is Role.MANAGER
    assert swarm.node("w1").status.state is NodeState.DOWN


async def test_a_row_that_never_stands_still_is_given_up_in_the_end(swarm: Swarm) -> None:
    attempts = 0

    async def write_first() -> None:
        nonlocal attempts
        attempts += 1
        await swarm.put(replace(swarm.node("w1"), status=NodeStatus(message=str(attempts))))
        swarm.proposer.first.append(write_first)

    swarm.proposer.first.append(write_first)
    with pytest.raises(OutOfSequence):
        await swarm.nodes.update("w1", NodeChange(availability="pause"))
    assert attempts == ATTEMPTS
    assert swarm.node("w1").spec.availability is Availability.ACTIVE


async def test_the_last_manager_is_not_demoted(swarm: Swarm) -> None:
    with pytest.raises(Refused, match="attempting to demote the last manager of the swarm"):
        await swarm.nodes.update("m1", NodeChange(role="worker"))


async def test_a_demotion_that_costs_the_majority_is_refused(swarm: Swarm) -> None:
    await swarm.put(a_node("m2", "m2", spec=MANAGER), a_node("m3", "m3", spec=MANAGER))
    swarm.members, swarm.reachable = ["m1", "m2", "m3"], ["m1", "m2"]
    with pytest.raises(Refused, match=r"m2 .* loss of quorum \(1 of 2 remaining managers are reachable\)"):
        await swarm.nodes.update("m2", NodeChange(role="worker"))
    assert await swarm.nodes.update("m3", NodeChange(role="worker")) == ("m3", True), "the lost one may go"


async def test_a_promotion_that_has_not_come_to_the_group_yet_is_taken_back_freely(swarm: Swarm) -> None:
    await swarm.nodes.update("w1", NodeChange(role="manager"))
    assert await swarm.nodes.update("w1", NodeChange(role="worker")) == ("w1", True)


async def test_tables_call_managers_by_what_they_are(swarm: Swarm) -> None:
    swarm.members, swarm.reachable = ["m1", "m2", "m3"], ["m1", "m2"]
    called = {name: swarm.nodes.manager_status(a_node(name, name)) for name in ("m1", "m2", "m3", "w1")}
    assert called == {"m1": "Leader", "m2": "Reachable", "m3": "Unreachable", "w1": ""}
    assert swarm.nodes.can_lose_managers() == 0, "one is lost already"
    swarm.reachable = ["m1", "m2", "m3"]
    assert swarm.nodes.can_lose_managers() == 1


@pytest.mark.parametrize(
    ("members", "reachable", "left"),
    [(0, 0, 0), (1, 1, 0), (2, 2, 0), (3, 3, 1), (4, 4, 1), (5, 4, 1), (5, 2, 0)],
)
def test_the_lost_count_against_those_that_may_be_lost(members: int, reachable: int, left: int) -> None:
    names = [str(number) for number in range(members)]
    assert managers.can_lose(names, names[:reachable]) == left


@pytest.mark.parametrize("number", [0, 1, 3, 5, 7])
def test_an_odd_number_of_managers_needs_no_word(number: int) -> None:
    assert managers.about_number(number) == []


def test_an_even_number_of_managers_is_advised_against() -> None:
    assert managers.about_number(4) == ["4 managers can lose 1, as 3 can: add or remove one."]
    (two,) = managers.about_number(2)
    assert two.startswith("2 managers can lose none, and there are two that may fail")


async def test_it_is_said_which_managers_are_missing_and_what_may_be_lost_still(swarm: Swarm) -> None:
    assert swarm.nodes.warnings() == []
    await swarm.put(a_node("m2", "second", spec=MANAGER))
    swarm.members, swarm.reachable = ["m1", "m2", "m3"], ["m1", "m3"]
    assert swarm.nodes.warnings() == ["of 3 managers, second cannot be reached: the swarm can lose no more."]


async def test_a_change_of_role_is_told_what_its_number_of_managers_means(swarm: Swarm) -> None:
    promotion = NodeChange(role="manager")
    await swarm.nodes.update("w1", promotion)
    (warning,) = swarm.nodes.warnings_of_role(promotion)
    assert warning.startswith("2 managers can lose none")
    assert swarm.nodes.warnings_of_role(NodeChange(availability="drain")) == []
    await swarm.put(a_node("m3", "m3", spec=MANAGER))
    assert swarm.nodes.warnings_of_role(promotion) == []


async def test_a_manager_or_a_ready_node_is_not_removed(swarm: Swarm) -> None:
    for force in (False, True):
        with pytest.raises(Refused, match=r"node m1 is a cluster manager .* must be demoted to worker"):
            await swarm.nodes.remove("m1", force=force)
    with pytest.raises(Refused, match="node w1 is not down and can't be removed"):
        await swarm.nodes.remove("w1", force=False)
    assert swarm.store.get(Node, "w1") is not None


async def test_removing_orphans_what_ran_there_and_bars_the_certificate(swarm: Swarm) -> None:
    await swarm.put(a_task("t1", "w1"), a_task("t2", "w1", TaskState.FAILED), a_task("t3", "m1"))
    assert await swarm.nodes.remove("w1", force=True) == "w1"
    states = {task.id: task.state for task in swarm.store.all(Task)}
    assert states == {"t1": TaskState.ORPHANED, "t2": TaskState.FAILED, "t3": TaskState.RUNNING}
    barred = swarm.store.get(RemovedNode, "w1")
    assert barred is not None
    expiry = swarm.clusters.get().spec.certificate_expiry
    assert barred.until == swarm.clock.now() + expiry + BLACKLIST_GRACE
    with pytest.raises(NotFound, match="node w1 not found"):
        await swarm.nodes.remove("w1", force=True)


async def test_a_certificate_from_before_its_life_was_shortened_is_barred_as_long_as_it_lives(
    swarm: Swarm,
) -> None:
    before = swarm.clusters.get()
    await swarm.clusters.update(before.version, replace(before.spec, certificate_expiry=3600.0))
    assert swarm.clusters.get().spec.certificate_expiry == 3600.0
    await swarm.nodes.remove("w1", force=True)
    barred = swarm.store.get(RemovedNode, "w1")
    assert barred is not None
    assert barred.until == swarm.clock.now() + before.spec.certificate_expiry + BLACKLIST_GRACE


async def test_a_node_that_came_back_while_it_was_removed_is_looked_at_again(swarm: Swarm) -> None:
    await swarm.put(replace(swarm.node("w1"), status=NodeStatus(state=NodeState.DOWN)))
    swarm.quicker(lambda: replace(swarm.node("w1"), status=NodeStatus(state=NodeState.READY)))
    with pytest.raises(Refused, match="not down"):
        await swarm.nodes.remove("w1", force=False)


# -- names ---------------------------------------------------------------------------------------


async def test_an_id_comes_before_a_name_and_a_name_before_a_prefix(swarm: Swarm) -> None:
    await swarm.put(
        Service(id="abc1", spec=a_spec("abd")),
        Service(id="abd", spec=a_spec("other")),
        Service(id="xyz1", spec=a_spec("abc")),
    )
    found = {ref: lookup.service(swarm.store, ref).id for ref in ("abd", "abc", "abc1", "ABC", "xy")}
    assert found == {"abd": "abd", "abc": "xyz1", "abc1": "abc1", "ABC": "xyz1", "xy": "xyz1"}


async def test_a_prefix_of_several_is_ambiguous_and_an_empty_one_is_none(swarm: Swarm) -> None:
    await swarm.put(Service(id="s1", spec=a_spec("one")), Service(id="s2", spec=a_spec("two")))
    await swarm.put(a_task("t1", "w1"), a_task("t2", "w1"), a_node("w12", "other"), a_node("w13", "third"))
    with pytest.raises(Invalid, match="service s is ambiguous"):
        lookup.service(swarm.store, "s")
    with pytest.raises(Invalid, match="task t is ambiguous"):
        lookup.task(swarm.store, "t")
    with pytest.raises(Invalid, match="node w is ambiguous"):
        lookup.node(swarm.store, "w")
    assert lookup.node(swarm.store, "w1").id == "w1", "a whole id is never ambiguous"
    for find in (lookup.service, lookup.node, lookup.task):
        with pytest.raises(NotFound):
            find(swarm.store, "")


async def test_two_nodes_of_one_host_name_are_told_apart_by_id_only(swarm: Swarm) -> None:
    await swarm.put(a_node("w2", "worker", NodeState.DOWN))
    with pytest.raises(Invalid, match=r"node worker is ambiguous \(2 matches found\): use the id"):
        lookup.node(swarm.store, "worker")
    assert lookup.node(swarm.store, "w2").id == "w2"


async def test_what_is_not_there_is_named(swarm: Swarm) -> None:
    for find, text in (
        (lookup.service, "service nosuch not found"),
        (lookup.node, "node nosuch not found"),
        (lookup.task, "task nosuch not found"),
    ):
        with pytest.raises(NotFound) as caught:
            find(swarm.store, "nosuch")
        assert str(caught.value) == text
