"""A node judges images by itself: before it fetches them, by all their names, also without a manager."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.image.core.catalog import ImageInfo
from swarmd.image.trust.core import simple_signing
from swarmd.image.trust.core.artifact import Signature
from swarmd.image.trust.core.policy import Evidence, Policy
from swarmd.model.errors import NotFound, Refused, Unavailable
from swarmd.model.image_ref import ImageRef
from swarmd.model.registry import TrustKey, TrustRule
from swarmd.node.admission import Admission, Admitted
from swarmd.security import signing
from tests.unit.test_control_bed import ManualClock

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
KEY = signing.generate("ecdsa")
PAYLOAD = simple_signing.write_payload("docker.io/library/app", DIGEST)
SIGNED = Evidence((Signature(PAYLOAD, signing.sign(KEY, PAYLOAD)),))
POLICY = Policy(
    (TrustRule(id="docker.io/library/app", keys=("k",)), TrustRule(id="docker.io/bad/*", action="reject")),
    (TrustKey(id="k", pem=signing.public_pem(KEY)),),
)


class Node:
    """Images by name or id; ``evidence``: what the leader answers, None: it cannot be asked."""

    def __init__(self, path: Path) -> None:
        self.images: dict[str, ImageInfo] = {}
        self.evidence: Evidence | None = Evidence()
        self.log: list[str] = []
        self.path = path / "trust.json"
        self.admission = Admission(self.path, self, self.ask, ManualClock())
        self.fetcher = Admitted(self, self.admission)

    def holds(self, digest: str, *refs: str) -> None:
        info = ImageInfo(digest=digest, id=f"id of {digest}", refs=refs, created=0.0, size=0)
        self.images |= dict.fromkeys((*refs, "4f2a", digest), info)

    def resolve(self, ref_or_id: str) -> ImageInfo:
        try:
            return self.images[ref_or_id]
        except KeyError:
            raise NotFound(f"No such image: {ref_or_id}") from None

    async def ensure(self, ref: str, *, progress: object = None) -> None:
        self.log.append(f"fetched {ref}")

    async def ask(self, ref: ImageRef) -> Evidence:
        self.log.append("asked")
        if self.evidence is None:
            raise Unavailable("no manager can be reached at the moment")
        return self.evidence


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.admission.follow(POLICY)
    return node


async def test_without_rules_nobody_is_asked(tmp_path: Path) -> None:
    node = Node(tmp_path)
    await node.fetcher.ensure("whatever")
    assert node.log == ["fetched whatever"]


async def test_a_refused_image_is_not_even_fetched(node: Node) -> None:
    with pytest.raises(Refused, match="must be signed by k"):
        await node.fetcher.ensure(f"app:1@{DIGEST}")
    assert node.log == ["asked"]
    node.evidence = SIGNED
    await node.fetcher.ensure(f"app:1@{DIGEST}")
    assert node.log[-1] == f"fetched app:1@{DIGEST}"


async def test_a_signature_of_another_digest_is_found_out_here(node: Node) -> None:
    node.evidence = SIGNED
    with pytest.raises(Refused, match="is for another image"):
        await node.fetcher.ensure(f"app:1@{OTHER}")


async def test_a_name_is_judged_by_what_it_is_here(node: Node) -> None:
    node.evidence = SIGNED
    node.holds(DIGEST, "app:latest")
    await node.fetcher.ensure("app:latest")
    node.holds(OTHER, "app:latest")
    with pytest.raises(Refused):
        await node.fetcher.ensure("app:latest")


async def test_without_a_manager_what_needs_evidence_waits_and_the_rest_does_not(node: Node) -> None:
    node.evidence = None
    with pytest.raises(
        Unavailable, match=r"waits until image app:1@sha256:a+ can be checked, which needs a manager"
    ):
        await node.admission.check(f"app:1@{DIGEST}")
    with pytest.raises(Refused):
        await node.admission.check(f"bad/app@{DIGEST}")
    node.holds(DIGEST, "good/app:1")
    await node.admission.check(f"good/app@{DIGEST}")


async def test_an_image_by_its_id_has_all_of_its_names(node: Node) -> None:
    node.holds(DIGEST, "good/app:1", "bad/app:1")
    await node.admission.check("good/app:1")
    for by in ("4f2a", DIGEST):
        with pytest.raises(Refused, match="bad/app:1"):
            await node.admission.check(by, DIGEST)
    node.holds(DIGEST)
    await node.admission.check("4f2a")
    node.admission.follow(Policy((TrustRule(id="*", action="reject"),)))
    with pytest.raises(Refused):
        await node.admission.check("4f2a")


async def test_a_container_made_under_a_name_that_moved_is_judged_by_its_own_image(node: Node) -> None:
    node.holds(OTHER, "good/app:1")
    node.holds(DIGEST, "bad/app:1")
    with pytest.raises(Refused, match="bad/app:1"):
        await node.admission.check("good/app:1", DIGEST)


async def test_rules_outlive_the_daemon(node: Node) -> None:
    later = Admission(node.path, node, node.ask, ManualClock())
    with pytest.raises(Refused):
        await later.check(f"bad/app@{DIGEST}")


@pytest.mark.parametrize("policy", [POLICY, Policy()])
async def test_where_the_rules_are_damaged_nothing_begins_until_they_are_told_again(
    node: Node, policy: Policy
) -> None:
    node.path.write_text("{")
    later = Admission(node.path, node, node.ask, ManualClock())
    with pytest.raises(Unavailable, match=r"trust\.json is damaged"):
        await later.check(f"good/app@{DIGEST}")
    later.follow(policy)
    await later.check(f"good/app@{DIGEST}")
    await Admission(node.path, node, node.ask, ManualClock()).check(f"good/app@{DIGEST}")


# -- a digest behind any name --------------------------------------------------------------------


async def test_a_digest_is_what_it_is_called_here_whatever_name_is_written_before_it(node: Node) -> None:
    node.holds(DIGEST, "bad/app:1")
    with pytest.raises(
        Refused, match="good/app is not known to hold this digest, which is here as bad/app: no image of that"
    ):
        await node.fetcher.ensure(f"good/app@{DIGEST}")
    assert "fetched" not in "".join(node.log)
    node.holds(DIGEST, "bad/app:1", "good/app:2")
    await node.fetcher.ensure(f"good/app@{DIGEST}")
    assert node.log[-1] == f"fetched good/app@{DIGEST}"


async def test_an_image_of_another_node_has_the_names_that_a_manager_knows(node: Node) -> None:
    node.evidence = Evidence(names=("docker.io/bad/app",))
    with pytest.raises(Refused, match="which is here as bad/app"):
        await node.admission.check(f"good/app:1@{DIGEST}")
    node.evidence = Evidence(names=("docker.io/bad/app", "docker.io/good/app"))
    await node.admission.check(f"good/app:1@{DIGEST}")
    node.evidence = Evidence(names=("docker.io/other/app",))
    await node.admission.check(f"good/app:1@{DIGEST}")


async def test_an_image_without_a_name_gets_none_from_who_asks_for_it(node: Node) -> None:
    node.admission.follow(
        Policy((TrustRule(id="*", action="reject"), TrustRule(id="docker.io/good/*", action="accept")))
    )
    node.evidence = Evidence(names=("",))
    with pytest.raises(Refused, match="which is here without a name: no image of that name may run"):
        await node.admission.check(f"good/app@{DIGEST}")
    node.evidence = Evidence()
    await node.admission.check(f"good/app@{DIGEST}")  # nobody has it: it can only come from good/app itself


async def test_a_signature_says_by_itself_whose_digest_it_is(node: Node) -> None:
    node.evidence = Evidence(SIGNED.signatures, names=("docker.io/bad/app",))
    await node.admission.check(f"app@{DIGEST}")


async def test_whose_a_digest_is_waits_for_a_manager(node: Node) -> None:
    node.evidence = None
    node.holds(DIGEST, "elsewhere/app:1")
    with pytest.raises(Unavailable, match="which needs a manager"):
        await node.admission.check(f"good/app@{DIGEST}")
