"""Questions for other name servers, their replies, and how long these hold."""

from __future__ import annotations

import pytest

from swarmd.node.dns.core import outside, wire
from swarmd.node.dns.core.wire import Query
from tests.unit.dns_rig import ask, read, reply


def query(name: str = "Example.com", *, size: int = 0) -> Query:
    found = wire.parse(ask(name, size=size))
    assert found is not None
    return found


def test_name_servers_are_read_from_the_nodes_file() -> None:
    text = "# nameserver 1.1.1.1\nsearch a\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver\n"
    assert outside.name_servers(text) == ("127.0.0.53", "fe80::1%eth0")
    assert outside.name_servers("nameserver 192.0.2.1\n" * 9) == ("192.0.2.1",) * 3


@pytest.mark.parametrize("size", [0, 4096])
def test_a_question_is_asked_again_in_our_own_words(size: int) -> None:
    asked = read(outside.question(query(size=size), 7))
    assert (asked.id, asked.question, asked.edns) == (7, ("Example.com", "A"), 1232 if size else 0)


def test_only_a_reply_to_this_very_question_counts() -> None:
    one = query()
    good = reply(outside.question(one, 7), ("A", 60, "192.0.2.1"))
    assert outside.answers(one, 7, good)
    assert outside.answers(one, 7, good.replace(b"Example", b"eXAMPLE"))
    assert not outside.answers(one, 8, good)
    assert not outside.answers(one, 7, outside.question(one, 7))
    assert not outside.answers(one, 7, good.replace(b"Example", b"Exbmple"))
    assert not outside.answers(one, 7, good[:20])


def test_a_reply_is_made_out_to_who_asked() -> None:
    made = reply(outside.question(query("EXAMPLE.COM"), 7), ("A", 60, "192.0.2.1"))
    found = read(outside.addressed(made, query()))
    assert (found.id, found.question, found.values) == (4711, ("Example.com", "A"), ["192.0.2.1"])


def test_a_reply_too_long_for_udp_says_to_come_by_tcp() -> None:
    one = query()
    long = reply(outside.question(one, 4711), *[("A", 60, "192.0.2.1")] * 40)
    found = read(outside.shortened(long, one))
    assert (found.cut, found.values) == (True, [])
    assert outside.shortened(long, query(size=4096)) == long


@pytest.mark.parametrize(
    ("made", "seconds"),
    [
        ({"records": [("A", 60, "192.0.2.1"), ("A", 20, "192.0.2.2")]}, 20),
        ({"records": [("A", 86400, "192.0.2.1")]}, 300),
        ({"records": [("A", 0, "192.0.2.1")]}, None),
        ({"code": 3, "missing": 10}, 10),
        ({"code": 3, "missing": 3600}, 30),
        ({"missing": 5}, 5),
        ({"code": 3}, None),
        ({}, None),
        ({"code": 2, "missing": 10}, None),
        ({"records": [("A", 60, "192.0.2.1")], "cut": True}, None),
    ],
)
def test_a_reply_is_remembered_as_long_as_it_says_within_limits(
    made: dict[str, object], seconds: int | None
) -> None:
    records = made.pop("records", [])
    message = reply(ask("example.com"), *records, **made)  # type: ignore[misc, arg-type]
    found = outside.remembered(message)
    assert (found and found.seconds) == seconds


def test_a_remembered_reply_ages() -> None:
    found = outside.remembered(reply(ask("example.com"), ("A", 60, "192.0.2.1"), ("A", 20, "192.0.2.2")))
    assert found is not None
    assert [ttl for *_, ttl, _ in read(outside.aged(found, 15)).records] == [45, 5]


def test_replies_so_long_that_few_containers_could_fill_the_memory_are_not_remembered() -> None:
    def with_records(count: int) -> bytes:
        return reply(ask("example.com"), *[("A", 60, "192.0.2.1")] * count)

    assert outside.remembered(with_records(100))
    assert outside.remembered(with_records(300)) is None


def test_a_reply_that_cannot_be_read_is_not_remembered() -> None:
    whole = reply(ask("example.com"), ("A", 60, "192.0.2.1"))
    assert outside.remembered(whole[:-1]) is None
