"""What holds of the gossip whatever happens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.node.membership.codec import Codec
from swarmd.node.membership.core.messages import Gossip, State, Update
from swarmd.node.membership.core.swim import Swim
from swarmd.node.membership.simulator import Network

KEY = b"k" * 32
FROM = ("10.0.0.2", 7946)

updates = st.builds(
    Update,
    state=st.sampled_from(State),
    id=st.sampled_from(["x", "y", "me"]),
    epoch=st.integers(0, 3),
    incarnation=st.integers(0, 3),
    host=st.just("10.0.0.9"),
    port=st.just(7946),
    meta=st.just(b""),
    by=st.sampled_from(["b", "c", "d"]),
)


def fresh() -> Swim:
    return Swim("me", ("10.0.0.1", 7946), epoch=1, seed=1, now=0.0)


@given(st.lists(updates, max_size=25))
def test_versions_only_grow_and_at_one_version_states_only_worsen(rumours: list[Update]) -> None:
    swim = fresh()
    before: dict[str, tuple[int, int, State]] = {}
    for rumour in rumours:
        swim.receive(0.1, FROM, "b", Gossip((rumour,)))
        for member_id, member in swim.members().items():
            now = (*member.record.version, member.state)
            assert now >= before.get(member_id, now)
            before[member_id] = now


@given(st.lists(updates, max_size=12), st.randoms(use_true_random=False))
def test_two_members_that_heard_the_same_rumours_in_any_order_agree_on_who_lives(rumours, random) -> None:  # type: ignore[no-untyped-def]
    # Of members never seen alive nothing is kept, so each is introduced first.
    known = [Update(State.ALIVE, name, 0, 0, "10.0.0.9", 7946, b"", name) for name in ("x", "y")]
    shuffled = list(rumours)
    random.shuffle(shuffled)
    views = []
    for order in (rumours, shuffled):
        swim = fresh()
        for rumour in [*known, *order]:
            swim.receive(0.1, FROM, "b", Gossip((rumour,)))
        views.append({key: (m.record.version, m.state.live) for key, m in swim.members().items()})
    assert views[0] == views[1]


@given(st.lists(updates, max_size=25))
def test_a_member_always_outbids_what_is_said_of_it(rumours: list[Update]) -> None:
    swim = fresh()
    for rumour in rumours:
        swim.receive(0.1, FROM, "b", Gossip((rumour,)))
        if rumour.id == "me":
            assert swim.own.state is State.ALIVE
            assert swim.own.version > rumour.version or (
                rumour.state is State.ALIVE and swim.own.version == rumour.version
            )


@given(st.binary(max_size=200))
def test_no_bytes_make_the_codec_raise(data: bytes) -> None:
    assert Codec("b", [KEY]).open(data) is None


@given(st.lists(st.integers(0, 60), max_size=80))
def test_each_datagram_is_accepted_exactly_once_in_any_order(order: list[int]) -> None:
    sender, receiver = Codec("a", [KEY]), Codec("b", [KEY])
    datagrams = [sender.seal(Gossip(), 1) for _ in range(61)]
    accepted = [number for number in order if receiver.open(datagrams[number]) is not None]
    assert sorted(accepted) == sorted(set(order))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(3, 12),
    loss=st.sampled_from([0.0, 0.05]),
    stalls=st.lists(st.tuples(st.integers(0, 11), st.floats(0.1, 2.5)), max_size=3),
    wait=st.floats(0, 5),
)
def test_stalls_up_to_two_and_a_half_seconds_kill_nobody_and_all_agree_in_the_end(
    seed: int, size: int, loss: float, stalls: list[tuple[int, float]], wait: float
) -> None:
    net = Network(seed=seed)
    for number in range(size):
        net.add(f"n{number}", seeds=["n0"])
    assert net.run(60, net.agree)
    net.loss = loss / 5
    net.run(wait)
    for number, seconds in stalls:
        net.stall([f"n{number % size}"], seconds)
        net.run(8)
    assert net.events("dead") == []
    net.loss = 0.0
    assert net.run(30, net.agree)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(3, 16), data=st.data())
def test_after_kills_restarts_and_a_partition_the_survivors_agree(
    seed: int, size: int, data: st.DataObject
) -> None:
    net = Network(seed=seed, loss=0.02)
    names = [f"n{number}" for number in range(size)]
    for name in names:
        net.add(name, seeds=["n0"])
    net.run(10)
    for _ in range(data.draw(st.integers(0, 4))):
        name = data.draw(st.sampled_from(names[1:]))
        match data.draw(st.sampled_from(["kill", "restart", "cut", "heal"])):
            case "kill":
                net.kill(name)
            case "restart":
                net.kill(name)
                net.add(name, seeds=["n0"])
            case "cut":
                net.partition([name])
            case "heal":
                net.heal()
        net.run(data.draw(st.floats(0, 20)))
    net.heal()
    net.loss = 0.0
    assert net.run(120, net.agree)
