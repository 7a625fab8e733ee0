"""The image store on a real disk: load, import, remove, recover from a crash, a full disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from swarmd.image.core.manifest import read_manifest, sha256
from swarmd.image.store import ImageStore, Rootfs
from swarmd.model.errors import Conflict, Invalid, NotFound, Unavailable
from tests.integration.image_rig import (
    LAYERS,
    Peer,
    StillClock,
    archive,
    entry,
    folder,
    leftovers,
    nobody,
    opened,
    pack,
)

pytestmark = pytest.mark.root


@pytest.fixture
async def store(tmp_path: Path) -> ImageStore:
    return await opened(tmp_path / "images")


class TestLoading:
    async def test_an_image_is_loaded_listed_found_and_removed(
        self, store: ImageStore, tmp_path: Path
    ) -> None:
        layer = pack(entry("x", b"x"))
        path = tmp_path / "nginx.tar"
        path.write_bytes(archive("nginx:1.12", layer, Env=["A=1"], Cmd=["nginx"], StopSignal="SIGQUIT"))
        assert await store.load(path) == ("nginx:1.12",)
        (info,) = store.list()
        assert (info.refs, info.created) == (("nginx:1.12",), 1514764800.0)
        assert (
            store.resolve("nginx:1.12") == store.resolve(info.id[7:19]) == store.resolve(info.digest) == info
        )
        rootfs = await store.prepare("nginx:1.12")
        assert (rootfs.digest, rootfs.id) == (info.digest, info.id)
        assert (rootfs.config.env, rootfs.config.cmd, rootfs.config.stop_signal) == (
            ("A=1",),
            ("nginx",),
            "SIGQUIT",
        )
        await store.tag("nginx:1.12", "web")
        assert store.resolve("web").refs == ("nginx:1.12", "web:latest")
        await store.remove("web", in_use=nobody)
        with pytest.raises(Conflict, match="must force"):
            await store.remove("nginx:1.12", in_use=lambda digest: ["web.1"])
        await store.remove("nginx:1.12", in_use=nobody)
        assert store.list() == []
        assert leftovers(tmp_path / "images") == []
        with pytest.raises(NotFound, match=r"^No such image: nginx:1\.12$"):
            await store.prepare("nginx:1.12")

    @pytest.mark.parametrize(
        "squeeze", [bytes, gzip.compress, lambda data: gzip.compress(data[:999]) + gzip.compress(data[999:])]
    )
    async def test_archives_come_as_files_pipes_or_pieces_and_compressed(
        self, store: ImageStore, squeeze: Callable[[bytes], bytes]
    ) -> None:
        data = squeeze(archive("", pack(entry("x", bytes(5000))), squeeze=squeeze))

        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(data), 700):
                yield data[at : at + 700]

        (by_pieces,) = await store.load(pieces())
        assert by_pieces == store.list()[0].id
        assert await store.load(io.BytesIO(data)) == (by_pieces,)
        assert (Path((await store.prepare(by_pieces)).layers[0]) / "x").read_bytes() == bytes(5000)

    async def test_the_same_archive_is_the_same_image_everywhere(
        self, store: ImageStore, tmp_path: Path
    ) -> None:
        other = await opened(tmp_path / "other")
        data = archive("nginx:1.12", pack(entry("x")))
        await store.load(io.BytesIO(data))
        await other.load(io.BytesIO(data))
        assert store.list() == other.list()

    async def test_a_forged_or_incomplete_archive_leaves_nothing(
        self, store: ImageStore, tmp_path: Path
    ) -> None:
        honest, forged = pack(entry("x", b"honest")), pack(entry("x", b"forged"))
        good = archive("a:1", honest)
        for squeeze in (bytes, gzip.compress):
            bad = archive("a:1", forged, squeeze=squeeze).replace(
                sha256(forged).encode(), sha256(honest).encode()
            )
            with pytest.raises(Invalid, match="forged"):
                await store.load(io.BytesIO(bad))
        with pytest.raises(Invalid, match=r"cut short|middle of a file"):
            await store.load(io.BytesIO(good[: len(good) // 2]))
        with pytest.raises(Invalid, match="zstd"):
            await store.load(io.BytesIO(b"\x28\xb5\x2f\xfd" + good))
        with pytest.raises(Invalid, match="xz stream is damaged"):
            await store.load(io.BytesIO(b"\xfd7zXZ\0" + good))
        with pytest.raises(Invalid, match="cannot read"):
            await store.load(tmp_path / "nosuch.tar")
        assert (store.list(), leftovers(tmp_path / "images")) == ([], [])

    async def test_a_blob_that_rots_on_disk_is_not_run(self, store: ImageStore) -> None:
        layer = pack(entry("x", b"honest"))
        await store.load(io.BytesIO(archive("a:1", layer)))
        store.blob_path(sha256(layer)).write_bytes(pack(entry("x", b"rotten")))
        with pytest.raises(Invalid, match="damaged"):
            await store.prepare("a:1")

    async def test_a_root_file_system_is_imported_with_changes(self, store: ImageStore) -> None:
        tar = gzip.compress(pack(folder("bin"), entry("bin/app", b"x", mode=0o755)))
        image_id = await store.import_rootfs(io.BytesIO(tar), "app", ('CMD ["/bin/app"]', "ENV A=1"))
        info = store.resolve("app:latest")
        assert (info.id, info.created) == (image_id, 1_000_000.0)
        rootfs = await store.prepare("app")
        assert (rootfs.config.cmd, rootfs.config.env) == (("/bin/app",), ("A=1",))
        assert (Path(rootfs.layers[0]) / "bin/app").read_bytes() == b"x"
        with pytest.raises(Invalid, match="climbs out"):
            await store.import_rootfs(io.BytesIO(pack(entry("../x"))), "bad")
        with pytest.raises(Invalid, match="digest reference"):
            await store.import_rootfs(io.BytesIO(tar), f"app@{info.digest}")
        assert len(store.list()) == 1

    @pytest.mark.parametrize("squeeze", [lzma.compress, bz2.compress])
    async def test_a_root_file_system_in_another_compression_becomes_gzip(
        self, store: ImageStore, squeeze: Callable[[bytes], bytes]
    ) -> None:
        tar = pack(entry("x", b"x" * 3000))
        await store.import_rootfs(io.BytesIO(squeeze(tar)), "app")
        (layer,) = read_manifest(store.manifest("app")).layers
        assert layer.media_type == "application/vnd.oci.image.layer.v1.tar+gzip"
        assert gzip.decompress(store.blob_path(layer.digest).read_bytes()) == tar
        with pytest.raises(Invalid, match="no image format knows"):
            await store.load(io.BytesIO(archive("bad:1", tar, squeeze=squeeze)))
        await store.load(io.BytesIO(squeeze(archive("good:1", tar))))


class TestRecovery:
    async def test_leftovers_of_a_crash_are_removed_and_images_stay(
        self, store: ImageStore, tmp_path: Path
    ) -> None:
        root = tmp_path / "images"
        await store.load(io.BytesIO(archive("a:1", *LAYERS)))
        await store.prepare("a:1")
        kept, listed = leftovers(root), store.list()
        (root / "work" / "half" / "tree" / "deep").mkdir(parents=True)
        (root / "work" / "half" / "tree" / "deep" / "file").touch()
        (root / "work" / "part").write_bytes(b"half a blob")
        (root / "trash" / "3" / "x").mkdir(parents=True)
        await store.close()
        again = await opened(root)
        assert (leftovers(root), again.list(), again.warnings) == (kept, listed, ())

    async def test_an_image_that_lost_a_blob_is_dropped_and_named(
        self, store: ImageStore, tmp_path: Path
    ) -> None:
        await store.load(io.BytesIO(archive("a:1", LAYERS[0])))
        await store.load(io.BytesIO(archive("b:1", LAYERS[1])))
        store.blob_path(sha256(LAYERS[0])).unlink()
        await store.close()
        again = await opened(tmp_path / "images")
        assert [info.refs for info in again.list()] == [("b:1",)]
        assert len(again.warnings) == 1
        assert "image a:1 is dropped" in again.warnings[0]

    async def test_collecting_garbage_spares_what_is_used_or_just_prepared(
        self, store: ImageStore, tmp_path: Path
    ) -> None:
        clock = store._clock
        assert isinstance(clock, StillClock)
        for name, layer in (("a:1", LAYERS[0]), ("b:1", LAYERS[1])):
            await store.load(io.BytesIO(archive(name, layer)))
        used = store.resolve("a:1").digest
        await store.prepare("b:1")
        report = await store.gc(lambda digest: ["web"] if digest == used else [], everything=True)
        assert (report.removals, report.reclaimed, len(store.list())) == ((), 0, 2)
        await store.prepare("b:1")
        clock.seconds += 601
        report = await store.gc(lambda digest: ["web"] if digest == used else [], everything=True)
        assert report.removals[0].untagged == "b:1"
        assert report.reclaimed > len(LAYERS[1])
        assert [info.refs for info in store.list()] == [("a:1",)]
        assert len(leftovers(tmp_path / "images")) == 3
        await store.prepare("a:1")
        store.known(used)
        assert (await store.gc(nobody, everything=True)).removals[0].untagged == "a:1"

    async def test_an_image_loses_its_name_to_a_newer_one_and_is_pruned(self, store: ImageStore) -> None:
        await store.load(io.BytesIO(archive("a:1", LAYERS[0])))
        await store.load(io.BytesIO(archive("a:1", LAYERS[1])))
        assert sorted(info.refs for info in store.list()) == [(), ("a:1",)]
        await store.gc(nobody, untagged=True)
        assert [info.refs for info in store.list()] == [("a:1",)]


class TestFullDisk:
    @pytest.fixture
    def small(self, tmp_path: Path) -> Iterator[Path]:
        place = tmp_path / "small"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
        yield place
        subprocess.run(["umount", str(place)], check=True)

    async def test_it_is_told_in_words_and_nothing_is_left_half_done(
        self, small: Path, tmp_path: Path
    ) -> None:
        store = await opened(small / "images")
        big = pack(entry("big", os.urandom(2 << 20)))
        zeros = pack(entry("zeros", bytes(2 << 20)))
        with pytest.raises(Unavailable, match="no space left for images in"):
            await store.load(io.BytesIO(archive("big:1", big)))
        with pytest.raises(Unavailable, match="no space left"):
            await store.import_rootfs(io.BytesIO(big), "big:1")
        assert (store.list(), leftovers(small / "images")) == ([], [])
        peer = await opened(tmp_path / "peer")
        await peer.load(io.BytesIO(archive("big:1", big)))
        giver = Peer(peer, "big:1")
        with pytest.raises(Unavailable, match="no space left"):
            await store.receive("big:1", None, giver.manifest, giver.blob)
        assert (store.list(), leftovers(small / "images")) == ([], [])
        await store.load(io.BytesIO(archive("zeros:1", zeros, squeeze=gzip.compress)))
        blobs = leftovers(small / "images")
        with pytest.raises(Unavailable, match="no space left"):
            await store.prepare("zeros:1")
        assert leftovers(small / "images") == blobs
        assert isinstance(await self.fits(store), Rootfs)
        await store.close()

    @staticmethod
    async def fits(store: ImageStore) -> Rootfs:
        await store.load(io.BytesIO(archive("tiny:1", pack(entry("x", b"x")))))
        return await store.prepare("tiny:1")
