"""Images exchanged with skopeo, umoci, buildah and podman, both ways."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.image.core.config import ImageConfig, write_config
from swarmd.image.core.manifest import sha256
from swarmd.image.store import ImageStore
from tests.integration.image_rig import archive, entry, folder, opened, pack, snapshot, symlink

pytestmark = pytest.mark.root

BASE = pack(folder("bin"), entry("bin/app", b"program", mode=0o4755), symlink("app", "bin/app"), entry("old"))
TOP = pack(entry(".wh.old"), folder("srv", uid=7, gid=8), entry("srv/page", b"hello"))


@pytest.fixture
async def store(tmp_path: Path) -> ImageStore:
    return await opened(tmp_path / "images")


@pytest.fixture
async def saved(store: ImageStore, tmp_path: Path) -> Path:
    """An archive of ``web:1``, whose layers are compressed, as our store writes it."""
    await store.load(io.BytesIO(archive("web:1", BASE, TOP, squeeze=gzip.compress, Cmd=["/bin/app"])))
    return await write(store, tmp_path / "saved.tar", "web:1")


async def write(store: ImageStore, path: Path, *images: str) -> Path:
    with path.open("wb") as file:
        async for piece in store.save(*images):
            file.write(piece)
    return path


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """Options that keep the tools in directories of this test, one of them short enough for podman."""
    with tempfile.TemporaryDirectory(prefix="run", dir="/var/tmp") as short:
        yield ("--root", str(tmp_path / "c"), "--runroot", short, "--storage-driver", "vfs")


class TestWhatWeWrite:
    async def test_skopeo_reads_it_as_a_docker_archive_and_as_a_layout(
        self, store: ImageStore, saved: Path, tmp_path: Path
    ) -> None:
        seen = json.loads(run("skopeo", "inspect", "--config", f"docker-archive:{saved}:web:1"))
        assert seen["config"]["Cmd"] == ["/bin/app"]
        run("skopeo", "copy", f"oci-archive:{saved}:1", f"dir:{tmp_path / 'dir'}")
        assert sha256((tmp_path / "dir" / "manifest.json").read_bytes()) == store.resolve("web:1").digest

    async def test_umoci_unpacks_the_same_tree(self, saved: Path, tmp_path: Path) -> None:
        run("skopeo", "copy", f"docker-archive:{saved}:web:1", f"oci:{tmp_path / 'layout'}:one")
        run("umoci", "unpack", "--image", f"{tmp_path / 'layout'}:one", tmp_path / "bundle")
        found = snapshot(tmp_path / "bundle" / "rootfs")
        assert sorted(found) == ["app", "bin", "bin/app", "srv", "srv/page"]
        assert found["bin/app"] == ("file", 0o4755, 0, 0, b"program")
        assert found["srv"][:4] == ("dir", 0o755, 7, 8)

    async def test_umoci_unpacks_a_layer_we_packed(self, store: ImageStore, tmp_path: Path) -> None:
        upper = tmp_path / "upper"
        (upper / "d").mkdir(parents=True)
        (upper / "d/program").write_bytes(b"program")
        (upper / "d/program").chmod(0o4711)
        (upper / "again").hardlink_to(upper / "d/program")
        (upper / ("n" * 120)).symlink_to("t" * 120)
        os.chown(upper / "d", 3_000_000, 5)
        before = snapshot(upper)
        layer = await store.pack(upper)
        config = write_config(ImageConfig(), diff_ids=(layer.diff_id,), created=0.0, arch="amd64")
        await store.compose(config, (layer,), ("packed:1",))
        path = await write(store, tmp_path / "packed.tar", "packed:1")
        run("skopeo", "copy", f"oci-archive:{path}:1", f"oci:{tmp_path / 'layout'}:one")
        run("umoci", "unpack", "--image", f"{tmp_path / 'layout'}:one", tmp_path / "bundle")
        assert snapshot(tmp_path / "bundle" / "rootfs") == before

    async def test_podman_loads_it_under_its_name(self, saved: Path, storage: tuple[str, ...]) -> None:
        assert "web:1" in run("podman", *storage, "load", "-i", saved)


class TestWhatOthersWrite:
    async def test_a_layout_and_a_docker_archive_by_skopeo(
        self, store: ImageStore, saved: Path, tmp_path: Path
    ) -> None:
        other = await opened(tmp_path / "other")
        run("skopeo", "copy", f"docker-archive:{saved}:web:1", f"docker-archive:{tmp_path / 'd.tar'}:web:2")
        run("skopeo", "copy", f"oci-archive:{saved}:1", f"oci-archive:{tmp_path / 'o.tar'}:example.com/web:3")
        assert await other.load(tmp_path / "d.tar") == ("web:2",)
        assert await other.load(tmp_path / "o.tar") == ("example.com/web:3",)
        assert {info.id for info in other.list()} == {store.resolve("web:1").id}
        trees = [Path(layer) for layer in (await other.prepare("web:2")).layers]
        assert (trees[0] / "srv/page").read_bytes() == b"hello"

    async def test_zstd_layers_by_skopeo(self, saved: Path, tmp_path: Path) -> None:
        other = await opened(tmp_path / "other")
        run(
            "skopeo", "copy", "--dest-compress-format", "zstd", "--dest-compress",
            f"docker-archive:{saved}:web:1", f"oci-archive:{tmp_path / 'z.tar'}:web:4",
        )  # fmt: skip
        await other.load(tmp_path / "z.tar")
        manifest = json.loads(other.manifest("web:4"))
        assert {layer["mediaType"].rsplit("+", 1)[-1] for layer in manifest["layers"]} == {"zstd"}
        assert (Path((await other.prepare("web:4")).layers[-1]) / "bin/app").read_bytes() == b"program"

    async def test_an_image_made_by_umoci(self, store: ImageStore, tmp_path: Path) -> None:
        layout = tmp_path / "layout"
        (tmp_path / "page").write_bytes(b"by umoci")
        run("umoci", "init", "--layout", layout)
        run("umoci", "new", "--image", f"{layout}:one")
        run("umoci", "insert", "--image", f"{layout}:one", tmp_path / "page", "/srv/page")
        run("tar", "-C", layout, "-cf", tmp_path / "layout.tar", ".")
        (image,) = await store.load(tmp_path / "layout.tar")
        assert (Path((await store.prepare(image)).layers[0]) / "srv/page").read_bytes() == b"by umoci"

    async def test_an_image_made_by_buildah(
        self, store: ImageStore, storage: tuple[str, ...], tmp_path: Path
    ) -> None:
        (tmp_path / "page").write_bytes(b"by buildah")
        work = ("buildah", *storage)
        container = run(*work, "from", "scratch").strip()
        run(*work, "copy", container, tmp_path / "page", "/page")
        for form in ("docker-archive", "oci-archive"):
            target = tmp_path / f"{form}.tar"
            run(*work, "commit", container, f"{form}:{target}:built:{form[:3]}")
            await store.load(target)
        for info in store.list():
            rootfs = await store.prepare(info.digest)
            assert (Path(rootfs.layers[0]) / "page").read_bytes() == b"by buildah"
        assert len(store.list()) == 2
