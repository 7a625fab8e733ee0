"""One epoch's Raft group: the pysyncobj core over our log and our messages.  The only home of pysyncobj.

The core decides elections, log matching and commitment.  Everything else is taken from its hands through the
names overridden or read here, which is why its version is pinned: durability (the caller persists
:meth:`Engine.take_items` before it sends :meth:`Engine.take_messages`), applying, snapshots, membership, and
the wire.  Static members, no compaction: an epoch ends by a sealing entry, see ``node``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pysyncobj import SyncObj, SyncObjConf, monotonic
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from swarmd.model.errors import SwarmError
from swarmd.store.raft.codec import CoreMessage
from swarmd.store.raft.journal import REGULAR, Journal, Position, commands_of
from swarmd.store.raft.patience import Patience
from swarmd.store.raft.prevote import Ballot
from swarmd.store.raft.records import Entry, Item
from swarmd.store.raft.sanitize import answer_to_stale, hopeless_request, sanitize_append
from swarmd.store.raft.timing import Timing
from swarmd.store.raft.wal import LogState

_FOLLOWER, _CANDIDATE, _LEADER = 0, 1, 2
_NEVER: Final = 1 << 62
_BATCH_BYTES: Final = 2 << 20


def core_now() -> float:
    """The clock the core itself reads, seconds."""
    return float(monotonic.monotonic())


class _Outbox(Transport):  # type: ignore[misc]
    """Collects what the core says instead of sending it."""

    def __init__(self) -> None:
        super().__init__(None, None, [])
        self.messages: list[tuple[str, CoreMessage]] = []

    def send(self, node: Node, message: CoreMessage) -> bool:
        self.messages.append((node.id, message))
        return True


class _NullPoller:
    def poll(self, timeout: float) -> None:
        pass


class _Core(SyncObj):  # type: ignore[misc]
    """The core with its own applying, queueing and dumping switched off."""

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802 - a private name of the core
        return False

    def _checkCommandsToApply(self) -> None:  # noqa: N802 - a name of the core
        pass

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802 - a private name of the core
        pass

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:  # noqa: N802, N803
        raise SwarmError("The Raft core wants to install a snapshot, which epochs never do.")


class Engine:
    """The Raft group of one epoch as this member sees it.  Not thread-safe; never blocks."""

    def __init__(self, self_id: str, members: Mapping[str, str], state: LogState, timing: Timing) -> None:
        self.self_id = self_id
        self.members = dict(members)
        self._timing = timing
        self._nodes = {node_id: Node(node_id) for node_id in members if node_id != self_id}
        self.journal = Journal(state)
        self._outbox = _Outbox()
        self._core = _Core(
            Node(self_id), list(self._nodes.values()), conf=_configuration(timing), transport=self._outbox
        )
        self._core._poller = _NullPoller()
        self._put("raftLog", self.journal)
        self._put("raftCurrentTerm", max(state.term, self.journal[-1][2]))
        self._put("votedForNodeId", state.vote)
        self._applied = 1
        self._patience = Patience(timing)
        self._told: tuple[int, int] = (len(self.journal), 1)
        self._reset_until = 0.0
        self.ballot = Ballot(self_id, list(self._nodes))
        if not self._nodes:
            self.elect_now()

    def _get(self, name: str) -> Any:
        return getattr(self._core, "_SyncObj__" + name)

    def _put(self, name: str, value: object) -> None:
        setattr(self._core, "_SyncObj__" + name, value)

    # -- what the member knows -------------------------------------------------------------------

    @property
    def term(self) -> int:
        return int(self._get("raftCurrentTerm"))

    @property
    def leading(self) -> bool:
        """The core is leader; its term may not be applied yet."""
        return bool(self._get("raftState") == _LEADER)

    @property
    def electing(self) -> bool:
        return bool(self._get("raftState") == _CANDIDATE)

    @property
    def applied(self) -> int:
        """The last log index that :meth:`take_committed` handed out."""
        return self._applied

    @property
    def position(self) -> Position:
        _, last, last_term = self.journal[-1]
        return Position(last, last_term, self._get("raftCommitIndex"))

    def term_applied(self) -> bool:
        """This member leads and has applied the first entry of its own term."""
        first = self._get("noopIDx")
        return self.leading and first is not None and self._applied >= first

    def leader(self) -> str | None:
        """Who leads, as far as was heard within the time after which a follower would doubt it."""
        if self.leading:
            return self.self_id
        node, silence = self._get("raftLeader"), self.silence()
        known = node is not None and silence is not None and silence <= self._timing.election_max
        return node.id if known else None

    def silence(self) -> float | None:
        """Seconds since a leader of this term or later was heard; None when none ever was."""
        return self._patience.silence(core_now())

    # -- input -----------------------------------------------------------------------------------

    def set_connected(self, node_id: str, connected: bool) -> None:
        """The way to ``node_id`` is open, or not: the core sends nothing to the latter."""
        node = self._nodes.get(node_id)
        if node is not None:
            notify = self._outbox._onNodeConnected if connected else self._outbox._onNodeDisconnected
            notify(node)
            if node == self._get("raftLeader") and not connected:
                rank = sorted(other for other in self.members if other != node_id).index(self.self_id)
                soon = self._patience.way_closed(core_now(), rank)
                self._put("raftElectionDeadline", min(self._get("raftElectionDeadline"), soon))

    def append(self, command: bytes) -> int | None:
        """Put ``command`` at the end of the leader's log and answer its index; None when not leading."""
        if not self.leading:
            return None
        index = int(self.journal[-1][1]) + 1
        self.journal.add(REGULAR + command, index, self.term)
        return index

    def deliver(self, sender: str, message: CoreMessage) -> None:
        """Give the core a message of member ``sender``; what others say is dropped."""
        node = self._nodes.get(sender)
        if node is None:
            return
        kind, term = message["type"], message["term"]
        if kind == "append_entries":
            self._deliver_append(node, message)
        elif kind != "next_node_idx":
            self._outbox._onMessageReceived(node, message)
        elif term > self.term:
            # Somebody is at a higher term: a vote request nobody would grant moves the core there.
            self._outbox._onMessageReceived(node, hopeless_request(term))
        elif term == self.term and 2 <= message["next_node_idx"] <= self.position.last + 1:
            self._outbox._onMessageReceived(node, message)

    def _deliver_append(self, node: Node, message: CoreMessage) -> None:
        if message["term"] < self.term:
            # Unanswered, a stale leader and a member with a higher term would ignore each other for ever.
            self._outbox.send(node, answer_to_stale(self.term))
            return
        position = self.position
        self._patience.hear(core_now())
        self.ballot.cancel()
        clean = sanitize_append(
            message,
            last=position.last,
            committed=position.committed,
            term_at=lambda index: int(self.journal[index - 1][2]),
        )
        before = len(self._outbox.messages)
        self._outbox._onMessageReceived(node, clean.message)
        replies, self._outbox.messages[before:] = self._outbox.messages[before:], []
        for target, reply in replies:
            self._reply(target, reply, clean.verified)

    def _reply(self, target: str, reply: CoreMessage, verified: int | None) -> None:
        """Acknowledge what was verified; behind a gap ask again from our commit, once a heartbeat."""
        reply["term"] = self.term
        if verified is not None:
            reply["next_node_idx"] = verified + 1
        elif core_now() < self._reset_until:
            return
        else:
            self._reset_until = core_now() + self._timing.heartbeat
            reply["next_node_idx"] = max(self.position.committed, self._applied) + 1
        self._outbox.messages.append((target, reply))

    def elect_now(self) -> None:
        """Stand for election at the next tick, without asking first."""
        self._put("raftElectionDeadline", 0)

    def kick(self) -> None:
        """Stand for election unless somebody leads or ever led: a late kick must not depose anybody."""
        if self.term == 0 and self._get("raftLeader") is None:
            self.elect_now()

    def transfer(self, to: str | None = None) -> bool:
        """Ask ``to``, or the most current member, to take over; False when it is not current."""
        asked: list[bool] = []
        self._core.transferLeadership(to and self._nodes[to], lambda _, error: asked.append(error == 0))
        return asked == [True]

    def tick(self) -> None:
        """Let time pass: elections, commitment, heartbeats, and appends as soon as there is news."""
        self._hold_ballot()
        self._core.doTick(0)
        if self.leading:
            news = (len(self.journal), self.position.committed)
            if news != self._told:
                self._core._SyncObj__sendAppendEntries()
                self._told = news

    def _hold_ballot(self) -> None:
        """Before the core raises its term: would a majority vote for this member?"""
        deadline = self._get("raftElectionDeadline")
        if self.leading or deadline == 0 or self._get("transferInProgress"):
            return
        now = core_now()
        if self.ballot.won(self.term):
            self.elect_now()
        elif deadline < now:
            again = self._patience.next_try(now, self._core._SyncObj__generateRaftTimeout())
            self._put("raftElectionDeadline", again)
            self.ballot.open(self.term)

    def would_vote(self, last: int, last_term: int) -> bool:
        """The answer to another member's question whether it could win an election now."""
        current = (last_term, last) >= (self.position.last_term, self.position.last)
        return current and not self.leading and self._patience.is_over(core_now())

    # -- output ----------------------------------------------------------------------------------

    def take_items(self) -> list[Item]:
        """What must be durable before the messages may leave."""
        items, self.journal.items = self.journal.items, []
        return items

    def may_speak_early(self) -> bool:
        """New entries may reach others while the leader writes them: answers count in a later turn only."""
        return self.leading and all(type(item) is Entry for item in self.journal.items)

    def take_messages(self) -> list[tuple[str, CoreMessage]]:
        """(member, message) in order."""
        messages, self._outbox.messages = self._outbox.messages, []
        return messages

    def all_commands(self) -> list[bytes]:
        """Every command in the log, committed or not."""
        return [command for _, command in commands_of(self.journal[1:])]

    def take_committed(self) -> list[tuple[int, bytes]]:
        """(index, command) of what was committed since; entries of the core itself are left out."""
        committed = self._get("raftCommitIndex")
        entries = self.journal[self._applied : committed]
        self._applied = max(self._applied, committed)
        self._put("raftLastApplied", self._applied)
        return commands_of(entries)


def _configuration(timing: Timing) -> SyncObjConf:
    return SyncObjConf(
        autoTick=False,
        appendEntriesUseBatch=True,
        appendEntriesPeriod=timing.heartbeat,
        appendEntriesBatchSizeBytes=_BATCH_BYTES,
        raftMinTimeout=timing.election_min,
        raftMaxTimeout=timing.election_max,
        leaderFallbackTimeout=timing.quorum_lost,
        connectionTimeout=timing.election_max * 2,
        logCompactionMinEntries=_NEVER,
        logCompactionMinTime=_NEVER,
        dynamicMembershipChange=False,
    )
