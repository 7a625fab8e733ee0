"""The small parts of the gossip: formulas, suspicions, rumours, digests, random choices."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from swarmd.model.errors import Invalid
from swarmd.node.membership.core.config import SwimConfig, lan, local
from swarmd.node.membership.core.messages import DIGEST_BYTES, Ack, Gossip, State, Update
from swarmd.node.membership.core.outbox import Outbox
from swarmd.node.membership.core.prng import Prng
from swarmd.node.membership.core.roster import Roster, bucket_of, differing
from swarmd.node.membership.core.suspicion import Suspicions


def record(member_id: str, state: State = State.ALIVE, *, incarnation: int = 0, by: str = "") -> Update:
    return Update(state, member_id, 1, incarnation, "10.0.0.1", 7946, b"", by or member_id)


def test_the_suspicion_shrinks_with_each_accuser_and_grows_with_the_swarm() -> None:
    config = lan()
    assert [config.suspicion_time(5, n) for n in (0, 3, 9)] == [12.0, 2.0, 2.0]
    assert 2.0 < config.suspicion_time(5, 2) < config.suspicion_time(5, 1) < 12.0
    assert config.suspicion_range(5000)[0] == pytest.approx(1.1 * math.log10(5000))
    assert config.suspicion_range(2) == (2.0, 12.0)


def test_nobody_waits_for_accusers_that_do_not_exist() -> None:
    config = lan()
    assert [config.confirmations_wanted(n) for n in (1, 2, 3, 4, 5, 500)] == [0, 0, 1, 2, 3, 3]
    assert config.suspicion_time(2, 0) == 2.0


def test_rumours_are_repeated_more_often_in_a_larger_swarm() -> None:
    assert [lan().transmissions(n) for n in (1, 9, 10, 99, 5000)] == [4, 4, 8, 8, 16]


def test_anti_entropy_slows_down_with_each_doubling() -> None:
    assert [lan().sync_every(n) for n in (3, 32, 33, 64, 65)] == [30.0, 30.0, 60.0, 60.0, 90.0]


def test_the_local_preset_looks_faster_but_condemns_no_faster() -> None:
    assert local().probe_interval < lan().probe_interval
    assert local().suspicion_floor == lan().suspicion_floor


@pytest.mark.parametrize("wrong", [{"probe_interval": 0.0}, {"packet_bytes": 100}])
def test_an_impossible_setting_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(Invalid, match=next(iter(wrong))):
        SwimConfig(**wrong)  # type: ignore[arg-type]


def test_a_suspect_gets_a_last_look_before_it_is_dead() -> None:
    suspicions = Suspicions(lan())
    assert suspicions.accuse("x", "a", 0.0, 5)
    assert not suspicions.accuse("x", "a", 0.1, 5)
    assert all(suspicions.accuse("x", by, 0.2, 5) for by in "bcd")
    assert not suspicions.accuse("x", "e", 0.3, 5), "enough agree"
    assert suspicions.wake(5) == 2.0
    assert suspicions.due(1.9, 5, 0.5) == ([], [])
    assert suspicions.due(2.0, 5, 0.5) == (["x"], [])
    assert suspicions.due(2.4, 5, 0.5) == ([], [])
    assert suspicions.due(2.5, 5, 0.5) == ([], ["x"])
    assert suspicions.wake(5) == math.inf


def test_a_cleared_suspicion_decides_nothing() -> None:
    suspicions = Suspicions(lan())
    suspicions.accuse("x", "a", 0.0, 2)
    suspicions.clear("x")
    assert suspicions.due(100.0, 2, 0.5) == ([], [])


def outbox_with(*known: Update) -> tuple[Outbox, Roster]:
    roster = Roster(Prng(1))
    for update in known:
        roster.put(update, 0.0)
    return Outbox(lan(), roster), roster


def test_a_rumour_is_told_as_often_as_the_formula_says_and_then_no_more() -> None:
    outbox, _ = outbox_with()
    outbox.spread(record("x"))
    for _ in range(10):
        outbox.send(("h", 1), Ack(1))
    told = [len(message.updates) for _, message in outbox.collect().send]
    assert told == [1] * lan().transmissions(1) + [0] * (10 - lan().transmissions(1))
    assert len(outbox) == 0


def test_the_newest_claim_about_a_member_replaces_the_older_but_accusers_stand_side_by_side() -> None:
    outbox, _ = outbox_with()
    outbox.spread(record("x"))
    outbox.spread(record("x", State.SUSPECT, by="a"))
    outbox.spread(record("x", State.SUSPECT, by="b"))
    outbox.send(("h", 1), Gossip())
    assert {u.by for u in outbox.collect().send[0][1].updates} == {"a", "b"}
    outbox.spread(record("x", State.DEAD, by="a"))
    outbox.send(("h", 1), Gossip())
    assert [u.state for u in outbox.collect().send[0][1].updates] == [State.DEAD]


def test_a_suspect_is_told_first_what_is_said_of_it() -> None:
    accused = record("x", State.SUSPECT, by="a")
    outbox, _ = outbox_with(accused)
    outbox.spread(record("y"))
    outbox.send(("h", 1), Ack(1), to="x")
    assert outbox.collect().send[0][1].updates == (accused, record("y"))


def test_digests_differ_in_the_bucket_of_the_member_that_differs_and_only_there() -> None:
    one, two = Roster(Prng(1)), Roster(Prng(2))
    own_one, own_two = record("one"), record("two")
    for name in ("b", "c", "d"):
        one.put(record(name), 0.0)
        two.put(record(name), 5.0)
    one.put(own_two, 0.0)
    two.put(own_one, 0.0)
    assert len(one.digest(own_one)) == DIGEST_BYTES
    assert differing(one.digest(own_one), two.digest(own_two)) == []
    two.put(record("c", incarnation=1), 6.0)
    assert differing(one.digest(own_one), two.digest(own_two)) == [bucket_of("c")]
    assert "c" in one.in_buckets([bucket_of("c")])


def test_the_dead_and_the_forgotten_make_no_difference() -> None:
    one, two = Roster(Prng(1)), Roster(Prng(1))
    one.put(record("x"), 0.0)
    one.put(record("x", State.DEAD), 1.0)
    assert one.digest(record("me")) == two.digest(record("me"))
    one.forget(before=2.0)
    assert one.get("x") is None
    assert one.digest(record("me")) == two.digest(record("me"))


def test_a_round_visits_every_live_member_once() -> None:
    roster = Roster(Prng(3))
    for number in range(10):
        roster.put(record(f"n{number}"), 0.0)
    roster.put(record("n9", State.DEAD), 1.0)
    for _ in range(5):
        visited = [member.id for _ in range(9) if (member := roster.next_in_round()) is not None]
        assert sorted(visited) == [f"n{number}" for number in range(9)]


def test_the_neighbours_form_one_ring() -> None:
    names = ["a", "c", "b", "e"]
    following = {}
    for own in names:
        roster = Roster(Prng(1))
        for name in names:
            if name != own:
                roster.put(record(name), 0.0)
        successor = roster.successor(own)
        assert successor is not None
        following[own] = successor.id
    assert following == {"a": "b", "b": "c", "c": "e", "e": "a"}


def test_random_choices_are_even_repeatable_and_within_bounds() -> None:
    prng = Prng(42)
    draws = Counter(prng.below(10) for _ in range(10_000))
    assert set(draws) == set(range(10))
    assert all(850 < count < 1150 for count in draws.values())
    assert all(0 <= prng.fraction() < 1 for _ in range(1000))
    assert [Prng(7).bits() for _ in range(3)] == [Prng(7).bits()] * 3
    assert sorted(prng.sample(range(5), 9)) == [0, 1, 2, 3, 4]
