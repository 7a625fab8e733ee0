"""Manifests in the swarm's registry: what is taken, what is refused, tags, referrers, lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmd.image.registry.port import Stored
from swarmd.model.errors import Denied, Invalid, NotManager, SwarmError, Unavailable
from tests.unit.registry_rig import (
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    Rig,
    code,
    content_of,
    descriptor,
    header,
    image_manifest,
    index_of,
    sha256,
    sha512,
)

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SIGNATURE = "application/vnd.example.signature"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "content")


async def put(rig: Rig, reference: str, raw: bytes, media_type: str = "", query: str = "") -> tuple[int, str]:
    headers = {"Content-Type": media_type} if media_type else {}
    reply = await rig.ask("PUT", f"/v2/app/manifests/{reference}{query}", raw, headers=headers)
    return reply.status, code(reply) if reply.status >= 400 else header(reply, "Location")


async def pushed(rig: Rig, **more: object) -> bytes:
    """An image manifest whose blobs are there."""
    await rig.push_blob("app", b"{}")
    await rig.push_blob("app", b"layer")
    return image_manifest(b"{}", b"layer", **more)


# taken


async def test_a_manifest_is_given_back_as_it_came(rig: Rig) -> None:
    raw = await pushed(rig, annotations={"a": "ü"})
    raw = raw.replace(b'"schemaVersion": 2', b'"schemaVersion":   2')
    assert await put(rig, "1", raw, MANIFEST) == (201, f"/v2/app/manifests/{sha256(raw)}")
    for reference in ("1", sha256(raw)):
        reply = await rig.ask("GET", f"/v2/app/manifests/{reference}")
        assert (reply.status, content_of(reply)) == (200, raw)
        assert header(reply, "Content-Type") == MANIFEST
        assert header(reply, "Docker-Content-Digest") == sha256(raw)
        head = await rig.ask("HEAD", f"/v2/app/manifests/{reference}")
        assert (head.status, head.length, head.body) == (200, len(raw), b"")
    known = await rig.ask("GET", "/v2/app/manifests/1", headers={"If-None-Match": f'"{sha256(raw)}"'})
    assert (known.status, known.body) == (304, b"")


async def test_a_manifest_pushed_by_digest_has_no_tag_but_those_asked_for(rig: Rig) -> None:
    raw = await pushed(rig)
    reply = await rig.ask("PUT", f"/v2/app/manifests/{sha256(raw)}?tag=a&tag=b", raw)
    assert [value for key, value in reply.headers if key == "OCI-Tag"] == ["a", "b"]
    assert await rig.names.tags("app") == ["a", "b"]


async def test_sha512_manifests(rig: Rig) -> None:
    raw = await pushed(rig)
    digest = sha512(raw)
    assert await put(rig, digest, raw, query="?tag=big") == (201, f"/v2/app/manifests/{digest}")
    for reference in (digest, "big"):
        assert header(await rig.ask("HEAD", f"/v2/app/manifests/{reference}"), "ETag") == f'"{digest}"'


async def test_a_tag_moves(rig: Rig) -> None:
    first = await rig.push_image("app", "1", layer=b"one")
    second = await rig.push_image("app", "1", layer=b"two")
    assert header(await rig.ask("HEAD", "/v2/app/manifests/1"), "Docker-Content-Digest") == second
    assert (await rig.ask("HEAD", f"/v2/app/manifests/{first}")).status == 200


@pytest.mark.parametrize(("media_type", "list_type"), [(MANIFEST, INDEX), (DOCKER, DOCKER_LIST)])
async def test_indexes_of_both_kinds_and_indexes_of_indexes(
    rig: Rig, media_type: str, list_type: str
) -> None:
    raw = await pushed(rig, media_type=media_type)
    assert (await put(rig, sha256(raw), raw, media_type))[0] == 201
    inner = index_of(raw).replace(INDEX.encode(), list_type.encode())
    assert (await put(rig, sha256(inner), inner, list_type))[0] == 201
    outer = index_of(inner)
    assert (await put(rig, "all", outer, INDEX))[0] == 201
    empty = index_of()
    assert (await put(rig, "none", empty, INDEX))[0] == 201


async def test_an_artifact_of_a_type_nobody_knows(rig: Rig) -> None:
    await rig.push_blob("app", b"chart")
    kind = "application/vnd.example.chart+json"
    raw = json.dumps({"mediaType": kind, "blobs": [descriptor(b"chart", "text/plain")], "x": [1]}).encode()
    assert (await put(rig, "1", raw, kind))[0] == 201
    assert header(await rig.ask("GET", "/v2/app/manifests/1"), "Content-Type") == kind
    assert await rig.names.holds("app", sha256(b"chart"))


async def test_a_manifest_without_a_type_is_what_its_fields_are(rig: Rig) -> None:
    raw = await pushed(rig)
    document = json.loads(raw)
    del document["mediaType"]
    raw = json.dumps(document).encode()
    assert (await put(rig, "1", raw))[0] == 201
    assert header(await rig.ask("GET", "/v2/app/manifests/1"), "Content-Type") == MANIFEST


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ],
)
async def test_layers_that_are_fetched_from_their_owner_need_not_be_here(rig: Rig, media_type: str) -> None:
    raw = json.loads(await pushed(rig))
    raw["layers"].insert(0, descriptor(b"elsewhere", media_type, urls=["https://example.com/x"]))
    assert (await put(rig, "1", json.dumps(raw).encode()))[0] == 201
    assert not await rig.names.holds("app", sha256(b"elsewhere"))
    await rig.push_blob("app", b"elsewhere")
    assert (await put(rig, "1", json.dumps(raw).encode()))[0] == 201
    assert await rig.names.holds("app", sha256(b"elsewhere"))


async def test_no_layers_fields_of_ones_own_and_data_in_descriptors(rig: Rig) -> None:
    await rig.push_blob("app", b"{}")
    raw = json.loads(image_manifest(b"{}"))
    raw["config"]["data"] = "e30="
    raw["org.example.own"] = {"x": 1}
    assert (await put(rig, "1", json.dumps(raw).encode()))[0] == 201


async def test_a_manifest_of_four_mebibytes_is_taken_and_a_larger_one_is_not(rig: Rig) -> None:
    small = await pushed(rig)
    room = (4 << 20) - len(json.dumps({**json.loads(small), "annotations": {"a": ""}}))
    raw = json.dumps({**json.loads(small), "annotations": {"a": "x" * room}}).encode()
    assert len(raw) == 4 << 20
    assert (await put(rig, "1", raw))[0] == 201
    assert await put(rig, "1", raw + b" ") == (413, "SIZE_INVALID")
    reply = await rig.ask("PUT", "/v2/app/manifests/1", raw + b" ", streamed=True)
    assert reply.status == 413


# refused


@pytest.mark.parametrize(
    ("raw", "media_type"),
    [
        (b"", MANIFEST),
        (b"{", MANIFEST),
        (b"[]", MANIFEST),
        (b"\xff\xfe", MANIFEST),
        (b'{"schemaVersion": 2}', MANIFEST),
        (b'{"schemaVersion": 2}', INDEX),
        (b'{"schemaVersion": 1, "name": "x"}', ""),
        (b'{"schemaVersion": 1}', "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        (b'{"schemaVersion": 3, "manifests": []}', INDEX),
        (b'{"schemaVersion": 2, "manifests": [], "layers": [], "config": null}', INDEX),
        (b"[" * 100_000, MANIFEST),
    ],
)
async def test_what_is_no_manifest_is_refused(rig: Rig, raw: bytes, media_type: str) -> None:
    assert await put(rig, "1", raw, media_type) == (400, "MANIFEST_INVALID")
    assert await rig.names.repositories() == []


async def test_a_manifest_that_says_to_be_something_else_than_its_header_is_refused(rig: Rig) -> None:
    assert await put(rig, "1", await pushed(rig), INDEX) == (400, "MANIFEST_INVALID")


@pytest.mark.parametrize("field", ["config", "layers", "manifests", "subject"])
async def test_a_digest_that_would_lead_out_of_the_store_is_refused(rig: Rig, field: str) -> None:
    bad = {"mediaType": LAYER, "digest": "sha256:../../../etc/passwd", "size": 1}
    document = json.loads(index_of() if field == "manifests" else await pushed(rig))
    document[field] = bad if field in ("config", "subject") else [bad]
    assert await put(rig, "1", json.dumps(document).encode()) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("missing", [b"{}", b"layer"])
async def test_a_manifest_whose_blobs_are_not_all_here_is_refused(rig: Rig, missing: bytes) -> None:
    await rig.push_blob("app", b"{}" if missing == b"layer" else b"layer")
    await rig.push_blob("other", missing)
    assert await put(rig, "1", image_manifest(b"{}", b"layer")) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert (await rig.ask("GET", "/v2/app/manifests/1")).status == 404


async def test_an_index_whose_manifests_are_not_all_here_is_refused(rig: Rig) -> None:
    assert await put(rig, "1", index_of(await pushed(rig))) == (400, "MANIFEST_BLOB_UNKNOWN")


async def test_a_manifest_with_another_digest_than_it_is_pushed_to_is_refused(rig: Rig) -> None:
    raw = await pushed(rig)
    assert await put(rig, sha256(b"x"), raw) == (400, "DIGEST_INVALID")
    assert await put(rig, "sha256:baddigeststring", raw) == (400, "DIGEST_INVALID")
    assert await put(rig, sha256(raw), raw + b"  ") == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("tag", [".x", "-x", "a b", "x" * 129, "ü", "a+b"])
async def test_a_tag_that_is_none_is_refused(rig: Rig, tag: str) -> None:
    raw = await pushed(rig)
    assert (await put(rig, tag, raw))[0] == 400
    assert (await put(rig, sha256(raw), raw, query=f"?tag={tag}"))[0] == 400
    assert await rig.names.tags("app") is None


async def test_what_the_node_makes_of_a_manifest_does_not_decide_whether_it_is_kept(tmp_path: Path) -> None:
    told: list[tuple[str, str, tuple[str, ...]]] = []

    async def on_pushed(repository: str, manifest: Stored, tags: tuple[str, ...]) -> None:
        told.append((repository, manifest.digest, tags))
        raise Invalid("the layer is forged")

    rig = Rig(tmp_path / "content", on_pushed=on_pushed)
    digest = await rig.push_image("app", "1")
    assert told == [("app", digest, ("1",))]
    assert (await rig.ask("GET", "/v2/app/manifests/1")).status == 200


# deletion


async def test_a_deleted_tag_leaves_the_manifest(rig: Rig) -> None:
    digest = await rig.push_image("app", "1")
    assert (await rig.ask("DELETE", "/v2/app/manifests/1")).status == 202
    assert (await rig.ask("HEAD", "/v2/app/manifests/1")).status == 404
    assert (await rig.ask("HEAD", f"/v2/app/manifests/{digest}")).status == 200
    reply = await rig.ask("DELETE", "/v2/app/manifests/1")
    assert (reply.status, code(reply)) == (404, "MANIFEST_UNKNOWN")


async def test_a_deleted_manifest_takes_its_tags_along(rig: Rig) -> None:
    digest = await rig.push_image("app", "1")
    await rig.push_image("app", "2", layer=b"other")
    assert (await rig.ask("DELETE", f"/v2/app/manifests/{digest}")).status == 202
    assert (await rig.ask("HEAD", "/v2/app/manifests/1")).status == 404
    assert await rig.names.tags("app") == ["2"]


async def test_no_manifest_is_deleted_where_deleting_is_off(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "content", may_delete=False)
    await rig.push_image("app", "1")
    assert (await rig.ask("DELETE", "/v2/app/manifests/1")).status == 405


# referrers


async def test_referrers_are_listed_with_what_they_are(rig: Rig) -> None:
    subject = await rig.push_image("app", "1")
    about = {"mediaType": MANIFEST, "digest": subject, "size": 7}
    await rig.push_blob("app", b"sig")
    signature = image_manifest(b"{}", b"sig", artifactType=SIGNATURE, subject=about, annotations={"k": "v"})
    plain = image_manifest(b"{}", b"sig", subject=about)
    listing = index_of(subject=about, artifactType="application/vnd.example.list")
    await rig.push_blob("app", b"{}")
    for raw in (signature, plain, listing):
        reply = await rig.ask("PUT", f"/v2/app/manifests/{sha256(raw)}", raw)
        assert (reply.status, header(reply, "OCI-Subject")) == (201, subject)
    reply = await rig.ask("GET", f"/v2/app/referrers/{subject}")
    assert (reply.status, header(reply, "Content-Type")) == (200, INDEX)
    document = json.loads(reply.body)
    assert (document["schemaVersion"], document["mediaType"]) == (2, INDEX)
    found = {each["digest"]: each for each in document["manifests"]}
    assert found[sha256(signature)] == {
        "mediaType": MANIFEST,
        "digest": sha256(signature),
        "size": len(signature),
        "artifactType": SIGNATURE,
        "annotations": {"k": "v"},
    }
    assert found[sha256(plain)]["artifactType"] == CONFIG
    assert found[sha256(listing)]["artifactType"] == "application/vnd.example.list"
    only = await rig.ask("GET", f"/v2/app/referrers/{subject}?artifactType={SIGNATURE}")
    assert header(only, "OCI-Filters-Applied") == "artifactType"
    assert [each["digest"] for each in json.loads(only.body)["manifests"]] == [sha256(signature)]


async def test_only_of_what_is_listed_the_annotations_are_kept_apart_and_so_many_at_most(rig: Rig) -> None:
    many = {"a": "x" * 300_000}
    assert (await put(rig, "1", await pushed(rig, annotations=many)))[0] == 201
    stored = await rig.names.find("app", "1")
    assert stored is not None
    assert stored.annotations == {}
    about = {"mediaType": MANIFEST, "digest": stored.digest, "size": 3}
    raw = await pushed(rig, annotations=many, subject=about)
    assert await put(rig, "2", raw) == (413, "SIZE_INVALID")


async def test_a_subject_may_be_missing_and_nothing_refers_to_what_nobody_knows(rig: Rig) -> None:
    absent = sha256(b"absent")
    reply = await rig.ask("GET", f"/v2/app/referrers/{absent}")
    assert (reply.status, json.loads(reply.body)["manifests"]) == (200, [])
    raw = await pushed(rig, subject={"mediaType": MANIFEST, "digest": absent, "size": 3})
    assert (await put(rig, "1", raw))[0] == 201
    reply = await rig.ask("GET", f"/v2/app/referrers/{absent}")
    assert [each["digest"] for each in json.loads(reply.body)["manifests"]] == [sha256(raw)]


# lists


async def test_tags_come_page_by_page(rig: Rig) -> None:
    for tag in ("b", "a", "d", "c", "B"):
        await rig.push_image("app", tag)
    reply = await rig.ask("GET", "/v2/app/tags/list")
    assert json.loads(reply.body) == {"name": "app", "tags": ["B", "a", "b", "c", "d"]}
    first = await rig.ask("GET", "/v2/app/tags/list?n=2")
    assert json.loads(first.body)["tags"] == ["B", "a"]
    assert header(first, "Link") == '</v2/app/tags/list?n=2&last=a>; rel="next"'
    last = await rig.ask("GET", "/v2/app/tags/list?n=5&last=a")
    assert (json.loads(last.body)["tags"], header(last, "Link")) == (["b", "c", "d"], "")
    none = await rig.ask("GET", "/v2/app/tags/list?n=0")
    assert (json.loads(none.body)["tags"], header(none, "Link")) == ([], "")
    rest = await rig.ask("GET", "/v2/app/tags/list?last=b")
    assert json.loads(rest.body)["tags"] == ["c", "d"]
    assert (await rig.ask("GET", "/v2/app/tags/list?n=x")).status == 400


async def test_tags_of_no_repository(rig: Rig) -> None:
    reply = await rig.ask("GET", "/v2/app/tags/list")
    assert (reply.status, code(reply)) == (404, "NAME_UNKNOWN")


async def test_the_catalogue_comes_page_by_page(rig: Rig) -> None:
    for name in ("b", "a/x", "c"):
        await rig.push_image(name, "1")
    assert json.loads((await rig.ask("GET", "/v2/_catalog")).body) == {"repositories": ["a/x", "b", "c"]}
    reply = await rig.ask("GET", "/v2/_catalog?n=2")
    assert header(reply, "Link") == '</v2/_catalog?n=2&last=b>; rel="next"'


# addresses


async def test_the_base_says_which_api_this_is(rig: Rig) -> None:
    for path in ("/v2/", "/v2"):
        reply = await rig.ask("GET", path)
        assert (reply.status, header(reply, "Docker-Distribution-Api-Version")) == (200, "registry/2.0")


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/v2/App/tags/list", 400, "NAME_INVALID"),
        ("/v2/a//b/tags/list", 400, "NAME_INVALID"),
        ("/v2/a/../b/tags/list", 400, "NAME_INVALID"),
        ("/v2/a/%2e%2e/b/tags/list", 400, "NAME_INVALID"),
        ("/v2/a%00b/tags/list", 400, "NAME_INVALID"),
        ("/v2/a%0ab/tags/list", 400, "NAME_INVALID"),
        ("/v2/" + "a" * 256 + "/tags/list", 400, "NAME_INVALID"),
        ("/v2/app/blobs/sha256:..%2f..%2fx", 404, "UNSUPPORTED"),
        ("/v2/app/blobs/sha256:zz", 400, "DIGEST_INVALID"),
        ("/v2/app/blobs/uploads/..", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("/v2/app/referrers/latest", 400, "DIGEST_INVALID"),
        ("/v2/app", 404, "UNSUPPORTED"),
        ("/etc/passwd", 404, "UNSUPPORTED"),
    ],
)
async def test_addresses_that_are_none(rig: Rig, path: str, status: int, said: str) -> None:
    reply = await rig.ask("GET", path)
    assert (reply.status, code(reply)) == (status, said)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (NotManager("this node is not part of a swarm"), 503, "UNAVAILABLE"),
        (Unavailable("there is no leader"), 503, "UNAVAILABLE"),
        (Denied("no"), 403, "DENIED"),
        (SwarmError("a defect"), 500, "UNKNOWN"),
    ],
)
async def test_why_there_are_no_names_is_said(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: SwarmError, status: int, said: str
) -> None:
    async def find(repository: str, reference: str) -> None:
        raise error

    monkeypatch.setattr(rig.names, "find", find)
    reply = await rig.ask("GET", "/v2/app/manifests/1")
    assert (reply.status, code(reply)) == (status, said)
    assert str(error).encode() in reply.body


async def test_a_repository_may_be_called_like_an_end(rig: Rig) -> None:
    await rig.push_image("a/manifests/blobs", "tags")
    assert (await rig.ask("GET", "/v2/a/manifests/blobs/manifests/tags")).status == 200


async def test_a_method_that_an_end_does_not_have(rig: Rig) -> None:
    reply = await rig.ask("POST", "/v2/app/manifests/1")
    assert (reply.status, header(reply, "Allow")) == (405, "GET, HEAD, PUT, DELETE")
