"""Keys, rules and signatures of a swarm, and what services may be made of."""

from __future__ import annotations

import base64
import json

import pytest

from swarmd.control.trust import Trusts
from swarmd.image.core.manifest import MANIFEST, sha256
from swarmd.image.trust import fetching
from swarmd.image.trust.core import artifact, simple_signing
from swarmd.image.trust.core.artifact import Signature
from swarmd.model.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from swarmd.model.image_ref import ImageRef, parse
from swarmd.model.objects import Service
from swarmd.model.registry import ImageScan, RegistryManifest, RegistryTag, TrustRule
from swarmd.model.replace import replace
from swarmd.model.spec import ContainerSpec
from swarmd.security import signing
from tests.unit.test_control_bed import Bed, a_spec

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
PROD, CI = signing.generate("ecdsa"), signing.generate("ed25519")


def signed(key: signing.PrivateKey, name: str = "docker.io/library/app", digest: str = DIGEST) -> Signature:
    payload = simple_signing.write_payload(name, digest)
    return Signature(payload, signing.sign(key, payload))


@pytest.fixture
async def bed() -> Bed:
    """Keys prod and ci are known; app has a digest, and must be signed by prod."""
    bed = Bed()
    bed.images = {"app:latest": DIGEST, "other:latest": OTHER, "app:2": OTHER}
    await bed.trust.add_key("prod", signing.public_pem(PROD))
    await bed.trust.add_key("ci", signing.public_pem(CI))
    await bed.trust.set_rule(TrustRule(id="app", keys=("prod",)))
    return bed


async def create(bed: Bed, image: str, *, resolve: bool = True) -> Service:
    spec = a_spec("web")
    template = replace(spec.template, container=ContainerSpec(image=image))
    service, _ = await bed.services.create(replace(spec, template=template), resolve_image=resolve)
    return service


# -- services ------------------------------------------------------------------------------------


async def test_an_unsigned_image_makes_no_service_and_the_refusal_says_what_is_missing(bed: Bed) -> None:
    with pytest.raises(
        Refused, match=r'app:latest@sha256:a+ is refused by the trust rule "docker.io/library/app"'
    ):
        await create(bed, "app")
    assert list(bed.store.all(Service)) == []
    await bed.trust.attach("app", signed(CI))
    with pytest.raises(Refused, match="it must be signed by prod, and has no signature that counts"):
        await create(bed, "app")


async def test_a_signed_image_is_pinned_to_the_digest_that_was_checked(bed: Bed) -> None:
    await bed.trust.attach("app", signed(PROD))
    service = await create(bed, "app")
    assert service.spec.template.container.image == f"app:latest@{DIGEST}"
    bed.images["app:latest"] = OTHER
    assert bed.service("web").spec.template.container.image == f"app:latest@{DIGEST}", "its tag moved"


async def test_a_name_without_a_digest_cannot_be_checked(bed: Bed) -> None:
    with pytest.raises(Refused, match="only a digest can be checked"):
        await create(bed, "app", resolve=False)
    with pytest.raises(Refused, match="only a digest can be checked"):
        await create(bed, "app:unknown")


async def test_updates_and_rollbacks_are_asked_as_well(bed: Bed) -> None:
    await bed.trust.attach("app", signed(PROD))
    await create(bed, "app")
    template = bed.service("web").spec.template
    with pytest.raises(Refused, match="trust rule"):
        await bed.change("web", template=replace(template, container=ContainerSpec(image="app:2")))
    await bed.change("web", template=replace(template, container=ContainerSpec(image="other")))
    await bed.trust.set_rule(TrustRule(id="app", action="reject"))
    with pytest.raises(Refused, match="no image of that name may run"):
        await bed.services.rollback("web")
    await bed.change("web", replicas=5)
    assert bed.service("web").spec.replicas == 5, "the number of what is there is no question of trust"


async def test_what_no_rule_is_for_is_nobodys_business(bed: Bed) -> None:
    await create(bed, "other", resolve=False)


# -- keys and rules ------------------------------------------------------------------------------


async def test_a_key_that_a_rule_names_stays(bed: Bed) -> None:
    with pytest.raises(Conflict):
        await bed.trust.add_key("prod", signing.public_pem(CI))
    with pytest.raises(Refused, match=r"docker\.io/library/app"):
        await bed.trust.remove_key("prod")
    await bed.trust.remove_key("ci")
    await bed.trust.remove_rule("app")
    await bed.trust.remove_key("prod")
    assert bed.trust.policy().keys == ()
    with pytest.raises(NotFound):
        await bed.trust.remove_key("prod")
    with pytest.raises(NotFound):
        await bed.trust.remove_rule("app")


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 101, "a/b"])
async def test_a_keys_name_is_one_word(bed: Bed, name: str) -> None:
    with pytest.raises(Invalid):
        await bed.trust.add_key(name, signing.public_pem(CI))


@pytest.mark.parametrize(
    "rule",
    [
        TrustRule(id="x"),
        TrustRule(id="x", action="maybe"),
        TrustRule(id="x", keys=("prod",), threshold=2),
        TrustRule(id="x", keys=("prod", "prod"), threshold=2),
        TrustRule(id="x", keys=("prod",), threshold=0),
        TrustRule(id="x", max_severity="awful"),
        TrustRule(id="x", max_scan_age=-1.0),
        TrustRule(id="x:1", action="reject"),
    ],
)
async def test_a_rule_that_makes_no_sense_is_refused(bed: Bed, rule: TrustRule) -> None:
    with pytest.raises(Invalid):
        await bed.trust.set_rule(rule)


async def test_a_rule_names_known_keys_and_replaces_the_one_before(bed: Bed) -> None:
    with pytest.raises(NotFound, match="nobody"):
        await bed.trust.set_rule(TrustRule(id="app", keys=("nobody",)))
    assert (
        await bed.trust.set_rule(TrustRule(id="app", action="accept", keys=("prod",)))
        == "docker.io/library/app"
    )
    [rule] = bed.trust.policy().rules
    assert (rule.action, rule.keys) == ("accept", ())


# -- signatures ----------------------------------------------------------------------------------


async def test_signatures_are_where_cosign_looks_and_the_list_grows(bed: Bed) -> None:
    await bed.put(
        RegistryManifest(id=f"app@{DIGEST}", repository="app", digest=DIGEST, media_type=MANIFEST, data=b"{}")
    )
    name = "localhost:5000/app"
    first = await bed.trust.attach(name, signed(PROD, name))
    again = await bed.trust.attach(name, signed(CI, name))
    assert first[:2] == again[:2] == ("app", artifact.tag_of(DIGEST))
    tag = bed.store.get(RegistryTag, f"app:{artifact.tag_of(DIGEST)}")
    assert tag is not None
    assert tag.digest == again[2] != first[2]
    [row] = bed.store.referrers("app", DIGEST)
    assert row.digest == sha256(row.data) == tag.digest, "the shorter list is gone"
    assert json.loads(row.data)["subject"] == {"mediaType": MANIFEST, "size": 2, "digest": DIGEST}
    known = await bed.trust.inspect(f"{name}@{DIGEST}")
    assert [signers.by for _, signers in known.signatures] == [("prod",), ("ci",)]
    await bed.trust.attach(name, known.signatures[0][0])
    assert len((await bed.trust.inspect(f"{name}@{DIGEST}")).signatures) == 2, "the same one again"


async def test_two_who_sign_at_once_both_count(bed: Bed) -> None:
    await bed.trust.attach("app", signed(PROD))
    tag = f"docker.io/library/app:{artifact.tag_of(DIGEST)}"
    row = bed.store.get(RegistryTag, tag)
    assert row is not None
    bed.quicker(lambda: replace(row, digest=row.digest))
    await bed.trust.attach("app", signed(CI))
    assert len((await bed.trust.inspect("app")).signatures) == 2


async def test_a_signature_for_another_name_is_not_taken(bed: Bed) -> None:
    with pytest.raises(Invalid, match=r"is for the name docker\.io/library/other"):
        await bed.trust.attach("app", signed(PROD, "docker.io/library/other"))


async def test_what_cosign_pushed_into_the_registry_counts() -> None:
    payload = simple_signing.write_payload("localhost:5000/app", DIGEST)
    blobs = {sha256(payload): payload}
    bed = Bed()

    async def blob(digest: str) -> bytes | None:
        return blobs.get(digest)

    trust = Trusts(bed.store, bed.clock, lambda: lambda ref: "", blob=blob)
    await trust.add_key("prod", signing.public_pem(PROD))
    await trust.set_rule(TrustRule(id="localhost:5000/*", keys=("prod",)))
    note = {artifact.SIGNATURE: base64.b64encode(signing.sign(PROD, payload)).decode()}
    layer = {
        "mediaType": artifact.LAYER,
        "size": len(payload),
        "digest": sha256(payload),
        "annotations": note,
    }
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": OTHER}
    data = json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode()
    manifest = RegistryManifest(
        id=f"app@{sha256(data)}", repository="app", digest=sha256(data), media_type=MANIFEST, data=data
    )
    tag = artifact.tag_of(DIGEST)
    await bed.put(manifest, RegistryTag(id=f"app:{tag}", repository="app", tag=tag, digest=sha256(data)))
    ref = parse(f"localhost:5000/app@{DIGEST}")
    await trust.admit(ref)
    blobs.clear()
    with pytest.raises(Refused):
        await trust.admit(ref)


async def test_a_pushed_tag_says_which_digest_is_meant(bed: Bed) -> None:
    await bed.put(RegistryTag(id="team/app:1", repository="team/app", tag="1", digest=OTHER))
    assert bed.trust.subject("localhost:5000/team/app:1").digest == OTHER
    assert bed.trust.subject(f"nobody/has@{DIGEST}").digest == DIGEST
    with pytest.raises(NotFound, match="No such image: nobody/has:latest"):
        bed.trust.subject("nobody/has")


# -- registries outside --------------------------------------------------------------------------

OUTSIDE = "reg.example.com/team/app"


class Registry:
    """An outside registry: manifests by tag or digest, blobs, and what is about an image."""

    def __init__(self, *signatures: Signature, carried: bool = False) -> None:
        written = artifact.write(DIGEST, 0, "", signatures)
        document = json.loads(written.data)
        if not carried:
            for layer in document["layers"]:
                del layer["data"]  # as cosign leaves it
        self.manifests = {artifact.tag_of(DIGEST): json.dumps(document).encode()}
        self.blobs = {sha256(blob): blob for blob in written.blobs}
        self.asked: list[str] = []

    async def get_manifest(self, ref: ImageRef, reference: str) -> tuple[str, bytes]:
        self.asked.append(ref.name)
        if reference not in self.manifests:
            raise NotFound(f"manifest {reference} not found")
        return MANIFEST, self.manifests[reference]

    async def get_blob(self, ref: ImageRef, digest: str, *, limit: int) -> bytes:
        return self.blobs[digest][:limit]

    async def referrers(self, ref: ImageRef, digest: str, artifact_type: str) -> list[RegistryManifest]:
        return [RegistryManifest(id="x", repository="x", digest=one) for one in self.manifests if ":" in one]


def asking(bed: Bed, registry: Registry) -> Trusts:
    return Trusts(
        bed.store, bed.clock, lambda: lambda ref: "", outside=lambda ref: fetching.signatures(registry, ref)
    )


async def test_an_images_own_registry_is_asked_for_signatures_which_are_kept_for_the_nodes(
    bed: Bed,
) -> None:
    await bed.trust.set_rule(TrustRule(id="reg.example.com/*", keys=("prod",)))
    registry = Registry(signed(PROD, OUTSIDE), signed(signing.generate("ecdsa"), OUTSIDE))
    trust = asking(bed, registry)
    ref = parse(f"{OUTSIDE}@{DIGEST}")
    await trust.admit(ref)
    assert len((await bed.trust.evidence(ref)).signatures) == 1, "those that count are kept, others are not"
    registry.manifests.clear()
    await trust.admit(ref)


async def test_what_another_registry_has_is_checked_like_everything_else(bed: Bed) -> None:
    await bed.trust.set_rule(TrustRule(id="reg.example.com/*", keys=("prod",)))
    ref = parse(f"{OUTSIDE}@{DIGEST}")
    stranger = signing.generate("ecdsa")
    for signature in (signed(stranger, OUTSIDE), signed(PROD), signed(PROD, OUTSIDE, OTHER)):
        with pytest.raises(Refused):
            await asking(bed, Registry(signature)).admit(ref)
    assert (await bed.trust.evidence(ref)).signatures == ()


async def test_referrers_are_looked_at_too_and_what_cannot_be_read_is_passed_over(bed: Bed) -> None:
    registry = Registry(signed(PROD, OUTSIDE))
    data = registry.manifests.pop(artifact.tag_of(DIGEST))
    registry.manifests |= {sha256(data): data, OTHER: b"{"}
    ref = parse(f"{OUTSIDE}@{DIGEST}")
    [one] = await fetching.signatures(registry, ref)
    assert one.payload == signed(PROD, OUTSIDE).payload


async def test_the_swarms_own_registry_is_not_asked_over_the_network(bed: Bed) -> None:
    await bed.trust.set_rule(TrustRule(id="localhost:5000/*", keys=("prod",)))
    registry = Registry(signed(PROD, "localhost:5000/app"))
    with pytest.raises(Refused):
        await asking(bed, registry).admit(parse(f"localhost:5000/app@{DIGEST}"))
    assert registry.asked == []


async def test_a_registry_that_does_not_answer_refuses_the_image(bed: Bed) -> None:
    async def outside(ref: ImageRef) -> tuple[Signature, ...]:
        raise Unavailable("connection refused")

    await bed.trust.set_rule(TrustRule(id="reg.example.com/*", keys=("prod",)))
    trust = Trusts(bed.store, bed.clock, lambda: lambda ref: "", outside=outside)
    with pytest.raises(Refused, match="no signature that counts"):
        await trust.admit(parse(f"{OUTSIDE}@{DIGEST}"))


async def test_a_domain_with_a_port_makes_a_repository_that_can_be_read(bed: Bed) -> None:
    name = "reg.example.com:8443/app"
    repository, _, _ = await bed.trust.attach(name, signed(PROD, name))
    assert repository == "reg.example.com_8443/app"
    assert len((await bed.trust.inspect(f"{name}@{DIGEST}")).signatures) == 1


async def test_the_loopback_address_is_no_way_round_a_rule(bed: Bed) -> None:
    await bed.trust.set_rule(TrustRule(id="localhost:5000/*", keys=("prod",)))
    ref = parse(f"127.0.0.1:5000/app@{DIGEST}")
    with pytest.raises(Refused):
        await bed.trust.admit(ref)
    await bed.trust.attach("localhost:5000/app", signed(PROD, "localhost:5000/app"))
    await bed.trust.admit(ref)


# -- scans ---------------------------------------------------------------------------------------


async def test_a_scan_is_kept_with_the_leaders_time(bed: Bed) -> None:
    await bed.trust.set_rule(TrustRule(id="app", max_severity="low", max_scan_age=60.0))
    await bed.trust.record_scan(ImageScan(id=DIGEST, image="app", counts={"low": 3}))
    await create(bed, "app")
    bed.clock.advance(61)
    with pytest.raises(Refused, match="its last scan was 1 min ago"):
        await bed.trust.admit(bed.trust.subject("app"))
    await bed.trust.record_scan(ImageScan(id=DIGEST, image="app", counts={"high": 1}, scanned_at=9e9))
    with pytest.raises(Refused, match="found 1 high"):
        await bed.trust.admit(bed.trust.subject("app"))
    for bad in (ImageScan(id="app"), ImageScan(id=DIGEST, counts={"terrible": 1})):
        with pytest.raises(Invalid):
            await bed.trust.record_scan(bad)
