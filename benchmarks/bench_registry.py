"""Uploads, downloads and manifest reads of our registry and of docker-registry, in turns; prints the ratios.

Both are processes of their own on loopback, both keep blobs on the same disk.  curl moves the blob; one
program with 16 connections asks for the manifest.  Ours keeps names in memory here: what the swarm's
agreement costs is in ``bench_store``.  Needs curl and docker-registry.

    python -m benchmarks.bench_registry [rounds] [MB of the blob]
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import uvloop

from swarmd.image.registry.http_server import HttpServer
from swarmd.image.registry.intake import Uploads
from swarmd.image.registry.links import Links
from swarmd.image.registry.memory_names import MemoryNames
from swarmd.image.registry.server import Registry
from swarmd.image.store import ImageStore
from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id

OURS, THEIRS = "swarmd", "docker-registry"
_CONNECTIONS = 16
_SECONDS = 3.0
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


async def serve(port: int, directory: Path) -> None:
    """Ours, until it is ended."""
    clock = SystemClock()
    images = ImageStore(directory, clock)
    await images.open()
    registry = Registry(
        MemoryNames(),
        images.content,
        Uploads(images.content, clock, new_id),
        Links(images.content, clock),
    )
    await HttpServer(registry.handle).open("127.0.0.1", port)
    await asyncio.Event().wait()


@contextlib.contextmanager
def running(name: str, port: int, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One of the two, answering."""
    directory.mkdir()
    if name == OURS:
        command = [sys.executable, "-m", "benchmarks.bench_registry", "serve", str(port), str(directory)]
    else:
        settings = directory.with_suffix(".yml")
        settings.write_text(
            f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
            f"storage: {{filesystem: {{rootdirectory: {directory}}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: 127.0.0.1:{port}}}\n"
        )
        command = ["docker-registry", "serve", str(settings)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await_answer(port)
        yield process
    finally:
        process.kill()
        process.wait()


def _await_answer(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=2).close()
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def cpu(process: subprocess.Popen[bytes]) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def curl(*words: str) -> str:
    return subprocess.run(["curl", "-sSf", *words], check=True, capture_output=True, text=True).stdout


def digest_of(path: Path) -> str:
    done = subprocess.run(["openssl", "dgst", "-sha256", "-r", path], check=True, capture_output=True)
    return "sha256:" + done.stdout.decode().split()[0]


def upload(base: str, repository: str, blob: Path, digest: str) -> None:
    """Begin, stream, end: as skopeo and docker do."""
    where = ("-o", "/dev/null", "-w", "%header{location}")
    location = curl("-X", "POST", *where, f"{base}/v2/{repository}/blobs/uploads/")
    location = location if location.startswith("http") else base + location
    kind = ("-H", "Content-Type: application/octet-stream", "-H", "Expect:")
    location = curl("-X", "PATCH", *kind, "-T", f"{blob}", *where, location)
    location = location if location.startswith("http") else base + location
    joint = "&" if "?" in location else "?"
    curl("-X", "PUT", "-H", "Content-Length: 0", f"{location}{joint}digest={digest}")


class Asker(asyncio.Protocol):
    """Sends one request again and again over one connection."""

    def __init__(self, request: bytes, length: int) -> None:
        self.request, self.length, self.count, self.got = request, length, 0, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.got += len(data)
        while self.got >= self.length:
            self.got -= self.length
            self.count += 1
            self.transport.write(self.request)


async def reads(port: int, repository: str) -> float:
    """Manifests in a second."""
    request = (
        f"GET /v2/{repository}/manifests/1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: {_MANIFEST}\r\n\r\n"
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], head
    size = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
    await reader.readexactly(size)
    writer.close()
    loop = asyncio.get_running_loop()
    askers = [Asker(request, len(head) + size) for _ in range(_CONNECTIONS)]
    for asker in askers:
        await loop.create_connection(lambda asker=asker: asker, "127.0.0.1", port)  # type: ignore[misc]
    begin = time.monotonic()
    before = sum(asker.count for asker in askers)
    await asyncio.sleep(_SECONDS)
    done = sum(asker.count for asker in askers) - before
    rate = done / (time.monotonic() - begin)
    for asker in askers:
        asker.transport.abort()
    return rate


def push_manifest(base: str, repository: str, blob: Path, digest: str, work: Path) -> None:
    config = work / "config"
    config.write_bytes(b"{}")
    upload(base, repository, config, digest_of(config))
    raw = work / "manifest"
    layer = f'{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}",'
    layer += f'"size":{blob.stat().st_size}}}'
    raw.write_text(
        f'{{"schemaVersion":2,"mediaType":"{_MANIFEST}","config":{{"mediaType":'
        f'"application/vnd.oci.image.config.v1+json","digest":"{digest_of(config)}","size":2}},'
        f'"layers":[{layer}]}}'
    )
    kind = ("-H", f"Content-Type: {_MANIFEST}")
    curl("-X", "PUT", *kind, "--data-binary", f"@{raw}", f"{base}/v2/{repository}/manifests/1")


Figures = dict[str, dict[str, list[float]]]


def measure_round(name: str, port: int, number: int, blob: Path, work: Path, figures: Figures) -> None:
    """One upload, download and spell of reads of a registry that has nothing yet."""
    base, repository = f"http://127.0.0.1:{port}", f"bench/r{number}"
    digest = digest_of(blob)
    with running(name, port, work / f"{name}-{number}") as process:

        def timed(what: str, act: Callable[[], object]) -> None:
            wall, used = time.monotonic(), cpu(process)
            act()
            figures.setdefault(what, {}).setdefault(name, []).append(time.monotonic() - wall)
            figures.setdefault(f"{what}, its CPU", {}).setdefault(name, []).append(cpu(process) - used)

        timed("upload", lambda: upload(base, repository, blob, digest))
        push_manifest(base, repository, blob, digest, work)
        timed("download", lambda: curl("-o", "/dev/null", f"{base}/v2/{repository}/blobs/{digest}"))
        rate = uvloop.run(reads(port, repository))
        figures.setdefault("manifest reads in a second", {}).setdefault(name, []).append(rate)
    shutil.rmtree(work / f"{name}-{number}")


def main(rounds: int, megabytes: int) -> None:
    """Measure and print."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="bench-registry-") as name:
        work = Path(name)
        for number in range(rounds):
            blob = work / "blob"
            blob.write_bytes(os.urandom(megabytes * 1_000_000))
            for order, who in enumerate((OURS, THEIRS)):
                measure_round(who, 5081 + order, number, blob, work, figures)
    print(f"load {os.getloadavg()[0]:.1f}; a blob of {megabytes} MB, medians of {rounds}")
    for what, both in figures.items():
        ours, theirs = statistics.median(both[OURS]), statistics.median(both[THEIRS])
        ratio = ours / theirs if theirs else float("inf")
        print(f"{what}: {ours:.3g}, {THEIRS} {theirs:.3g}, ratio {ratio:.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        uvloop.run(serve(int(sys.argv[2]), Path(sys.argv[3])))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 5, int(sys.argv[2]) if sys.argv[2:] else 75)
