"""What the datagrams of the gossip keep out, and that they fit into one packet."""

from __future__ import annotations

import msgspec
import pytest

from swarmd.model.errors import Invalid
from swarmd.node.membership.codec import WINDOW, Codec
from swarmd.node.membership.core.config import MAX_META_BYTES, SwimConfig
from swarmd.node.membership.core.messages import (
    DIGEST_BYTES,
    MAX_ID_BYTES,
    Ack,
    Digest,
    Gossip,
    Message,
    Nack,
    Ping,
    PingRequest,
    Records,
    State,
    Update,
)
from swarmd.node.membership.core.outbox import Outbox
from swarmd.node.membership.core.prng import Prng
from swarmd.node.membership.core.roster import Roster

OLD, NEW = b"o" * 32, b"n" * 32
WHO = Update(State.SUSPECT, "b", 3, 4, "10.0.0.2", 7946, b"meta", "a")

MESSAGES: list[Message] = [
    Ping(1, "b", (WHO,)),
    Ack(2),
    Nack(3),
    PingRequest(4, "b", "fd00::1", 7946, (WHO,)),
    Gossip((WHO, WHO)),
    Digest(bytes(DIGEST_BYTES), True, (WHO,)),
    Records((WHO,)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_what_is_sealed_opens_as_the_same(message: Message) -> None:
    envelope = Codec("b", [OLD]).open(Codec("a", [OLD]).seal(message, 77))
    assert envelope is not None
    assert (envelope.sender, envelope.epoch, envelope.message) == ("a", 77, message)


def test_nothing_of_a_message_can_be_read_without_the_key() -> None:
    sealed = Codec("a", [OLD]).seal(Gossip((msgspec.structs.replace(WHO, meta=b"plaintext"),)), 1)
    assert b"plaintext" not in sealed
    receiver = Codec("b", [NEW])
    assert receiver.open(sealed) is None
    assert receiver.dropped.unsealed == 1


def test_every_changed_byte_is_noticed() -> None:
    sealed = Codec("a", [OLD]).seal(Ping(1, "b"), 5)
    receiver = Codec("b", [OLD])
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        assert receiver.open(bytes(changed)) is None, position
    assert receiver.open(sealed) is not None


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x01\x01a", b"\x02" * 100, b"\x01\x00" + b"x" * 60, b"\xff" * 1400]
)
def test_garbage_is_dropped_and_counted(data: bytes) -> None:
    receiver = Codec("b", [OLD])
    assert receiver.open(data) is None
    assert receiver.dropped.garbage == 1


def test_a_replayed_datagram_is_dropped_but_reordered_ones_are_not() -> None:
    sender, receiver = Codec("a", [OLD]), Codec("b", [OLD])
    first, second, third = (sender.seal(Ack(n), 1) for n in range(3))
    assert [receiver.open(d) is not None for d in (third, first, second)] == [True, True, True]
    assert [receiver.open(d) is not None for d in (third, first, second)] == [False, False, False]
    assert receiver.dropped.replayed == 3


def test_what_is_older_than_the_window_counts_as_replayed() -> None:
    sender, receiver = Codec("a", [OLD]), Codec("b", [OLD])
    datagrams = [sender.seal(Ack(n), 1) for n in range(WINDOW + 1)]
    assert receiver.open(datagrams[-1]) is not None
    assert receiver.open(datagrams[0]) is None
    assert receiver.open(datagrams[1]) is not None


def test_a_new_run_starts_a_new_window_and_ends_the_old_one() -> None:
    receiver = Codec("b", [OLD])
    before, after = Codec("a", [OLD]), Codec("a", [OLD])
    late = before.seal(Ack(9), 1)
    assert receiver.open(before.seal(Ack(1), 1)) is not None
    assert receiver.open(after.seal(Ack(1), 2)) is not None
    assert receiver.open(late) is None


def test_keys_rotate_without_a_lost_datagram() -> None:
    one, two = Codec("a", [OLD]), Codec("b", [OLD])
    for ring_one, ring_two in (
        ([OLD, NEW], [OLD]),
        ([OLD, NEW], [OLD, NEW]),
        ([NEW, OLD], [OLD, NEW]),
        ([NEW, OLD], [NEW, OLD]),
        ([NEW], [NEW, OLD]),
        ([NEW], [NEW]),
    ):
        one.set_keys(ring_one)
        two.set_keys(ring_two)
        assert two.open(one.seal(Ack(1), 1)) is not None
        assert one.open(two.seal(Ack(1), 1)) is not None
    two.set_keys([OLD])
    assert two.open(one.seal(Ack(1), 1)) is None


def test_an_address_that_would_need_a_resolver_is_garbage() -> None:
    sender, receiver = Codec("a", [OLD]), Codec("b", [OLD])
    named = msgspec.structs.replace(WHO, host="example.org")
    assert receiver.open(sender.seal(Gossip((named,)), 1)) is None
    assert receiver.open(sender.seal(PingRequest(1, "c", "example.org", 1), 1)) is None
    assert receiver.dropped.garbage == 2


@pytest.mark.parametrize(
    "wrong", [msgspec.structs.replace(WHO, port=70000), msgspec.structs.replace(WHO, meta=bytes(300))]
)
def test_a_field_out_of_range_is_garbage(wrong: Update) -> None:
    receiver = Codec("b", [OLD])
    assert receiver.open(Codec("a", [OLD]).seal(Gossip((wrong,)), 1)) is None
    assert receiver.dropped.garbage == 1


@pytest.mark.parametrize("keys", [[], [b"short"], [OLD, b"x" * 31]])
def test_keys_that_are_none_are_refused(keys: list[bytes]) -> None:
    with pytest.raises(Invalid, match="key"):
        Codec("a", keys)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("meta", [0, 20, MAX_META_BYTES])
def test_a_packet_full_of_rumours_fits_its_bound(message: Message, meta: int) -> None:
    config = SwimConfig()
    roster = Roster(Prng(1))
    outbox = Outbox(config, roster)
    for number in range(60):
        name = f"{number:03}".ljust(MAX_ID_BYTES, "x")
        host = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        outbox.spread(Update(State.SUSPECT, name, 1 << 62, 1 << 62, host, 65535, bytes(meta), name))
    outbox.send(("10.0.0.1", 1), message)
    [(_, packet)] = outbox.collect().send
    datagram = Codec("x" * MAX_ID_BYTES, [OLD]).seal(packet, 1 << 62)
    assert len(packet.updates) > len(message.updates)
    assert len(datagram) <= config.packet_bytes
