"""The store against a dictionary: whatever is committed in whatever order, every replica agrees."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from swarmd.model.objects import JoinToken, Node, PortAllocation, Row, Service, Task
from swarmd.model.replace import replace
from swarmd.model.spec import ServiceSpec
from swarmd.store.core import transaction
from swarmd.store.core.transaction import Change, Delete, Put
from swarmd.store.store import StoreState

Key = tuple[type[Row], str]

IDS = st.sampled_from(["a", "b", "c"])
NODES = st.sampled_from(["", "n1", "n2"])
ROWS: st.SearchStrategy[Row] = st.one_of(
    st.builds(
        lambda row_id, name: Service(id=row_id, spec=ServiceSpec(name=name)),
        IDS,
        st.sampled_from(["web", "WEB", "db"]),
    ),
    st.builds(
        lambda row_id, number, key: Node(id=row_id, number=number, join_key=key),
        IDS,
        st.integers(0, 2),
        st.sampled_from(["", "k1", "k2"]),
    ),
    st.builds(
        lambda row_id, secret: JoinToken(id=row_id, secret_hash=secret), IDS, st.sampled_from(["h1", "h2"])
    ),
    st.builds(lambda row_id: PortAllocation(id=row_id, service_id="s", service_name="web"), IDS),
    st.builds(
        lambda row_id, service, node: Task(
            id=row_id, service_id=service, service_name="web", spec_version=1, node_id=node
        ),
        IDS,
        st.sampled_from(["s1", "s2"]),
        NODES,
    ),
)
WISHES = st.lists(
    st.tuples(ROWS, st.sampled_from(["right", "right", "none", "stale"]), st.booleans()),
    min_size=1,
    max_size=4,
)
"""(row, the version that is written with it, whether it is deleted instead)."""


def key_of(change: Change) -> Key:
    return (type(change.row), change.row.id) if isinstance(change, Put) else (change.kind, change.id)


def unique_of(row: Row) -> set[tuple[str, object]]:
    """What no other row may have."""
    if isinstance(row, Service):
        return {("name", row.spec.name.lower())}
    if isinstance(row, Node):
        return {one for one in (("number", row.number), ("join_key", row.join_key)) if one[1]}
    return {("secret", row.secret_hash)} if isinstance(row, JoinToken) else set()


class StoreMachine(RuleBasedStateMachine):
    """``model`` is kept by the store's rules, written a second time and plainly."""

    def __init__(self) -> None:
        super().__init__()
        self.state = StoreState()
        self.model: dict[Key, Row] = {}
        self.log: list[bytes] = []

    @rule(wishes=WISHES, at=st.integers(1, 1000))
    def commit(self, wishes: list[tuple[Row, str, bool]], at: int) -> None:
        changes = [self.change(*wish) for wish in wishes]
        self.log.append(transaction.encode(float(at), changes))
        index, before = len(self.log), self.state.events.position
        outcome = self.state.apply(index, self.log[-1])
        accepted = self.accepts(changes)
        assert (outcome.error_kind == "") is accepted, outcome
        assert outcome.error_kind in ("", "conflict", "out_of_sequence", "internal")
        assert self.state.events.position - before == (len(changes) if accepted else 0)
        for change, event in zip(changes, outcome.events, strict=False):
            key = key_of(change)
            assert (event.old, event.index) == (self.model.get(key), index)
            self.model.pop(key, None)
            if isinstance(change, Put):
                created = event.old.created_at if event.old is not None else float(at)
                self.model[key] = replace(change.row, version=index, created_at=created, updated_at=float(at))
            assert event.new == self.model.get(key)

    def change(self, row: Row, version: str, delete: bool) -> Change:
        stored = self.model.get((type(row), row.id))
        right = stored.version if stored is not None else 0
        number = {"right": right, "none": 0, "stale": right + 1}[version]
        return Delete(type(row), row.id, number) if delete else Put(replace(row, version=number))

    def accepts(self, changes: list[Change]) -> bool:
        keys = [key_of(change) for change in changes]
        if max(Counter(keys).values()) > 1:
            return False
        for key, change in zip(keys, changes, strict=True):
            stored = self.model.get(key)
            expected = change.row.version if isinstance(change, Put) else change.version
            if expected != (stored.version if stored is not None else 0):
                return False
            if isinstance(change, Delete) and stored is None:
                return False
        return not self.clashes(changes)

    def clashes(self, changes: list[Change]) -> bool:
        """A name given up by an update is free from the next transaction on, by a deletion at once."""
        deleted = {key_of(change) for change in changes if isinstance(change, Delete)}
        owners = [(key, unique_of(row)) for key, row in self.model.items() if key not in deleted]
        wanted = [(key_of(one), unique_of(one.row)) for one in changes if isinstance(one, Put)]
        return any(
            key[0] is other[0] and unique & held and key != other
            for key, unique in wanted
            for other, held in [*owners, *wanted]
        )

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert {(type(row), row.id): row for row in self.state.tables.rows()} == self.model

    @invariant()
    def finds_tasks_by_service_and_by_node(self) -> None:
        tasks = [row for row in self.model.values() if isinstance(row, Task)]
        for field, values in (("service", ("s1", "s2")), ("node", ("", "n1", "n2"))):
            for value in values:
                found = {task.id for task in self.state.tables.where(Task, field, value)}
                assert found == {task.id for task in tasks if getattr(task, f"{field}_id") == value}

    @invariant()
    def finds_services_by_name(self) -> None:
        found = {row.id for name in ("web", "db") for row in self.state.tables.where(Service, "name", name)}
        assert found == {row.id for row in self.model.values() if isinstance(row, Service)}

    def teardown(self) -> None:
        replayed, restored = StoreState(), StoreState()
        for index, command in enumerate(self.log, start=1):
            replayed.apply(index, command)
        restored.restore(len(self.log), b"".join(self.state.view()()))
        for replica in (replayed, restored):
            assert {(type(row), row.id): row for row in replica.tables.rows()} == self.model
            assert replica.tables.index == len(self.log)


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestStoreAgainstADictionary = StoreMachine.TestCase
