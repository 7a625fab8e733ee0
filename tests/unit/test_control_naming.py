"""A digest counts under the name that is written before it only where that name is known to hold it."""

from __future__ import annotations

import pytest

from swarmd.control.naming import Names
from swarmd.control.services import Services
from swarmd.control.trust import Trusts
from swarmd.manager.dispatcher.images import ImageIndex
from swarmd.model.errors import NotFound, Refused
from swarmd.model.image_ref import ImageRef
from swarmd.model.registry import RegistryCredential, RegistryManifest, TrustRule
from swarmd.model.replace import replace
from swarmd.model.spec import ContainerSpec
from tests.unit.test_control_bed import Bed, a_spec

EVIL, OTHER = "sha256:" + "e" * 64, "sha256:" + "b" * 64
DOMAINS = ("localhost:5000", "127.0.0.1:5000")


class Rig:
    """Only reg.example.com/* may run.

    ``held``: names on nodes by digest; ``outside``: what registries have.
    """

    def __init__(self) -> None:
        self.bed = Bed()
        self.held: dict[str, set[str]] = {EVIL: {"docker.io/evil/app"}}
        self.outside: set[tuple[str, str]] = set()
        self.asked: list[str] = []
        self.trust = Trusts(
            self.bed.store,
            self.bed.clock,
            lambda: lambda ref: "",
            domains=DOMAINS,
            held=lambda digest: self.held.get(digest, ()),
            ask=self._ask,
        )
        self.services = Services(
            self.bed.store, self.bed.clock, self.bed.new_id, self._ask, admit=self.trust.admit
        )

    async def _ask(self, ref: ImageRef) -> str:
        self.asked.append(ref.familiar())
        if (ref.name, ref.digest) not in self.outside:
            raise NotFound("manifest unknown")
        return ref.digest

    async def create(self, image: str, name: str = "web") -> None:
        spec = a_spec(name)
        template = replace(spec.template, container=ContainerSpec(image=image))
        await self.services.create(replace(spec, template=template), resolve_image=True)


@pytest.fixture
async def rig() -> Rig:
    rig = Rig()
    await rig.trust.set_rule(TrustRule(id="*", action="reject"))
    await rig.trust.set_rule(TrustRule(id="reg.example.com/*", action="accept"))
    return rig


async def test_an_accepted_name_before_the_digest_of_another_image_makes_no_service(rig: Rig) -> None:
    with pytest.raises(Refused, match="no image of that name may run"):
        await rig.create(f"evil/app@{EVIL}")
    with pytest.raises(
        Refused,
        match=r'reg.example.com/app@sha256:e+ is refused by the trust rule "\*": reg.example.com/app is not '
        r"known to hold this digest, which is here as evil/app: no image of that name may run",
    ):
        await rig.create(f"reg.example.com/app@{EVIL}")
    assert not (await rig.trust.inspect(f"reg.example.com/app@{EVIL}")).verdict.is_good


async def test_a_copy_of_the_image_counts_once_its_registry_says_that_it_is_there(rig: Rig) -> None:
    rig.outside.add(("reg.example.com/app", EVIL))
    await rig.create(f"reg.example.com/app@{EVIL}")
    await rig.create(f"reg.example.com/app@{EVIL}", "again")
    assert rig.asked == [f"reg.example.com/app@{EVIL}"], "and is asked once"


async def test_a_registry_that_does_not_know_it_is_not_asked_for_each_attempt(rig: Rig) -> None:
    for _ in range(3):
        with pytest.raises(Refused):
            await rig.create(f"reg.example.com/app@{EVIL}")
    assert len(rig.asked) == 1
    rig.outside.add(("reg.example.com/app", EVIL))
    rig.bed.clock.advance(31)
    await rig.create(f"reg.example.com/app@{EVIL}")


async def test_what_a_node_has_under_that_name_counts(rig: Rig) -> None:
    rig.held[EVIL].add("reg.example.com/app")
    await rig.create(f"reg.example.com/app@{EVIL}")
    assert rig.asked == []


async def test_what_nobody_has_comes_from_where_its_name_says(rig: Rig) -> None:
    await rig.create(f"reg.example.com/app@{OTHER}")
    assert rig.asked == []


async def test_contents_without_a_name_are_nobodys(rig: Rig) -> None:
    rig.held[OTHER] = {""}
    with pytest.raises(Refused, match="which is here without a name"):
        await rig.create(f"reg.example.com/app@{OTHER}")


async def test_the_swarms_own_registry_knows_what_it_has(rig: Rig) -> None:
    await rig.trust.set_rule(TrustRule(id="localhost:5000/good/*", action="accept"))
    row = RegistryManifest(id=f"bad/app@{OTHER}", repository="bad/app", digest=OTHER, data=b"{}")
    await rig.bed.put(row)
    for host in DOMAINS:
        with pytest.raises(Refused, match="which is here as localhost:5000/bad/app"):
            await rig.create(f"{host}/good/app@{OTHER}")
    await rig.bed.put(replace(row, id=f"good/app@{OTHER}", repository="good/app"))
    for number, host in enumerate(DOMAINS):
        await rig.create(f"{host}/good/app@{OTHER}", f"web{number}")
    assert rig.asked == []


async def test_nodes_hear_the_names_and_a_service_is_one(rig: Rig) -> None:
    ref = ImageRef("reg.example.com/app", "", EVIL)
    assert (await rig.trust.evidence(ref)).names == ("docker.io/evil/app",)
    rig.held[EVIL].add("reg.example.com/app")
    await rig.create(f"reg.example.com/app:1@{EVIL}")
    rig.held.clear()
    assert (await rig.trust.evidence(ref)).names == ("reg.example.com/app",)


async def test_a_registry_that_answers_something_else_confirms_nothing(rig: Rig) -> None:
    asked: list[ImageRef] = []

    async def ask(ref: ImageRef) -> str:
        asked.append(ref)
        return OTHER

    names = Names(rig.bed.store, rig.bed.clock, lambda digest: {"docker.io/evil/app"}, ask, DOMAINS)
    ref = ImageRef("reg.example.com/app", "", EVIL)
    assert (await names.of(ref), asked) == (("docker.io/evil/app",), [ref])


async def test_without_rules_no_registry_is_asked_whatever_name_a_node_asks_about(rig: Rig) -> None:
    elsewhere = ImageRef("reg.example.com/app", "", EVIL)
    rig.outside.add((elsewhere.name, EVIL))
    assert set((await rig.trust.evidence(elsewhere)).names) == {"docker.io/evil/app", elsewhere.name}
    assert len(rig.asked) == 1
    for rule in rig.trust.policy().rules:
        await rig.trust.remove_rule(rule.id)
    other = ImageRef("127.0.0.1:9323/app", "", EVIL)
    assert (await rig.trust.evidence(other)).names == ("docker.io/evil/app",)
    assert len(rig.asked) == 1


@pytest.mark.parametrize("named_by", ["nobody", "a service", "a rule", "a rule for its domain", "a log-in"])
async def test_for_a_node_only_a_registry_that_users_have_named_is_asked(rig: Rig, named_by: str) -> None:
    elsewhere = ImageRef("quay.example.org:8443/app", "", EVIL)
    rig.outside.add((elsewhere.name, EVIL))
    if named_by == "a service":
        await rig.trust.remove_rule("*")
        await rig.create(f"quay.example.org:8443/other@{OTHER}")
    elif named_by == "a rule":
        await rig.trust.set_rule(TrustRule(id="quay.example.org:8443/other/*", action="reject"))
    elif named_by == "a rule for its domain":
        await rig.trust.set_rule(TrustRule(id="*.example.org:8443/other", action="reject"))
    elif named_by == "a log-in":
        await rig.bed.put(RegistryCredential(id="quay.example.org:8443", username="u", password="p"))
    rig.asked.clear()
    names = (await rig.trust.evidence(elsewhere, for_node=True)).names
    if named_by == "nobody":
        assert (names, rig.asked) == (("docker.io/evil/app",), [])
        assert elsewhere.name in (await rig.trust.evidence(elsewhere)).names, "a user may ask whom he likes"
    else:
        assert names == ("docker.io/evil/app", elsewhere.name)


def test_the_nodes_images_are_found_by_the_digest_of_an_index_as_well() -> None:
    index = ImageIndex()
    index.report("n1", {"app:1": EVIL, f"reg.example.com/app@{OTHER}": EVIL})
    index.report("n2", {"nginx:1": OTHER})
    assert index.names(EVIL) == {"docker.io/library/app", "reg.example.com/app"}
    assert index.names(OTHER) == {"docker.io/library/nginx", "reg.example.com/app"}
    assert index.names("sha256:" + "0" * 64) == set()


def test_a_node_that_calls_images_what_none_is_called_does_not_keep_others_from_being_judged() -> None:
    index = ImageIndex()
    index.report("n1", {"app:1": EVIL})
    index.report("n9", {"\x00 no name": EVIL, "": EVIL, f"A//b@{EVIL}": OTHER})
    assert index.names(EVIL) == {"docker.io/library/app"}
