"""Pushes to a registry that does what the test tells it, over real HTTP on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.image.registry.core import documents
from swarmd.image.registry.core.documents import digest_of
from swarmd.model.errors import Invalid, NotFound
from tests.unit.registry_bench import LAYER, Bench, benched, blob_asked
from tests.unit.registry_shelf import image
from tests.unit.scripted_registry import Answer, Asked, Holding, part


class Taking(Holding):
    """An honest registry for pushes: uploads by PATCH, mounts, manifests."""

    def __init__(self) -> None:
        super().__init__()
        self.uploads: dict[str, bytes] = {}
        self.mounts: set[str] = set()

    def __call__(self, asked: Asked) -> Answer:
        path, _, query = asked.path.partition("?")
        if asked.method == "POST":
            wanted = dict(pair.partition("=")[::2] for pair in query.split("&"))
            if wanted.get("mount", "") in self.mounts:
                return Answer(201)
            self.uploads[f"/up/{len(self.uploads)}"] = b""
            return Answer(202, b"", {"Location": f"/up/{len(self.uploads) - 1}?state=a%2Fb%3D"})
        if path in self.uploads and asked.method == "PATCH":
            self.uploads[path] += asked.body
            return Answer(202, b"", {"Location": asked.path})
        if path in self.uploads and asked.method == "GET":
            have = len(self.uploads[path])
            return Answer(204, b"", {"Range": f"0-{max(0, have - 1)}", "Location": asked.path})
        if path in self.uploads and asked.method == "PUT":
            assert query.startswith("state=a%2Fb%3D&digest=sha256%3A"), query
            data = self.uploads.pop(path)
            self.blobs[digest_of(data)] = data
            return Answer(201)
        if asked.method == "PUT":
            self.manifests[path.rpartition("/")[2]] = (asked.headers["content-type"], asked.body)
            return Answer(201)
        return super().__call__(asked)


@pytest.fixture
async def taking(tmp_path: Path) -> AsyncIterator[Bench]:
    async with benched(Taking(), tmp_path) as made:
        yield made


async def test_a_push_gives_blobs_first_and_the_manifest_last(taking: Bench) -> None:
    manifest = await taking.shelf.have(taking.name("app:1"), LAYER, b"second")
    assert await taking.client.push(taking.name("app:1"), progress=taking.listen) == digest_of(manifest)
    assert taking.there.asked[-1].path == "/v2/app/manifests/1"
    assert taking.holding.manifests["1"] == (documents.OCI_MANIFEST, manifest)
    assert taking.said[0] == f"The push refers to repository [{taking.name('app')}]"
    assert taking.said[-1] == f"1: digest: {digest_of(manifest)} size: {len(manifest)}"
    assert sum(line.endswith(": Pushed") for line in taking.said) == 2


async def test_a_second_push_with_one_new_layer_moves_only_that_layer(taking: Bench) -> None:
    base, old, new = LAYER, b"old" * 1000, b"new" * 1000
    await taking.shelf.have(taking.name("app:1"), base, old)
    await taking.client.push(taking.name("app:1"))
    taking.there.asked = []
    await taking.shelf.have(taking.name("app:2"), base, new)
    await taking.client.push(taking.name("app:2"), progress=taking.listen)
    sent = [len(one.body) for one in taking.there.asked if one.method == "PATCH"]
    _, (config, _, layer) = image(base, new)
    assert sorted(sent) == sorted([len(layer), len(config)])
    assert sum(line.endswith(": Layer already exists") for line in taking.said) == 1


async def test_a_layer_that_another_repository_holds_is_mounted_from_it(taking: Bench) -> None:
    await taking.shelf.have(taking.name("base:1"), LAYER)
    await taking.client.push(taking.name("base:1"))
    assert isinstance(taking.holding, Taking)
    taking.holding.mounts = set(taking.holding.blobs)
    taking.holding.blobs = {}
    taking.there.asked = []
    await taking.shelf.have(taking.name("app:1"), LAYER)
    await taking.client.close()
    taking.client = taking.new_client()
    await taking.client.push(taking.name("app:1"), progress=taking.listen)
    layer = digest_of(image(LAYER)[1][1])
    assert f"/v2/app/blobs/uploads/?mount={layer}&from=base" in taking.there.seen("POST")
    assert any(line.endswith(": Mounted from base") for line in taking.said)


async def test_a_broken_upload_goes_on_where_it_was(taking: Bench) -> None:
    await taking.shelf.have(taking.name("app:1"), LAYER)
    holding = taking.holding
    assert isinstance(holding, Taking)
    breaks = iter([True])

    def half(asked: Asked) -> Answer | None:
        if asked.method != "PATCH" or len(asked.body) < 1000 or not next(breaks, False):
            return None
        holding.uploads[asked.path.partition("?")[0]] += asked.body[:500]
        return Answer(503, b"", cut=True)

    taking.misbehave(half)
    await taking.client.push(taking.name("app:1"))
    layer = image(LAYER)[1][1]
    assert holding.blobs[digest_of(layer)] == layer
    ranges = [one.headers.get("content-range") for one in taking.there.asked if one.method == "PATCH"]
    assert f"500-{len(layer) - 1}" in ranges


async def test_a_registry_that_knows_only_dockers_words_gets_them(taking: Bench) -> None:
    await taking.shelf.have(taking.name("app:1"), LAYER)

    def old(asked: Asked) -> Answer | None:
        is_oci = asked.headers.get("content-type") == documents.OCI_MANIFEST
        return Answer(415, b'{"errors":[{"code":"MANIFEST_INVALID"}]}') if is_oci else None

    taking.misbehave(old)
    digest = await taking.client.push(taking.name("app:1"), progress=taking.listen)
    media_type, raw = taking.holding.manifests["1"]
    assert (media_type, digest_of(raw)) == (documents.DOCKER_MANIFEST, digest)


async def test_what_is_not_here_cannot_be_pushed(taking: Bench) -> None:
    with pytest.raises(NotFound, match="No such image"):
        await taking.client.push(taking.name("app:1"))
    assert taking.there.asked == []


async def test_small_blobs_and_manifests_are_read_without_a_pull(taking: Bench) -> None:
    digest = digest_of(b"payload")
    taking.holding.blobs[digest] = b"payload"
    taking.holding.manifests["sig"] = (documents.OCI_MANIFEST, b'{"a":1}')
    assert await taking.client.get_blob(taking.name("app"), digest) == b"payload"
    assert await taking.client.get_manifest(taking.name("app"), "sig") == (documents.OCI_MANIFEST, b'{"a":1}')
    taking.misbehave(lambda asked: part(asked, b"forged!") if blob_asked(asked) else None)
    with pytest.raises(Invalid, match="damaged or forged"):
        await taking.client.get_blob(taking.name("app"), digest)
