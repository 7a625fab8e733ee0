"""The rules of the tables, each broken on purpose."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swarmd.model.containers import SingleContainer
from swarmd.model.network import ContainerNetwork, TaskNetwork, VirtualIp
from swarmd.model.objects import (
    AddressAllocation,
    Cluster,
    Node,
    PortAllocation,
    Row,
    Service,
    SpecVersion,
    Task,
    TaskStatus,
)
from swarmd.model.replace import replace
from swarmd.model.spec import UpdateConfig
from swarmd.model.states import TaskState
from swarmd.store.core.invariants import invariants
from swarmd.store.core.tables import Tables
from tests.unit.test_codec import SPEC

SERVICE = Service(id="s", version=1, spec=SPEC)
VERSION = SpecVersion(id="s.1", version=1, service_id="s", number=1, template=SPEC.template)
TASK = Task(
    id="t", version=2, service_id="s", service_name="web", spec_version=1, slot=1, node_id="n",
    networks=(TaskNetwork(network_id="n", addresses=("10.0.5.3",)),),
)  # fmt: skip
ADDRESS = AddressAllocation(
    id="n/10.0.5.3", version=2, network_id="n", address="10.0.5.3", owner_kind="task", owner_id="t"
)
CONTAINER = SingleContainer(
    id="c", version=2, name="box", node_id="n",
    networks=(ContainerNetwork(network_id="n", addresses=("10.0.5.9",)),),
)  # fmt: skip
SOUND: tuple[Row, ...] = (
    Cluster(id="c", version=1), Node(id="n", version=1, number=1), SERVICE, VERSION, TASK,
    PortAllocation(id="tcp/8080", version=1, service_id="s", service_name="web"), ADDRESS,
)  # fmt: skip


def tables_of(*rows: Row) -> Tables:
    tables = Tables()
    tables.load(5, rows)
    return tables


def test_a_sound_store_breaks_no_rule() -> None:
    assert invariants(tables_of(*SOUND)) == []


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([Cluster(id="d", version=1)], "2 cluster rows"),
        ([Node(id="m", version=1, number=1)], "node number 1 is there 2 times"),
        ([Node(id="m", version=9)], "has version 9"),
        ([Node(id="m")], "has version 0"),
        ([replace(SERVICE, id="z", spec_version=7)], "service name web is there 2 times"),
        ([replace(SERVICE, spec_version=7)], "names spec version 7, which is gone"),
        ([replace(VERSION, id="s.9")], "is number 1 of service s"),
        ([replace(TASK, spec_version=4)], "is of spec version 4, which is gone"),
        ([replace(ADDRESS, id="m/10.0.5.3", network_id="m")], "address 10.0.5.3 is there 2 times"),
        ([replace(ADDRESS, owner_id="u")], "address n/10.0.5.3 of t is u's"),
        (
            [replace(ADDRESS, id="n/10.0.5.4", address="10.0.5.4")],
            "address n/10.0.5.4 is of task t, which has",
        ),
        ([replace(SERVICE, vips=(VirtualIp(network_id="n", addresses=("10.0.5.2",)),))], "of s is nobody's"),
        ([CONTAINER], "address n/10.0.5.9 of c is nobody's"),
        (
            [
                replace(ADDRESS, id="n/10.0.5.8", address="10.0.5.8", owner_kind="container", owner_id="c"),
                CONTAINER,
            ],
            "address n/10.0.5.8 is of container c, which has another",
        ),
        ([replace(TASK, id="u")], "slot 1 of service web has 2 live tasks"),
    ],
)
def test_each_broken_rule_is_told(rows: list[Row], told: str) -> None:
    assert told in "; ".join(invariants(tables_of(*SOUND, *rows)))


def test_two_live_tasks_may_share_a_slot_while_the_new_one_starts_first() -> None:
    spec = replace(SPEC, update=UpdateConfig(order="start-first"))
    rows = [*SOUND, replace(SERVICE, spec=spec), replace(TASK, id="u", networks=())]
    assert invariants(tables_of(*rows)) == []
    assert invariants(tables_of(*rows, replace(TASK, id="v", networks=()))) != []


def test_a_task_that_was_told_to_end_does_not_count() -> None:
    ending = replace(TASK, id="u", desired_state=TaskState.SHUTDOWN)
    assert invariants(tables_of(*SOUND, ending)) == []


def test_addresses_of_what_ended_or_is_gone_break_no_rule() -> None:
    ended = replace(TASK, status=TaskStatus(state=TaskState.FAILED))
    without_row = [row for row in SOUND if row not in (TASK, ADDRESS)]
    assert invariants(tables_of(*without_row, ended)) == []
    without_task = [row for row in SOUND if row is not TASK]
    assert invariants(tables_of(*without_task)) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tables: tables._by["Task.node"]["n"].clear(),
        lambda tables: tables._by["Task.node"].setdefault("m", {}).update(t=TASK),
    ],
)
def test_an_index_that_does_not_fit_the_rows_is_told(spoil: Callable[[Tables], None]) -> None:
    tables = tables_of(*SOUND)
    spoil(tables)
    assert "the indexes are not those of the rows" in invariants(tables)
