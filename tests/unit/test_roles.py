"""Who belongs to the Raft group: the group follows what users want, rows follow the group."""

from __future__ import annotations

from collections.abc import Mapping

from swarmd.kit.supervise import Nursery
from swarmd.manager.roles.core.members import RolePlan, plan
from swarmd.manager.roles.loop import POLL, RoleLoop
from swarmd.model.errors import Refused
from swarmd.model.objects import Node
from swarmd.model.replace import replace
from swarmd.model.spec import NodeSpec
from swarmd.model.states import Role
from tests.unit.test_control_bed import Bed, eventually, settle

ONE = {"m1": "10.0.0.1:2377"}
TWO = {**ONE, "m2": "10.0.0.2:2377"}


def a_node(number: int, wanted: Role, role: Role | None = None) -> Node:
    return Node(
        id=f"m{number}",
        created_at=float(number),
        spec=NodeSpec(role=wanted),
        role=role or wanted,
        raft_address=f"10.0.0.{number}:2377",
    )


M1 = a_node(1, Role.MANAGER)
CONNECTED = ("m1", "m2", "m3")


def test_a_group_that_is_as_it_should_be_is_left_alone() -> None:
    worker = a_node(2, Role.WORKER)
    assert plan([M1, worker], ONE, CONNECTED) == RolePlan()


def test_a_promoted_node_joins_once_it_is_connected_and_says_where() -> None:
    promoted = a_node(2, Role.MANAGER, Role.WORKER)
    assert plan([M1, promoted], ONE, ("m1",)).members is None
    assert plan([M1, replace(promoted, raft_address="")], ONE, CONNECTED).members is None
    assert plan([M1, promoted], ONE, CONNECTED).members == TWO


def test_one_joins_at_a_time_the_oldest_first() -> None:
    nodes = [M1, a_node(3, Role.MANAGER), a_node(2, Role.MANAGER)]
    assert plan(nodes, ONE, CONNECTED).members == TWO


def test_a_demoted_or_removed_member_leaves_before_anybody_joins() -> None:
    demoted = a_node(2, Role.WORKER, Role.MANAGER)
    assert plan([M1, demoted, a_node(3, Role.MANAGER)], TWO, CONNECTED).members == ONE
    assert plan([M1], TWO, CONNECTED).members == ONE


def test_the_last_member_never_leaves() -> None:
    assert plan([a_node(1, Role.WORKER)], ONE, CONNECTED).members is None


def test_a_member_that_moved_is_found_at_its_new_address() -> None:
    moved = replace(a_node(2, Role.MANAGER), raft_address="10.0.0.9:2377")
    assert plan([M1, moved], TWO, CONNECTED).members == {**ONE, "m2": "10.0.0.9:2377"}


def test_rows_follow_the_group() -> None:
    joined = a_node(2, Role.MANAGER, Role.WORKER)
    assert [row.role for row in plan([M1, joined], TWO, CONNECTED).rows] == [Role.MANAGER]
    demoted = a_node(2, Role.WORKER, Role.MANAGER)
    assert plan([M1, demoted], TWO, CONNECTED).rows == (), "it is a manager until it has left"
    assert [row.role for row in plan([M1, demoted], ONE, CONNECTED).rows] == [Role.WORKER]
    assert plan([M1, a_node(2, Role.MANAGER)], ONE, CONNECTED).rows == (), "its certificate is a manager's"


class Group:
    """A Raft group that takes what it is given, unless it refuses."""

    def __init__(self) -> None:
        self.members = dict(ONE)
        self.asked = 0
        self.refusing = False

    async def change_members(self, members: Mapping[str, str], *, timeout: float = 20.0) -> None:
        self.asked += 1
        if self.refusing:
            raise Refused("m2 is not current yet")
        self.members = dict(members)


async def test_the_loop_goes_on_until_the_group_takes_the_node_and_its_row_says_so() -> None:
    bed, group, failures = Bed(), Group(), list[object]()
    await bed.put(a_node(1, Role.MANAGER), a_node(2, Role.MANAGER, Role.WORKER))
    loop = RoleLoop(bed.store, group, bed.clock, members=lambda: group.members, connected=lambda: CONNECTED)
    group.refusing = True
    nursery = Nursery(lambda name, error: failures.append(error))
    nursery.start("roles", loop.run())
    await eventually(lambda: group.asked == 1)
    await settle()
    assert group.asked == 1, "it waits between attempts"
    group.refusing = False
    bed.clock.advance(POLL)
    await eventually(lambda: group.members == TWO)
    await settle()
    bed.clock.advance(POLL)
    await eventually(lambda: bed.store.get(Node, "m2").role is Role.MANAGER)  # type: ignore[union-attr]
    await nursery.close()
    assert failures == []


async def test_a_row_that_somebody_else_writes_is_read_again() -> None:
    bed, group = Bed(), Group()
    await bed.put(a_node(1, Role.MANAGER), a_node(2, Role.WORKER, Role.MANAGER))

    def moved() -> Node:
        row = bed.store.get(Node, "m2")
        assert row is not None
        return replace(row, raft_address="elsewhere")

    bed.quicker(moved)
    loop = RoleLoop(bed.store, group, bed.clock, members=lambda: group.members, connected=lambda: ())
    nursery = Nursery(lambda name, error: None)
    nursery.start("roles", loop.run())
    await settle()
    bed.clock.advance(POLL)
    await eventually(lambda: bed.store.get(Node, "m2").role is Role.WORKER)  # type: ignore[union-attr]
    assert moved().raft_address == "elsewhere"
    await nursery.close()
