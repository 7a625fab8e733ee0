"""What members say to each other, and what the core tells its owner.

An :class:`Update` is one rumour: the whole record of one member and the state somebody saw it in.
Of two rumours about a member the higher ``(epoch, incarnation)`` wins; at the same version the worse
state does (alive < suspect < dead < left).  Only the member itself raises its version, so only it can refute.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal, TypeAlias

import msgspec

from swarmd.node.membership.core.config import MAX_META_BYTES

Address: TypeAlias = tuple[str, int]

MAX_ID_BYTES = 64
DIGEST_BUCKETS = 32
DIGEST_BYTES = DIGEST_BUCKETS * 8

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_BYTES)]
Host = Annotated[str, msgspec.Meta(max_length=45)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class State(enum.IntEnum):
    """How a member is seen.  Of two claims at one version the greater stands."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3

    @property
    def live(self) -> bool:
        """Whether the member still counts: it is probed, told things and placed on."""
        return self <= State.SUSPECT


class Update(msgspec.Struct, frozen=True, array_like=True):
    """One member's record.  ``by`` is the accuser (or ``id`` itself for alive and left)."""

    state: State
    id: Id
    epoch: Count
    incarnation: Count
    host: Host
    port: Port
    meta: Annotated[bytes, msgspec.Meta(max_length=MAX_META_BYTES)]
    by: Id

    @property
    def address(self) -> Address:
        return (self.host, self.port)

    @property
    def version(self) -> tuple[int, int]:
        """What only the member itself can raise."""
        return (self.epoch, self.incarnation)

    def size(self) -> int:
        """At most this many bytes on the wire."""
        return 32 + len(self.id.encode()) + len(self.host) + len(self.meta) + len(self.by.encode())


Updates: TypeAlias = tuple[Update, ...]


class Ping(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """Are you there?  Only the member called ``target`` answers: addresses are reused, names are not."""

    sequence: Count
    target: Id
    updates: Updates = ()


class Ack(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """Yes; or, to the sender of a :class:`PingRequest`: it is."""

    sequence: Count
    updates: Updates = ()


class Nack(msgspec.Struct, frozen=True, array_like=True, tag="n"):
    """I asked it for you and heard nothing so far; but you and I can talk."""

    sequence: Count
    updates: Updates = ()


class PingRequest(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """Please ping ``target`` for me."""

    sequence: Count
    target: Id
    host: Host
    port: Port
    updates: Updates = ()


class Gossip(msgspec.Struct, frozen=True, array_like=True, tag="g"):
    """Rumours, nothing else."""

    updates: Updates = ()


class Digest(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """A hash per bucket over the members the sender holds for live.  ``answer``: send me yours too."""

    buckets: Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
    answer: bool
    updates: Updates = ()


class Records(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """What I know of the buckets in which we differ: knowledge, not news, so a death in it is no verdict."""

    updates: Updates = ()


Message: TypeAlias = Ping | Ack | Nack | PingRequest | Gossip | Digest | Records

EventKind: TypeAlias = Literal["up", "suspect", "alive", "dead", "left", "changed"]


class MemberEvent(msgspec.Struct, frozen=True):
    """Something the owner wants to know about another member.

    ``up``: first seen, back from the dead, or restarted (a new epoch).  ``suspect``: does not answer.
    ``alive``: refuted a suspicion.  ``dead``: did not refute.  ``left``: said goodbye.
    ``changed``: a new address or meta, nothing else.
    """

    kind: EventKind
    id: str
    address: Address
    epoch: int
    incarnation: int
    meta: bytes


class Effects(msgspec.Struct):
    """What an input asks its caller to do: datagrams to send, events to report, in order."""

    send: list[tuple[Address, Message]] = msgspec.field(default_factory=list)
    events: list[MemberEvent] = msgspec.field(default_factory=list)
