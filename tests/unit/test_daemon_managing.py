"""A manager finds the leader, waits out elections, and tells others where to go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast
from unittest import mock

import grpc
import pytest

from swarmd.daemon.config import Backup
from swarmd.daemon.locking import Locking
from swarmd.daemon.managing import LEADER_WAIT, Managing
from swarmd.daemon.registry_config import RegistryConfig
from swarmd.daemon.tools.backups import BackupFolder
from swarmd.kit.ids import new_id
from swarmd.kit.supervise import Nursery
from swarmd.model.objects import Node, NodeStatus
from swarmd.model.replace import replace
from swarmd.rpc.channels import Channels
from swarmd.security.identity import Credentials
from swarmd.security.vault import Vault
from swarmd.store.core import transaction
from swarmd.store.core.transaction import Put
from swarmd.store.raft.port import NO_LEADER, NoLeader, RaftStatus
from tests.unit.test_control_bed import ManualClock, settle

MEMBERS = {"m1": "10.0.0.1:2377", "m2": "10.0.0.2:2377", "m3": "10.0.0.3:2377"}


class Raft:
    """A group as a test wants it."""

    def __init__(self) -> None:
        self.now = RaftStatus(
            role="follower", term=1, epoch=1, leader=None, members=dict(MEMBERS),
            reachable=frozenset({"m2"}), applied=0, has_quorum=True,
        )  # fmt: skip
        self.callback: Callable[[], None] = lambda: None

    def status(self) -> RaftStatus:
        return self.now

    def is_leader(self) -> bool:
        return self.now.role == "leader"

    def change(self, **fields: object) -> None:
        self.now = replace(self.now, **fields)
        self.callback()


class Rig:
    """The managing half of m1, never started: no port is opened."""

    def __init__(self, directory: Path) -> None:
        self.clock, self.raft = ManualClock(), Raft()
        self.channels = Channels(grpc.ssl_channel_credentials)
        nothing = Credentials(key=b"", certificate=b"", root=b"")
        self.managing = Managing(
            node_id="m1",
            cluster_id="c1",
            address="10.0.0.1",
            listen="127.0.0.1",
            data_dir=directory,
            run_dir=directory,
            reserve=0,
            credentials=lambda: nothing,
            locking=Locking(Vault(directory / "vault"), lambda: None, self.clock),
            channels=self.channels,
            gossip=dict,
            clock=self.clock,
            new_id=new_id,
            backups=BackupFolder(directory, Backup()),
            content=mock.Mock(),
            blobs=cast("Any", None),
            registry=RegistryConfig(),
            on_left=lambda: None,
            recheck=lambda: None,
        )
        raft: Any = self.raft
        self.managing.raft = raft
        self.raft.callback = self.managing._on_change
        rows = [Node(id=f"m{n}", number=n, status=NodeStatus(address=f"10.0.0.{n}")) for n in (1, 2)]
        self.managing._state.apply(1, transaction.encode(0.0, [Put(row) for row in rows]))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    await rig.channels.close()


async def test_a_leader_is_found_here_or_by_its_row(rig: Rig) -> None:
    rig.raft.change(role="leader", leader="m1")
    assert (await rig.managing.find_leader()).channel is None
    rig.raft.change(role="follower", leader="m2")
    assert (await rig.managing.find_leader()).channel is rig.channels.to("10.0.0.2", "m2")


async def test_an_election_is_waited_out(rig: Rig) -> None:
    found: list[object] = []

    async def find() -> None:
        found.append((await rig.managing.find_leader()).channel)

    nursery = Nursery(lambda name, error: found.append(error))
    nursery.start("find", find())
    await settle()
    assert found == []
    rig.raft.change(leader="m2")
    await settle()
    assert found == [rig.channels.to("10.0.0.2", "m2")]
    await nursery.close()


async def test_without_a_leader_that_is_said_in_the_end(rig: Rig) -> None:
    failures: list[BaseException] = []
    nursery = Nursery(lambda name, error: failures.append(error))
    nursery.start("find", rig.managing.find_leader())
    for _ in range(int(LEADER_WAIT / 0.5)):
        await settle()
        assert failures == []
        rig.clock.advance(0.5)
    await settle()
    assert [(type(error), str(error)) for error in failures] == [(NoLeader, NO_LEADER)]
    await nursery.close()


async def test_a_manager_that_cannot_take_part_says_why(rig: Rig) -> None:
    rig.raft.change(role="stopped", problem="its disk holds nothing of that")
    failures: list[BaseException] = []
    nursery = Nursery(lambda name, error: failures.append(error))
    nursery.start("find", rig.managing.find_leader())
    for _ in range(int(LEADER_WAIT / 0.5)):
        await settle()
        rig.clock.advance(0.5)
    await settle()
    assert [str(error) for error in failures] == ["its disk holds nothing of that"]
    await nursery.close()


async def test_calls_are_given_up_for_another_leader_and_for_nothing_else(rig: Rig) -> None:
    rig.raft.change(leader="m2")
    lost = (await rig.managing.find_leader()).lost
    rig.raft.change(members={"m1": MEMBERS["m1"], "m2": MEMBERS["m2"]}, epoch=2)
    rig.raft.change(leader=None)
    rig.raft.change(leader="m2")
    assert not lost.is_set(), "members change, and an epoch takes a moment to begin"
    rig.raft.change(role="leader", leader="m1")
    assert lost.is_set()
    assert not (await rig.managing.find_leader()).lost.is_set()


async def test_a_manager_that_moved_is_told_by_its_row_before_replication_hears_of_it(rig: Rig) -> None:
    row = Node(id="m2", number=2, status=NodeStatus(address="10.9.9.9"), raft_address="10.9.9.9:2377")
    before = rig.managing.store.get(Node, "m2")
    assert before is not None
    rig.managing._state.apply(2, transaction.encode(0.0, [Put(replace(row, version=before.version))]))
    told = {one.node_id: (one.address, one.raft_address) for one in rig.managing.managers()}
    assert told["m2"] == ("10.9.9.9", "10.9.9.9:2377")
    assert told["m1"] == ("10.0.0.1", "10.0.0.1:2377")


async def test_nodes_are_told_the_managers_and_the_leader_if_it_is_another(rig: Rig) -> None:
    rig.raft.change(leader="m2")
    redirect = rig.managing.redirect()
    assert redirect.leader.node_id == "m2"
    assert [(one.node_id, one.address) for one in redirect.managers] == [
        ("m1", "10.0.0.1"), ("m2", "10.0.0.2"), ("m3", "10.0.0.3"),
    ]  # fmt: skip
    for leader in (None, "m1"):
        rig.raft.change(leader=leader)
        assert not rig.managing.redirect().HasField("leader")
