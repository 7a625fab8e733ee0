"""The registry of a daemon: over its image store, on the addresses of its settings."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import socket
import tarfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from swarmd.daemon.registry import Behind, RegistryDoor
from swarmd.daemon.registry_config import RegistryConfig
from swarmd.image.kernel import goarch
from swarmd.image.registry.access import hashed
from swarmd.image.registry.memory_names import MemoryNames
from swarmd.image.registry.server import nowhere
from swarmd.image.store import ImageStore
from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id
from tests.integration.test_registry_http import certificate
from tests.unit.registry_rig import INDEX, descriptor, image_manifest, index_of, sha256
from tests.unit.test_registry_mirror import Hub

pytestmark = pytest.mark.root

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port(above: int = 0) -> int:
    """One that the kernel gives to nobody by itself, so that it is still free a moment later."""
    for port in range(max(above + 1, 20_000 + os.getpid() % 10_000), 32_000):
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def image(mark: bytes, architecture: str) -> tuple[bytes, bytes, bytes]:
    """Configuration, layer and manifest of an image of one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("app")
        member.size = len(mark)
        tar.addfile(member, io.BytesIO(mark))
    layer = buffer.getvalue()
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
        }
    ).encode()
    manifest = json.loads(image_manifest(config, layer))
    manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
    return config, layer, json.dumps(manifest).encode()


class Bed:
    """A door, and what stands behind it."""

    def __init__(self, root: Path, **settings: object) -> None:
        self.clock = SystemClock()
        self.images = ImageStore(root / "images", self.clock)
        self.names = MemoryNames()
        self.port = free_port()
        self.changes = 0
        self.failures: list[BaseException] = []
        self.door = RegistryDoor(
            RegistryConfig(port=self.port, **settings),  # type: ignore[arg-type]
            Behind(
                images=self.images,
                names=self.names,
                ensure=nowhere,
                upstream=Hub(),
                state=root / "mirror.json",
                journal=root / "pushes.json",
                arch=goarch(),
                changed=self._changed,
                clock=self.clock,
                new_id=new_id,
                report=lambda _, error: self.failures.append(error),
            ),
        )

    def _changed(self) -> None:
        self.changes += 1

    async def ask(self, method: str, path: str, data: bytes | None = None, kind: str = "") -> int:
        return await asyncio.to_thread(self._ask, method, path, data, kind)

    def _ask(self, method: str, path: str, data: bytes | None, kind: str) -> int:
        headers = {"Content-Type": kind or "application/octet-stream"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        try:
            with _DIRECT.open(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    async def push(self, repository: str, reference: str, *blobs: bytes, manifest: bytes) -> None:
        for blob in blobs:
            path = f"/v2/{repository}/blobs/uploads/?digest={sha256(blob)}"
            assert await self.ask("POST", path, blob) == 201
        kind = json.loads(manifest)["mediaType"]
        path = f"/v2/{repository}/manifests/{reference or sha256(manifest)}"
        assert await self.ask("PUT", path, manifest, kind) == 201


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    bed = Bed(tmp_path)
    await bed.images.open()
    await bed.door.open()
    yield bed
    await bed.door.close()
    assert bed.failures == []


async def test_a_pushed_image_is_an_image_of_the_node(bed: Bed) -> None:
    config, layer, manifest = image(b"one", goarch())
    await bed.push("team/app", "1", config, layer, manifest=manifest)
    found = bed.images.resolve(f"localhost:{bed.port}/team/app:1")
    assert (found.digest, bed.changes) == (sha256(manifest), 1)
    assert bed.door.problems() == []


async def test_of_an_index_the_image_for_this_machine_is_one_of_the_node(bed: Bed) -> None:
    ours, others = image(b"ours", goarch()), image(b"others", "s390x")
    for each in (ours, others):
        await bed.push("app", "", each[0], each[1], manifest=each[2])
    index = json.loads(index_of(others[2], ours[2]))
    for entry, architecture in zip(index["manifests"], ("s390x", goarch()), strict=True):
        entry["platform"] = {"os": "linux", "architecture": architecture}
    assert await bed.ask("PUT", "/v2/app/manifests/1", json.dumps(index).encode(), INDEX) == 201
    assert bed.images.resolve(f"localhost:{bed.port}/app:1").digest == sha256(ours[2])


async def test_an_image_whose_layer_is_another_is_kept_by_the_registry_and_not_taken(bed: Bed) -> None:
    config, _, manifest = image(b"one", goarch())
    _, forged, _ = image(b"two", goarch())
    document = json.loads(manifest)
    document["layers"] = [descriptor(forged, document["layers"][0]["mediaType"])]
    await bed.push("app", "1", config, forged, manifest=json.dumps(document).encode())
    assert bed.images.list() == []


@pytest.fixture
def taken() -> Callable[[int], socket.socket]:
    def take(port: int) -> socket.socket:
        holder = socket.socket()
        holder.bind(("127.0.0.1", port))
        holder.listen()
        return holder

    return take


async def test_a_port_that_is_taken_is_a_warning_and_not_the_end(
    tmp_path: Path, taken: Callable[[int], socket.socket]
) -> None:
    bed = Bed(tmp_path)
    await bed.images.open()
    with taken(bed.port):
        await bed.door.open()
        assert [text.partition(":")[0] for text in bed.door.problems()] == [
            "the registry cannot listen on 127.0.0.1"
        ]
        await bed.door.close()


async def test_the_network_door_lets_users_in_over_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    users = tmp_path / "users"
    users.write_text(f"ann:{hashed('secret', bytes(16))}\n")
    outside = free_port(above=free_port())
    bed = Bed(
        tmp_path,
        listen=f"127.0.0.1:{outside}",
        certificate=str(cert),
        key=str(key),
        users_file=str(users),
    )
    await bed.images.open()
    await bed.door.open()
    assert bed.door.problems() == []
    config, layer, manifest = image(b"one", goarch())
    await bed.push("app", "1", config, layer, manifest=manifest)
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "ca.crt").write_bytes(cert.read_bytes())

    async def inspect(*login: str) -> int:
        process = await asyncio.create_subprocess_exec(
            "skopeo", "inspect", "--raw", "--cert-dir", str(trusted), *login,
            f"docker://127.0.0.1:{outside}/app:1",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        return await process.wait()

    assert await inspect("--creds", "ann:secret") == 0
    assert await inspect("--creds", "ann:wrong") != 0
    assert await inspect("--no-creds") != 0
    await bed.door.close()


async def test_a_missing_certificate_closes_the_network_door_only(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("")
    bed = Bed(
        tmp_path, listen="127.0.0.1:1", certificate="/nowhere.crt", key="/nowhere.key", users_file=str(users)
    )
    await bed.images.open()
    await bed.door.open()
    assert "/nowhere.crt" in bed.door.problems()[0]
    assert await bed.ask("GET", "/v2/") == 200
    await bed.door.close()


async def test_housekeeping_goes_on_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = asyncio.Event()
    failures = [OSError("the disk is full")]

    async def tidy() -> None:
        if failures:
            raise failures.pop()
        again.set()

    monkeypatch.setattr("swarmd.daemon.registry._TIDY", 0.01)
    bed = Bed(tmp_path)
    monkeypatch.setattr(bed.door._registry, "tidy", tidy)
    await bed.images.open()
    await bed.door.open()
    try:
        await asyncio.wait_for(again.wait(), 60)
    finally:
        await bed.door.close()
    assert [str(error) for error in bed.failures] == ["the disk is full"]
