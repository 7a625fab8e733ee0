"""A swarm goes on with one manager: on a running daemon, on a stopped one, and after a kill at any step."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from swarmd.control.cluster import first_rows
from swarmd.control.snapshots import Contents, pack, unpack
from swarmd.daemon.config import Backup
from swarmd.daemon.lock import locked
from swarmd.daemon.main import main
from swarmd.daemon.ondisk import OnDisk
from swarmd.daemon.requests import found, founder_memory
from swarmd.daemon.tools.anew import Recovery
from swarmd.daemon.tools.backups import BackupFolder
from swarmd.daemon.tools.recovering import check_may_begin_anew
from swarmd.daemon.tools.vaults import open_vault
from swarmd.kit.ids import new_id
from swarmd.model.errors import Invalid, NotManager, Refused, Unavailable
from swarmd.model.objects import Cluster, Node, NodeStatus, RemovedNode, Row, Service
from swarmd.model.replace import replace
from swarmd.model.spec import ClusterSpec, NodeSpec, ServiceSpec
from swarmd.model.states import Availability, Role
from swarmd.security import ca, passphrase
from swarmd.security.keyring import unlock_key_text
from swarmd.security.vault import Locked
from swarmd.store.core.transaction import Put, decode_rows, encode
from swarmd.store.raft.offline import begin_from
from swarmd.store.raft.port import RaftStatus
from swarmd.store.raft.reading import Picture, look, replay
from swarmd.store.store import StoreState
from tests.unit.test_control_bed import ManualClock
from tests.unit.test_swarm_crash import CAMERA

HERE, OTHER = "10.0.0.1", "10.0.0.2"


class Rig:
    """The stopped manager of a swarm of two, on a disk of its own."""

    def __init__(self, data: Path, clock: ManualClock) -> None:
        self.data, self.clock = data, clock
        data.mkdir(exist_ok=True)
        self.disk = OnDisk(data)
        self.folder = BackupFolder(data, Backup())
        self.recovery = Recovery(data, self.disk, self.folder, clock, new_id)

    @property
    def picture(self) -> Picture:
        return look(self.data / "raft", open_vault(self.data, None))

    @property
    def rows(self) -> list[Row]:
        """What a manager would begin with here."""
        picture = self.picture
        assert picture.newest is not None
        assert picture.problems == ()
        return decode_rows(replay(picture.newest.base, picture.chain, StoreState()).base.state)[1]

    @property
    def managers(self) -> list[str]:
        return [row.id for row in self.rows if isinstance(row, Node) and row.spec.role is Role.MANAGER]

    def cluster(self) -> Cluster:
        return next(row for row in self.rows if isinstance(row, Cluster))


async def found_here(data: Path, clock: ManualClock) -> Rig:
    """A swarm with two managers and a worker; this one is the founder."""
    rig = Rig(data, clock)
    founding, credentials = found(
        HERE, ClusterSpec(), Availability.ACTIVE, clock.now(), ca.new_root(clock.now())
    )
    rig.disk.save(credentials, replace(founder_memory(founding, "0.0.0.0"), founding=None))
    state = StoreState()
    manager = Node(
        id="other", number=2, role=Role.MANAGER, spec=NodeSpec(role=Role.MANAGER),
        status=NodeStatus(address=OTHER), raft_address=f"{OTHER}:2377",
    )  # fmt: skip
    worker = Node(id="worker", number=3, status=NodeStatus(address="10.0.0.3"))
    changes = [*first_rows(founding, new_id), Put(manager), Put(worker)]
    assert state.apply(1, encode(clock.now(), changes)).error == ""
    await begin_from(
        data / "raft",
        founding.node_id,
        f"{HERE}:2377",
        epoch=4,
        index=1,
        state=b"".join(state.view()()),
        sealer=rig.disk.vault,
    )
    return rig


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def rig(tmp_path: Path, clock: ManualClock) -> Rig:
    return await found_here(tmp_path / "data", clock)


@pytest.fixture
def snapshot(rig: Rig) -> Contents:
    rows = rig.rows
    return unpack(pack(rows, index=9, epoch=7, now=rig.clock.now()), "f")


@pytest.fixture
def album(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "album").mkdir()
    yield tmp_path / "album"
    CAMERA.watched = None


def own_id(rig: Rig) -> str:
    membership = rig.disk.load()
    assert membership is not None
    return membership[1].node_id


async def test_a_survivor_is_the_only_manager_and_keeps_what_was_before(rig: Rig) -> None:
    before, me = rig.cluster(), own_id(rig)
    memory = await rig.recovery.begin_anew(lambda known: known)
    assert rig.managers == [me] == [memory.node_id]
    assert rig.cluster() == before, "authority, tokens and keys stay"
    assert [remote.node_id for remote in memory.managers] == [me]
    (kept,) = rig.folder.names()
    contents = unpack((rig.folder.directory / kept).read_bytes(), kept)
    managers = [row for row in contents.rows if isinstance(row, Node) and row.role is Role.MANAGER]
    assert len(managers) == 2, "the snapshot before it has them all"


async def test_a_survivor_may_have_another_address(rig: Rig) -> None:
    memory = await rig.recovery.begin_anew(lambda known: "10.9.9.9")
    picture = rig.picture
    assert picture.newest is not None
    assert picture.newest.base.members == {memory.node_id: "10.9.9.9:2377"}
    assert memory.address == "10.9.9.9"


async def test_a_certificate_that_slept_too_long_is_made_anew(rig: Rig) -> None:
    year = 365 * 86400.0
    rig.clock.advance(year)
    await rig.recovery.begin_anew(lambda known: known)
    membership = rig.disk.load()
    assert membership is not None
    assert ca.validity(membership[0].certificate)[1] > rig.clock.now()
    assert membership[0].identity.role is Role.MANAGER


async def test_a_machine_of_no_swarm_takes_the_place_at_its_address(
    snapshot: Contents, tmp_path: Path, clock: ManualClock
) -> None:
    fresh = Rig(tmp_path / "fresh", clock)
    credentials, memory = await fresh.recovery.restore(snapshot, address=OTHER, listen="0.0.0.0")
    assert (memory.node_id, fresh.managers) == ("other", ["other"])
    assert credentials.root == snapshot.cluster.root_ca
    assert fresh.disk.load() == (credentials, memory), "what is loaded is checked against its root"
    assert not any(isinstance(row, RemovedNode) for row in fresh.rows)


async def test_a_machine_at_an_unknown_address_is_a_new_node(
    snapshot: Contents, tmp_path: Path, clock: ManualClock
) -> None:
    fresh = Rig(tmp_path / "fresh", clock)
    _, memory = await fresh.recovery.restore(snapshot, address="10.7.7.7", listen="0.0.0.0")
    assert fresh.managers == [memory.node_id]
    assert memory.node_id not in {row.id for row in snapshot.rows}


async def test_putting_back_keeps_the_node_and_refuses_another_swarm(rig: Rig, snapshot: Contents) -> None:
    me = own_id(rig)
    await rig.recovery.put_back(snapshot, lambda known: known)
    assert (own_id(rig), rig.managers) == (me, [me])
    stranger = Contents(snapshot.header, replace(snapshot.cluster, id="another"), snapshot.rows)
    with pytest.raises(Refused, match="another"):
        await rig.recovery.put_back(stranger, lambda known: known)


async def test_a_kill_while_a_swarm_is_begun_anew_leaves_the_old_or_the_new(
    rig: Rig, album: Path, clock: ManualClock
) -> None:
    me = own_id(rig)
    CAMERA.watch(rig.data, album)
    await rig.recovery.begin_anew(lambda known: known)
    CAMERA.watched = None
    verdicts = []
    for image in CAMERA.images:
        again = Rig(image, clock)
        assert own_id(again) == me, image.name
        verdicts.append(again.managers == [me])
        await again.recovery.begin_anew(lambda known: known)
        assert again.managers == [me], image.name
    assert {True, False} == set(verdicts)
    assert verdicts == sorted(verdicts), "from one step on it is the new"


async def test_a_kill_during_a_restore_leaves_the_node_in_or_out(
    snapshot: Contents, tmp_path: Path, album: Path, clock: ManualClock
) -> None:
    fresh = Rig(tmp_path / "fresh", clock)
    CAMERA.watch(fresh.data, album)
    await fresh.recovery.restore(snapshot, address=HERE, listen="0.0.0.0")
    CAMERA.watched = None
    verdicts = []
    for image in CAMERA.images:
        again = Rig(image, clock)
        verdicts.append(again.disk.load() is not None)
        if verdicts[-1]:
            assert len(again.managers) == 1
        else:
            assert {path.name for path in image.iterdir()} == set(), image.name
            await again.recovery.restore(snapshot, address=HERE, listen="0.0.0.0")
            assert len(again.managers) == 1
    assert verdicts == sorted(verdicts)
    assert False in verdicts


# -- a running daemon ----------------------------------------------------------------------------


def member(reachable: str, members: str, *, is_manager: bool = True) -> Any:
    status = RaftStatus(
        role="follower", term=1, epoch=1, leader=None, members=dict.fromkeys(members, "x"),
        reachable=frozenset(reachable), applied=0, has_quorum=False,
    )  # fmt: skip
    raft = type("Raft", (), {"status": lambda self: status})()
    managing = type("Managing", (), {"raft": raft})() if is_manager else None
    return type("Member", (), {"managing": managing, "memory": type("Memory", (), {"node_id": "a"})})()


def test_a_swarm_with_a_majority_is_begun_anew_only_by_force() -> None:
    with pytest.raises(Refused, match=r"2 of the swarm's 3 managers can be reached.*add --force"):
        check_may_begin_anew(member("b", "abc"), force=False)
    check_may_begin_anew(member("b", "abc"), force=True)
    check_may_begin_anew(member("b", "abcd"), force=False)
    check_may_begin_anew(member("", "abc"), force=False)
    check_may_begin_anew(member("", "a"), force=False)
    with pytest.raises(NotManager, match="not a swarm manager"):
        check_may_begin_anew(member("", "", is_manager=False), force=True)


# -- the command line of a stopped daemon --------------------------------------------------------


def swarmd(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_recover_says_what_is_there_and_a_dry_run_changes_nothing(rig: Rig) -> None:
    before = {path: path.read_bytes() for path in (rig.data / "raft").iterdir()}
    done = swarmd("recover", "--data-dir", rig.data, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "3 nodes" in done.output
    assert "Nothing was changed" in done.output
    assert {path: path.read_bytes() for path in (rig.data / "raft").iterdir()} == before
    done = swarmd("recover", "--data-dir", rig.data)
    assert done.exit_code == 0, done.output
    assert rig.managers == [own_id(rig)]


def test_recover_is_refused_while_a_daemon_runs(rig: Rig) -> None:
    with locked(rig.data):
        done = swarmd("recover", "--data-dir", rig.data)
    assert (done.exit_code, "stop it first" in done.output) == (1, True)
    assert len(rig.managers) == 2


def test_recover_goes_on_only_from_the_directory_that_knows_most(rig: Rig, tmp_path: Path) -> None:
    behind = tmp_path / "behind"
    shutil.copytree(rig.data, behind)
    asyncio.run(rig.recovery.begin_anew(lambda known: known))
    done = swarmd("recover", "--data-dir", behind, "--compare", rig.data)
    assert done.exit_code == 1
    assert f"The most current is {rig.data}" in done.output
    assert f"{rig.data} knows more than {behind}" in done.output
    assert len(Rig(behind, rig.clock).managers) == 2
    assert swarmd("recover", "--data-dir", rig.data, "--compare", behind).exit_code == 0


def test_recover_from_a_sealed_snapshot_on_an_empty_machine(
    rig: Rig, tmp_path: Path, clock: ManualClock
) -> None:
    words, file, fresh = tmp_path / "words", tmp_path / "s.snapshot", tmp_path / "fresh"
    words.write_bytes(b"correct horse\n")
    file.write_bytes(passphrase.seal(pack(rig.rows, index=9, epoch=7, now=clock.now()), b"correct horse"))
    fresh.mkdir()
    command = ("recover", "--data-dir", fresh, "--advertise-addr", OTHER, "--from-snapshot", file)
    assert "is sealed" in swarmd(*command).output
    done = swarmd(*command, "--passphrase-file", words)
    assert done.exit_code == 0, done.output
    assert Rig(fresh, clock).managers == ["other"]


def test_recover_without_anything_to_go_on_from_says_what_to_do(tmp_path: Path) -> None:
    done = swarmd("recover", "--data-dir", tmp_path)
    assert (done.exit_code, "--from-snapshot FILE" in done.output) == (1, True)


def test_verify_and_dump_look_at_a_data_directory_or_a_copy(rig: Rig, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(rig.data, copy)
    for where in (rig.data, copy, copy / "raft"):
        done = swarmd("raft", "verify", "--data-dir", where)
        assert (done.exit_code, "is in order" in done.output) == (0, True), done.output
    data = json.loads(swarmd("raft", "dump", "--data-dir", copy, "--entries", "--json").output)
    assert data["bases"][0]["rows"] == {"cluster": 1, "network": 1, "node": 3}
    text = swarmd("raft", "dump", "--data-dir", rig.data, "--entries").output
    cluster = rig.cluster()
    for secret in (cluster.worker_token, cluster.manager_token, "PRIVATE KEY"):
        assert secret not in text + json.dumps(data)


def test_what_the_operator_locked_is_looked_at_and_recovered_with_the_unlock_key(
    rig: Rig, tmp_path: Path
) -> None:
    key, file = b"k" * 32, tmp_path / "key"
    file.write_text(f"{unlock_key_text(key)}\n")
    me = own_id(rig)
    rig.disk.vault.rewrap(key, followed=1)
    for command in (("raft", "verify"), ("raft", "dump"), ("recover",)):
        done = swarmd(*command, "--data-dir", rig.data)
        assert (done.exit_code, "--unlock-key-file" in done.output) == (1, True), done.output
        done = swarmd(*command, "--data-dir", rig.data, "--unlock-key-file", file)
        assert done.exit_code == 0, done.output
    with pytest.raises(Locked):
        OnDisk(rig.data).load()
    again = OnDisk(rig.data)
    again.vault.unlock(key)
    membership = again.load()
    assert membership is not None
    assert membership[1].node_id == me


def test_verify_ends_with_1_and_names_the_file(rig: Rig) -> None:
    base = next((rig.data / "raft").glob("base-*"))
    data = bytearray(base.read_bytes())
    data[-1] ^= 1
    base.write_bytes(bytes(data))
    done = swarmd("raft", "verify", "--data-dir", rig.data)
    assert done.exit_code == 1
    assert str(base) in done.output
    assert "join it again" in done.output
    assert str(base) in swarmd("recover", "--data-dir", rig.data).output


async def test_verify_finds_a_state_that_no_swarm_may_have_though_its_files_are_whole(
    rig: Rig, clock: ManualClock
) -> None:
    state = StoreState()
    twins = [Service(id=name, spec=ServiceSpec(name="web"), spec_version=1) for name in ("one", "two")]
    state.tables.load(1, [*rig.rows, *twins])
    await begin_from(
        rig.data / "raft", own_id(rig), f"{HERE}:2377", epoch=9, index=1,
        state=b"".join(state.view()()), sealer=rig.disk.vault,
    )  # fmt: skip
    done = swarmd("raft", "verify", "--data-dir", rig.data)
    assert done.exit_code == 1
    assert "the service name web is there 2 times" in done.output
    assert "service one names spec version 1, which is gone" in done.output


def test_swarmd_without_a_command_still_is_the_daemon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[str] = []
    monkeypatch.setattr("swarmd.daemon.main._run", lambda config: started.append(config.data_dir))
    monkeypatch.setattr("swarmd.daemon.main.os.geteuid", lambda: 0)
    monkeypatch.setattr("swarmd.daemon.main.os.umask", lambda mask: 0)
    monkeypatch.setattr("swarmd.daemon.main.logging.configure", lambda *_: None)
    assert swarmd("--data-dir", tmp_path).exit_code == 0
    assert started == [str(tmp_path)]
    assert swarmd("--data-dir", tmp_path, "raft", "verify").exit_code == 1
    assert started == [str(tmp_path)]


def test_nothing_is_unpacked_that_is_no_swarm() -> None:
    with pytest.raises(Invalid, match="no snapshot of a swarm"):
        unpack(b"something else", "f")
    with pytest.raises(Unavailable, match="not initialised"):
        pack([cast("Row", Node(id="n"))], index=1, epoch=1, now=0.0)
