"""How a swarm of members behaves, in virtual time: each number below is seconds after the fault."""

from __future__ import annotations

import pytest

from swarmd.model.errors import Invalid
from swarmd.node.membership.core.config import SwimConfig
from swarmd.node.membership.core.messages import Gossip, Ping, State, Update
from swarmd.node.membership.core.swim import Swim
from swarmd.node.membership.simulator import Network, Seen

SEEDS = range(6)


def swarm(size: int, seed: int, *, loss: float = 0.0, delay: float = 0.002) -> Network:
    """``size`` members that know each other; the fault's moment within a round depends on the seed."""
    net = Network(seed=seed, delay=delay)
    net.add("n0")
    for number in range(1, size):
        net.add(f"n{number}", seeds=["n0"])
    assert net.run(60, net.agree)
    net.run(5 + 0.17 * seed)
    net.loss = loss
    return net


def others(net: Network, member_id: str) -> set[str]:
    return set(net.running()) - {member_id}


@pytest.mark.parametrize("size", [3, 4, 5, 7, 20, 60])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_member_is_soon_suspect_then_dead_for_everybody(size: int, seed: int) -> None:
    net = swarm(size, seed)
    start = net.now
    net.kill("n1")
    survivors = others(net, "n1")
    assert net.run(10, lambda: all(net.view(m)["n1"] is State.DEAD for m in survivors))
    suspected = net.events("suspect", "n1", start)
    died = net.events("dead", "n1", start)
    assert suspected[0].time - start <= (2.5 if size <= 10 else 3.2)
    assert died[0].time - start >= 3.0, "a member that stalls for 3 s must have its chance"
    assert died[-1].time - start <= 6.0
    assert {seen.event.id for seen in net.events("dead")} == {"n1"}


@pytest.mark.parametrize("seed", SEEDS)
def test_two_of_three_killed_at_once_are_dead_for_the_third_within_nine_seconds(seed: int) -> None:
    net = swarm(3, seed)
    net.kill("n1")
    net.kill("n2")
    start = net.now
    assert net.run(20, lambda: net.view("n0")["n1"] is net.view("n0")["n2"] is State.DEAD)
    assert net.now - start <= 9.0


@pytest.mark.parametrize("seed", SEEDS)
def test_who_is_cut_off_from_many_does_not_call_them_dead_before_they_could_answer(seed: int) -> None:
    net = swarm(7, seed)
    cut_off_from = others(net, "n0")
    net.partition({"n0"})
    net.run(10)
    assert not any(net.view("n0")[m] is State.DEAD for m in cut_off_from)


def test_two_hundred_members_agree_on_a_death_within_seven_seconds() -> None:
    net = swarm(200, 1)
    start = net.now
    net.kill("n7")
    assert net.run(10, lambda: all(net.view(m)["n7"] is State.DEAD for m in others(net, "n7")))
    assert net.now - start <= 7.0
    assert {seen.event.id for seen in net.events("dead")} == {"n7"}


def test_a_fifth_of_the_members_killed_at_once_is_found_and_nobody_else_accused_to_death() -> None:
    net = swarm(50, 3)
    start = net.now
    killed = {f"n{number}" for number in range(1, 11)}
    for member_id in killed:
        net.kill(member_id)

    def found() -> bool:
        return all(net.view(m)[k] is State.DEAD for m in net.running() for k in killed)

    assert net.run(15, found)
    assert net.agree()
    assert {seen.event.id for seen in net.events("dead", since=start)} == killed


@pytest.mark.parametrize("size", [3, 5, 20])
@pytest.mark.parametrize("seed", SEEDS)
def test_five_percent_loss_kills_nobody(size: int, seed: int) -> None:
    net = swarm(size, seed, loss=0.05)
    net.run(120)
    assert net.events("dead") == []


@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("size", [3, 5, 20])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_member_that_stalls_is_suspect_at_most_and_refutes(size: int, seed: int, seconds: float) -> None:
    net = swarm(size, seed)
    start = net.now
    net.stall(["n1"], seconds)
    net.run(20)
    assert net.events("dead", since=start) == []
    assert net.agree()
    suspecting = {seen.observer for seen in net.events("suspect", "n1", start)}
    refuted = {seen.observer for seen in net.events("alive", "n1", start)}
    assert suspecting == refuted
    if seconds == 3.0:
        assert suspecting == others(net, "n1")


@pytest.mark.parametrize("seconds", [1.0, 2.0, 10.0])
@pytest.mark.parametrize("size", [3, 20])
@pytest.mark.parametrize("seed", SEEDS)
def test_when_the_whole_machine_stalls_nobody_is_even_suspect(size: int, seed: int, seconds: float) -> None:
    # A slow network, so that pings are in flight whenever the machine stops.
    net = swarm(size, seed, delay=0.15)
    start = net.now
    net.stall(net.running(), seconds)
    net.run(seconds + 20)
    assert net.events("suspect", since=start) == []
    assert net.agree()


def test_a_member_stalled_too_long_is_dead_and_comes_back_when_it_wakes() -> None:
    net = swarm(5, 1)
    start = net.now
    net.stall(["n1"], 20)
    net.run(19)
    assert {seen.observer for seen in net.events("dead", "n1", start)} == others(net, "n1")
    assert net.run(5, net.agree)
    back = net.events("up", "n1", start)
    assert {seen.observer for seen in back} == others(net, "n1")
    assert all(seen.event.epoch == 1 and seen.event.incarnation >= 1 for seen in back)
    assert {seen.event.id for seen in net.events("dead", since=start)} == {"n1"}


@pytest.mark.parametrize(("size", "cut"), [(3, 1), (5, 2), (20, 10), (40, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_a_partition_heals_without_a_single_false_death(size: int, cut: int, seed: int) -> None:
    net = swarm(size, seed)
    side = [f"n{number}" for number in range(1, cut + 1)]
    net.partition(side)
    rest = [m for m in net.running() if m not in side]
    assert net.run(40, lambda: all(net.view(m)[s] is State.DEAD for m in rest for s in side))
    # The smaller side distrusts its own ears and takes its time.
    assert net.run(240, lambda: all(net.view(s)[m] is State.DEAD for m in rest for s in side))
    assert all(net.view(a)[b] is State.ALIVE for a in rest for b in rest if a != b)
    net.run(30)
    healed = net.now
    net.heal()
    assert net.run(20, net.agree)
    net.run(20)
    assert net.events("dead", since=healed) == []


def test_a_restarted_member_is_up_again_with_its_new_epoch_before_it_was_even_dead() -> None:
    net = swarm(5, 4)
    start = net.now
    net.kill("n1")
    net.run(0.5)
    net.add("n1", seeds=["n0"])
    assert net.run(5, lambda: len(net.events("up", "n1", start)) == 4)
    net.run(20)
    assert {seen.event.epoch for seen in net.events("up", "n1", start)} == {2}
    assert net.events("dead", since=start) == []
    assert net.agree()


def test_a_member_whose_clock_went_back_takes_an_epoch_above_its_earlier_run() -> None:
    net = swarm(3, 1)
    net.kill("n1")
    net.members["n1"].runs = -1  # the next run gets epoch 0, the last had 1
    net.add("n1", seeds=["n0"])
    assert net.run(10, net.agree)
    swim = net.members["n1"].swim
    assert swim is not None
    assert swim.own.epoch == 2


def test_a_member_that_leaves_is_left_not_dead_and_is_not_knocked_at() -> None:
    net = swarm(5, 0)
    start = net.now
    net.tell("n1", lambda swim, now: swim.leave(now))
    swim = net.members["n1"].swim
    assert swim is not None
    assert net.run(3, lambda: swim.quiet)
    net.kill("n1")
    net.run(30)
    assert {seen.observer for seen in net.events("left", "n1", start)} == others(net, "n1")
    assert net.events("dead") == []
    assert net.events("suspect") == []
    assert all(net.view(m)["n1"] is State.LEFT for m in net.running())


def test_who_left_may_come_back_as_a_new_run() -> None:
    net = swarm(3, 0)
    net.tell("n1", lambda swim, now: swim.leave(now))
    net.run(2)
    net.kill("n1")
    net.add("n1", seeds=["n0"])
    assert net.run(10, net.agree)


def test_two_hundred_members_join_through_one_seed() -> None:
    net = Network(seed=5)
    net.add("n0")
    for number in range(1, 200):
        net.add(f"n{number}", seeds=["n0"])
    assert net.run(15, net.agree)
    assert net.events("suspect") == []


def test_a_join_is_tried_until_the_seed_is_there() -> None:
    net = Network(seed=1)
    net.add("seed")
    net.kill("seed")
    net.add("late", seeds=["seed"])
    net.run(30)
    net.add("seed")
    assert net.run(5, net.agree)
    assert set(net.view("late")) == {"seed"}


def test_meta_reaches_everybody_within_a_second() -> None:
    net = swarm(60, 1)
    start = net.now
    net.tell("n1", lambda swim, now: swim.set_meta(now, b"drain"))

    def told() -> set[str]:
        return {s.observer for s in net.events("changed", "n1", start) if s.event.meta == b"drain"}

    assert net.run(1.5, lambda: told() == others(net, "n1"))


def test_the_dead_are_forgotten_after_their_time() -> None:
    net = Network(seed=1, config=SwimConfig(keep_dead=100.0))
    for member_id in ("a", "b", "c"):
        net.add(member_id, seeds=["a"])
    assert net.run(10, net.agree)
    net.kill("c")
    net.run(60)
    assert net.view("a")["c"] is State.DEAD
    net.run(120)
    assert "c" not in net.view("a")
    assert "c" not in net.view("b")


def test_the_same_seed_gives_the_same_history() -> None:
    def history(seed: int) -> list[Seen]:
        net = swarm(7, seed, loss=0.1)
        net.kill("n3")
        net.run(30)
        return net.seen

    assert history(9) == history(9)
    assert history(9) != history(10)


def lone(now: float = 0.0) -> Swim:
    return Swim("a", ("10.0.0.1", 7946), epoch=7, seed=1, now=now)


def record(member_id: str, state: State, *, epoch: int = 1, incarnation: int = 0, by: str = "b") -> Update:
    return Update(state, member_id, epoch, incarnation, "10.0.0.9", 7946, b"", by)


def test_a_ping_for_another_member_at_our_address_is_not_answered() -> None:
    swim = lone()
    effects = swim.receive(0.1, ("10.0.0.2", 7946), "b", Ping(1, "somebody-else"))
    assert effects.send == []


def test_an_accusation_is_refuted_at_once_to_who_told_it() -> None:
    swim = lone()
    accusation = record("a", State.SUSPECT, epoch=7)
    effects = swim.receive(0.1, ("10.0.0.2", 7946), "b", Gossip((accusation,)))
    assert swim.own.incarnation == 1
    assert effects.send == [(("10.0.0.2", 7946), Gossip((swim.own,)))]


def test_a_stale_accusation_is_answered_with_what_stands_now() -> None:
    swim = lone()
    swim.set_meta(0.0, b"x")
    effects = swim.receive(0.1, ("10.0.0.2", 7946), "b", Gossip((record("a", State.DEAD, epoch=7),)))
    assert swim.own.incarnation == 1
    assert [message for _, message in effects.send] == [Gossip((swim.own,))]


def test_an_older_rumour_never_replaces_a_newer_one() -> None:
    swim = lone()
    swim.receive(0.1, ("10.0.0.2", 7946), "b", Gossip((record("c", State.ALIVE, epoch=5, incarnation=3),)))
    for old in (
        record("c", State.DEAD, epoch=5, incarnation=2),
        record("c", State.DEAD, epoch=4, incarnation=9),
    ):
        assert swim.receive(0.2, ("10.0.0.2", 7946), "b", Gossip((old,))).events == []
    assert swim.members()["c"].state is State.ALIVE


def test_too_much_meta_is_refused_in_a_sentence() -> None:
    with pytest.raises(Invalid, match="meta has 300 bytes, but at most 256"):
        lone().set_meta(0.0, b"x" * 300)
