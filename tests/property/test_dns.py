"""Whatever bytes arrive, the name service neither raises nor answers something that cannot be read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmd.node.dns.core import answer, outside, wire
from swarmd.node.dns.core.zone import zones
from swarmd.node.network.port import Endpoint, NetworkState, NetworkView, ServiceView
from tests.unit.dns_rig import ask, read

TASKS = tuple(
    Endpoint(f"{n:025}", f"web.{n}.{n:025}", "s", n, "node", "n", (f"10.0.0.{n}", f"fd00::{n:x}"))
    for n in range(1, 120)
)
STATE = NetworkState(
    1, (), (), (NetworkView("n", "net", ("10.0.0.0/24",)),), (ServiceView("s", "web", "n"),), TASKS
)
VIEW = answer.view((("n", ("10.0.0.1",)),), ("me",), zones(STATE, {}))
KINDS = st.sampled_from(["A", "AAAA", "PTR", "MX", "ANY", "AXFR"])
LABELS = st.sampled_from(["web", "tasks", "7", "net", "me", "in-addr", "arpa", "10", "0", "WEB", "x" * 63])
NAMES = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
QUESTIONS = st.builds(ask, NAMES, KINDS, size=st.sampled_from([0, 512, 700, 1232, 65535]))


def check(data: bytes, turn: int) -> None:
    query = wire.parse(data)
    if query is None:
        return
    for by_udp in (True, False):
        made = answer.decide(query, VIEW, turn, by_udp=by_udp)
        if made is not None:
            assert read(made).id == int.from_bytes(data[:2], "big")
            assert not by_udp or len(made) <= max(512, query.size)
    assert read(outside.question(query, 1)).id == 1


@given(st.binary(max_size=120), st.integers(0, 1 << 30))
def test_garbage_does_no_harm(data: bytes, turn: int) -> None:
    wire.parse(data)


@given(QUESTIONS, st.integers(0, 1 << 30))
def test_every_answer_can_be_read_and_fits(question: bytes, turn: int) -> None:
    check(question, turn)


@given(
    QUESTIONS, st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6), st.integers(0, 99)
)
def test_a_broken_question_gets_an_answer_that_can_be_read_or_none(
    question: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(question)
    for at, value in changes:
        data[at % len(data)] = value
    broken = bytes(data[: len(data) - cut % 40] if cut > 50 else data)
    query = wire.parse(broken)
    if query is None:
        return
    made = answer.decide(query, VIEW, 1, by_udp=True)
    if made is not None:
        assert made[:2] == broken[:2]
        assert made[12 : 12 + len(query.question)] == query.question


@given(QUESTIONS, st.binary(max_size=80))
def test_a_broken_reply_is_taken_or_left_without_harm(question: bytes, tail: bytes) -> None:
    query = wire.parse(question)
    assert query is not None
    asked = outside.question(query, 1)
    message = asked[:2] + b"\x81\x80\0\1\0\2\0\1\0\1" + query.question + tail
    if outside.answers(query, 1, message):
        found = outside.remembered(message)
        if found is not None:
            outside.aged(found, 1)
        outside.shortened(outside.addressed(message, query), query)
