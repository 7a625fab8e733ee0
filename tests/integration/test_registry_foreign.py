"""Other programs push to the swarm's registry and pull from it: skopeo, buildah, podman, curl."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.image.registry.http_server import HttpServer
from tests.unit.registry_rig import Rig, descriptor, image_manifest, index_of, sha256

pytestmark = pytest.mark.root

LIMIT = 120.0


class Judge:
    """Runs programs against a registry at ``host``."""

    def __init__(self, rig: Rig, port: int, work: Path) -> None:
        self.rig, self.host, self.work = rig, f"127.0.0.1:{port}", work

    async def run(self, *words: str, code: int = 0) -> str:
        process = await asyncio.create_subprocess_exec(
            *words, cwd=self.work, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(LIMIT):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode == code, f"{words}: {process.returncode}: {err.decode()}"
        return out.decode()

    async def skopeo(self, *words: str, code: int = 0) -> str:
        return await self.run("skopeo", "--insecure-policy", *words, code=code)

    def layout(self, name: str) -> str:
        """An image of one file, as an OCI layout."""
        directory = self.work / name
        blobs = directory / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        layer = tarred("app", b"x" * 100_000)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["/app"]},
                "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
                "history": [{"created_by": "test"}],
            }
        ).encode()
        raw = json.loads(image_manifest(config, layer))
        raw["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
        manifest = json.dumps(raw).encode()
        for blob in (layer, config, manifest):
            (blobs / sha256(blob).removeprefix("sha256:")).write_bytes(blob)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        entry = descriptor(manifest, raw["mediaType"])
        entry["annotations"] = {"org.opencontainers.image.ref.name": "1"}
        (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        return f"oci:{directory}:1"


def tarred(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o755
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
async def judge(tmp_path: Path) -> AsyncIterator[Judge]:
    rig = Rig(tmp_path / "content")
    server = HttpServer(rig.registry.handle)
    port = await server.open("127.0.0.1", 0)
    work = tmp_path / "work"
    work.mkdir()
    yield Judge(rig, port, work)
    await server.close()


async def test_skopeo_copies_in_and_out_lists_inspects_and_deletes(judge: Judge) -> None:
    source, there = judge.layout("image"), f"docker://{judge.host}"
    await judge.skopeo("copy", "--dest-tls-verify=false", source, f"{there}/team/app:1")
    await judge.skopeo(
        "copy", "--format", "v2s2", "--dest-tls-verify=false", source, f"{there}/team/app:docker"
    )
    listed = json.loads(await judge.skopeo("list-tags", "--tls-verify=false", f"{there}/team/app"))
    assert listed["Tags"] == ["1", "docker"]
    inspected = json.loads(await judge.skopeo("inspect", "--tls-verify=false", f"{there}/team/app:1"))
    stored = await judge.rig.names.find("team/app", "1")
    assert stored is not None
    assert inspected["Digest"] == stored.digest
    docker = await judge.rig.names.find("team/app", "docker")
    assert docker is not None
    assert docker.media_type == "application/vnd.docker.distribution.manifest.v2+json"
    await judge.skopeo("copy", "--src-tls-verify=false", f"{there}/team/app:1", "dir:back")
    assert (judge.work / "back" / "manifest.json").read_bytes() == stored.data
    both = ("--src-tls-verify=false", "--dest-tls-verify=false")
    await judge.skopeo("copy", *both, f"{there}/team/app:1", f"{there}/other:1")
    assert len(judge.rig.content.ingests()) == 0
    await judge.skopeo("sync", "--src=docker", "--dest=dir", *both, f"{judge.host}/team/app", "synced")
    assert len(list((judge.work / "synced").rglob("manifest.json"))) == 2
    await judge.skopeo("delete", "--tls-verify=false", f"{there}/team/app:1")
    assert await judge.rig.names.tags("team/app") == ["docker"]


async def test_skopeo_copies_every_image_of_an_index(judge: Judge) -> None:
    there = f"docker://{judge.host}/app"
    await judge.skopeo(
        "copy", "--dest-tls-verify=false", judge.layout("image"), f"docker://{judge.host}/multi:1"
    )
    first = await judge.rig.names.find("multi", "1")
    assert first is not None
    index = json.loads(index_of(first.data))
    index["manifests"][0]["mediaType"] = first.media_type
    index["manifests"][0]["platform"] = {"os": "linux", "architecture": "amd64"}
    raw = json.dumps(index).encode()
    assert (await judge.rig.ask("PUT", "/v2/multi/manifests/all", raw)).status == 201
    both = ("--src-tls-verify=false", "--dest-tls-verify=false")
    await judge.skopeo("copy", "--all", *both, f"docker://{judge.host}/multi:all", f"{there}:all")
    copied = await judge.rig.names.find("app", "all")
    assert copied is not None
    assert copied.data == raw


@pytest.mark.parametrize("program", ["buildah", "podman"])
async def test_buildah_and_podman_push_and_pull(judge: Judge, program: str) -> None:
    assert shutil.which(program) is not None, f"apt-get install {program}: the tests need it"
    name = f"{judge.host}/app:1"
    await judge.skopeo("copy", "--dest-tls-verify=false", judge.layout("image"), f"docker://{name}")
    with tempfile.TemporaryDirectory(prefix="sr-") as short:  # podman takes no longer run directory
        storage = ("--root", str(judge.work / "root"), "--runroot", f"{short}/run")
        tool = (program, *storage, "--storage-driver", "vfs")
        await judge.run(*tool, "pull", "--tls-verify=false", name)
        await judge.run(*tool, "tag", name, f"{judge.host}/again/app:2")
        await judge.run(*tool, "push", "--tls-verify=false", f"{judge.host}/again/app:2")
    pulled = await judge.rig.names.find("again/app", "2")
    assert pulled is not None
    assert len(pulled.blobs) == 2


async def test_curl_pushes_an_artifact_and_its_signature_and_finds_it(judge: Judge) -> None:
    base = f"http://{judge.host}/v2/charts/blobs/uploads/"
    for name, data in (("config", b"{}"), ("chart", b"c" * 50_000)):
        (judge.work / name).write_bytes(data)
        where = f"{base}?digest={sha256(data)}"
        headers = ("-H", "Content-Type: application/octet-stream")
        await judge.run("curl", "-sSf", *headers, "--data-binary", f"@{name}", where)
    chart = image_manifest(b"{}", b"c" * 50_000, artifactType="application/vnd.example.chart")
    about = descriptor(chart, "application/vnd.oci.image.manifest.v1+json")
    signature = image_manifest(b"{}", artifactType="application/vnd.example.signature", subject=about)
    for name, raw in (("chart.json", chart), ("signature.json", signature)):
        (judge.work / name).write_bytes(raw)
        where = f"http://{judge.host}/v2/charts/manifests/{sha256(raw)}"
        kind = "Content-Type: application/vnd.oci.image.manifest.v1+json"
        await judge.run("curl", "-sSf", "-X", "PUT", "-H", kind, "--data-binary", f"@{name}", where)
    found = await judge.run("curl", "-sSf", f"http://{judge.host}/v2/charts/referrers/{sha256(chart)}")
    assert [each["digest"] for each in json.loads(found)["manifests"]] == [sha256(signature)]
