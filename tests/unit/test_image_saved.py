"""What is chosen to be saved and what the archive says of it; what images take."""

from __future__ import annotations

import msgspec
import pytest

from swarmd.image.core.archive import FULL_NAME, REF_NAME
from swarmd.image.core.catalog import Catalog, ImageRow
from swarmd.image.core.manifest import layer_descriptor, read_manifest, referred, sha256, write_manifest
from swarmd.image.core.saved import Chosen, blob_name, choose, documents
from swarmd.image.core.usage import usage
from swarmd.model.errors import Invalid, NotFound

BASE, OWN = sha256(b"base"), sha256(b"own")
CONFIG = b"{}"
MANIFEST = write_manifest(CONFIG, (layer_descriptor(BASE, 4, "gzip"), layer_descriptor(OWN, 3, "")))
ROW = ImageRow(sha256(MANIFEST), sha256(CONFIG), (BASE, OWN), (sha256(b"1"), sha256(b"2")), 9, 1.0)
OTHER = ImageRow(sha256(b"other"), sha256(b"o"), (BASE,), (sha256(b"1"),), 9, 1.0)
CATALOG = (
    Catalog()
    .add(ROW, ("web:1", "web:2", f"web@{ROW.digest}"), index=sha256(b"index"))
    .add(OTHER, ("db:1", "web:3"))
)


def test_a_tag_an_id_and_a_repository_name_what_they_do_for_docker() -> None:
    assert choose(CATALOG, ("web:1",)) == (Chosen(ROW, ("web:1",)),)
    assert choose(CATALOG, (ROW.id,)) == choose(CATALOG, (ROW.id[7:19],)) == (Chosen(ROW, ()),)
    assert choose(CATALOG, ("web",)) == (Chosen(ROW, ("web:1", "web:2")), Chosen(OTHER, ("web:3",)))
    assert choose(CATALOG, (f"web@{ROW.digest}",)) == (Chosen(ROW, ()),)
    assert choose(CATALOG, ("web:2", "web:1", "web:1")) == (Chosen(ROW, ("web:2", "web:1")),)


def test_what_is_not_there_cannot_be_saved() -> None:
    with pytest.raises(NotFound, match="No such image: web:9"):
        choose(CATALOG, ("web:1", "web:9"))
    with pytest.raises(NotFound, match="No such image: none:latest"):
        choose(CATALOG, ("none",))
    with pytest.raises(Invalid, match="at least one image"):
        choose(CATALOG, ())


def test_the_documents_name_the_image_for_both_kinds_of_readers() -> None:
    files = documents(
        choose(CATALOG, ("web:1", "web:2")), {ROW.digest: (read_manifest(MANIFEST), len(MANIFEST))}
    )
    index = msgspec.json.decode(files["index.json"])
    assert [each["annotations"] for each in index["manifests"]] == [
        {FULL_NAME: f"docker.io/library/web:{tag}", REF_NAME: tag} for tag in ("1", "2")
    ]
    assert {(each["digest"], each["size"]) for each in index["manifests"]} == {(ROW.digest, len(MANIFEST))}
    (saved,) = msgspec.json.decode(files["manifest.json"])
    assert saved["Config"] == blob_name(ROW.id)
    assert saved["RepoTags"] == ["web:1", "web:2"]
    assert saved["Layers"] == [blob_name(BASE), blob_name(OWN)]
    assert [each["digest"] for each in saved["LayerSources"].values()] == [BASE, OWN]
    assert msgspec.json.decode(files["repositories"]) == {"web": {"1": OWN[7:], "2": OWN[7:]}}
    assert msgspec.json.decode(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}


def test_an_image_without_a_tag_is_in_the_index_once_and_in_no_repository() -> None:
    files = documents(choose(CATALOG, (ROW.id,)), {ROW.digest: (read_manifest(MANIFEST), len(MANIFEST))})
    assert "repositories" not in files
    assert len(msgspec.json.decode(files["index.json"])["manifests"]) == 1
    assert msgspec.json.decode(files["manifest.json"])[0]["RepoTags"] is None


def test_an_image_is_found_by_the_index_it_was_chosen_from() -> None:
    assert CATALOG.find(f"web@{sha256(b'index')}") == ROW
    assert CATALOG.info(ROW).indexes == (sha256(b"index"),)
    assert sha256(b"index") in CATALOG.blobs()
    assert CATALOG.without([ROW.digest]).indexes == {}


def test_what_two_images_share_is_counted_once() -> None:
    one, two = sha256(b"1")[7:], sha256(b"2")[7:]
    sizes = {ROW.digest: 1, ROW.id: 2, BASE: 100, OWN: 10, OTHER.digest: 3, OTHER.id: 4, one: 1000, two: 20,
             sha256(b"nobody's"): 5}  # fmt: skip
    seen = usage(CATALOG, sizes, frozenset({ROW.digest}))
    assert [(each.shared, each.unique) for each in seen.images] == [(1100, 33), (1100, 7)]
    assert (seen.total, seen.other, seen.reclaimable) == (1140, 5, 33)
    assert usage(CATALOG, sizes, frozenset(CATALOG.images)).reclaimable == 1140


@pytest.mark.parametrize(
    ("raw", "needs"),
    [
        (MANIFEST, (sha256(CONFIG), BASE, OWN)),
        (b'{"manifests":[{"digest":"a"},{"digest":"b"}],"subject":{"digest":"s"}}', ("a", "b")),
        (b'{"blobs":[{"digest":"a"}]}', ("a",)),
        (b'{"config":null,"layers":null}', ()),
        (b'{"rootfs":{}}', ()),
        (b"{", ()),
        (b"no JSON", ()),
    ],
)
def test_a_manifest_or_index_says_what_it_needs(raw: bytes, needs: tuple[str, ...]) -> None:
    assert referred(raw) == needs
