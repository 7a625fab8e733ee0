"""Groups of managers in one process: electing, agreeing, failing, and changing who they are."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from swarmd.kit.clock import SystemClock
from swarmd.kit.supervise import caught
from swarmd.model.errors import Invalid, NotUnderstood, Refused, Unavailable
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.envelope import Command, Envelope, Seal, encode_envelope
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.memory import MemoryNetwork
from swarmd.store.raft.node import RaftNode
from swarmd.store.raft.offline import take_over
from swarmd.store.raft.port import StateView
from swarmd.store.raft.records import Entry, Hard, Truncate, recover
from swarmd.store.raft.snapshots import Floor, SnapshotStore, encode_floor
from swarmd.store.raft.timing import Timing
from swarmd.store.raft.wal import Wal, replay

pytestmark = pytest.mark.usefixtures("skipping_time")

FAST = Timing(0.5)
ADDRESSES = {name: f"10.0.0.{number}:2377" for number, name in enumerate("abcdefg", 1)}


class Journal:
    """A state machine that remembers every command with its index."""

    def __init__(self) -> None:
        self.commands: list[tuple[int, str]] = []
        self.restored = 0
        self.is_old = False

    def apply(self, index: int, command: bytes) -> object:
        if command == b"explode":
            raise ValueError("boom")
        if command == b"newer" and self.is_old:
            raise NotUnderstood("Upgrade this manager.")
        self.commands.append((index, command.decode()))
        return f"{index}:{command.decode()}"

    def view(self) -> StateView:
        commands = list(self.commands)
        return lambda: [json.dumps(commands).encode()]

    def restore(self, index: int, data: bytes) -> None:
        self.commands = [(at, command) for at, command in json.loads(data)]
        self.restored += 1


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.01)


class Group:
    """Managers on one memory network, each with its own directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.network = MemoryNetwork()
        self.nodes: dict[str, RaftNode] = {}
        self.machines: dict[str, Journal] = {}

    def make(self, name: str, **options: object) -> RaftNode:
        self.machines[name] = Journal()
        settings: dict[str, object] = {
            "node_id": name,
            "address": ADDRESSES[name],
            "data_dir": self.directory / name,
            "state_machine": self.machines[name],
            "transport": self.network.transport(name),
            "clock": SystemClock(),
            "timing": FAST,
        }
        self.nodes[name] = RaftNode(**(settings | options))  # type: ignore[arg-type]
        return self.nodes[name]

    async def found(self, names: str, **options: object) -> RaftNode:
        members = {name: ADDRESSES[name] for name in names}
        for name in names:
            await self.make(name, **options).start(bootstrap_members=members)
        return await self.led()

    async def join(self, name: str, **options: object) -> RaftNode:
        node = self.make(name, **options)
        await node.start(peers={other: ADDRESSES[other] for other in self.nodes if other != name})
        return node

    async def restart(self, name: str, **options: object) -> RaftNode:
        node = self.make(name, **options)
        await node.start()
        return node

    async def kill(self, name: str) -> None:
        await self.nodes.pop(name).stop()

    def leader(self, among: str = "abcdefg") -> RaftNode | None:
        return next((n for name, n in self.nodes.items() if name in among and n.is_leader()), None)

    async def led(self, among: str = "abcdefg") -> RaftNode:
        await until(lambda: self.leader(among))
        leader = self.leader(among)
        assert leader is not None
        return leader

    def name_of(self, node: RaftNode) -> str:
        return next(name for name, other in self.nodes.items() if other is node)

    async def agree(self, names: str) -> list[str]:
        """Wait until the named ones hold the same; answer their commands."""
        machines = [self.machines[name] for name in names]
        await until(lambda: all(m.commands == machines[0].commands for m in machines))
        commands = machines[0].commands
        assert [index for index, _ in commands] == list(range(1, len(commands) + 1))
        return [command for _, command in commands]


@pytest.fixture
async def group(memory_path: Path) -> AsyncIterator[Group]:
    made = Group(memory_path)
    yield made
    for name in list(made.nodes):
        await made.kill(name)


def members(names: str) -> dict[str, str]:
    return {name: ADDRESSES[name] for name in names}


async def test_a_first_manager_leads_at_once_and_answers_with_what_applying_said(group: Group) -> None:
    node = await group.found("a")
    assert await node.propose(b"one") == "1:one"
    assert await node.propose(b"two") == "2:two"
    status = node.status()
    assert (status.role, status.leader, status.applied, status.has_quorum) == ("leader", "a", 2, True)
    assert status.members == members("a")


async def test_what_was_acknowledged_is_there_after_a_restart(group: Group) -> None:
    node = await group.found("a")
    for number in range(20):
        await node.propose(b"%d" % number)
    await group.kill("a")
    await group.restart("a")
    await group.led()
    assert await group.agree("a") == [str(number) for number in range(20)]


async def test_founding_twice_is_refused(group: Group) -> None:
    await group.found("a")
    await group.kill("a")
    with pytest.raises(Refused, match="part of a swarm already"):
        await group.make("a").start(bootstrap_members=members("a"))
    group.nodes.clear()


async def test_a_node_without_state_and_without_peers_says_so(group: Group) -> None:
    with pytest.raises(Refused, match="Initialize a swarm, or join one"):
        await group.make("a").start()
    group.nodes.clear()


async def test_three_managers_survive_the_loss_of_their_leader_within_about_two_seconds(
    memory_path: Path,
) -> None:
    group = Group(memory_path)
    leader = await group.found("abc", timing=Timing())
    said, took = ["before"], []
    await leader.propose(b"before")
    # A machine that stands still for a moment may make one of them late, not all.
    while not took or (took[-1] >= 3.0 and len(took) < 4):
        lost = group.name_of(leader)
        began = SystemClock().monotonic()
        await group.kill(lost)
        leader = await group.led()
        took.append(SystemClock().monotonic() - began)
        said.append("after")
        await leader.propose(b"after")
        assert await group.agree("".join(group.nodes)) == said
        await group.restart(lost, timing=Timing())
        assert await group.agree("abc") == said
    assert min(took) < 3.0
    for name in list(group.nodes):
        await group.kill(name)


async def test_a_follower_refuses_to_propose_and_names_the_leader(group: Group) -> None:
    leader = await group.found("abc")
    follower = next(node for node in group.nodes.values() if node is not leader)
    await until(lambda: follower.status().leader == group.name_of(leader))
    with pytest.raises(Unavailable, match=f"manager {group.name_of(leader)} is"):
        await follower.propose(b"x")


async def test_a_leader_cut_off_from_the_majority_steps_down_and_acknowledges_nothing(group: Group) -> None:
    leader = await group.found("abc")
    await leader.propose(b"before")
    alone = group.name_of(leader)
    rest = "abc".replace(alone, "")
    group.network.cut(alone, rest)
    with pytest.raises(Unavailable, match="too few managers are online"):
        await leader.propose(b"lost")
    assert not leader.is_leader()
    assert not leader.status().has_quorum
    with pytest.raises(Unavailable, match="does not have a leader"):
        await leader.propose(b"also lost")
    successor = await group.led(rest)
    await successor.propose(b"kept")
    group.network.heal()
    await successor.propose(b"healed")
    assert await group.agree("abc") == ["before", "kept", "healed"]


async def test_a_member_that_was_cut_off_does_not_depose_the_leader_when_it_returns(group: Group) -> None:
    leader = await group.found("abc")
    term, epoch = leader.status().term, leader.status().epoch
    away = next(name for name in "abc" if group.nodes[name] is not leader)
    group.network.cut(away, "abc".replace(away, ""))
    await asyncio.sleep(4 * FAST.election_max)
    group.network.heal()
    await leader.propose(b"x")
    assert await group.agree("abc") == ["x"]
    assert leader.is_leader()
    assert (leader.status().term, leader.status().epoch) == (term, epoch)


async def test_a_member_that_hears_nothing_does_not_depose_the_leader_it_reaches(
    group: Group,
) -> None:
    leader = await group.found("abc")
    await leader.propose(b"x")
    term = leader.status().term
    deaf = next(name for name in "abc" if group.nodes[name] is not leader)
    group.network.cut("abc".replace(deaf, ""), deaf, both_ways=False)
    await asyncio.sleep(4 * FAST.election_max)
    group.network.heal()
    await leader.propose(b"y")
    assert await group.agree("abc") == ["x", "y"]
    assert (group.leader(), leader.status().term) == (leader, term)


async def test_a_roll_interrupts_writing_for_less_than_an_election(memory_path: Path) -> None:
    group = Group(memory_path)
    leader = await group.found("ab", timing=Timing(), roll_entries=60)
    waits: list[float] = []

    async def client(number: int) -> None:
        for step in range(60):
            began = SystemClock().monotonic()
            await leader.propose(b"%d-%d" % (number, step))
            waits.append(SystemClock().monotonic() - began)

    await asyncio.gather(*(client(number) for number in range(16)))
    assert leader.status().epoch > 5
    assert len(waits) == 960
    # Every roll would be felt by all sixteen; if the machine stands still once, that is not a roll's doing.
    assert sorted(waits)[-17] < Timing().election_min
    for name in list(group.nodes):
        await group.kill(name)


async def test_what_stands_behind_a_seal_in_the_log_is_void(group: Group) -> None:
    leader = await group.found("a")
    await leader.propose(b"before")
    await group.kill("a")
    wal = Wal(group.directory / "a" / "log-000000000001.wal", 1, SystemDisk())
    bodies: list[Seal | Command] = [Seal(members("a")), Command(b"behind")]
    first = len(wal.state.entries) + 2
    wal.commit(
        [
            Entry(first + n, wal.state.term, b"\x00" + encode_envelope(Envelope("another", 1 + n, body)))
            for n, body in enumerate(bodies)
        ]
    )
    wal.close()
    node = await group.restart("a")
    await until(lambda: node.status().epoch == 2 and node.is_leader())
    await node.propose(b"after")
    assert await group.agree("a") == ["before", "after"]


async def test_without_a_majority_a_write_fails_when_its_time_is_up(group: Group) -> None:
    leader = await group.found("abc")
    group.network.cut("a", "bc")
    group.network.cut("b", "c")
    with pytest.raises(Unavailable, match="may have been applied"):
        await leader.propose(b"x", timeout=0.05)


async def test_one_manager_becomes_two_and_three_and_two_without_the_one_that_led(group: Group) -> None:
    first = await group.found("a")
    await first.propose(b"1")
    await group.join("b")
    await first.change_members(members("ab"))
    await (await group.led()).propose(b"2")
    await group.join("c")
    leader = await group.led()
    await leader.change_members(members("abc"))
    leader = await group.led()
    await leader.propose(b"3")
    assert await group.agree("abc") == ["1", "2", "3"]

    gone = group.name_of(leader)
    rest = "abc".replace(gone, "")
    await leader.change_members(members(rest))
    successor = await group.led(rest)
    await successor.propose(b"4")
    assert await group.agree(rest) == ["1", "2", "3", "4"]
    assert set(successor.status().members) == set(rest)
    await until(lambda: leader.status().role == "stopped")
    with pytest.raises(Unavailable):
        await leader.propose(b"5")


async def test_a_manager_that_left_keeps_only_its_floor_and_can_be_taken_in_again(group: Group) -> None:
    leader = await group.found("abc")
    gone = next(name for name in "abc" if group.nodes[name] is not leader)
    told: list[str] = []
    node = group.nodes[gone]
    node.on_change(lambda: told.append(node.status().role))
    await leader.change_members(members("abc".replace(gone, "")))
    await until(lambda: "stopped" in told)
    await group.kill(gone)
    assert [path.name for path in (group.directory / gone).iterdir()] == ["floor"]

    await group.join(gone)
    leader = await group.led()
    await leader.change_members(members("abc"))
    await (await group.led()).propose(b"again")
    assert await group.agree("abc") == ["again"]


async def test_a_manager_removed_while_it_was_away_learns_it_when_it_returns(group: Group) -> None:
    leader = await group.found("abc")
    gone = next(name for name in "abc" if group.nodes[name] is not leader)
    await group.kill(gone)
    await leader.change_members(members("abc".replace(gone, "")))
    returned = await group.restart(gone)
    await until(lambda: returned.status().role == "stopped")


async def test_members_that_cannot_be_reached_are_not_made_a_majority(group: Group) -> None:
    leader = await group.found("a")
    with pytest.raises(Refused, match="b cannot be reached"):
        await leader.change_members(members("ab"), timeout=0.4)
    assert await leader.propose(b"still") == "1:still"


async def test_a_group_of_eight_or_none_is_invalid(group: Group) -> None:
    leader = await group.found("a")
    with pytest.raises(Invalid, match="1 to 7"):
        await leader.change_members({})
    with pytest.raises(Invalid, match="ip:port"):
        await leader.change_members({"a": "somewhere"})


async def test_rolling_epochs_under_load_loses_nothing_and_applies_nothing_twice(group: Group) -> None:
    leader = await group.found("abc", roll_entries=60, timing=Timing(3.0))
    roles: set[str] = set()
    leader.on_change(lambda: roles.add(leader.status().role))
    answers = await asyncio.gather(*(leader.propose(b"c%d" % n) for n in range(1200)))
    assert len(set(answers)) == 1200
    for number in range(150):
        await leader.propose(b"s%d" % number)
    commands = await group.agree("abc")
    assert sorted(commands) == sorted([f"c{n}" for n in range(1200)] + [f"s{n}" for n in range(150)])
    assert leader.status().epoch > 3
    assert roles == {"leader"}
    await until(lambda: all(len(list((group.directory / n).glob("log-*"))) == 1 for n in "abc"))
    assert all(len(list((group.directory / n).glob("base-*"))) <= 2 for n in "abc")


async def test_all_managers_restart_from_disk_with_everything_acknowledged(group: Group) -> None:
    leader = await group.found("abc", roll_entries=50)
    await asyncio.gather(*(leader.propose(b"%d" % n) for n in range(120)))
    for name in "abc":
        await group.kill(name)
    for name in "abc":
        await group.restart(name)
    await (await group.led()).propose(b"more")
    commands = await group.agree("abc")
    assert sorted(commands[:-1]) == sorted(str(n) for n in range(120))
    assert commands[-1] == "more"


async def test_a_joiner_gets_a_state_of_many_pieces_before_it_takes_part(group: Group) -> None:
    leader = await group.found("a", roll_entries=10)
    big = ["x" * 100_000 + str(n) for n in range(15)]
    for command in big:
        await leader.propose(command.encode())
    joiner = await group.join("b")
    await until(lambda: joiner.status().epoch == leader.status().epoch)
    assert joiner.status().role == "learner"
    await leader.change_members(members("ab"))
    assert await group.agree("ab") == big


async def test_a_manager_that_missed_several_epochs_catches_up(group: Group) -> None:
    leader = await group.found("abc", roll_entries=20)
    late = next(name for name in "abc" if group.nodes[name] is not leader)
    await group.kill(late)
    for number in range(100):
        await leader.propose(b"%d" % number)
    assert leader.status().epoch > 3
    await group.restart(late)
    assert await group.agree("abc") == [str(n) for n in range(100)]
    assert group.machines[late].restored >= 2


async def test_a_manager_that_lost_its_disk_is_refused_under_its_old_id(group: Group) -> None:
    leader = await group.found("abc")
    lost = next(name for name in "abc" if group.nodes[name] is not leader)
    await group.kill(lost)
    for path in (group.directory / lost).iterdir():
        path.unlink()
    node = await group.join(lost)
    await until(lambda: node.status().role == "stopped")
    assert "lost its disk" in str(node.status().problem)


async def test_a_manager_found_at_a_new_address_is_a_member_there(group: Group) -> None:
    leader = await group.found("abc")
    moved = next(name for name in "abc" if group.nodes[name] is not leader)
    await group.kill(moved)
    await group.restart(moved, address="10.9.9.9:2377")
    await until(lambda: leader.status().members[moved] == "10.9.9.9:2377")


async def test_leadership_is_handed_over_on_request(group: Group) -> None:
    leader = await group.found("abc")
    await leader.propose(b"x")
    await leader.transfer()
    assert not leader.is_leader()
    successor = await group.led()
    assert successor is not leader
    await successor.propose(b"y")
    assert await group.agree("abc") == ["x", "y"]


async def test_a_command_that_fails_while_applied_tells_its_proposer_and_harms_nobody(group: Group) -> None:
    leader = await group.found("abc")
    with pytest.raises(Exception, match="boom"):
        await leader.propose(b"explode")
    assert await leader.propose(b"next") == "2:next"


async def test_a_command_that_is_too_large_is_refused(group: Group) -> None:
    leader = await group.found("a")
    with pytest.raises(Invalid, match="Split it"):
        await leader.propose(bytes(2 << 20))


async def test_every_waiting_proposal_is_answered_at_shutdown(group: Group) -> None:
    leader = await group.found("abc")
    group.network.cut(group.name_of(leader), "abc".replace(group.name_of(leader), ""))
    waiting = [asyncio.ensure_future(leader.propose(b"%d" % n)) for n in range(5)]
    await asyncio.sleep(0)
    await group.kill(group.name_of(leader))
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)


class FullDisk(SystemDisk):
    full = False

    def write(self, fd: int, data: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(fd, data)


async def test_a_manager_with_a_full_disk_says_so_and_the_others_go_on(group: Group) -> None:
    disk = FullDisk()
    await group.found("abc")
    leader = await group.led()
    name = group.name_of(leader)
    await group.kill(name)
    await group.led()
    broken = await group.restart(name, disk=disk)
    await until(lambda: broken.status().leader is not None)
    disk.full = True
    await (await group.led()).propose(b"x")
    await until(lambda: broken.status().role == "stopped")
    assert "No space left" in str(broken.status().problem)
    with pytest.raises(Unavailable, match="No space left"):
        await broken.propose(b"y")
    rest = "abc".replace(name, "")
    await (await group.led(rest)).propose(b"z")
    assert await group.agree(rest) == ["x", "z"]


async def test_a_swarm_that_lost_its_majority_for_good_is_begun_anew_by_a_survivor(group: Group) -> None:
    leader = await group.found("abc")
    await leader.propose(b"x")
    await group.agree("abc")
    survivor, back = [name for name in "abc" if group.nodes[name] is not leader]
    for name in "abc":
        await group.kill(name)
    base = await take_over(
        group.directory / survivor, survivor, ADDRESSES[survivor], Journal(), lambda found, index: found.state
    )
    assert base.members == {survivor: ADDRESSES[survivor]}
    node = await group.restart(survivor)
    await group.led()
    await node.propose(b"y")
    after_lost_ones = base.applied + 1
    assert group.machines[survivor].commands == [(1, "x"), (after_lost_ones, "y")]
    assert after_lost_ones > 1_000_000
    assert set(node.status().members) == {survivor}
    returned = await group.restart(back)
    await until(lambda: returned.status().role == "stopped")


class WatchedDisk(SystemDisk):
    """Knows of each log what would survive a loss of power now."""

    def __init__(self) -> None:
        self.durable: dict[str, bytes] = {}

    def sync(self, fd: int) -> None:
        super().sync(fd)
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if path.suffix == ".wal":
            self.durable[str(path)] = path.read_bytes()


class WatchedTransport:
    """Checks, before a frame leaves, that all it promises is durable."""

    def __init__(self, inner: object, name: str, disk: WatchedDisk, directory: Path) -> None:
        self._inner = inner
        self._name = name
        self._disk = disk
        self._directory = directory
        self.votes = 0
        self.acknowledgements = 0
        self.broken: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def send(self, peer: str, frame: pb.PeerFrame) -> None:
        if frame.WhichOneof("body") == "raft":
            epoch = frame.raft.epoch
            path = self._directory / self._name / f"log-{epoch:012d}.wal"
            items = recover(self._disk.durable.get(str(path), b""), epoch, "log").items
            for message in frame.raft.messages:
                self._check(peer, message, items)
        self._inner.send(peer, frame)  # type: ignore[attr-defined]

    def _check(self, peer: str, message: pb.RaftMessage, items: list[Entry | Hard | Truncate]) -> None:
        hards = {(item.term, item.vote) for item in items if isinstance(item, Hard)}
        state = replay(items, "log")
        kind = pb.RaftMessage.Type.Name(message.type)
        if message.type == pb.RaftMessage.TYPE_RESPONSE_VOTE:
            self.votes += 1
            kept = (message.term, peer) in hards
        elif message.type == pb.RaftMessage.TYPE_REQUEST_VOTE:
            self.votes += 1
            kept = (message.term, self._name) in hards
        elif message.type == pb.RaftMessage.TYPE_NEXT_INDEX and message.success:
            self.acknowledgements += 1
            kept = len(state.entries) + 1 >= message.next_index - 1
        else:
            return
        if not kept:
            self.broken.append(f"{kind} {message.term} to {peer}")


async def test_votes_and_entries_are_durable_before_anything_is_said_about_them(group: Group) -> None:
    disks = {name: WatchedDisk() for name in "abc"}
    watched = {
        name: WatchedTransport(group.network.transport(name), name, disks[name], group.directory)
        for name in "abc"
    }
    for name in "abc":
        node = group.make(name, disk=disks[name], transport=watched[name], roll_entries=40)
        await node.start(bootstrap_members=members("abc"))
    leader = await group.led()
    for number in range(100):
        await leader.propose(b"%d" % number)
    await leader.transfer()
    await (await group.led()).propose(b"last")
    await group.agree("abc")
    assert [watch.broken for watch in watched.values()] == [[], [], []]
    assert sum(watch.votes for watch in watched.values()) >= 4
    assert sum(watch.acknowledgements for watch in watched.values()) >= 100


async def test_all_managers_losing_power_at_once_lose_nothing_that_was_acknowledged(group: Group) -> None:
    disks = {name: WatchedDisk() for name in "abc"}
    for name in "abc":
        # Patient: who leads must not change while the clients are served.
        await group.make(name, disk=disks[name], timing=Timing()).start(bootstrap_members=members("abc"))
    leader = await group.led()
    acknowledged: list[str] = []

    async def client(number: int) -> None:
        with contextlib.suppress(Unavailable):
            await leader.propose(b"%d" % number)
            acknowledged.append(str(number))

    clients = [asyncio.ensure_future(client(number)) for number in range(400)]
    await until(lambda: len(acknowledged) > 50)
    durable = {name: dict(disk.durable) for name, disk in disks.items()}
    promised = list(acknowledged)
    for name in "abc":
        await group.kill(name)
    await asyncio.gather(*clients)
    for files in durable.values():
        for path, data in files.items():
            Path(path).write_bytes(data)
    for name in "abc":
        await group.restart(name)
    await (await group.led()).propose(b"end")
    commands = await group.agree("abc")
    assert set(promised) <= set(commands)
    assert len(commands) == len(set(commands))


class SlowDisk(SystemDisk):
    """Takes as long for each sync as it is told to."""

    def __init__(self) -> None:
        self.hold = threading.Event()
        self.hold.set()

    def sync(self, fd: int) -> None:
        self.hold.wait(120)
        super().sync(fd)


async def test_a_leader_whose_disk_hangs_does_not_pass_for_leader_any_longer(group: Group) -> None:
    disks = {name: SlowDisk() for name in "abc"}
    for name in "abc":
        await group.make(name, disk=disks[name]).start(bootstrap_members=members("abc"))
    leader = await group.led()
    name = group.name_of(leader)
    told: list[str] = []
    leader.on_change(lambda: told.append(leader.status().role))
    disks[name].hold.clear()
    hanging = asyncio.ensure_future(leader.propose(b"hangs"))
    try:
        await until(lambda: told and told[-1] != "leader")
        successor = await group.led("abc".replace(name, ""))
        await successor.propose(b"goes on")
    finally:
        disks[name].hold.set()
    outcome = await caught(hanging)
    history = await group.agree("abc")
    # The others had it before the disk: they may have kept it, and then it is said so.
    assert isinstance(outcome, Unavailable) or "hangs" in history
    assert history[-1] == "goes on"


async def test_a_manager_that_does_not_understand_an_entry_stops_and_the_others_go_on(group: Group) -> None:
    leader = await group.found("abc")
    old = next(name for name, node in group.nodes.items() if node is not leader)
    group.machines[old].is_old = True
    await leader.propose(b"newer")
    await until(lambda: group.nodes[old].status().role == "stopped")
    assert group.nodes[old].status().problem == "Upgrade this manager."
    await leader.propose(b"after")
    await group.kill(old)
    await group.restart(old)
    assert await group.agree("abc") == ["newer", "after"]


async def test_a_crash_between_a_base_and_its_floor_leaves_no_hole(group: Group) -> None:
    leader = await group.found("a", roll_entries=5)
    for number in range(6):
        await leader.propose(b"%d" % number)
    await until(lambda: leader.status().epoch > 1)
    epoch = leader.status().epoch
    await group.kill("a")
    store = SnapshotStore(group.directory / "a", SystemDisk())
    (group.directory / "a" / "floor").write_bytes(encode_floor(Floor(epoch - 1, {})))
    await group.restart("a")
    await group.led()
    assert store.floor().epoch == epoch
