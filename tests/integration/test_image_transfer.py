"""Images from node to node: broken streams, many callers, wrong content."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from swarmd.image.core.manifest import sha256
from swarmd.image.store import ImageStore
from swarmd.model.errors import Invalid, NotFound, Unavailable
from tests.integration.image_rig import (
    LAYERS,
    Peer,
    archive,
    configuration,
    entry,
    leftovers,
    opened,
    pack,
)

pytestmark = pytest.mark.root


@pytest.fixture
async def store(tmp_path: Path) -> ImageStore:
    return await opened(tmp_path / "images")


@pytest.fixture
async def peer(tmp_path: Path) -> Peer:
    source = await opened(tmp_path / "peer")
    await source.load(io.BytesIO(archive("nginx:1.12", *LAYERS, squeeze=gzip.compress)))
    return Peer(source, "nginx:1.12")


class TestTransfer:
    async def test_an_image_arrives_as_it_is_there(self, store: ImageStore, peer: Peer) -> None:
        info = await store.receive("nginx:1.12", None, peer.manifest, peer.blob)
        assert info == peer.store.resolve("nginx:1.12")
        assert len((await store.prepare("nginx:1.12")).layers) == 2

    async def test_a_digest_reference_moves_no_tag(self, store: ImageStore, peer: Peer) -> None:
        digest = peer.store.resolve("nginx:1.12").digest
        info = await store.receive(f"nginx:1.12@{digest}", None, peer.manifest, peer.blob)
        assert info.refs == (f"nginx@{digest}",)
        asked = len(peer.asked)
        again = await store.receive("nginx:1.12", digest, peer.manifest, peer.blob)
        assert (again.refs, len(peer.asked)) == (("nginx:1.12", f"nginx@{digest}"), asked)

    async def test_a_broken_stream_goes_on_where_it_left_off(self, store: ImageStore, peer: Peer) -> None:
        peer.cut = 2500
        info = await store.receive("nginx:1.12", None, peer.manifest, peer.blob)
        assert info.digest == peer.store.resolve("nginx:1.12").digest
        per_blob: dict[str, list[int]] = {}
        for digest, offset in peer.asked:
            per_blob.setdefault(digest, []).append(offset)
        assert max(len(offsets) for offsets in per_blob.values()) == 4
        assert all(offsets == [2500 * each for each in range(len(offsets))] for offsets in per_blob.values())

    async def test_a_peer_that_stays_gone_is_told_and_leaves_nothing(
        self, store: ImageStore, peer: Peer, tmp_path: Path
    ) -> None:
        peer.fail_at = 12
        with pytest.raises(Unavailable, match=r"cannot fetch blob sha256:\w+: the peer is gone .* 5 tries"):
            await store.receive("nginx:1.12", None, peer.manifest, self.gone(peer))
        assert (store.list(), leftovers(tmp_path / "images")) == ([], [])
        peer.fail_at = -1
        assert (await store.receive("nginx:1.12", None, peer.manifest, peer.blob)).refs == ("nginx:1.12",)

    @staticmethod
    def gone(peer: Peer) -> Callable[[str, int], AsyncIterator[bytes]]:
        """Once failed, failing for ever."""

        async def blob(digest: str, offset: int) -> AsyncIterator[bytes]:
            peer.fail_at = max(0, peer.fail_at)
            async for piece in peer.blob(digest, offset):
                yield piece

        return blob

    async def test_ten_calls_for_one_image_fetch_it_once(self, store: ImageStore, peer: Peer) -> None:
        calls = (store.receive(f"n:{each}", None, peer.manifest, peer.blob) for each in range(10))
        infos = await asyncio.gather(*calls)
        assert len({info.digest for info in infos}) == 1
        assert len(peer.asked) == len(set(peer.asked)) == 3
        assert len(store.resolve("n:0").refs) == 10

    async def test_the_first_of_two_callers_may_give_up(self, store: ImageStore, peer: Peer) -> None:
        started = asyncio.Event()

        async def stuck(digest: str, offset: int) -> AsyncIterator[bytes]:
            started.set()
            await asyncio.Event().wait()
            yield b""

        first = asyncio.ensure_future(store.receive("a:1", None, peer.manifest, stuck))
        await started.wait()
        second = asyncio.ensure_future(store.receive("b:1", None, peer.manifest, peer.blob))
        first.cancel()
        assert (await second).refs == ("b:1",)
        assert first.cancelled()

    async def test_wrong_content_is_refused_and_leaves_nothing(
        self, store: ImageStore, peer: Peer, tmp_path: Path
    ) -> None:
        info = peer.store.resolve("nginx:1.12")
        layer = json.loads(peer.store.manifest("nginx:1.12"))["layers"][1]["digest"]
        content = peer.store.blob_path(layer).read_bytes()
        with pytest.raises(Invalid, match="not what was asked for"):
            await store.receive("nginx:1.12", sha256(b"other"), peer.manifest, peer.blob)
        for wrong, words in (
            (content[:-1] + bytes([content[-1] ^ 1]), "gzip stream is damaged|layer .* is damaged"),
            (content + b"more", "longer than"),
        ):
            peer.swap = {layer: wrong}
            with pytest.raises(Invalid, match=words):
                await store.receive("nginx:1.12", info.digest, peer.manifest, peer.blob)
        peer.swap = {info.id: b"x" * peer.store.blob_size(info.id)}
        with pytest.raises(Invalid, match=f"blob {info.id} is damaged"):
            await store.receive("nginx:1.12", info.digest, peer.manifest, peer.blob)
        assert (store.list(), leftovers(tmp_path / "images")) == ([], [])

    async def test_a_right_digest_with_a_wrong_diff_id_is_a_forgery(
        self, store: ImageStore, peer: Peer, tmp_path: Path
    ) -> None:
        await store.receive("nginx:1.12", None, peer.manifest, peer.blob)
        held = leftovers(tmp_path / "images")
        manifest = json.loads(peer.store.manifest("nginx:1.12"))
        config = configuration(LAYERS[0], pack(entry("something else")))
        manifest["config"] |= {"digest": sha256(config), "size": len(config)}
        peer.swap = {sha256(config): config}

        async def forged() -> bytes:
            return json.dumps(manifest).encode()

        with pytest.raises(Invalid, match="forged"):
            await store.receive("evil:1", None, forged, peer.blob)
        assert leftovers(tmp_path / "images") == held

    async def test_only_blobs_of_an_image_are_given_away(self, store: ImageStore) -> None:
        stray = store._disk.write_blob(b"secret")
        with pytest.raises(NotFound):
            store.blob_path(stray)
        with pytest.raises(NotFound):
            store.blob_size("sha256:../../../etc/passwd")
