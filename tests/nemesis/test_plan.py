"""What a seed draws, and what the rules for a cut network say."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.nemesis import cables
from tests.nemesis.plan import SHAPES, schedule

NODES = ["node1", "node2", "node3", "node4", "node5"]
ADDRESSES = {node: f"172.30.1.{number}" for number, node in enumerate(NODES, 11)}


def test_a_seed_draws_the_same_schedule_again_and_another_seed_another_one() -> None:
    assert schedule(7, NODES, 600, SHAPES) == schedule(7, NODES[::-1], 600, list(SHAPES)[::-1])
    assert schedule(7, NODES, 600, SHAPES) != schedule(8, NODES, 600, SHAPES)


@pytest.mark.parametrize("seed", range(10))
def test_every_kind_comes_before_any_comes_twice(seed: int) -> None:
    kinds = [fault.kind for fault in schedule(seed, NODES, 3600, SHAPES)]
    for start in range(0, len(kinds) - len(SHAPES), len(SHAPES)):
        assert len(set(kinds[start : start + len(SHAPES)])) == len(SHAPES)


@pytest.mark.parametrize("seed", range(10))
def test_faults_follow_each_other_and_last_as_long_as_their_kind_may(seed: int) -> None:
    faults = schedule(seed, NODES, 600, SHAPES)
    for fault, after in pairwise(faults):
        shape = SHAPES[fault.kind]
        assert shape.least <= fault.hold <= shape.most
        assert after.at >= fault.at + fault.hold + fault.rest
    assert {fault.target for fault in faults} <= {"leader", "follower", *NODES}


def test_a_split_stands_between_the_minority_and_each_of_the_others() -> None:
    rules = cables.split(["node1", "node2"], ADDRESSES)
    assert sorted(rules) == ["node1", "node2"]
    for text in rules.values():
        assert "172.30.1.13, 172.30.1.14, 172.30.1.15" in text
        assert "172.30.1.11" not in text
        assert "172.30.1.12" not in text


def test_over_a_bridge_the_middle_hears_everybody_and_the_halves_do_not_hear_each_other() -> None:
    rules = cables.bridge("node3", ADDRESSES)
    assert sorted(rules) == ["node1", "node2"]
    assert all("172.30.1.14, 172.30.1.15" in text for text in rules.values())
    assert all("172.30.1.13" not in text for text in rules.values())


def test_one_way_leaves_the_other_way_open() -> None:
    assert "hook output" not in cables.deaf_to(["172.30.1.11"], heard=True)
    assert "hook input" not in cables.deaf_to(["172.30.1.11"], hears=True)
