"""Managers of two versions in one swarm: nothing is written that one of them would not understand."""

from __future__ import annotations

import msgspec
import pytest

from swarmd.kit.clock import SystemClock
from swarmd.manager.roles.core.members import plan
from swarmd.model.errors import NotUnderstood, Unavailable
from swarmd.model.network import NetworkAttachment, NetworkSpec
from swarmd.model.objects import (
    FEATURE_LEVEL,
    Cluster,
    JoinToken,
    Network,
    Node,
    NodeDescription,
    Row,
    Secret,
    Service,
    Task,
)
from swarmd.model.registry import RegistryCredential, RegistryTag, TrustRule
from swarmd.model.spec import (
    ContainerSpec,
    MountSpec,
    NodeSpec,
    Resources,
    ServiceSpec,
    TaskTemplate,
)
from swarmd.model.states import Role
from swarmd.rpc import codec
from swarmd.store.core import levels
from swarmd.store.core.levels import fit, next_level
from swarmd.store.core.transaction import Put, encode
from swarmd.store.store import Store, StoreState
from tests.unit.test_codec import SPEC


def rows_of(state: StoreState) -> bytes:
    """Its snapshot."""
    return b"".join(state.view()())


class Mixed:
    """A replica of this version and one that behaves as 0.1.0 behind one log; the new one leads."""

    def __init__(self) -> None:
        self.new, self.old = StoreState(), StoreState(level=0)
        self.log: list[bytes] = []
        self.store = Store(self.new, self, SystemClock())

    async def propose(self, command: bytes, *, timeout: float = 10.0) -> object:
        self.log.append(command)
        outcome = self.new.apply(len(self.log), command)
        self.old.apply(len(self.log), command)
        return outcome

    def same(self) -> bool:
        """Both hold the same; checked by bytes."""
        return rows_of(self.new) == rows_of(self.old)


@pytest.fixture
async def mixed() -> Mixed:
    made = Mixed()
    cluster = Cluster(id="c", feature_level=0)
    made.log.append(encode(1.0, [Put(cluster)]))
    for state in (made.new, made.old):
        state.apply(1, made.log[0])
    return made


def manager(name: str, level: int) -> Node:
    return Node(
        id=name,
        spec=NodeSpec(role=Role.MANAGER),
        description=NodeDescription(feature_level=level),
        raft_address="10.0.0.1:2377",
    )


async def test_a_new_kind_of_row_is_refused_while_an_old_manager_is_there(mixed: Mixed) -> None:
    with pytest.raises(Unavailable, match="upgrade every manager"):
        await mixed.store.commit([Put(Node(id="n")), Put(JoinToken(id="t", secret_hash="x"))])
    assert len(mixed.log) == 1
    assert mixed.store.get(Node, "n") is None


async def test_what_the_managers_note_in_a_new_field_is_left_out(mixed: Mixed) -> None:
    await mixed.store.commit([Put(Node(id="n", number=4, join_key="digest"))])
    row = mixed.store.get(Node, "n")
    assert row is not None
    assert (row.number, row.join_key) == (4, "")
    assert mixed.same()


def test_what_a_user_asks_for_in_a_new_field_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(levels.KNOWN[0])
    before["ServiceSpec"] = "name template"
    monkeypatch.setattr(levels, "KNOWN", (before,))
    row = Service(id="s", spec=ServiceSpec(name="web", template=SPEC.template, replicas=3))
    with pytest.raises(Unavailable, match="replicas of a ServiceSpec"):
        fit(row, 0)
    plain = Service(id="s", spec=ServiceSpec(name="web", template=SPEC.template))
    assert fit(plain, 0) == plain


def test_fields_deep_inside_a_row_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(levels.KNOWN[0])
    before["PortSpec"] = "protocol target"
    monkeypatch.setattr(levels, "KNOWN", (before,))
    with pytest.raises(Unavailable, match="published of a PortSpec"):
        fit(Service(id="s", spec=SPEC), 0)


@pytest.mark.parametrize(
    ("template", "field"),
    [
        (TaskTemplate(container=ContainerSpec(groups=("wheel",))), "groups of a ContainerSpec"),
        (TaskTemplate(container=ContainerSpec(mounts=(MountSpec(subpath="a"),))), "subpath of a MountSpec"),
        (TaskTemplate(limits=Resources(memory_swappiness=0)), "memory_swappiness of a Resources"),
        (TaskTemplate(runtime="crun"), "runtime of a TaskTemplate"),
    ],
)
def test_managers_of_level_1_are_not_given_the_containers_of_level_2(
    template: TaskTemplate, field: str
) -> None:
    row = Service(id="s", spec=ServiceSpec(name="web", template=template))
    with pytest.raises(Unavailable, match=field):
        fit(row, 1)
    assert fit(row, 2) == row


def test_managers_of_level_2_know_no_registry_and_no_trust() -> None:
    for row in (
        RegistryTag(id="app:1", repository="app", tag="1", digest="sha256:1"),
        TrustRule(id="*", action="reject"),
        RegistryCredential(id="docker.io"),
    ):
        with pytest.raises(Unavailable, match="this swarm is at level 2"):
            fit(row, 2)
        assert fit(row, 3) == row


def test_managers_of_level_3_know_no_networks_of_ones_own() -> None:
    attached = TaskTemplate(networks=(NetworkAttachment(target="n"),))
    for row in (
        Network(id="n", name="backend", spec=NetworkSpec(name="backend")),
        Service(id="s", spec=ServiceSpec(name="web", template=attached)),
        Secret(id="s", name="key"),
    ):
        with pytest.raises(Unavailable, match="this swarm is at level 3"):
            fit(row, 3)
        assert fit(row, 4) == row


@pytest.mark.parametrize(
    ("row", "level"),
    [
        (Service(id="s", spec=ServiceSpec(name="web")), 0),
        (JoinToken(id="t", secret_hash="x"), 1),
        (Service(id="s", spec=ServiceSpec(name="web", template=TaskTemplate(runtime="crun"))), 2),
        (Node(id="n", join_key="digest"), 1),
    ],
)
def test_the_least_level_that_understands_a_row_is_known(row: Row, level: int) -> None:
    assert levels.needed(row) == level


def test_at_level_1_a_node_keeps_what_level_1_brought_and_its_runtimes_are_left_out() -> None:
    row = Node(id="n", join_key="digest", description=NodeDescription(hostname="h", runtimes=("local",)))
    assert fit(row, 1) == Node(id="n", join_key="digest", description=NodeDescription(hostname="h"))


def test_a_row_of_the_newest_level_is_written_as_it_is() -> None:
    row = Node(id="n", join_key="digest")
    assert fit(row, FEATURE_LEVEL) is row


async def test_once_all_managers_are_upgraded_the_level_rises_and_new_rows_are_written(mixed: Mixed) -> None:
    cluster = mixed.store.cluster()
    assert cluster is not None
    await mixed.store.commit([Put(msgspec.structs.replace(cluster, feature_level=FEATURE_LEVEL))])
    mixed.old = StoreState()
    mixed.old.restore(len(mixed.log), rows_of(mixed.new))
    await mixed.store.commit([Put(JoinToken(id="t", secret_hash="x"))])
    assert mixed.old.tables.get(JoinToken, "t") is not None


async def test_an_old_replica_stops_before_what_it_does_not_understand(mixed: Mixed) -> None:
    command = encode(
        1.0, [Put(Task(id="t", service_id="s", service_name="w", spec_version=1))], FEATURE_LEVEL
    )
    with pytest.raises(NotUnderstood, match="Upgrade this manager"):
        mixed.old.apply(2, command)
    assert mixed.old.tables.get(Task, "t") is None


def test_an_old_replica_refuses_a_snapshot_of_a_newer_level() -> None:
    state = StoreState()
    state.apply(1, encode(1.0, [Put(Cluster(id="c"))], FEATURE_LEVEL))
    with pytest.raises(NotUnderstood, match="feature level"):
        StoreState(level=0).restore(1, rows_of(state))


def test_a_kind_of_row_that_nobody_here_knows_stops_the_replica() -> None:
    command = encode(1.0, [Put(Node(id="n"))]).replace(b"node", b"nope")
    with pytest.raises(NotUnderstood, match="nope"):
        StoreState().apply(1, command)


def test_the_level_is_that_of_the_oldest_manager_and_never_falls() -> None:
    assert next_level(0, [manager("a", 1), manager("b", 0)]) == 0
    assert next_level(0, [manager("a", 1), manager("b", 1)]) == 1
    assert next_level(0, [manager("a", 99)]) == FEATURE_LEVEL
    assert next_level(1, [manager("a", 0)]) == 1
    assert next_level(0, []) == 0


def test_a_node_of_an_older_version_does_not_become_a_manager() -> None:
    nodes, members = [manager("a", 1), manager("b", 0)], {"a": "10.0.0.1:2377"}
    assert plan(nodes, members, {"a", "b"}, level=1).members is None
    assert plan(nodes, members, {"a", "b"}, level=0).members == {**members, "b": "10.0.0.1:2377"}


def test_an_old_member_that_is_one_already_stays() -> None:
    members = {"a": "10.0.0.1:2377", "b": "10.0.0.1:2377"}
    assert plan([manager("a", 1), manager("b", 0)], members, {"a", "b"}, level=1).members is None


def test_the_list_of_what_a_level_knew_names_only_what_there_is() -> None:
    there = {kind.__name__: {f.name for f in msgspec.structs.fields(kind)} for kind in codec.STRUCTS}
    for known in levels.KNOWN:
        for kind, fields in known.items():
            assert set(fields.split()) <= there[kind], kind
