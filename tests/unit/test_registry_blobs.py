"""Blobs in the swarm's registry: uploads in every form, reading, parts, deletion, mounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.image.registry.exchange import Request
from swarmd.image.registry.intake import UploadLimits
from swarmd.image.registry.links import KEPT
from swarmd.model.errors import Unavailable
from tests.unit.registry_rig import Rig, code, content_of, header, image_manifest, sha256, sha512

DATA = bytes(range(256)) * 8
DIGEST = sha256(DATA)
UPLOADS = "/v2/app/blobs/uploads/"
BLOB = f"/v2/app/blobs/{DIGEST}"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "content")


async def begin(rig: Rig, query: str = "") -> str:
    reply = await rig.ask("POST", UPLOADS + query)
    assert (reply.status, header(reply, "Range")) == (202, "0-0")
    return header(reply, "Location")


async def is_there(rig: Rig, target: str = BLOB) -> bool:
    return (await rig.ask("HEAD", target)).status == 200


# whole uploads


async def test_a_blob_is_uploaded_by_one_post(rig: Rig) -> None:
    reply = await rig.ask("POST", f"{UPLOADS}?digest={DIGEST}", DATA)
    assert (reply.status, header(reply, "Location")) == (201, BLOB)
    assert header(reply, "Docker-Content-Digest") == DIGEST
    assert content_of(await rig.ask("GET", BLOB)) == DATA


async def test_a_blob_is_uploaded_by_post_and_put(rig: Rig) -> None:
    location = await begin(rig)
    reply = await rig.ask("PUT", f"{location}?digest={DIGEST}", DATA)
    assert (reply.status, header(reply, "Location")) == (201, BLOB)
    assert content_of(await rig.ask("GET", BLOB)) == DATA


async def test_a_blob_is_uploaded_as_a_stream(rig: Rig) -> None:
    location = await begin(rig)
    reply = await rig.ask("PATCH", location, DATA, streamed=True)
    assert (reply.status, header(reply, "Range")) == (202, f"0-{len(DATA) - 1}")
    reply = await rig.ask("PUT", f"{header(reply, 'Location')}?digest={DIGEST}")
    assert reply.status == 201
    assert content_of(await rig.ask("GET", BLOB)) == DATA


@pytest.mark.parametrize("ends_with_a_piece", [True, False])
async def test_a_blob_is_uploaded_in_pieces(rig: Rig, ends_with_a_piece: bool) -> None:
    location = await begin(rig)
    whole = len(DATA) if not ends_with_a_piece else 1500
    for first in range(0, whole, 500):
        last = min(first + 500, whole) - 1
        piece = {"Content-Range": f"{first}-{last}"}
        reply = await rig.ask("PATCH", location, DATA[first : last + 1], headers=piece)
        assert (reply.status, header(reply, "Range")) == (202, f"0-{last}")
        location = header(reply, "Location")
    rest = {"Content-Range": f"{whole}-{len(DATA) - 1}"} if ends_with_a_piece else {}
    reply = await rig.ask("PUT", f"{location}?digest={DIGEST}", DATA[whole:], headers=rest)
    assert reply.status == 201
    assert content_of(await rig.ask("GET", BLOB)) == DATA


async def test_an_empty_blob_is_a_blob(rig: Rig) -> None:
    digest = await rig.push_blob("app", b"")
    reply = await rig.ask("HEAD", f"/v2/app/blobs/{digest}")
    assert (reply.status, reply.length) == (200, 0)


# pieces that do not fit


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("piece", ["500-999", "0-499", "100-599"])
async def test_a_piece_out_of_order_is_refused_and_the_upload_goes_on(
    rig: Rig, method: str, piece: str
) -> None:
    location = await begin(rig)
    await rig.ask("PATCH", location, DATA[:200], headers={"Content-Range": "0-199"})
    query = f"?digest={DIGEST}" if method == "PUT" else ""
    reply = await rig.ask(method, location + query, DATA[:500], headers={"Content-Range": piece})
    assert (reply.status, header(reply, "Range"), header(reply, "Location")) == (416, "0-199", location)
    status = await rig.ask("GET", location)
    assert (status.status, header(status, "Range")) == (204, "0-199")
    reply = await rig.ask("PUT", f"{location}?digest={DIGEST}", DATA[200:])
    assert reply.status == 201


async def test_a_piece_whose_two_lengths_differ_is_refused(rig: Rig) -> None:
    location = await begin(rig)
    reply = await rig.ask("PATCH", location, DATA[:100], headers={"Content-Range": "0-199"})
    assert (reply.status, code(reply)) == (400, "SIZE_INVALID")
    assert header(await rig.ask("GET", location), "Range") == "0-0"


@pytest.mark.parametrize("piece", ["x", "5-2", "-5", "0-", "0-99999999999999999999"])
async def test_a_piece_with_an_unreadable_range_is_refused(rig: Rig, piece: str) -> None:
    location = await begin(rig)
    reply = await rig.ask("PATCH", location, DATA[:1], headers={"Content-Range": piece})
    assert reply.status == 416


# what goes wrong


async def test_content_with_another_digest_is_never_visible(rig: Rig) -> None:
    location = await begin(rig)
    reply = await rig.ask("PUT", f"{location}?digest={DIGEST}", DATA + b"oh no")
    assert (reply.status, code(reply)) == (400, "DIGEST_INVALID")
    reply = await rig.ask("POST", f"{UPLOADS}?digest={DIGEST}", DATA + b"oh no")
    assert (reply.status, code(reply)) == (400, "DIGEST_INVALID")
    assert not await is_there(rig)
    assert (rig.content.blobs(), rig.content.ingests()) == (set(), set())


@pytest.mark.parametrize("digest", ["", "sha256:abc", "md5:" + "0" * 32, "sha256:" + "G" * 64])
async def test_a_digest_that_is_none_ends_no_upload(rig: Rig, digest: str) -> None:
    location = await begin(rig)
    await rig.ask("PATCH", location, DATA)
    reply = await rig.ask("PUT", f"{location}?digest={digest}")
    assert (reply.status, code(reply)) == (400, "DIGEST_INVALID")
    assert (await rig.ask("PUT", f"{location}?digest={DIGEST}")).status == 201


async def test_an_upload_that_is_cut_off_goes_on_where_it_was(rig: Rig) -> None:
    location = await begin(rig)
    await rig.ask("PATCH", location, DATA[:700], streamed=True)
    assert header(await rig.ask("GET", location), "Range") == "0-699"
    assert not await is_there(rig)
    await rig.ask("PATCH", location, DATA[700:], headers={"Content-Range": f"700-{len(DATA) - 1}"})
    assert (await rig.ask("PUT", f"{location}?digest={DIGEST}")).status == 201


async def test_an_upload_can_be_given_up(rig: Rig) -> None:
    location = await begin(rig)
    await rig.ask("PATCH", location, DATA)
    assert (await rig.ask("DELETE", location)).status == 204
    for method in ("GET", "PATCH", "DELETE"):
        reply = await rig.ask(method, location)
        assert (reply.status, code(reply)) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert rig.content.ingests() == set()


async def test_an_upload_belongs_to_its_repository(rig: Rig) -> None:
    location = await begin(rig)
    reply = await rig.ask("PATCH", location.replace("/app/", "/other/"), DATA)
    assert (reply.status, code(reply)) == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_only_one_request_is_at_work_on_an_upload(rig: Rig) -> None:
    location = await begin(rig)
    upload = await rig.uploads.find("app", location.rpartition("/")[2])
    with rig.uploads.alone(upload):
        assert (await rig.ask("PATCH", location, DATA)).status == 409
    assert (await rig.ask("PATCH", location, DATA)).status == 202


async def test_uploads_nobody_goes_on_with_are_forgotten(rig: Rig) -> None:
    location = await begin(rig)
    await rig.ask("PATCH", location, DATA)
    rig.clock.at += 3601
    await rig.registry.tidy()
    assert (await rig.ask("GET", location)).status == 404
    assert rig.content.ingests() == set()


async def test_ten_thousand_uploads_that_bring_nothing_leave_room_for_one_that_does(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "content", limits=UploadLimits(open=50))
    location = await begin(rig)
    await rig.ask("PATCH", location, DATA)
    for _ in range(10_000):
        await rig.ask("POST", UPLOADS)
    assert len(rig.content.ingests()) == 1
    assert (await rig.ask("PUT", f"{location}?digest={DIGEST}")).status == 201


async def test_more_uploads_with_content_than_the_limit_are_refused(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "content", limits=UploadLimits(open=3))
    for _ in range(3):
        await rig.ask("PATCH", await begin(rig), DATA)
    reply = await rig.ask("POST", UPLOADS)
    assert (reply.status, code(reply)) == (429, "TOOMANYREQUESTS")


async def test_an_upload_in_one_request_that_fails_is_given_up(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "content", limits=UploadLimits(open=1))

    async def cut_off() -> AsyncIterator[bytes]:
        yield DATA[:700]
        raise Unavailable("the connection was cut")

    request = Request(
        method="POST", path=UPLOADS, query=(("digest", DIGEST),), headers={}, length=len(DATA), body=cut_off
    )
    assert (await rig.registry.handle(request)).status == 503
    assert rig.content.ingests() == set()
    assert (await rig.ask("POST", f"{UPLOADS}?digest={DIGEST}", DATA)).status == 201


async def test_a_blob_beyond_the_limit_is_refused_and_gone(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "content", limits=UploadLimits(blob=1000))
    location = await begin(rig)
    reply = await rig.ask("PATCH", location, DATA, streamed=True)
    assert (reply.status, code(reply)) == (413, "SIZE_INVALID")
    assert rig.content.ingests() == set()


# digests of other algorithms


async def test_sha512_that_was_announced(rig: Rig) -> None:
    digest = sha512(DATA)
    location = await begin(rig, "?digest-algorithm=sha512")
    await rig.ask("PATCH", location, DATA)
    reply = await rig.ask("PUT", f"{location}?digest={digest}")
    assert (reply.status, header(reply, "Docker-Content-Digest")) == (201, digest)
    assert content_of(await rig.ask("GET", f"/v2/app/blobs/{digest}")) == DATA
    assert len(rig.content.blobs()) == 1


async def test_sha512_that_nobody_announced(rig: Rig) -> None:
    digest = sha512(DATA)
    location = await begin(rig)
    await rig.ask("PATCH", location, DATA)
    reply = await rig.ask("PUT", f"{location}?digest={digest}")
    assert (reply.status, header(reply, "Docker-Content-Digest")) == (201, digest)
    assert content_of(await rig.ask("GET", f"/v2/app/blobs/{digest}")) == DATA


async def test_an_unknown_algorithm_is_refused(rig: Rig) -> None:
    assert (await rig.ask("POST", f"{UPLOADS}?digest-algorithm=md5")).status == 400


# reading


async def test_a_blob_that_is_not_there_is_unknown(rig: Rig) -> None:
    reply = await rig.ask("GET", BLOB)
    assert (reply.status, code(reply)) == (404, "BLOB_UNKNOWN")
    assert (await rig.ask("HEAD", BLOB)).status == 404


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=500-1499", 206, (500, 1500)),
        ("bytes=500-", 206, (500, 2048)),
        ("bytes=-500", 206, (1548, 2048)),
        ("bytes=-9999", 206, (0, 2048)),
        ("bytes=2000-5000", 206, (2000, 2048)),
        ("bytes=0-0", 206, (0, 1)),
        ("bytes=0-1,5-6", 200, (0, 2048)),
        ("lines=1-2", 200, (0, 2048)),
    ],
)
async def test_a_part_of_a_blob(rig: Rig, asked: str, status: int, part: tuple[int, int]) -> None:
    await rig.push_blob("app", DATA)
    reply = await rig.ask("GET", BLOB, headers={"Range": asked})
    assert (reply.status, content_of(reply)) == (status, DATA[slice(*part)])
    shown = f"bytes {part[0]}-{part[1] - 1}/2048" if status == 206 else ""
    assert header(reply, "Content-Range") == shown


@pytest.mark.parametrize("asked", ["bytes=500-0", "bytes=5000-10000", "bytes=2048-", "bytes=-0"])
async def test_a_part_that_is_not_in_the_blob(rig: Rig, asked: str) -> None:
    await rig.push_blob("app", DATA)
    reply = await rig.ask("GET", BLOB, headers={"Range": asked})
    assert (reply.status, header(reply, "Content-Range")) == (416, "bytes */2048")


async def test_a_part_is_given_only_of_the_content_the_client_began_with(rig: Rig) -> None:
    await rig.push_blob("app", DATA)
    headers = {"Range": "bytes=5-9", "If-Range": f'"{DIGEST}"'}
    assert (await rig.ask("GET", BLOB, headers=headers)).status == 206
    headers["If-Range"] = '"another"'
    assert (await rig.ask("GET", BLOB, headers=headers)).status == 200


async def test_a_client_that_has_the_blob_is_not_sent_it(rig: Rig) -> None:
    await rig.push_blob("app", DATA)
    assert (await rig.ask("GET", BLOB, headers={"If-None-Match": f'"{DIGEST}"'})).status == 304


async def test_a_blob_that_another_node_has_is_fetched(tmp_path: Path) -> None:
    async def ensure(digest: str) -> None:
        assert digest == DIGEST
        await rig.content.put(DATA)

    rig = Rig(tmp_path / "content", ensure=ensure)
    await rig.push_image("app", "1", layer=b"mine")
    config = b"{}"
    stored = await rig.names.find("app", "1")
    assert stored is not None
    await rig.names.put("app", type(stored)("sha256:" + "0" * 64, "x", config, blobs=(DIGEST,)))
    assert content_of(await rig.ask("GET", BLOB)) == DATA


# repositories


async def test_a_blob_belongs_to_the_repository_it_was_pushed_to(rig: Rig) -> None:
    await rig.push_blob("app", DATA)
    assert not await is_there(rig, BLOB.replace("/app/", "/other/"))


async def test_a_blob_is_mounted_from_another_repository(rig: Rig) -> None:
    await rig.push_blob("app", DATA)
    reply = await rig.ask("POST", f"/v2/other/blobs/uploads/?mount={DIGEST}&from=app")
    assert (reply.status, header(reply, "Location")) == (201, f"/v2/other/blobs/{DIGEST}")
    assert await is_there(rig, BLOB.replace("/app/", "/other/"))


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_blob_that_another_node_has_is_mounted_once_it_is_here(
    tmp_path: Path, is_there: bool
) -> None:
    async def ensure(digest: str) -> None:
        if not is_there:
            raise Unavailable("its node does not answer")
        await rig.content.put(DATA)

    rig = Rig(tmp_path / "content", ensure=ensure)
    config = b"{}"
    for blob in (config, DATA):
        await rig.push_blob("app", blob)
    raw = image_manifest(config, DATA)
    await rig.ask("PUT", "/v2/app/manifests/1", raw)
    rig.content.file(DIGEST).unlink()  # as if all this had been pushed to another node
    reply = await rig.ask("POST", f"/v2/other/blobs/uploads/?mount={DIGEST}&from=app")
    assert reply.status == (201 if is_there else 202)
    if is_there:
        await rig.push_blob("other", config)
        assert (await rig.ask("PUT", "/v2/other/manifests/1", raw)).status == 201


async def test_a_blob_is_mounted_from_wherever_it_is(rig: Rig) -> None:
    await rig.push_blob("app", DATA)
    assert (await rig.ask("POST", f"/v2/other/blobs/uploads/?mount={DIGEST}")).status == 201


@pytest.mark.parametrize("source", ["&from=third", ""])
async def test_a_mount_of_what_is_not_there_is_an_ordinary_upload(rig: Rig, source: str) -> None:
    reply = await rig.ask("POST", f"/v2/other/blobs/uploads/?mount={DIGEST}{source}")
    assert reply.status == 202
    assert (await rig.ask("PUT", f"{header(reply, 'Location')}?digest={DIGEST}", DATA)).status == 201


async def test_a_deleted_blob_is_gone_from_its_repository_alone(rig: Rig) -> None:
    await rig.push_blob("app", DATA)
    await rig.push_blob("other", DATA)
    assert (await rig.ask("DELETE", BLOB)).status == 202
    assert not await is_there(rig)
    assert await is_there(rig, BLOB.replace("/app/", "/other/"))
    assert (await rig.ask("DELETE", BLOB)).status == 404


async def test_a_blob_that_a_manifest_needs_is_not_deleted(rig: Rig) -> None:
    await rig.push_image("app", "1", layer=b"layer")
    reply = await rig.ask("DELETE", f"/v2/app/blobs/{sha256(b'layer')}")
    assert (reply.status, code(reply)) == (405, "UNSUPPORTED")
    assert await is_there(rig, f"/v2/app/blobs/{sha256(b'layer')}")


async def test_nothing_is_deleted_where_deleting_is_off(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "content", may_delete=False)
    await rig.push_blob("app", DATA)
    reply = await rig.ask("DELETE", BLOB)
    assert (reply.status, code(reply)) == (405, "UNSUPPORTED")
    assert await is_there(rig)


async def test_what_was_uploaded_is_held_until_a_manifest_refers_to_it_or_a_day_has_passed(rig: Rig) -> None:
    await rig.push_blob("app", DATA)
    await rig.push_blob("app", b"{}")
    assert rig.content.held[DIGEST] == 1
    raw = image_manifest(b"{}")
    await rig.ask("PUT", "/v2/app/manifests/1", raw)
    assert rig.content.held[sha256(b"{}")] == 0
    rig.clock.at += KEPT + 1
    await rig.registry.tidy()
    assert rig.content.held[DIGEST] == 0
    assert not await is_there(rig)
