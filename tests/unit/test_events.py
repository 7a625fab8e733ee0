"""Watching the swarm: by index, on any manager, and as lines for people."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from swarmd.api.events import watch
from swarmd.cli.commands import events as command
from swarmd.cli.errors import DaemonError, Unreachable
from swarmd.control.core.events import describe
from swarmd.kit.clock import SystemClock
from swarmd.model.errors import Invalid, OutOfSequence
from swarmd.model.objects import Cluster, JoinToken, Node, NodeStatus, Row, Service, Task
from swarmd.model.states import NodeState
from swarmd.rpc.v1 import control_pb2 as pb
from swarmd.store.core.tables import Event
from swarmd.store.core.transaction import Put, encode
from swarmd.store.raft.single import SingleProposer
from swarmd.store.store import Store, StoreState
from swarmd.store.watch import EventLog, Overrun
from tests.unit.test_codec import SPEC


def replica(upto: int, *, ring: int = 20_000) -> StoreState:
    """A manager that has applied ``upto`` transactions, each with two nodes."""
    state = StoreState()
    state.events = EventLog(size=ring)
    grow(state, upto)
    return state


def grow(state: StoreState, upto: int) -> None:
    for index in range(state.tables.index + 1, upto + 1):
        state.apply(index, encode(float(index), [Put(Node(id=f"{index}a")), Put(Node(id=f"{index}b"))]))


def store_of(state: StoreState) -> Store:
    return Store(state, SingleProposer(state), SystemClock())


async def seen(state: StoreState, after: int) -> list[str]:
    events = await asyncio.wait_for(state.events.watch(after).next(), 60)
    return [event.new.id for event in events if event.new is not None]


async def test_a_watcher_goes_on_at_another_manager_without_loss_or_repetition() -> None:
    first, second = replica(3), replica(5)
    assert await seen(first, 1) == ["2a", "2b", "3a", "3b"]
    assert await seen(second, 3) == ["4a", "4b", "5a", "5b"]


async def test_a_manager_that_is_behind_shows_only_what_is_new_to_the_watcher() -> None:
    behind = replica(2)
    watching = behind.events.watch(4)
    waiting = asyncio.ensure_future(watching.next())
    grow(behind, 4)
    await asyncio.sleep(0)
    assert not waiting.done()
    grow(behind, 5)
    assert [event.index for event in await asyncio.wait_for(waiting, 60)] == [5, 5]


@pytest.mark.parametrize(("after", "reaches"), [(0, False), (2, False), (3, True), (4, True)])
async def test_one_can_resume_exactly_as_far_back_as_whole_transactions_are_held(
    after: int, reaches: bool
) -> None:
    state = replica(5, ring=5)  # of transaction 3 one event is gone
    assert state.events.floor == 3
    if reaches:
        assert await seen(state, after) == [f"{n}{x}" for n in range(after + 1, 6) for x in "ab"]
        return
    with pytest.raises(Overrun):
        await state.events.watch(after).next()


async def test_a_transaction_larger_than_the_ring_leaves_nothing_to_resume_from() -> None:
    state = replica(1, ring=1)
    assert state.events.floor == 1
    with pytest.raises(Overrun):
        await state.events.watch(0).next()


async def test_after_a_snapshot_one_can_resume_from_it() -> None:
    state = StoreState()
    state.restore(4, b"".join(replica(4).view()()))
    grow(state, 5)
    assert await seen(state, 4) == ["5a", "5b"]
    with pytest.raises(Overrun):
        await state.events.watch(3).next()


async def test_the_stream_says_where_it_begins_and_gives_transactions_whole() -> None:
    state = replica(2)
    stream = watch(store_of(state), pb.WatchRequest(after_index=1, kinds=["node"]))
    first, second = await anext(stream), await anext(stream)
    assert (first.index, list(first.events)) == (1, [])
    assert (second.index, [event.id for event in second.events]) == (2, ["2a", "2b"])
    assert second.events[0].at == 2.0
    await stream.aclose()


async def test_since_reaches_back_by_the_time_of_the_transactions() -> None:
    stream = watch(store_of(replica(5)), pb.WatchRequest(since=3.5))
    assert [(await anext(stream)).index for _ in range(3)] == [3, 4, 5]
    await stream.aclose()


async def test_a_watcher_that_is_too_slow_is_told() -> None:
    state = replica(1, ring=4)
    stream = watch(store_of(state), pb.WatchRequest(after_index=1))
    await anext(stream)
    grow(state, 9)
    with pytest.raises(OutOfSequence, match="after transaction 1"):
        await anext(stream)


async def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(Invalid, match='"nodes"'):
        await anext(watch(store_of(replica(1)), pb.WatchRequest(kinds=["nodes"])))


def test_what_changed_stands_beside_what_it_was() -> None:
    old = Node(id="n", status=NodeStatus(state=NodeState.READY))
    told = describe(Event(3, old, msgspec.structs.replace(old, status=NodeStatus(state=NodeState.DOWN)), 7.0))
    assert told is not None
    assert (told.kind, told.action, told.at) == ("node", "update", 7.0)
    assert told.attributes == {"state.old": "ready", "state.new": "down"}


@pytest.mark.parametrize(
    "row",
    [
        Cluster(
            id="c", ca_key=b"SECRET", worker_token="SECRET", manager_token="SECRET", gossip_key=b"SECRET"
        ),
        JoinToken(id="t", secret_hash="SECRET"),
        Service(id="s", spec=SPEC),
        Task(id="t", service_id="s", service_name="web", spec_version=1),
    ],
)
def test_no_secret_is_told(row: Row) -> None:
    for event in (Event(1, None, row), Event(1, row, row), Event(1, row, None)):
        told = describe(event)
        assert told is not None
        assert "SECRET" not in repr(told)


def test_a_line_reads_like_dockers() -> None:
    event = pb.WatchEvent(
        at=0.5, kind="node", action="update", id="abc", name="n1", attributes={"state.new": "ready"}
    )
    assert command.line(event).endswith(" node update abc (name=n1, state.new=ready)")
    assert command.line(event).startswith("1970-01-01T00:00:00.5")


class Daemons:
    """Answers of daemons in the order they are asked; what they were asked for."""

    def __init__(self, *answers: list[pb.WatchResponse | Exception]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int | None]] = []

    def watch(self, host: str, request: pb.WatchRequest) -> Iterator[pb.WatchResponse]:
        after = request.after_index if request.HasField("after_index") else None
        self.asked.append((host, after))
        for answer in self.answers.pop(0):
            if isinstance(answer, Exception):
                raise answer
            yield answer


def told(index: int) -> pb.WatchResponse:
    return pb.WatchResponse(index=index, events=[pb.WatchEvent(kind="node", action="create", id=str(index))])


def test_the_command_goes_on_at_the_next_manager_after_what_it_has_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    daemons = Daemons(
        [pb.WatchResponse(index=3), told(4), Unreachable("gone")], [told(5), told(6), Unreachable("gone")]
    )
    monkeypatch.setattr(command, "_watch", daemons.watch)
    monkeypatch.setattr(command, "ROUNDS", 1)
    daemons.answers.append([Unreachable("gone")])
    shown: list[str] = []
    with pytest.raises(Unreachable):
        shown.extend(event.id for event in command.follow(["one", "two"], [], 0.0))
    assert shown == ["4", "5", "6"]
    assert daemons.asked[:2] == [("one", None), ("two", 4)]


def test_the_command_says_when_events_are_lost_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = DaemonError("this manager does not remember", "out_of_sequence")
    daemons = Daemons([pb.WatchResponse(index=3), lost], [told(9), DaemonError("no", "denied")])
    monkeypatch.setattr(command, "_watch", daemons.watch)
    shown: list[str] = []
    with pytest.raises(DaemonError, match="no"):
        shown.extend(event.id for event in command.follow(["one"], [], 0.0))
    assert shown == ["9"]
    assert "Some events are lost" in capsys.readouterr().err
    assert daemons.asked == [("one", None), ("one", None)]
