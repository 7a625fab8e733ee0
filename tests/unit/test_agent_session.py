"""The node's session with the leader, over real gRPC streams on loopback."""

from __future__ import annotations

import asyncio
import socket

import pytest

from swarmd.model.errors import Denied, Unavailable
from swarmd.model.objects import TaskStatus
from swarmd.model.states import TaskState
from swarmd.node.agent import session as session_module
from swarmd.node.agent.core.remotes import Remote, Remotes
from swarmd.rpc.v1 import agent_pb2
from tests.unit.agent_managers import eventually, swarm

RUNNING = TaskStatus(state=TaskState.RUNNING, message="started")
READY = TaskStatus(state=TaskState.READY)


async def test_a_node_says_hello_and_then_what_it_has_without_waiting_for_a_heartbeat() -> None:
    async with swarm("a") as (node, (a,)):
        node.note("t1", RUNNING)
        node.start()
        await eventually(lambda: a.batches and a.inventories)
        assert [hello.address for hello in a.hellos] == ["10.0.0.1"]
        assert a.batches == [{"t1": RUNNING}]
        assert a.inventories == [{"demo:1": "sha256:d"}]
        assert a.heartbeats == 0
        assert (node.session.connected, node.session.problem) == (True, "")


async def test_a_redirect_is_followed_to_a_leader_that_was_not_even_known() -> None:
    async with swarm("a", "b") as (node, (a, b)):
        node.remotes.learn([a.remote])
        a.redirect = agent_pb2.Redirect(leader=b.peer, managers=[a.peer])
        node.start()
        await eventually(lambda: node.session.connected)
        assert (len(a.hellos), len(b.hellos)) == (1, 1)


async def test_a_manager_that_knows_no_leader_is_followed_by_the_next() -> None:
    async with swarm("a", "b") as (node, (a, b)):
        a.redirect = agent_pb2.Redirect()
        node.start()
        await eventually(lambda: b.hellos)
        assert node.session.problem in ("", "the swarm has no leader at the moment")


async def test_when_the_leader_is_lost_the_others_are_tried_after_a_pause() -> None:
    async with swarm("a", "b") as (node, (a, b)):
        node.start()
        await eventually(lambda: node.session.connected)
        before = len(node.clock.sleeps)
        await a.close()
        await eventually(lambda: b.hellos and node.session.connected)
        assert node.clock.sleeps[before:] != []
        assert node.session.problem == ""


async def test_a_session_that_the_manager_ends_is_taken_up_with_another() -> None:
    async with swarm("a", "b") as (node, (a, b)):
        node.start()
        await eventually(lambda: node.session.connected)
        a.end()
        await eventually(lambda: b.hellos)


async def test_after_a_long_session_the_next_try_comes_soon_and_after_short_ones_ever_later() -> None:
    async with swarm("a") as (node, (a,)):
        node.start()
        for count in range(1, 8):
            await eventually(lambda n=count: len(a.hellos) == n and node.session.connected)  # type: ignore[misc]
            a.end()
        await eventually(lambda: len(a.hellos) == 8 and node.session.connected)
        assert node.clock.sleeps[-1] >= 1.0
        node.clock.seconds += 60
        pauses = len(node.clock.sleeps)
        a.end()
        await eventually(lambda: len(node.clock.sleeps) > pauses)
        assert node.clock.sleeps[pauses] <= 0.1


async def test_statuses_are_sent_one_batch_at_a_time_and_not_again_once_acknowledged() -> None:
    async with swarm("a") as (node, (a,)):
        a.acknowledges = False
        node.note("t1", READY)
        node.start()
        await eventually(lambda: a.batches)
        node.note("t1", RUNNING)
        node.note("t2", READY)
        node.session.images_changed()
        await eventually(lambda: len(a.inventories) == 2)
        assert a.batches == [{"t1": READY}], "the first batch is still on its way"
        a.acknowledges = True
        a.send(ack=agent_pb2.StatusAck(sequence=a.sequences[-1]))
        await eventually(lambda: len(a.batches) == 2)
        assert a.batches[1] == {"t1": RUNNING, "t2": READY}
        node.note("t3", READY)
        await eventually(lambda: len(a.batches) == 3)
        assert a.batches[2] == {"t3": READY}
        assert a.sequences == sorted(set(a.sequences))


async def test_a_new_session_tells_everything_again() -> None:
    async with swarm("a", "b") as (node, (a, b)):
        node.note("t1", RUNNING)
        node.start()
        await eventually(lambda: a.batches)
        await a.close()
        await eventually(lambda: b.batches and b.inventories)
        assert b.batches == [{"t1": RUNNING}]


async def test_a_batch_without_an_answer_is_told_again_in_the_next_session() -> None:
    async with swarm("a") as (node, (a,)):
        a.acknowledges = False
        node.note("t1", RUNNING)
        node.start()
        await eventually(lambda: a.batches)
        a.end()
        await eventually(lambda: len(a.batches) == 2)
        assert a.batches == [{"t1": RUNNING}, {"t1": RUNNING}]


async def test_images_are_told_at_the_start_and_when_they_change() -> None:
    async with swarm("a") as (node, (a,)):
        node.start()
        await eventually(lambda: a.inventories)
        node.images["demo:2"] = "sha256:e"
        node.session.images_changed()
        await eventually(lambda: len(a.inventories) == 2)
        assert a.inventories[1] == {"demo:1": "sha256:d", "demo:2": "sha256:e"}


async def test_a_silent_node_sends_heartbeats() -> None:
    async with swarm("a") as (node, (a,)):
        a.heartbeat = 0.01
        node.start()
        await eventually(lambda: a.heartbeats >= 3)
        assert a.batches == []


async def test_a_shorter_heartbeat_counts_at_once() -> None:
    async with swarm("a") as (node, (a,)):
        a.heartbeat = 3600.0
        node.start()
        await eventually(lambda: node.session._heartbeat == 3600.0 and a.inventories)
        a.send(session=agent_pb2.SessionInfo(heartbeat=0.01))
        await eventually(lambda: a.heartbeats >= 3)


async def test_a_refusal_is_shown_and_kept_while_it_lasts() -> None:
    async with swarm("a") as (node, (a,)):
        a.refusal = Denied("node n1 is not part of this swarm any more: leave and join again")
        node.start()
        await eventually(lambda: len(a.hellos) >= 3)
        assert node.session.problem == str(a.refusal)
        assert not node.session.connected
        with pytest.raises(Unavailable, match="no manager can be reached"):
            node.session.leader_channel()
        a.refusal = None
        await eventually(lambda: node.session.connected)
        assert node.session.problem == ""


async def test_when_nobody_answers_each_try_is_followed_by_a_growing_pause() -> None:
    with socket.socket() as taken:  # bound, not listening: every connection is refused
        taken.bind(("127.0.0.1", 0))
        async with swarm() as (node, ()):
            node.remotes.learn([Remote("a", str(taken.getsockname()[1]))])
            node.start()
            await eventually(lambda: len(node.clock.sleeps) >= 12)
            assert node.clock.sleeps[0] >= 0.05
            assert all(1.0 <= pause <= 2.0 for pause in node.clock.sleeps[6:])
            assert node.session.problem != ""


async def test_a_node_that_knows_no_manager_says_so_and_does_not_spin() -> None:
    async with swarm() as (node, ()):
        node.start()
        await eventually(lambda: node.clock.sleeps)
        assert node.session.problem == "no manager of the swarm is known to this node"
        assert set(node.clock.sleeps) == {1.0}


async def test_a_manager_that_takes_the_call_but_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "ANSWER_LIMIT", 0.05)
    async with swarm("a", "b") as (node, (a, b)):
        a.silent = b.silent = True
        node.start()
        await eventually(lambda: a.hellos and b.hellos)
        monkeypatch.setattr(
            session_module, "ANSWER_LIMIT", 1.0
        )  # an answer may take longer on a busy machine
        b.silent = False
        await eventually(lambda: node.session.connected)
        assert node.session.leader_channel() is node.channels.to(b.address, b.name)


async def test_channels_closed_for_a_new_certificate_do_not_end_the_client() -> None:
    async with swarm("a") as (node, (a,)):
        node.start()
        await eventually(lambda: node.session.connected)
        await node.channels.close()
        await eventually(lambda: len(a.hellos) == 2 and node.session.connected)
        assert not node.running.done()


@pytest.mark.parametrize("error", [Unavailable("disk full"), ValueError("a bug"), OSError("disk full")])
async def test_a_message_that_cannot_be_handled_ends_the_session_and_not_the_client(error: Exception) -> None:
    async with swarm("a") as (node, (a,)):
        node.start()
        await eventually(lambda: node.session.connected)
        node.trouble = error
        a.send(assignments=agent_pb2.Assignments(sequence=1))
        await eventually(lambda: len(a.hellos) == 2 and node.session.connected)
        node.trouble = None
        a.send(assignments=agent_pb2.Assignments(sequence=2))
        await eventually(lambda: [message.sequence for message in node.assignments] == [2])


async def test_a_cancelled_client_ends_and_is_not_connected_any_more() -> None:
    async with swarm("a") as (node, (a,)):
        node.start()
        await eventually(lambda: node.session.connected)
        node.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await node.running
        assert not node.session.connected
        assert a.hellos != []


def test_the_successor_of_a_manager_that_failed_is_next_whoever_it_was() -> None:
    remotes = Remotes(Remote(name, name) for name in "abc")
    remotes.leads(Remote("b", "b"))
    tried = []
    for _ in range(4):
        remote = remotes.next()
        assert remote is not None
        tried.append(remote.node_id)
        remotes.failed()
    assert tried == ["b", "c", "a", "b"]
