"""Which manifests of the swarm's registry are deleted when nobody needs them any more."""

from __future__ import annotations

from swarmd.manager.core.untagged import plan_untagged
from swarmd.model.registry import RegistryManifest
from swarmd.store.core.transaction import Delete

DAY = 86_400.0
KEEP = 14 * DAY
NOW = 100 * DAY


def a_manifest(
    digest: str, *, blobs: tuple[str, ...] = (), subject: str = "", since: float = 0.0
) -> RegistryManifest:
    return RegistryManifest(
        id=f"app@{digest}", repository="app", digest=digest, blobs=blobs, subject=subject, tagged_at=since
    )


def deleted(*rows: RegistryManifest, tagged: tuple[str, ...] = (), named: tuple[str, ...] = ()) -> set[str]:
    plan = plan_untagged(rows, tagged, named, now=NOW, keep=KEEP)
    found = set()
    for (change,) in plan.steps:
        assert isinstance(change, Delete)
        found.add(change.id.removeprefix("app@"))
    return found


def test_what_has_had_no_tag_for_long_goes() -> None:
    assert deleted(a_manifest("a"), a_manifest("b"), tagged=("b",)) == {"a"}


def test_what_lost_its_tag_a_moment_ago_stays_and_is_looked_at_again_in_time() -> None:
    row = a_manifest("a", since=NOW - DAY)
    plan = plan_untagged([row], (), (), now=NOW, keep=KEEP)
    assert (plan.steps, plan.wake_at) == ((), NOW + 13 * DAY)


def test_what_a_service_names_stays() -> None:
    assert deleted(a_manifest("a"), a_manifest("b"), named=("a", "elsewhere")) == {"b"}


def test_the_images_of_an_index_stay_as_long_as_it_does() -> None:
    index = a_manifest("index", blobs=("one", "two", "layer"))
    children = (a_manifest("one", blobs=("layer",)), a_manifest("two"))
    assert deleted(index, *children, tagged=("index",)) == set()
    young = a_manifest("index", blobs=("one", "two"), since=NOW - DAY)
    assert deleted(young, *children) == set()
    assert deleted(index, *children) == {"index", "one", "two"}


def test_a_signature_stays_as_long_as_what_it_is_about() -> None:
    image, signature = a_manifest("image"), a_manifest("signature", subject="image")
    of_signature = a_manifest("counter", subject="signature")
    assert deleted(image, signature, of_signature, tagged=("image",)) == set()
    assert deleted(image, signature, of_signature) == {"image", "signature", "counter"}


def test_manifests_that_refer_to_each_other_are_no_reason_to_keep_either() -> None:
    assert deleted(a_manifest("a", subject="b"), a_manifest("b", subject="a")) == {"a", "b"}
