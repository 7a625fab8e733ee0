"""Records of frames between nodes: whatever the pieces they arrive in, and whatever a stranger sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.model.errors import Invalid
from swarmd.node.network.core.addresses import overlay_mac, packed
from swarmd.node.network.core.carrying import (
    LONGEST,
    Records,
    calls,
    destination,
    is_between,
    is_from,
    record,
)

VIRTIO = bytes(10)


def frame(sender: int, receiver: int, payload: bytes = b"") -> bytes:
    return VIRTIO + overlay_mac(receiver) + overlay_mac(sender) + b"\x08\x00" + payload


@given(st.lists(st.binary(max_size=200), max_size=8), st.lists(st.integers(1, 50), min_size=1))
def test_frames_come_out_as_they_went_in_whatever_the_pieces(payloads: list[bytes], cuts: list[int]) -> None:
    frames = [frame(1, 2, payload) for payload in payloads]
    stream, records, found = b"".join(map(record, frames)), Records(), []
    while stream:
        size = cuts[len(found) % len(cuts)]
        found += records.feed(stream[:size])
        stream = stream[size:]
    assert found == frames


@pytest.mark.parametrize("length", [0, 23, LONGEST + 1, 0xFFFFFFFF])
def test_a_length_that_no_frame_has_is_refused_before_anything_is_kept(length: int) -> None:
    with pytest.raises(Invalid, match=f"a frame of {length} bytes"):
        Records().feed(length.to_bytes(4, "big"))


def test_a_frame_goes_to_the_node_its_address_names() -> None:
    assert destination(frame(1, 16383)) == 16383
    assert destination(VIRTIO + bytes.fromhex("3333000000fb") + overlay_mac(1)) is None
    assert destination(b"") is None


def test_a_frame_is_only_between_the_two_nodes_it_names() -> None:
    assert is_between(frame(1, 2), 1, 2)
    assert not is_between(frame(3, 2), 1, 2)
    assert not is_between(frame(1, 3), 1, 2)
    assert not is_between(frame(1, 2)[:15], 1, 2)


def packet(source: str, protocol: int, kind: int = 0) -> bytes:
    """A frame with the least that says whose it is."""
    address = packed(source)
    if len(address) == 4:
        head = b"\x45" + bytes(8) + bytes([protocol]) + bytes(2) + address + bytes(4)
        return frame(1, 2, head + bytes([kind]))
    head = b"\x60" + bytes(5) + bytes([protocol]) + bytes(1) + address + bytes(16)
    return frame(1, 2, head + bytes([kind])).replace(b"\x08\x00\x60", b"\x86\xdd\x60", 1)


@pytest.mark.parametrize(("own", "foreign"), [("10.0.0.2", "10.0.0.3"), ("fd00::2", "fd00::3")])
def test_a_node_sends_for_its_own_containers_and_what_its_kernel_says_of_a_packet(
    own: str, foreign: str
) -> None:
    sources = frozenset({packed(own)})
    icmp, too_large, request = (58, 2, 128) if ":" in own else (1, 3, 8)
    assert is_from(packet(own, 6), sources)
    assert not is_from(packet(foreign, 6), sources)
    assert not is_from(packet(foreign, icmp, request), sources)
    assert is_from(packet(foreign, icmp, too_large), sources)
    assert not is_from(packet(foreign, 6, too_large), sources)


@given(st.binary(max_size=80))
def test_what_is_no_packet_of_ip_is_nobodys(payload: bytes) -> None:
    sources = frozenset({packed("10.0.0.2")})
    assert not is_from(VIRTIO + overlay_mac(2) + overlay_mac(1) + b"\x08\x06" + payload, sources)
    assert is_from(frame(1, 2, payload), sources) in (True, False)
    assert not is_from(frame(1, 2, payload[:9]), sources)


def test_one_of_two_nodes_calls_the_other() -> None:
    assert [calls(1, 2), calls(2, 1)] == [True, False]
