"""An image comes from other nodes, over real gRPC on loopback; what nobody has comes from its origin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from swarmd.image.core.catalog import ImageInfo
from swarmd.image.core.manifest import MANIFEST
from swarmd.image.streams import DiskFull
from swarmd.model.errors import NotFound, SwarmError, Unavailable
from swarmd.node.agent.fetch import ImageFetcher
from swarmd.rpc import errors
from swarmd.rpc.v1 import agent_pb2
from tests.unit.agent_fakes import StillClock
from tests.unit.distribution_rig import Files, Fleet, Peer, digest_of, without_certificates

CONFIG, LAYER = b'{"config":1}', b"a layer"


def descriptor(data: bytes, **more: object) -> dict[str, object]:
    return {"mediaType": "x", "digest": digest_of(data), "size": len(data), **more}


IMAGE = msgspec.json.encode(
    {
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(CONFIG), "layers": [descriptor(LAYER)],
    }
)  # fmt: skip
INDEX = msgspec.json.encode(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            descriptor(b"of another machine", platform={"os": "linux", "architecture": "arm64"}),
            descriptor(IMAGE, platform={"os": "linux", "architecture": "amd64"}),
        ],
    }
)


class Images:
    """Stands for an image store: what :class:`ImageFetcher` uses of one."""

    def __init__(self, content: Files) -> None:
        self.content = content
        self.added: list[tuple[bytes, tuple[str, ...], bytes | None]] = []
        self.failure: SwarmError | None = None

    def resolve(self, ref: str) -> ImageInfo:
        if not self.added:
            raise NotFound(f"No such image: {ref}")
        return ImageInfo("", "", (), 0.0, 0)

    async def add(
        self, manifest: bytes, refs: tuple[str, ...] = (), *, index: bytes | None = None
    ) -> ImageInfo:
        if self.failure is not None:
            raise self.failure
        self.added.append((manifest, refs, index))
        return ImageInfo("", "", refs, 0.0, 0)


class Origin:
    """An outside registry."""

    def __init__(self, failure: SwarmError | None = None) -> None:
        self.failure = failure
        self.asked: list[str] = []

    async def pull(self, ref: str, *, progress: Any) -> None:
        self.asked.append(ref)
        if self.failure is not None:
            raise self.failure


class Leader(Fleet):
    """Says who holds an image."""

    refusal: SwarmError | None = None
    clock = StillClock()
    failed = 0
    before: Callable[[], Any] | None = None

    async def LocateImage(  # noqa: N802
        self, request: agent_pb2.LocateImageRequest, context: Any
    ) -> agent_pb2.LocateImageResponse:
        self.failed += request.failed
        if self.before is not None:
            await self.before()
        if self.refusal is not None:
            await errors.abort(context, self.refusal)
        return self.image

    async def fetcher(self, origin: Origin | None = None) -> tuple[ImageFetcher, Images, Peer]:
        node = await self.node("me")
        images = Images(node.content)
        fetcher = ImageFetcher(
            images,
            node.blobs,
            cast("Any", lambda: node.channels.to(self.address, "leader")),
            lambda text: None,
            arch="amd64",
            clock=self.clock,
            origin=origin,
        )
        return fetcher, images, node

    async def holder(self, *blobs: bytes) -> None:
        node = await self.node(f"holder {len(self.nodes)}", *blobs)
        self.image.holders.add(node_id=node.name, address=node.address)


@pytest.fixture
async def leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Leader]:
    without_certificates(monkeypatch)
    leader = Leader(tmp_path)
    await leader.open()
    yield leader
    await leader.close()


async def test_an_image_comes_from_a_node_that_has_it(leader: Leader) -> None:
    leader.image.digest = digest_of(IMAGE)
    await leader.holder(CONFIG, LAYER, IMAGE)
    fetcher, images, node = await leader.fetcher()
    await fetcher.ensure("demo:1")
    assert images.added == [(IMAGE, ("demo:1",), None)]
    assert node.content.has(digest_of(LAYER))
    assert {digest_of(IMAGE), digest_of(CONFIG), digest_of(LAYER)} <= set(node.content.held)


async def test_what_came_of_an_image_that_has_no_room_is_given_back(leader: Leader) -> None:
    leader.image.digest = digest_of(IMAGE)
    await leader.holder(CONFIG, LAYER, IMAGE)
    fetcher, images, node = await leader.fetcher()
    images.failure = DiskFull("no space left for images")
    with pytest.raises(Unavailable, match="no space left"):
        await fetcher.ensure("demo:1")
    assert set(node.content.given_back) == {digest_of(IMAGE), digest_of(CONFIG), digest_of(LAYER)}


async def test_of_an_index_comes_what_this_machine_runs(leader: Leader) -> None:
    leader.image.digest = digest_of(INDEX)
    await leader.holder(CONFIG, LAYER, IMAGE, INDEX)
    fetcher, images, _ = await leader.fetcher()
    await fetcher.ensure(f"demo@{digest_of(INDEX)}")
    assert images.added == [(IMAGE, (f"demo@{digest_of(INDEX)}",), INDEX)]


async def test_parts_come_from_different_nodes(leader: Leader) -> None:
    leader.image.digest = digest_of(IMAGE)
    await leader.holder(CONFIG, IMAGE)
    await leader.holder(LAYER)
    fetcher, images, _ = await leader.fetcher()
    await fetcher.ensure("demo:1")
    assert len(images.added) == 1


async def test_an_image_nobody_holds_is_not_found_by_its_name(leader: Leader) -> None:
    fetcher, _, _ = await leader.fetcher()
    with pytest.raises(NotFound, match="No such image: demo:1"):
        await fetcher.ensure("demo:1")


async def test_an_image_nobody_holds_comes_from_its_origin(leader: Leader) -> None:
    origin = Origin()
    fetcher, _, _ = await leader.fetcher(origin)
    await fetcher.ensure("demo:1")
    assert origin.asked == ["demo:1"]


async def test_who_could_not_get_it_says_so_and_why(leader: Leader) -> None:
    fetcher, _, _ = await leader.fetcher(Origin(NotFound("pull access denied for demo")))
    with pytest.raises(NotFound, match="pull access denied"):
        await fetcher.ensure("demo:1")
    assert leader.failed == 1


async def test_while_others_get_it_from_outside_they_are_waited_for(leader: Leader) -> None:
    origin, answers = Origin(), 0

    async def later() -> None:
        nonlocal answers
        answers += 1
        leader.image.wait = answers < 3
        if answers == 3:
            leader.image.digest = digest_of(IMAGE)

    await leader.holder(CONFIG, LAYER, IMAGE)
    leader.before = later
    fetcher, images, _ = await leader.fetcher(origin)
    await fetcher.ensure("demo:1")
    assert (origin.asked, len(images.added)) == ([], 1)


async def test_others_who_never_get_it_are_not_waited_for_for_ever(leader: Leader) -> None:
    origin = Origin()
    leader.image.wait = True
    fetcher, _, _ = await leader.fetcher(origin)
    await fetcher.ensure("demo:1")
    assert origin.asked == ["demo:1"]


async def test_an_image_of_which_a_part_is_gone_is_unavailable_for_now(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarmd.node.distribution.blobs.ASKED", 1)
    leader.image.digest = digest_of(IMAGE)
    await leader.holder(CONFIG, IMAGE)
    fetcher, images, _ = await leader.fetcher()
    with pytest.raises(Unavailable, match="demo:1 could not be fetched: No such blob"):
        await fetcher.ensure("demo:1")
    assert images.added == []


async def test_a_manager_that_does_not_lead_makes_the_task_wait(leader: Leader) -> None:
    fetcher, _, _ = await leader.fetcher()
    leader.refusal = Unavailable("this manager does not lead the swarm at the moment")
    with pytest.raises(Unavailable, match="does not lead"):
        await fetcher.ensure("demo:1")


async def test_a_channel_closed_under_a_call_is_unavailable_and_no_cancellation(leader: Leader) -> None:
    fetcher, _, node = await leader.fetcher()
    leader.before = node.channels.close
    with pytest.raises(Unavailable):
        await fetcher.ensure("demo:1")
