"""Names, look-ups, and what removing an image means."""

from __future__ import annotations

import pytest

from swarmd.image.core.catalog import Catalog, ImageRow, tree_names
from swarmd.image.core.manifest import sha256
from swarmd.image.core.removal import Removal, plan_prune, plan_removal
from swarmd.model.errors import Conflict, Invalid, NotFound

BASE = sha256(b"base")


def row(name: str, own: str = "") -> ImageRow:
    return ImageRow(
        digest=sha256(f"manifest {name}".encode()),
        id=sha256(f"config {name}".encode()),
        layers=(sha256(b"blob base"), sha256(f"blob {name}".encode())),
        diff_ids=(BASE, sha256((own or name).encode())),
        size=10,
        created=1.0,
    )


ONE, TWO = row("one"), row("two")
BOTH = Catalog().add(ONE, ("nginx:1.12",)).add(TWO, ("nginx:1.13", "nginx:latest"))


def nobody(digest: str) -> list[str]:
    return []


def web_uses_one(digest: str) -> list[str]:
    return ["web.1"] if digest == ONE.digest else []


def test_an_image_is_found_by_every_way_of_naming_it() -> None:
    hexadecimal = ONE.id.removeprefix("sha256:")
    for text in (
        "nginx:1.12",
        "docker.io/library/nginx:1.12",
        ONE.digest,
        ONE.id,
        hexadecimal,
        hexadecimal[:12],
        ONE.id[:19],
        f"nginx@{ONE.digest}",
        f"nginx:other@{ONE.digest}",
    ):
        assert BOTH.find(text) == ONE
    assert BOTH.find("nginx") == TWO


@pytest.mark.parametrize(
    ("text", "shown"),
    [("nosuch", "nosuch:latest"), ("nosuch:2", "nosuch:2"), ("sha256:" + "0" * 64, "sha256:" + "0" * 64)],
)
def test_an_unknown_image_is_told_as_docker_does(text: str, shown: str) -> None:
    with pytest.raises(NotFound) as told:
        BOTH.find(text)
    assert str(told.value) == f"No such image: {shown}"


def test_an_ambiguous_beginning_and_a_bad_name_are_refused() -> None:
    crowd = Catalog()
    for number in range(17):
        crowd = crowd.add(row(str(number)))
    shared = next(d for d in "0123456789abcdef" if sum(r.id[7] == d for r in crowd.images.values()) > 1)
    with pytest.raises(Invalid, match="ambiguous"):
        crowd.find(shared)
    with pytest.raises(Invalid, match="invalid reference format"):
        BOTH.find("NoSuch:Image:x")


def test_one_name_of_several_is_only_untagged() -> None:
    left, removals = plan_removal(BOTH, "nginx", force=False, in_use=nobody)
    assert removals == (Removal(untagged="nginx:latest"),)
    assert left.find("nginx:1.13") == TWO


def test_the_last_name_takes_the_image_and_the_layers_nobody_else_has() -> None:
    left, removals = plan_removal(BOTH, "nginx:1.12", force=False, in_use=nobody)
    assert removals == (
        Removal(untagged="nginx:1.12"),
        Removal(deleted=ONE.id),
        Removal(deleted=ONE.diff_ids[1]),
    )
    assert set(left.images) == {TWO.digest}
    assert left.blobs() == {TWO.digest, TWO.id, *TWO.layers}


def test_a_digest_reference_goes_with_the_last_tag_of_its_repository() -> None:
    catalog = BOTH.add(ONE, (f"nginx@{ONE.digest}",))
    left, removals = plan_removal(catalog, "nginx:1.12", force=False, in_use=nobody)
    assert [each.untagged for each in removals if each.untagged] == ["nginx:1.12", f"nginx@{ONE.digest}"]
    assert ONE.digest not in left.images


def test_a_used_image_keeps_its_name_unless_forced_and_its_layers_always() -> None:
    with pytest.raises(Conflict, match=r'reference "nginx:1.12" \(must force\) - container web.1 is using'):
        plan_removal(BOTH, "nginx:1.12", force=False, in_use=web_uses_one)
    left, removals = plan_removal(BOTH, "nginx:1.12", force=True, in_use=web_uses_one)
    assert removals == (Removal(untagged="nginx:1.12"),)
    assert left.find(ONE.id) == ONE
    with pytest.raises(Conflict, match="cannot be forced"):
        plan_removal(BOTH, ONE.id, force=True, in_use=web_uses_one)


def test_by_id_all_names_go_but_several_repositories_must_be_forced() -> None:
    left, removals = plan_removal(BOTH, TWO.id, force=False, in_use=nobody)
    assert [each.untagged for each in removals if each.untagged] == ["nginx:1.13", "nginx:latest"]
    assert TWO.digest not in left.images
    spread = BOTH.add(TWO, ("web:1",))
    with pytest.raises(Conflict, match="must be forced"):
        plan_removal(spread, TWO.id, force=False, in_use=nobody)
    left, _ = plan_removal(spread, TWO.id, force=True, in_use=nobody)
    assert TWO.digest not in left.images


def test_pruning_takes_the_nameless_or_everything_unused() -> None:
    retagged = BOTH.add(TWO, ("nginx:1.12",))
    left, removals = plan_prune(retagged, everything=False, in_use=nobody)
    assert Removal(deleted=ONE.id) in removals
    assert set(left.images) == {TWO.digest}
    left, _ = plan_prune(BOTH, everything=True, in_use=web_uses_one)
    assert set(left.images) == {ONE.digest}


def test_a_tree_has_a_name_of_its_own_and_one_on_its_lowers() -> None:
    names = tree_names(ONE.diff_ids)
    assert names[0][0] == BASE.removeprefix("sha256:")
    assert names[1][1] != tree_names((sha256(b"other"), ONE.diff_ids[1]))[1][1]
    assert names[1][0] == tree_names((sha256(b"other"), ONE.diff_ids[1]))[1][0]
