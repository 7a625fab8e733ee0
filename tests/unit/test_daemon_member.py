"""A node follows the role in its row: certificate first, then the managing half, and it does not give up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import pytest

from swarmd.api.audit import Trail
from swarmd.api.open_calls import OpenCalls
from swarmd.daemon import certificate as certificate_module
from swarmd.daemon import member as member_module
from swarmd.daemon.certificate import CHECK
from swarmd.daemon.config import Config
from swarmd.daemon.member import ROLE_RETRY, Member
from swarmd.daemon.state import MemoryFile, NodeMemory
from swarmd.daemon.working import Machine
from swarmd.kit.ids import new_id
from swarmd.model.errors import SwarmError, Unavailable
from swarmd.model.states import Role
from swarmd.rpc.v1 import agent_pb2
from swarmd.security import ca
from swarmd.security.identity import Credentials, IdentityStore
from swarmd.security.vault import Vault
from tests.unit.test_control_bed import ManualClock, eventually, settle


class FakeManaging:
    """The managing half: refuses to start as often as ``refusals`` says."""

    def __init__(self, rig: Rig, on_left: Callable[[], None]) -> None:
        self._rig = rig
        self._on_left = on_left
        self.has_left = False

    def leave(self) -> None:
        self.has_left = True
        self._on_left()

    async def start(self, **_: object) -> None:
        if self._rig.refusals:
            raise self._rig.refusals.pop(0)
        self._rig.log.append("managing started")

    async def released(self, limit: float) -> bool:
        self._rig.log.append("released")
        return True

    async def stop(self) -> None:
        self._rig.log.append("managing stopped")

    def show_certificate(self) -> None:
        pass


class Rig:
    """A member without ports, containers or managers; ``answers``: what the leader says to a renewal."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = ManualClock()
        self.root, self.root_key = ca.new_root(self.clock.now())
        self.store = IdentityStore(directory / "identity")
        self.answers: list[Role | SwarmError] = []
        self.refusals: list[SwarmError] = []
        self.log: list[str] = []
        self.vault = Vault(directory / "vault")
        self.vault.create()
        nothing: Any = object()
        machine = Machine(
            trail=Trail(lambda line: None, self.clock, new_id, lambda: ""),
            config=Config(data_dir=str(directory), run_dir=str(directory)),
            clock=self.clock, runtime=nothing, network=mock.Mock(), images=mock.Mock(),
            volumes=nothing,
            containers=nothing,
        )  # fmt: skip
        self.member = Member(
            machine,
            self.credentials(Role.WORKER),
            self.store,
            NodeMemory(node_id="n1", cluster_id="c1", address="10.0.0.1"),
            MemoryFile(directory / "node.json"),
            self.vault,
            logs=nothing,
            new_id=new_id,
        )
        self.member._calls = OpenCalls(lambda method, context: None)
        monkeypatch.setattr(member_module, "Managing", lambda **parts: FakeManaging(self, parts["on_left"]))
        monkeypatch.setattr(certificate_module, "renew", self.renew)
        monkeypatch.setattr(self.member.working.session, "leader_channel", lambda: None)
        monkeypatch.setattr(self.member.working, "restart_session", lambda: self.log.append("session"))

    def credentials(self, role: Role) -> Credentials:
        key = ca.new_key()
        certificate = ca.sign(
            ca.new_request(key),
            ca.Identity("n1", role, "c1"),
            root_pem=self.root,
            root_key_pem=self.root_key,
            now=self.clock.now(),
            life=7200.0,
        )
        return Credentials(key=key, certificate=certificate, root=self.root)

    async def renew(self, current: Credentials, leader: grpc.aio.Channel) -> Credentials:
        answer = self.answers.pop(0)
        if isinstance(answer, SwarmError):
            raise answer
        self.log.append(f"certified {answer.value}")
        return self.credentials(answer)

    async def row(self, wanted: Role, role: Role) -> None:
        """The managers tell the node its row."""
        info = agent_pb2.SessionInfo()
        info.node.spec.role, info.node.role = wanted.value, role.value
        await self.member._told(info)
        await settle()

    def keep(self) -> None:
        """Look after the certificate, as a member does from its start on."""
        member = self.member
        member._nursery.start("certificate", member._certificate.keep(member._reconnect, member._role_lock))

    async def later(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await settle()

    @property
    def saved(self) -> Role:
        loaded = self.store.load()
        assert loaded is not None
        return loaded.identity.role


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path, monkeypatch)
    yield rig
    await rig.member.working._database.close()
    await rig.member._nursery.close()


PROMOTED = ["certified manager", "managing started", "session"]
DEMOTED = ["released", "certified worker", "managing stopped", "session"]


async def test_a_promotion_brings_certificate_managing_half_and_a_new_session(rig: Rig) -> None:
    rig.answers = [Role.MANAGER]
    await rig.row(Role.MANAGER, Role.WORKER)
    await eventually(lambda: rig.log == PROMOTED)
    assert (rig.saved, rig.member.managing is not None) == (Role.MANAGER, True)
    await rig.row(Role.MANAGER, Role.MANAGER)
    assert rig.log == PROMOTED, "nothing is left to do"


async def test_a_certificate_that_cannot_be_had_is_asked_for_again(rig: Rig) -> None:
    rig.answers = [Unavailable("no manager can be reached"), Role.WORKER, Role.MANAGER]
    await rig.row(Role.MANAGER, Role.WORKER)
    await rig.row(Role.MANAGER, Role.WORKER)
    assert rig.log == [], "it waits, and another message does not begin a second attempt"
    await rig.later(ROLE_RETRY)
    assert rig.log == ["certified worker"], "the managers were not so far yet"
    await rig.later(ROLE_RETRY)
    await eventually(lambda: rig.log == ["certified worker", *PROMOTED])


async def test_a_managing_half_that_cannot_start_is_started_again(rig: Rig) -> None:
    rig.answers = [Role.MANAGER]
    rig.refusals = [Unavailable("the cluster port cannot be opened")]
    await rig.row(Role.MANAGER, Role.WORKER)
    assert (rig.log, rig.member.managing) == (["certified manager", "managing stopped"], None)
    await rig.later(ROLE_RETRY)
    assert rig.log[2:] == ["managing started", "session"]
    assert rig.member.managing is not None


async def test_a_promotion_taken_back_meanwhile_is_given_up(rig: Rig) -> None:
    rig.answers = [Unavailable("no manager can be reached")]
    await rig.row(Role.MANAGER, Role.WORKER)
    await rig.row(Role.WORKER, Role.WORKER)
    await rig.later(ROLE_RETRY)
    assert (rig.log, rig.member.managing) == ([], None)


async def test_a_demotion_waits_until_the_group_has_let_the_node_go(rig: Rig) -> None:
    rig.answers = [Role.MANAGER, Role.WORKER]
    await rig.row(Role.MANAGER, Role.WORKER)
    await rig.row(Role.WORKER, Role.MANAGER)
    assert rig.log == PROMOTED
    await rig.row(Role.WORKER, Role.WORKER)
    await eventually(lambda: rig.log == PROMOTED + DEMOTED)
    assert (rig.saved, rig.member.managing) == (Role.WORKER, None)


async def test_a_demoted_manager_that_the_group_lets_go_before_its_row_says_so_does_not_begin_anew(
    rig: Rig,
) -> None:
    rig.answers = [Role.MANAGER, Role.WORKER]
    await rig.row(Role.MANAGER, Role.WORKER)
    await rig.row(Role.WORKER, Role.MANAGER)
    managing: Any = rig.member.managing
    managing.leave()
    await settle()
    assert rig.log == PROMOTED
    await rig.row(Role.WORKER, Role.WORKER)
    await eventually(lambda: rig.log == PROMOTED + DEMOTED)


async def test_a_manager_that_was_let_go_and_is_wanted_again_begins_anew(rig: Rig) -> None:
    rig.answers.append(Role.MANAGER)
    await rig.row(Role.MANAGER, Role.WORKER)
    await eventually(lambda: rig.log == PROMOTED)
    rig.log.clear()
    first: Any = rig.member.managing
    first.leave()
    await eventually(lambda: "session" in rig.log)
    assert rig.log == ["managing stopped", "managing started", "session"]
    assert rig.member.managing is not first


async def test_a_demoted_manager_has_its_key_beside_again(rig: Rig) -> None:
    rig.answers = [Role.MANAGER, Role.WORKER]
    await rig.row(Role.MANAGER, Role.WORKER)
    await eventually(lambda: rig.log == PROMOTED)
    rig.vault.rewrap(bytes(range(32)), followed=7)
    await rig.row(Role.WORKER, Role.WORKER)
    await eventually(lambda: rig.log == PROMOTED + DEMOTED)
    assert rig.vault.is_held(b"")
    assert rig.vault.ring.followed == 0, "it follows the row again when it is promoted"


async def test_an_old_certificate_is_renewed_and_shown_and_a_failure_is_tried_again(rig: Rig) -> None:
    rig.answers = [Unavailable("no manager can be reached"), Role.WORKER]
    rig.keep()
    await settle()
    await rig.later(CHECK)
    assert len(rig.answers) == 2, "not before its time"
    await rig.later(7000.0)
    assert (len(rig.answers), rig.log) == (1, [])
    await rig.later(CHECK)
    assert rig.log == ["certified worker", "session"], "the session would not survive its channel"


async def test_a_renewal_that_already_brings_the_new_role_does_not_hide_it(rig: Rig) -> None:
    rig.answers = [Role.MANAGER]
    rig.keep()
    await settle()
    await rig.later(7000.0)
    await rig.row(Role.MANAGER, Role.WORKER)
    await eventually(lambda: rig.log == ["certified manager", "session", "managing started", "session"])


async def test_a_certificate_that_cannot_be_renewed_or_has_expired_is_a_problem_to_be_told(rig: Rig) -> None:
    assert rig.member.problems() == []
    rig.answers = [Unavailable("no manager can be reached")]
    rig.keep()
    await settle()
    await rig.later(6000.0)
    (told,) = rig.member.problems()
    assert told.endswith("could not be renewed yet: no manager can be reached")
    rig.answers = [Role.WORKER]
    await rig.later(CHECK)
    assert rig.member.problems() == []
    rig.clock.advance(8000.0)
    (told,) = rig.member.problems()
    assert "certificate expired on 2027-01-15" in told


async def test_a_full_disk_does_not_end_the_renewals(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(credentials: Credentials) -> None:
        raise OSError(28, "No space left on device")

    rig.answers = [Role.WORKER, Role.WORKER]
    rig.keep()
    await settle()
    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "save", full)
        await rig.later(7000.0)
    assert rig.log == ["certified worker"]
    await rig.later(CHECK)
    assert rig.log == ["certified worker", "certified worker", "session"]
