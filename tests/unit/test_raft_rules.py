"""The rules of replication that need no network: epochs, appends, votes, bases, entries."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.model.errors import KINDS, SwarmError, Unavailable
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.codec import CoreMessage, from_wire, to_wire
from swarmd.store.raft.engine import Engine
from swarmd.store.raft.envelope import (
    Barrier,
    Command,
    Envelope,
    Ledger,
    Seal,
    decode_envelope,
    encode_envelope,
)
from swarmd.store.raft.epochs import (
    View,
    apart,
    is_finished,
    lost_its_disk,
    may_install,
    may_seal,
    not_ready,
)
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.patience import Patience
from swarmd.store.raft.peers import Peers
from swarmd.store.raft.port import StateView
from swarmd.store.raft.prevote import Ballot
from swarmd.store.raft.proposals import Proposals
from swarmd.store.raft.records import Corrupt, Entry
from swarmd.store.raft.sanitize import sanitize_append
from swarmd.store.raft.single import SingleProposer
from swarmd.store.raft.snapshots import Base, Floor, SnapshotStore, decode_base, encode_base
from swarmd.store.raft.timing import Timing
from swarmd.store.raft.wal import LogState

TIMING = Timing()


def append(previous: int, previous_term: int, terms: list[int], commit: int, term: int = 9) -> CoreMessage:
    entries = [(b"\x00%d" % n, previous + n, at) for n, at in enumerate(terms, 1)]
    return {
        "type": "append_entries",
        "term": term,
        "commit_index": commit,
        "prevLogIdx": previous,
        "prevLogTerm": previous_term,
        "entries": entries,
    }


def sanitize(terms: list[int], message: CoreMessage, committed: int = 1) -> tuple[CoreMessage, int | None]:
    """``terms`` are those of the log from index 1 on."""
    clean = sanitize_append(
        message, last=len(terms), committed=committed, term_at=lambda index: terms[index - 1]
    )
    return clean.message, clean.verified


def test_an_append_that_is_here_already_cuts_nothing_off() -> None:
    message, verified = sanitize([0, 1, 1, 1, 1], append(1, 0, [1, 1], commit=9))
    assert (message["prevLogIdx"], message["entries"]) == (5, [])
    assert verified == 3
    assert message["commit_index"] == 3


def test_an_append_keeps_what_matches_and_replaces_from_the_first_conflict() -> None:
    message, verified = sanitize([0, 1, 1, 1, 1], append(1, 0, [1, 1, 2], commit=2))
    assert message["prevLogIdx"] == 3
    assert [entry[1:] for entry in message["entries"]] == [(4, 2)]
    assert verified == 4


def test_a_heartbeat_commits_only_what_it_verified() -> None:
    message, verified = sanitize([0, 1, 1, 1], append(2, 1, [], commit=4))
    assert verified == 2
    assert message["commit_index"] == 2


def test_an_append_behind_a_gap_or_a_conflict_verifies_nothing() -> None:
    assert sanitize([0, 1], append(5, 1, [1], commit=1))[1] is None
    assert sanitize([0, 1, 1], append(3, 2, [2], commit=1))[1] is None


def test_taking_back_a_committed_entry_is_an_error_not_a_log_line() -> None:
    with pytest.raises(SwarmError, match="take back entry 3"):
        sanitize([0, 1, 1, 1], append(2, 1, [2], commit=1), committed=4)


def engine(name: str, terms: list[int], term: int, members: str = "abc") -> Engine:
    entries = [Entry(index, at, b"\x00x") for index, at in enumerate(terms, 2)]
    made = Engine(name, dict.fromkeys(members, ""), LogState(entries, term, None), TIMING)
    for other in members.replace(name, ""):
        made.set_connected(other, True)
    return made


def test_a_follower_behind_a_gap_asks_once_from_its_commit_index() -> None:
    follower = engine("a", [1, 1, 1], 1)
    for previous in (8, 9, 10):
        follower.deliver("b", append(previous, 2, [2], commit=8, term=2))
    replies = follower.take_messages()
    assert [(to, m["reset"], m["success"], m["next_node_idx"]) for to, m in replies] == [
        ("b", True, False, 2)
    ]


def test_a_follower_acknowledges_only_what_was_verified() -> None:
    follower = engine("a", [1, 1, 1], 1)
    follower.deliver("b", append(2, 1, [], commit=4, term=2))
    [(_, reply)] = follower.take_messages()
    assert (reply["success"], reply["next_node_idx"], reply["term"]) == (True, 3, 2)
    assert follower.position.committed == 2
    assert follower.position.last == 4


def test_a_leader_of_an_older_term_is_told_of_the_newer_and_steps_down() -> None:
    leader, ahead = engine("a", [1], 3), engine("b", [1], 7)
    leader.elect_now()
    leader.tick()
    leader.deliver("c", {"type": "response_vote", "term": 4})
    assert leader.leading
    leader.tick()
    heartbeat = next(m for to, m in leader.take_messages() if to == "b" and m["type"] == "append_entries")
    ahead.deliver("a", heartbeat)
    [(_, answer)] = ahead.take_messages()
    leader.deliver("b", answer)
    assert not leader.leading
    assert leader.term == 7


def test_an_acknowledgement_of_an_older_term_counts_for_nothing() -> None:
    leader = engine("a", [1], 3)
    leader.elect_now()
    leader.tick()
    leader.deliver("c", {"type": "response_vote", "term": 4})
    reply = {"type": "next_node_idx", "next_node_idx": 4, "reset": False, "success": True}
    leader.deliver("b", reply | {"term": 3})
    leader.tick()
    assert leader.position.committed == 1
    leader.deliver("b", reply | {"term": 4})
    leader.tick()
    assert leader.position.committed == 3


def test_messages_of_others_than_members_are_not_heard() -> None:
    follower = engine("a", [1], 1)
    follower.deliver("z", {"type": "request_vote", "term": 99, "last_log_index": 99, "last_log_term": 99})
    assert follower.term == 1
    assert follower.take_messages() == []


def test_a_vote_is_promised_only_to_a_log_that_is_as_new_and_while_nobody_leads() -> None:
    voter = engine("a", [1, 2], 2)
    assert voter.would_vote(3, 2)
    assert voter.would_vote(2, 3)
    assert not voter.would_vote(2, 2)
    assert not voter.would_vote(9, 1)
    voter.deliver("b", append(3, 2, [], commit=1, term=2))
    assert not voter.would_vote(3, 2)


def test_a_late_kick_does_not_make_a_member_stand_against_a_leader() -> None:
    follower = engine("a", [], 0)
    follower.deliver("b", append(1, 0, [], commit=1, term=1))
    follower.kick()
    follower.tick()
    assert not follower.electing


def test_a_leader_that_is_only_silent_gets_the_whole_election_timeout() -> None:
    patience = Patience(Timing())
    patience.hear(10.0)
    assert not patience.is_over(10.9)
    assert patience.is_over(11.1)


def test_a_leader_whose_connection_ended_is_given_up_after_two_heartbeats() -> None:
    patience = Patience(Timing())
    patience.hear(10.0)
    assert patience.next_try(10.05, 1.2) == 10.05 + 1.2
    first, second = patience.way_closed(10.05, 0), patience.way_closed(10.05, 1)
    assert 10.2 < first < second - 0.1 < 10.6
    assert 10.2 < patience.next_try(10.05, 1.0) < patience.next_try(10.05, 1.5) < 10.8
    assert not patience.is_over(10.19)
    assert patience.is_over(10.21)


def test_a_leader_heard_after_its_connection_ended_is_trusted_as_before() -> None:
    patience = Patience(Timing())
    patience.way_closed(10.0, 0)
    patience.hear(10.1)
    assert not patience.is_over(11.0)


def test_a_ballot_is_won_once_by_a_majority_of_members_at_its_term() -> None:
    ballot = Ballot("a", ["b", "c", "d", "e"])
    ballot.open(4)
    assert ballot.take_question() == 4
    assert ballot.take_question() is None
    ballot.count("b", 3)
    ballot.count("b", 4)
    ballot.count("b", 4)
    ballot.count("z", 4)
    assert not ballot.won(4)
    ballot.count("c", 4)
    assert not ballot.won(5)
    assert ballot.won(4)
    assert not ballot.won(4)


def view(epoch: int, started: bool = True) -> View:
    return View(epoch, started, {}, "10.0.0.1:1", 0.0)


def test_an_old_epoch_is_kept_until_the_next_majority_runs_and_reachable_old_members_know() -> None:
    new, old = "abc", "abd"
    assert not is_finished(5, new, old, {"a": view(5)})
    assert not is_finished(5, new, old, {"a": view(5), "b": view(5, started=False)})
    assert not is_finished(5, new, old, {"a": view(5), "b": view(5), "d": view(4)})
    assert is_finished(5, new, old, {"a": view(5), "b": view(5), "d": view(5, started=False)})
    assert is_finished(5, new, old, {"a": view(5), "c": view(5)})
    assert is_finished(5, new, old, {"a": view(5, started=False), "d": view(6)})


def test_a_wiped_machine_never_begins_an_epoch_at_or_below_its_floor() -> None:
    assert not may_install(4, member=True, newest=0, floor=4)
    assert not may_install(3, member=True, newest=0, floor=4)
    assert may_install(5, member=True, newest=0, floor=4)
    assert may_install(4, member=False, newest=0, floor=4)
    assert not may_install(4, member=False, newest=4, floor=4)


def test_a_member_with_an_empty_disk_has_lost_it() -> None:
    assert lost_its_disk(member=True, newest=0, floor=0)
    assert not lost_its_disk(member=False, newest=0, floor=0)
    assert not lost_its_disk(member=True, newest=0, floor=3)


def test_a_seal_needs_a_ready_majority_and_every_new_member() -> None:
    views = {"a": view(3), "b": view(3), "d": view(2)}
    assert not_ready(3, "abc", views) == ["c"]
    assert may_seal(["c"], "abc", "abc")
    assert not may_seal(["c"], "ab", "abc")
    assert not_ready(3, "abd", views) == ["d"]
    assert not may_seal(["b", "c"], "abc", "abc")


def test_a_member_gives_the_log_a_chance_before_it_fetches_and_a_learner_does_not() -> None:
    peers = Peers("a", "10.0.0.1:1", TIMING)
    ahead = View(3, True, {}, "10.0.0.2:1", heard=10.0, base=3)
    peers.hear("b", ahead)
    assert peers.source(2, eager=True, now=10.0) == "b"
    assert peers.source(2, eager=False, now=10.0) is None
    assert peers.source(2, eager=False, now=10.0 + TIMING.behind) == "b"
    assert peers.source(3, eager=True, now=10.0) is None


def test_one_that_moved_unheard_is_found_by_whoever_hears_of_it() -> None:
    peers = Peers("a", "10.0.0.1:1", TIMING)
    peers.learn({"b": "10.0.0.2:1", "c": "10.0.0.3:1"})
    peers.hear("b", View(3, True, {}, "10.0.0.2:2", heard=10.0))
    peers.hear("c", View(3, True, {}, "10.0.0.3:2", heard=10.0))
    told = {"a": "10.9.9.9:9", "b": "10.0.0.2:3", "c": "10.0.0.3:3", "stranger": "10.0.0.4:1"}
    peers.hear_of({"b": "10.0.0.2:3"}, now=10.5)
    assert peers.located({"b": ""}) == {"b": "10.0.0.2:2"}, "it is heard, and knows itself"
    peers.hear_of(told, now=10.0 + TIMING.fresh + 1)
    assert peers.located(dict.fromkeys("abc", "")) == {
        "a": "10.0.0.1:1", "b": "10.0.0.2:3", "c": "10.0.0.3:3"
    }  # fmt: skip
    assert peers.located({"stranger": "as known"}) == {"stranger": "as known"}
    assert peers.heard(10.5) == {"b": "10.0.0.2:2", "c": "10.0.0.3:2"}


def test_what_a_peer_says_of_its_address_is_newer_than_what_an_epoch_says() -> None:
    peers = Peers("a", "10.0.0.1:1", TIMING)
    peers.learn({"b": "10.0.0.2:1"})
    peers.hear("b", View(1, True, {}, "10.0.0.9:1", heard=0.0))
    peers.learn({"b": "10.0.0.2:1"})
    assert peers.located({"a": "old", "b": "old"}) == {"a": "10.0.0.1:1", "b": "10.0.0.9:1"}


@pytest.mark.parametrize(
    "body", [Command(b"x" * 50), Barrier(), Seal({"b": "10.0.0.2:1", "a": "10.0.0.1:1"})]
)
def test_an_entry_reads_back_as_it_was_proposed(body: Command | Barrier | Seal) -> None:
    envelope = Envelope("session", 7, body)
    assert decode_envelope(encode_envelope(envelope)) == envelope


def test_an_entry_of_an_unknown_kind_stops_a_member_instead_of_being_skipped() -> None:
    with pytest.raises(SwarmError, match="Upgrade this manager"):
        decode_envelope(pb.RaftEnvelope(session="s", sequence=1).SerializeToString())


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 6))))
def test_a_proposal_repeated_is_counted_once_and_so_on_every_replica(entries: list[tuple[str, int]]) -> None:
    one, newest, count = Ledger(), dict.fromkeys("abc", 0), 0
    for session, sequence in entries:
        index = one.admit(session, sequence)
        if sequence > newest[session]:
            newest[session], count = sequence, count + 1
            assert index == count
        else:
            assert index is None
    again = Ledger(one.applied, one.sessions())
    assert (again.applied, again.sessions()) == (count, one.sessions())


def test_the_ledger_is_bounded_and_forgets_the_longest_silent_session() -> None:
    ledger = Ledger()
    for number in range(70):
        ledger.admit("busy", number + 1)
        ledger.admit(f"s{number}", 1)
    names = [name for name, _ in ledger.sessions()]
    assert len(names) == 64
    assert "busy" in names
    assert "s0" not in names


BASE = Base(4, {"a": "10.0.0.1:2377"}, 12, [("s", 3)], b"state" * 100)


def test_a_base_and_the_floor_are_there_after_saving(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "raft", SystemDisk())
    assert store.floor() == Floor()
    store.save(BASE)
    again = SnapshotStore(tmp_path / "raft", SystemDisk())
    assert again.load(4) == BASE
    assert again.floor() == Floor(4, BASE.members)


def test_a_base_with_any_byte_flipped_is_refused() -> None:
    data = encode_base(BASE)
    for position in range(len(data)):
        harmed = bytearray(data)
        harmed[position] ^= 1
        with pytest.raises(Corrupt):
            decode_base(bytes(harmed), "base")
    with pytest.raises(Corrupt):
        decode_base(data[:-1], "base")


def test_two_bases_are_kept_and_wiping_keeps_the_floor_which_never_sinks(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, SystemDisk())
    for epoch in (1, 2, 3):
        store.save(Base(epoch, {}, 0, [], b""))
        store.log_path(epoch).touch()
    store.discard(logs_before=3)
    assert store.epochs() == [2, 3]
    assert not store.log_path(2).exists()
    assert store.log_path(3).exists()
    store.wipe(store.floor())
    assert store.epochs() == []
    assert store.floor() == Floor(3, {}, left=True)
    with pytest.raises(SwarmError, match="cannot go back"):
        store.save_floor(Floor(2))


def test_the_core_never_gets_a_message_with_gaps_or_empty_entries() -> None:
    good = to_wire(append(3, 1, [1, 1], commit=2))
    assert from_wire(good) == append(3, 1, [1, 1], commit=2)
    good.entries[1].index = 9
    assert from_wire(good) is None
    assert from_wire(pb.RaftMessage()) is None
    with pytest.raises(SwarmError, match="epochs do not use"):
        to_wire({"type": "append_entries", "serialized": b""})


async def test_proposals_behind_a_seal_are_proposed_again_in_their_order() -> None:
    proposals = Proposals("s")
    made = [proposals.add(Command(b"%d" % n)) for n in range(3)]
    lost = proposals.add(Seal({}))
    later = proposals.add(Command(b"later"))
    assert proposals.take(1 << 20) == [*made, lost]
    proposals.applied(made[0].envelope, "done")
    proposals.requeue(Unavailable("changed meanwhile"))
    assert proposals.take(1 << 20) == [made[1], made[2], later]
    assert await made[0].future == "done"
    with pytest.raises(Unavailable, match="changed meanwhile"):
        await lost.future


async def test_a_proposal_its_caller_gave_up_is_uncertain_only_once_it_was_in_a_log() -> None:
    proposals = Proposals("s")
    logged, queued = proposals.add(Command(b"1")), proposals.add(Command(b"2"))
    assert proposals.take(1) == [logged]
    assert proposals.abandon(logged)
    assert not proposals.abandon(queued)
    assert not proposals


async def test_the_single_proposer_applies_at_once_and_always_leads() -> None:
    class Machine:
        def apply(self, index: int, command: bytes) -> object:
            return index, command

        def view(self) -> StateView:
            return lambda: [b""]

        def restore(self, index: int, data: bytes) -> None: ...

    single = SingleProposer(Machine())
    assert await single.propose(b"a") == (1, b"a")
    assert await single.propose(b"b") == (2, b"b")
    assert await asyncio.wait_for(single.read_index(), 60) == 2
    assert single.is_leader()
    assert single.status().applied == 2
    with pytest.raises(KINDS["refused"]):
        await single.transfer()


@pytest.mark.parametrize(
    ("ahead", "wrong"),
    [
        ({"a": 0.0, "b": 3.0, "c": -5.0}, ""),
        ({"a": 0.0, "b": 3.0, "c": 9000.0}, "c"),
        ({"a": 0.0, "b": -9000.0, "c": -9001.0}, "a"),
        ({"a": 0.0, "b": 9000.0}, ""),
        ({"a": 0.0, "b": 9000.0, "c": -9000.0}, ""),
        ({"a": 0.0}, ""),
        ({}, ""),
    ],
    ids=["all right", "one ahead", "this one ahead", "one of two", "three times", "alone", "nobody"],
)
def test_a_clock_is_wrong_when_a_majority_agrees_on_another_time(ahead: dict[str, float], wrong: str) -> None:
    assert apart(ahead, 3600.0) == set(wrong)
