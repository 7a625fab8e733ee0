"""Reading other registries through the swarm's."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from swarmd.image.flights import Flights
from swarmd.image.registry.core.pushed import MAX_MANIFEST
from swarmd.image.registry.mirror import FRESH, Mirror
from swarmd.model.errors import NotFound, Unavailable
from tests.unit.registry_rig import (
    MANIFEST,
    FolderContent,
    Rig,
    code,
    content_of,
    header,
    image_manifest,
    sha256,
)

LAYER = b"layer" * 1000
RAW = image_manifest(b"{}", LAYER)
NGINX = "docker.io/library/nginx"


class Found(msgspec.Struct, frozen=True):
    digest: str
    media_type: str
    raw: bytes


class Hub:
    """A registry elsewhere; counts what is asked of it."""

    def __init__(self) -> None:
        self.manifests = {f"{NGINX}:1": RAW, f"{NGINX}@{sha256(RAW)}": RAW}
        self.blobs = {sha256(LAYER): LAYER, sha256(b"{}"): b"{}"}
        self.asked: Counter[str] = Counter()
        self.is_down = False
        self.content: FolderContent
        self._flights = Flights()

    async def resolve(self, ref: str) -> Found:
        self.asked[ref] += 1
        await asyncio.sleep(0)
        if self.is_down:
            raise Unavailable("no route to host")
        if ref not in self.manifests:
            raise NotFound(f"{ref}: not found")
        raw = self.manifests[ref]
        return Found(sha256(raw), MANIFEST, raw)

    async def have_blob(self, ref: str, digest: str) -> None:
        async with self._flights.alone(digest):
            if self.content.has(digest):
                return
            self.asked[digest] += 1
            if self.is_down:
                raise Unavailable("no route to host")
            await asyncio.sleep(0)
            await self.content.put(self.blobs[digest], digest)


class Bench:
    def __init__(self, root: Path, hosts: tuple[str, ...] = ("*",)) -> None:
        self.hub = Hub()
        self.state = root / "mirror.json"
        self.rig = Rig(root / "content")
        self.root = root
        self.hosts = hosts
        self.start()

    def start(self) -> None:
        """As after a restart: with what is on disk."""
        at = self.rig.clock.at
        content = self.hub.content = FolderContent(self.root / "content")
        clock = self.rig.clock
        mirror = Mirror(self.hub, content, clock, self.state, self.hosts)
        self.rig = Rig(self.root / "content", mirror=mirror)
        self.rig.clock = clock
        clock.at = at
        self.mirror = mirror


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    "target",
    [
        "/v2/library/nginx/manifests/1?ns=docker.io",
        "/v2/nginx/manifests/1?ns=docker.io",
        "/v2/docker.io/library/nginx/manifests/1",
        "/v2/docker.io/nginx/manifests/1",
        f"/v2/library/nginx/manifests/{sha256(RAW)}?ns=docker.io",
    ],
)
async def test_a_manifest_is_read_through(bench: Bench, target: str) -> None:
    reply = await bench.rig.ask("GET", target)
    assert (reply.status, content_of(reply)) == (200, RAW)
    assert header(reply, "Content-Type") == MANIFEST
    assert header(reply, "Docker-Content-Digest") == sha256(RAW)
    assert header(reply, "OCI-Namespace") == "docker.io"
    head = await bench.rig.ask("HEAD", target)
    assert (head.status, head.length) == (200, len(RAW))


async def test_a_blob_is_fetched_once_for_all_who_want_it(bench: Bench) -> None:
    target = f"/v2/library/nginx/blobs/{sha256(LAYER)}?ns=docker.io"
    replies = await asyncio.gather(*(bench.rig.ask("GET", target) for _ in range(10)))
    assert [content_of(reply) for reply in replies] == [LAYER] * 10
    assert bench.hub.asked == {sha256(LAYER): 1}
    part = await bench.rig.ask("GET", target, headers={"Range": "bytes=0-4"})
    assert (part.status, content_of(part)) == (206, b"layer")


async def test_a_tag_is_asked_for_again_when_it_may_have_moved(bench: Bench) -> None:
    target = "/v2/library/nginx/manifests/1?ns=docker.io"
    await asyncio.gather(*(bench.rig.ask("GET", target) for _ in range(5)))
    assert bench.hub.asked[f"{NGINX}:1"] == 1
    newer = image_manifest(b"{}")
    bench.hub.manifests[f"{NGINX}:1"] = newer
    assert content_of(await bench.rig.ask("GET", target)) == RAW
    bench.rig.clock.at += FRESH + 1
    assert content_of(await bench.rig.ask("GET", target)) == newer


async def test_what_was_read_is_served_when_the_other_registry_is_down_also_after_a_restart(
    bench: Bench,
) -> None:
    targets = [
        "/v2/library/nginx/manifests/1?ns=docker.io",
        f"/v2/library/nginx/blobs/{sha256(LAYER)}?ns=docker.io",
    ]
    for target in targets:
        await bench.rig.ask("GET", target)
    bench.hub.is_down = True
    bench.rig.clock.at += FRESH + 1
    bench.start()
    replies = [await bench.rig.ask("GET", target) for target in targets]
    assert [content_of(reply) for reply in replies] == [RAW, LAYER]
    assert "cannot be reached" in header(replies[0], "Warning")
    other = await bench.rig.ask("GET", "/v2/library/nginx/manifests/2?ns=docker.io")
    assert (other.status, code(other)) == (503, "UNAVAILABLE")


async def test_content_that_is_not_what_its_digest_says_is_not_kept(bench: Bench) -> None:
    bench.hub.blobs[sha256(LAYER)] = b"something else"
    bench.hub.manifests[f"{NGINX}@{sha256(RAW)}"] = b"{}"
    for target in (f"blobs/{sha256(LAYER)}", f"manifests/{sha256(RAW)}"):
        reply = await bench.rig.ask("GET", f"/v2/library/nginx/{target}?ns=docker.io")
        assert (reply.status, code(reply)) == (503, "UNAVAILABLE")
    assert (bench.rig.content.blobs(), bench.rig.content.ingests()) == (set(), set())


async def test_what_is_nowhere_is_not_found(bench: Bench) -> None:
    assert (await bench.rig.ask("GET", "/v2/library/nginx/manifests/2?ns=docker.io")).status == 404


async def test_a_repository_of_the_swarm_that_is_called_like_a_host_stays_the_swarms(bench: Bench) -> None:
    await bench.rig.push_image("docker.io/library/nginx", "1", layer=b"ours")
    reply = await bench.rig.ask("GET", "/v2/docker.io/library/nginx/manifests/1")
    assert content_of(reply) != RAW
    assert not bench.hub.asked


async def test_only_the_hosts_that_are_allowed_are_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path, hosts=("docker.io",))
    assert (await bench.rig.ask("GET", "/v2/nginx/manifests/1?ns=docker.io")).status == 200
    reply = await bench.rig.ask("GET", "/v2/nginx/manifests/1?ns=internal:80")
    assert (reply.status, code(reply)) == (403, "DENIED")


async def test_a_mirrored_tag_keeps_its_image_from_being_collected_for_a_while(bench: Bench) -> None:
    await bench.rig.ask("GET", "/v2/nginx/manifests/1?ns=docker.io")
    assert set(bench.mirror.roots()) == {sha256(RAW)}
    bench.rig.clock.at += 31 * 86400
    assert set(bench.mirror.roots()) == set()


async def test_tags_nobody_looked_at_for_a_while_are_forgotten(bench: Bench) -> None:
    await bench.rig.ask("GET", "/v2/nginx/manifests/1?ns=docker.io")
    bench.hub.manifests["docker.io/library/other:1"] = RAW
    bench.rig.clock.at += 31 * 86400
    await bench.rig.ask("GET", "/v2/other/manifests/1?ns=docker.io")
    assert b"nginx" not in bench.state.read_bytes()


async def test_a_first_push_to_a_repository_called_like_a_host_asks_nobody_for_its_blobs(
    bench: Bench,
) -> None:
    digest = sha256(LAYER)
    assert (await bench.rig.ask("HEAD", f"/v2/docker.io/library/nginx/blobs/{digest}")).status == 404
    bench.hub.is_down = True
    assert (await bench.rig.ask("HEAD", f"/v2/example.com/app/blobs/{digest}")).status == 404
    assert not bench.hub.asked


async def test_a_large_blob_is_not_read_as_a_manifest(bench: Bench) -> None:
    digest = await bench.rig.content.put(b"{" + b" " * MAX_MANIFEST + b"}")
    reply = await bench.rig.ask("GET", f"/v2/nginx/manifests/{digest}?ns=docker.io")
    assert (reply.status, code(reply)) == (404, "MANIFEST_UNKNOWN")
