"""A leader's question whether it is still followed, and the count of the answers.  Pure; see ``reads``."""

from __future__ import annotations

from collections.abc import Mapping

from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.epochs import is_majority


class Probe:
    """A leader's question, and who has answered it.  Pure."""

    def __init__(
        self, self_id: str, members: Mapping[str, str], question: pb.ReadProbe, committed: int
    ) -> None:
        self.question = question
        self.committed = committed
        self._members = frozenset(members)
        self._answered = {self_id}

    def count(self, peer: str, ack: pb.ReadAck) -> None:
        """``peer`` answered ``ack``, which may belong to an older question."""
        asked = self.question
        if (ack.epoch, ack.term, ack.number) == (asked.epoch, asked.term, asked.number):
            self._answered.add(peer)

    @property
    def silent(self) -> list[str]:
        """Who has not answered."""
        return sorted(self._members - self._answered)

    @property
    def confirmed(self) -> bool:
        """A majority has answered."""
        return is_majority(self._answered, self._members)
