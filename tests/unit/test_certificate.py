"""A node's own certificate: the ways to a new one, and which roots it lets itself be told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from swarmd.daemon import certificate as module
from swarmd.daemon.certificate import CHECK, RETRY, OwnCertificate, Ways
from swarmd.daemon.renewal import certificate_problems
from swarmd.manager.authority import Authority
from swarmd.model.errors import Denied, SwarmError, Unavailable
from swarmd.model.objects import Cluster, Node
from swarmd.model.spec import NodeSpec
from swarmd.model.states import Role
from swarmd.security import ca, roots, tokens
from swarmd.security.identity import Credentials, IdentityStore
from swarmd.security.issuing import Signer
from tests.unit.test_control_bed import Bed, eventually, settle

DAYS = 86400.0


class Rig(Bed):
    """The certificate of node ``n``, and whoever may be asked for a new one."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.signer = Signer(*ca.new_root(self.clock.now()))
        self.root = self.signer.root
        self.disk = IdentityStore(directory / "identity")
        self.asked: list[str] = []
        self.problem: SwarmError | None = None
        self.authority: Authority | None = None
        ways = Ways(
            leader=lambda: cast("Any", None),
            cluster_ports=lambda: ["10.0.0.1:2377"],
            authority=lambda: self.authority,
        )
        self.own = OwnCertificate(self.credentials(), self.disk, self.clock, ways)
        monkeypatch.setattr(module, "renew", self._by("leader"))
        monkeypatch.setattr(module, "renew_expired", self._by("join lane"))

    def credentials(self, key: bytes = b"") -> Credentials:
        own = key or ca.new_key()
        identity = ca.Identity("n", Role.MANAGER, "c1")
        certificate = self.signer.sign(ca.new_request(own), identity, now=self.clock.now(), life=90 * DAYS)
        return Credentials(key=own, certificate=certificate, root=self.root)

    def _by(self, way: str) -> Callable[..., Any]:
        async def renew(current: Credentials, _: object) -> Credentials:
            self.asked.append(way)
            if self.problem is not None:
                raise self.problem
            return self.credentials()

        return renew

    async def manage(self) -> None:
        await self.put(
            Cluster(id="c1", root_ca=self.signer.root, ca_key=self.signer.key),
            Node(id="n", number=1, spec=NodeSpec(role=Role.MANAGER), role=Role.MANAGER),
        )
        self.authority = Authority(self.store, self.clock, self.new_id)

    async def keep(self, seconds: float) -> int:
        """Look after it for some seconds of the clock; how often it was renewed."""
        followed: list[int] = []
        task = asyncio.ensure_future(self.own.keep(lambda: followed.append(1), asyncio.Lock()))
        await settle()
        self.clock.advance(seconds)
        await settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return len(followed)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


async def test_a_good_certificate_is_renewed_by_the_leader_in_the_second_half_of_its_life(rig: Rig) -> None:
    rig.clock.advance(44 * DAYS)
    assert (await rig.keep(CHECK), rig.asked) == (0, [])
    rig.clock.advance(29 * DAYS)
    assert (await rig.keep(CHECK), rig.asked) == (1, ["leader"])
    assert not rig.own.replaced_expired


async def test_an_expired_one_is_renewed_at_once_and_only_by_the_join_lane(rig: Rig) -> None:
    rig.clock.advance(100 * DAYS)
    assert (await rig.keep(RETRY), rig.asked) == (1, ["join lane"])
    saved = rig.disk.load()
    assert saved is not None
    assert ca.validity(saved.certificate)[1] > rig.clock.now()
    assert rig.own.replaced_expired, "channels that show the old one are of no use"


async def test_a_manager_renews_its_expired_certificate_itself(rig: Rig) -> None:
    await rig.manage()
    begin = ca.validity(rig.own.credentials.certificate)[0]
    rig.clock.advance(100 * DAYS)
    assert (await rig.keep(RETRY), rig.asked) == (1, [])
    renewed = ca.validity(rig.own.credentials.certificate)
    assert renewed[0] == begin, "a clock that ran ahead may be set right again"
    assert renewed[1] > rig.clock.now()


async def test_a_manager_whose_store_lags_behind_asks_another_one(rig: Rig) -> None:
    await rig.manage()
    cluster = rig.store.cluster()
    assert cluster is not None
    lagging, key = ca.new_root(rig.clock.now())
    await rig.put(Cluster(id="c1", version=cluster.version, root_ca=lagging, ca_key=key))
    rig.clock.advance(100 * DAYS)
    assert (await rig.keep(RETRY), rig.asked) == (1, ["join lane"])


async def test_what_could_not_be_renewed_is_said_and_tried_again(rig: Rig) -> None:
    rig.problem = Unavailable("no manager answers")
    rig.clock.advance(100 * DAYS)
    assert await rig.keep(RETRY) == 0
    (told,) = rig.own.problems()
    assert "expired on 2027-04-15" in told
    assert "no manager answers" in told
    rig.problem = None
    assert await rig.keep(RETRY) == 1
    assert rig.own.problems() == []


# -- another root --------------------------------------------------------------------------------


def other_signer(rig: Rig) -> Signer:
    new, key = ca.new_root(rig.clock.now())
    cross = roots.cross_sign(new, by_pem=rig.signer.root, by_key_pem=rig.signer.key, now=rig.clock.now())
    return Signer(new, key, cross)


async def test_a_second_root_is_trusted_and_kept_on_disk_with_the_same_certificate(rig: Rig) -> None:
    before, second = rig.own.credentials, other_signer(rig)
    assert rig.own.trust(rig.root + second.root)
    assert not rig.own.trust(rig.root + second.root), "it is old news"
    assert not rig.own.trust(b""), "a manager of an older version says nothing"
    saved = rig.disk.load()
    assert saved is not None
    assert (saved.certificate, saved.root) == (before.certificate, rig.root + second.root)
    assert rig.own.report().trusts == (tokens.ca_digest(rig.root), tokens.ca_digest(second.root))


async def test_a_bundle_that_would_shut_this_node_out_is_not_taken(rig: Rig) -> None:
    assert not rig.own.trust(other_signer(rig).root)
    assert not rig.own.trust(b"nonsense")
    assert rig.own.credentials.root == rig.root


async def test_a_wanted_issuer_is_asked_for_at_once_until_it_is_there(rig: Rig) -> None:
    old, rig.signer = rig.signer, other_signer(rig)
    rig.own.trust(old.root + rig.signer.root)
    followed: list[int] = []
    task = asyncio.ensure_future(rig.own.keep(lambda: followed.append(1), asyncio.Lock()))
    await settle()
    rig.problem = Unavailable("busy")
    rig.own.want(roots.key_id(rig.signer.root))
    await eventually(lambda: rig.asked == ["leader"])
    rig.problem = None
    await settle()
    rig.clock.advance(RETRY)
    await eventually(lambda: followed == [1])
    assert rig.own.report().issuer == roots.key_id(rig.signer.root)
    rig.own.want(roots.key_id(rig.signer.root))
    await settle()
    assert rig.asked == ["leader", "leader"], "it has it"
    task.cancel()


async def test_no_step_back_to_the_older_of_two_roots(rig: Rig) -> None:
    """A leader that was cut off may not know yet that the new root signs."""
    old, new = rig.signer, other_signer(rig)
    rig.own.trust(old.root + new.root)
    rig.signer = new
    await rig.own.renew()
    rig.signer = old
    with pytest.raises(Denied, match="older root"):
        await rig.own.renew()


async def test_roots_told_while_a_renewal_is_under_way_are_not_forgotten(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = other_signer(rig)

    async def renew(current: Credentials, _: object) -> Credentials:
        rig.own.trust(rig.root + second.root)
        return rig.credentials()

    monkeypatch.setattr(module, "renew", renew)
    await rig.own.renew()
    assert rig.own.credentials.root == rig.root + second.root


def test_a_root_that_ends_soon_is_said_in_time(rig: Rig) -> None:
    end = ca.validity(rig.root)[1]
    own = rig.own.credentials
    assert certificate_problems(own, rig.clock.now(), rig.clock.now() + 1, "") == []
    life = Signer(rig.signer.root, rig.signer.key).sign(
        ca.new_request(own.key), own.identity, now=end - 9 * DAYS, life=90 * DAYS
    )
    late = Credentials(key=own.key, certificate=life, root=own.root)
    (told,) = certificate_problems(late, end - 8 * DAYS, end, "")
    assert "root certificate expires on" in told
    assert "swarm ca --rotate" in told
