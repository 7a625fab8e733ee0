"""Blobs by digest, images made of parts, layers packed from a container's upper directory."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import threading
import time
from pathlib import Path

import pytest

from swarmd.image.core.config import History, ImageConfig, write_config
from swarmd.image.core.manifest import layer_descriptor, sha256, write_manifest
from swarmd.image.flights import FRESH
from swarmd.image.port import Layer
from swarmd.image.store import ImageStore
from swarmd.model.errors import Invalid, NotFound, Unavailable
from tests.integration.image_rig import (
    StillClock,
    archive,
    configuration,
    entry,
    leftovers,
    merged,
    nobody,
    opened,
    pack,
)

pytestmark = pytest.mark.root


@pytest.fixture
async def store(tmp_path: Path) -> ImageStore:
    return await opened(tmp_path / "images")


def sha512(data: bytes) -> str:
    return f"sha512:{hashlib.sha512(data).hexdigest()}"


class TestBlobs:
    async def test_a_blob_comes_in_pieces_and_is_seen_when_it_is_whole(self, store: ImageStore) -> None:
        data = os.urandom(5000)
        ingest = await store.content.ingest()
        await ingest.write(data[:3000])
        assert (ingest.offset, store.content.has(sha256(data))) == (3000, False)
        await ingest.write(data[3000:])
        assert await ingest.commit(sha256(data)) == (sha256(data), 5000)
        assert store.content.path(sha256(data)).read_bytes() == data
        assert store.content.size(sha256(data)) == 5000
        with pytest.raises(NotFound, match="No such upload"):
            await store.content.ingest(ingest.key)

    async def test_an_unfinished_blob_goes_on_after_a_restart(
        self, store: ImageStore, tmp_path: Path
    ) -> None:
        data = os.urandom(5000)
        ingest = await store.content.ingest(algorithm="sha512")
        await ingest.write(data[:3000])
        await store.close()
        again = await opened(tmp_path / "images")
        other = await again.content.ingest(ingest.key)
        assert other.offset == 3000
        await other.write(data[3000:])
        assert await other.commit(sha512(data)) == (sha512(data), 5000)
        assert again.content.has(sha512(data))

    async def test_what_is_not_what_was_said_is_gone(self, store: ImageStore, tmp_path: Path) -> None:
        ingest = await store.content.ingest()
        await ingest.write(b"one")
        with pytest.raises(Invalid, match="not sha256:"):
            await ingest.commit(sha256(b"other"))
        with pytest.raises(Invalid, match="not sha512:"):
            await store.content.put(b"one", sha512(b"other"))
        with pytest.raises(NotFound):
            await store.content.ingest(ingest.key)
        cancelled = await store.content.ingest()
        await cancelled.write(b"x")
        await cancelled.cancel()
        assert leftovers(tmp_path / "images") == []

    async def test_a_digest_of_another_kind_than_begun_with_is_taken_at_the_end(
        self, store: ImageStore
    ) -> None:
        ingest = await store.content.ingest()
        await ingest.write(b"data")
        assert await ingest.commit(sha512(b"data")) == (sha512(b"data"), 4)

    @pytest.mark.parametrize(
        "digest",
        ["", "sha256:", "sha256:../../x", "md5:" + "0" * 32, "sha256:" + "A" * 64, "sha512:" + "0" * 64],
    )
    async def test_what_is_no_digest_names_nothing(self, store: ImageStore, digest: str) -> None:
        assert not store.content.has(digest)
        with pytest.raises(NotFound, match="No such blob"):
            store.content.path(digest)

    @pytest.mark.parametrize("key", ["nosuch", "sha256-none", "../catalog", "sha256-../../store.db"])
    async def test_a_key_of_nothing_is_not_found(self, store: ImageStore, key: str) -> None:
        with pytest.raises(NotFound, match="No such upload"):
            await store.content.ingest(key)


class Told:
    """In place of a running digest: says that it is asked, and waits with its answer."""

    def __init__(self, digest: str) -> None:
        self._digest = digest
        self.asked, self.answers = threading.Event(), threading.Event()

    def hexdigest(self) -> str:
        self.asked.set()
        self.answers.wait(60)
        return self._digest


class TestKeeping:
    async def test_a_blob_that_becomes_whole_while_others_are_collected_stays(
        self, store: ImageStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its name appears when it was looked what is needed, and before the rest is moved away."""
        digest = sha256(b"data")
        ingest = await store.content.ingest()
        await ingest.write(b"data")
        told = Told(digest.partition(":")[2])
        monkeypatch.setattr(ingest, "_hash", told)
        needed = store._keeper._needed

        def looked(fresh: frozenset[str]) -> set[str]:
            found = needed(fresh)
            told.answers.set()
            end, pause = time.monotonic() + 0.3, threading.Event()
            while not store.content.has(digest) and time.monotonic() < end:
                pause.wait(0.01)
            return found

        monkeypatch.setattr(store._keeper, "_needed", looked)
        committing = asyncio.ensure_future(ingest.commit())
        await asyncio.to_thread(told.asked.wait, 60)
        await store.gc(nobody)
        assert await committing == (digest, 4)
        assert store.content.has(digest)

    async def test_a_blob_of_no_image_stays_while_it_is_new_held_or_a_root(
        self, store: ImageStore, tmp_path: Path
    ) -> None:
        clock = store._clock
        assert isinstance(clock, StillClock)
        names = [await store.content.put(data) for data in (b"gone", b"held", b"rooted")]
        assert (await store.gc(nobody)).reclaimed == 0
        clock.seconds += FRESH + 1
        roots = [names[2]]
        store.protect(lambda: roots)
        with store.content.holding([names[1]]):
            assert (await store.gc(nobody)).reclaimed == len(b"gone")
        assert [store.content.has(name) for name in names] == [False, True, True]
        assert (await store.gc(nobody)).reclaimed == len(b"held")

    async def test_what_was_left_lately_goes_when_a_user_wants_the_room(self, store: ImageStore) -> None:
        clock = store._clock
        assert isinstance(clock, StillClock)
        brought, left, stored, again = [
            await store.content.put(data) for data in (b"brought", b"left", b"stored", b"again")
        ]
        store.content.leave([left, again])
        store.content.leave([stored], after=60.0)
        await store.content.put(b"again")
        await store._keeper.sweep()
        everything = (brought, left, stored, again)
        assert all(store.content.has(each) for each in everything)
        assert (await store.gc(nobody, untagged=True, among=set())).reclaimed == 0
        with store.content.holding([left]):
            assert (await store.gc(nobody, untagged=True)).reclaimed == 0
        assert (await store.gc(nobody, untagged=True)).reclaimed == len(b"left")
        clock.seconds += 61
        assert (await store.gc(nobody, untagged=True)).reclaimed == len(b"stored")
        assert [store.content.has(each) for each in everything] == [True, False, False, True]

    async def test_what_a_restart_finds_and_no_image_needs_was_left(
        self, store: ImageStore, tmp_path: Path
    ) -> None:
        blob = await store.content.put(b"on its way")
        await store.close()
        again = await opened(tmp_path / "images")
        await again._keeper.sweep()
        assert again.content.has(blob)
        assert (await again.gc(nobody, untagged=True)).reclaimed == len(b"on its way")

    async def test_a_root_that_is_a_manifest_or_an_index_keeps_all_it_needs(self, store: ImageStore) -> None:
        clock = store._clock
        assert isinstance(clock, StillClock)
        config, layer = await store.content.put(b"{}"), await store.content.put(b"layer")
        manifest = await store.content.put(
            json.dumps({"config": {"digest": config}, "layers": [{"digest": layer}]}).encode()
        )
        index = await store.content.put(json.dumps({"manifests": [{"digest": manifest}]}).encode())
        clock.seconds += FRESH + 1
        roots = [index]
        store.protect(lambda: roots)
        assert (await store.gc(nobody)).reclaimed == 0
        roots.clear()
        await store.gc(nobody)
        assert [store.content.has(each) for each in (config, layer, manifest, index)] == [False] * 4

    async def test_an_image_among_the_roots_is_not_pruned(self, store: ImageStore) -> None:
        await store.load(io.BytesIO(archive("a:1", pack(entry("x")))))
        digest = store.resolve("a:1").digest
        roots = [digest]
        store.protect(lambda: roots)
        assert (await store.gc(nobody, everything=True)).removals == ()
        roots.clear()
        assert (await store.gc(nobody, everything=True)).removals != ()

    async def test_while_roots_cannot_be_told_nothing_is_collected(self, store: ImageStore) -> None:
        clock = store._clock
        assert isinstance(clock, StillClock)
        await store.load(io.BytesIO(archive("a:1", pack(entry("x")))))
        blob = await store.content.put(b"somebody's")
        clock.seconds += FRESH + 1
        lost = [Unavailable("no leader")]

        def roots() -> list[str]:
            if lost:
                raise lost[0]
            return []

        store.protect(roots)
        report = await store.gc(nobody, everything=True)
        assert (report.removals, report.reclaimed, store.content.has(blob)) == ((), 0, True)
        assert (await store.usage(nobody)).reclaimable == 0
        lost.clear()
        report = await store.gc(nobody, everything=True)
        assert report.reclaimed > len(b"somebody's")


class TestComposing:
    async def test_an_image_is_made_of_what_is_stored(self, store: ImageStore) -> None:
        layer = pack(entry("x", b"x"))
        packed = gzip.compress(layer)
        config = configuration(layer, Cmd=["run"])
        for data in (packed, config):
            await store.content.put(data)
        manifest = write_manifest(config, (layer_descriptor(sha256(packed), len(packed), "gzip"),))
        index = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
        info = await store.add(manifest, ("app:1", f"app@{sha256(index)}"), index=index)
        assert info == store.resolve("app:1") == store.resolve(f"app@{sha256(index)}")
        assert (info.digest, info.indexes) == (sha256(manifest), (sha256(index),))
        rootfs = await store.prepare("app:1")
        assert (rootfs.config.cmd, (Path(rootfs.layers[0]) / "x").read_bytes()) == (("run",), b"x")
        await store.remove("app:1", in_use=nobody, force=True)

    async def test_what_is_missing_forged_or_of_another_size_is_no_image(self, store: ImageStore) -> None:
        layer, other = pack(entry("x", b"x")), pack(entry("x", b"y"))
        config = configuration(layer)
        for data in (config, other):
            await store.content.put(data)
        missing = write_manifest(config, (layer_descriptor(sha256(layer), len(layer), ""),))
        with pytest.raises(Invalid, match="is not here"):
            await store.add(missing)
        with pytest.raises(Invalid, match="forged"):
            await store.add(write_manifest(config, (layer_descriptor(sha256(other), len(other), ""),)))
        with pytest.raises(Invalid, match="manifest says 7"):
            await store.add(write_manifest(config, (layer_descriptor(sha256(other), 7, ""),)))
        assert store.list() == []

    async def test_a_second_blob_of_a_known_layer_is_verified_too(self, store: ImageStore) -> None:
        layer = pack(entry("x", b"x"))
        await store.load(io.BytesIO(archive("a:1", layer)))
        await store.prepare("a:1")
        forged = gzip.compress(pack(entry("x", b"y")))
        config = configuration(layer)
        for data in (config, forged):
            await store.content.put(data)
        with pytest.raises(Invalid, match="forged"):
            await store.add(write_manifest(config, (layer_descriptor(sha256(forged), len(forged), "gzip"),)))

    async def test_a_built_image_is_the_upper_directory_on_its_base(
        self, store: ImageStore, tmp_path: Path
    ) -> None:
        base = pack(entry("base", b"base"), entry("old", b"old"))
        await store.load(io.BytesIO(archive("base:1", base)))
        below = Path((await store.prepare("base:1")).layers[0])
        upper = tmp_path / "upper"
        upper.mkdir(mode=0o755)
        with merged(tmp_path / "view", below, upper=upper) as view:
            (view / "new").write_bytes(b"new")
            (view / "old").unlink()
        layer = await store.pack(upper, (below,))
        assert not upper.exists()
        config = write_config(
            ImageConfig(cmd=("a",)),
            diff_ids=(sha256(base), layer.diff_id),
            created=5.0,
            arch="amd64",
            history=(History(0.0, "base"), History(5.0, "RUN x")),
        )
        first = store.resolve("base:1")
        below_layer = store.content.size(sha256(base))
        info = await store.compose(
            config, (Layer(sha256(base), sha256(base), below_layer), layer), ("built:1",)
        )
        assert info.digest != first.digest
        rootfs = await store.prepare("built:1")
        assert tuple(str(tree) for tree in store.tree((sha256(base), layer.diff_id))) == rootfs.layers
        other = await opened(tmp_path / "other")
        for digest in (info.id, sha256(base), layer.digest):
            await other.content.put(store.content.path(digest).read_bytes())
        await other.add(store.manifest("built:1"), ("built:1",))
        lowers = [Path(each) for each in (await other.prepare("built:1")).layers]
        with merged(tmp_path / "second", *lowers) as view:
            assert sorted(path.name for path in view.iterdir()) == ["base", "new"]

    async def test_the_chain_of_what_is_not_unpacked_is_not_found(self, store: ImageStore) -> None:
        with pytest.raises(NotFound, match="is not unpacked"):
            store.tree((sha256(b"x"),))
