"""Pushes to a registry that is restarted, or killed, in the middle: they go on where they were."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.image.registry.core.refusals import Refusal
from swarmd.image.registry.intake import Upload, UploadLimits, Uploads
from swarmd.image.registry.journal import Journal
from swarmd.image.registry.links import Links
from swarmd.image.store import ImageStore
from swarmd.kit.ids import new_id
from tests.integration.image_rig import StillClock, opened, pieces_of
from tests.unit.registry_rig import MANIFEST, image_manifest, sha256

pytestmark = pytest.mark.root

MIB = 1 << 20
LIMIT = 60.0


class Served:
    """A registry in a process of its own."""

    def __init__(self, root: Path) -> None:
        words = [sys.executable, "-m", "tests.integration.registry_process", str(root)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)

    def ask(self, method: str, path: str, data: bytes = b"", **headers: str) -> http.client.HTTPResponse:
        """The answer, whose body was read."""
        with contextlib.closing(self.connect()) as connection:
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request(method, path, data, named)
            answer = connection.getresponse()
            answer.read()
            return answer

    def received(self, location: str) -> int:
        """Bytes of an upload that are there."""
        answer = self.ask("GET", location)
        assert answer.status == 204
        return int(answer.headers["Range"].partition("-")[2]) + 1

    def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        assert self.process.wait(LIMIT) == (0 if how == signal.SIGTERM else -how)


@contextlib.contextmanager
def served(root: Path) -> Iterator[Served]:
    made = Served(root)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_push_goes_on_after_its_registry_ended_in_the_middle(tmp_path: Path, how: signal.Signals) -> None:
    config, layer = b'{"architecture":"amd64"}', os.urandom(6 * MIB)
    with served(tmp_path) as first:
        assert first.ask("POST", f"/v2/app/blobs/uploads/?digest={sha256(config)}", config).status == 201
        location = first.ask("POST", "/v2/app/blobs/uploads/").headers["Location"]
        assert first.ask("PATCH", location, layer[: 2 * MIB]).status == 202
        sending = first.connect()
        sending.putrequest("PATCH", location)
        sending.putheader("Content-Length", str(4 * MIB))
        sending.endheaders()
        sending.send(layer[2 * MIB : 4 * MIB])
        deadline = time.monotonic() + LIMIT
        while first.received(location) <= 2 * MIB:
            assert time.monotonic() < deadline, "nothing of the second piece arrives"
        first.end(how)
        sending.close()
    with served(tmp_path) as second:
        there = second.received(location)
        assert 2 * MIB < there <= 4 * MIB
        assert second.ask("GET", location.replace("/app/", "/other/")).status == 404
        rest = layer[there:]
        assert second.ask("PATCH", location, rest, Content_Range=f"0-{len(rest) - 1}").status == 416
        sent = second.ask("PATCH", location, rest, Content_Range=f"{there}-{len(layer) - 1}")
        assert (sent.status, sent.headers["Range"]) == (202, f"0-{len(layer) - 1}")
        assert second.ask("PUT", f"{location}?digest={sha256(layer)}").status == 201
        assert second.ask("GET", location).status == 404
        # What came before it ended is the repository's still.
        raw = image_manifest(config, layer)
        assert second.ask("PUT", "/v2/app/manifests/1", raw, Content_Type=MANIFEST).status == 201


class Node:
    """Uploads over a store, one process after the other."""

    def __init__(self, store: ImageStore, clock: StillClock, root: Path) -> None:
        self.content = store.content
        self.clock = clock
        journal = Journal(root / "pushes.json")
        limits = UploadLimits(idle=3600)
        self.uploads = Uploads(store.content, clock, new_id, limits, journal)
        self.links = Links(store.content, clock, journal)


async def begun(node: Node) -> Upload:
    upload = node.uploads.begin("app")
    await node.uploads.append(upload, pieces_of(b"first"))
    return upload


async def test_an_upload_that_nobody_goes_on_with_after_a_restart_is_forgotten(tmp_path: Path) -> None:
    clock = StillClock()
    store = ImageStore(tmp_path / "images", clock)
    await store.open()
    upload = await begun(Node(store, clock, tmp_path))
    later = Node(store, clock, tmp_path)
    clock.seconds += 3599
    await later.uploads.expire()
    assert (await later.uploads.find("app", upload.key)).offset == 5
    clock.seconds += 3601
    last = Node(store, clock, tmp_path)
    clock.seconds += 3601
    await last.uploads.expire()
    assert list((tmp_path / "images/ingest").iterdir()) == []
    with pytest.raises(Refusal, match="no such upload"):
        await last.uploads.find("app", upload.key)
    await store.close()


async def test_an_upload_whose_bytes_are_gone_is_not_found(tmp_path: Path) -> None:
    store = await opened(tmp_path / "images")
    upload = await begun(Node(store, StillClock(), tmp_path))
    await store.close()
    for path in (tmp_path / "images/ingest").iterdir():
        path.unlink()
    store = await opened(tmp_path / "images")
    with pytest.raises(Refusal, match="no such upload"):
        await Node(store, StillClock(), tmp_path).uploads.find("app", upload.key)
    await store.close()


async def test_blobs_without_a_manifest_are_kept_for_a_day_in_all(tmp_path: Path) -> None:
    clock = StillClock()
    store = ImageStore(tmp_path / "images", clock)
    await store.open()
    digest = await store.content.put(b"blob")
    Node(store, clock, tmp_path).links.add("app", digest)
    clock.seconds += 80_000
    later = Node(store, clock, tmp_path)
    later.links.expire()
    assert later.links.has("app", digest)
    clock.seconds += 6401
    later.links.expire()
    assert not later.links.has("app", digest)
    await store.close()
