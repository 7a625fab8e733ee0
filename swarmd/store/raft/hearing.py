"""What a member does with the frames that arrived: each goes to whom it is for."""

from __future__ import annotations

from swarmd.kit.clock import Clock
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.codec import from_wire
from swarmd.store.raft.epochs import View, is_address
from swarmd.store.raft.held import Held, Live
from swarmd.store.raft.inbox import Inbox
from swarmd.store.raft.learning import Learning, Teaching
from swarmd.store.raft.peers import Peers
from swarmd.store.raft.reads import Send
from swarmd.store.raft.timing import Timing


class Hearing:
    """Takes what waits in ``inbox``."""

    def __init__(
        self, held: Held, peers: Peers, inbox: Inbox, send: Send, clock: Clock, timing: Timing
    ) -> None:
        self._held = held
        self._peers = peers
        self._inbox = inbox
        self._send = send
        self._clock = clock
        self.learning = Learning(held, peers, send, clock, timing)
        self.teaching = Teaching(held, send)

    def turn(self) -> None:
        """Hear everything that arrived."""
        for peer, frame in self._inbox.take():
            self._hear(peer, frame)

    def _hear(self, peer: str, frame: pb.PeerFrame) -> None:
        kind = frame.WhichOneof("body")
        if kind == "status":
            self._hear_status(peer, frame.status)
        elif kind == "log_ask":
            self.teaching.hear(peer, frame.log_ask)
        elif kind == "log_piece":
            self.learning.hear(peer, frame.log_piece)
        elif kind in ("raft", "pre_vote_request", "pre_vote_reply", "kick"):
            epoch = getattr(frame, kind).epoch
            live = self._held.live.get(epoch)
            if live is not None and peer in live.engine.members:
                self._hear_member(live, peer, frame)
            elif epoch > self._held.newest:
                self._inbox.keep(epoch, peer, frame)

    def _hear_status(self, peer: str, status: pb.PeerStatus) -> None:
        members = {member.node_id: member.address for member in status.members}
        view = View(
            status.newest_epoch,
            status.started,
            members,
            status.address if is_address(status.address) else "",
            self._clock.monotonic(),
            status.floor,
            # 0: from swarmd 0.1, which has it when it says so
            status.base_epoch or status.newest_epoch,
            status.applied_index,
            status.is_short_of_space,
            status.clock - self._clock.now() if status.clock else 0.0,
        )
        # Who knows no later epoch than we do may have an older address of its members than we were given.
        if view.knows > max(self._held.newest, self._held.floor.epoch):
            self._peers.point_to(members)
        self._peers.hear(peer, view)
        heard = {one.node_id: one.address for one in status.heard if is_address(one.address)}
        self._peers.hear_of(heard, self._clock.monotonic())

    def _hear_member(self, live: Live, peer: str, frame: pb.PeerFrame) -> None:
        engine = live.engine
        match frame.WhichOneof("body"):
            case "raft":
                for wire in frame.raft.messages:
                    message = from_wire(wire)
                    if message is not None:
                        engine.deliver(peer, message)
            case "pre_vote_request":
                ask = frame.pre_vote_request
                granted = engine.would_vote(ask.last_index, ask.last_term)
                reply = pb.PreVoteReply(epoch=ask.epoch, term=ask.term, granted=granted)
                self._send(peer, pb.PeerFrame(pre_vote_reply=reply))
            case "pre_vote_reply" if frame.pre_vote_reply.granted:
                engine.ballot.count(peer, frame.pre_vote_reply.term)
            case "kick":
                engine.kick()
