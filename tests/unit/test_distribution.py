"""Blobs go from node to node: in parts, from several, verified, over real gRPC on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.model.errors import Invalid, NotFound, Unavailable
from swarmd.node.distribution import parts
from swarmd.node.distribution.copying import Copy
from swarmd.node.distribution.core.choosing import Chooser, Provider
from swarmd.node.distribution.core.ranges import PIECE, Range
from swarmd.node.distribution.wire import Answer
from tests.unit.agent_fakes import StillClock
from tests.unit.distribution_rig import Fleet, digest_of, without_certificates

BLOB = b"".join(bytes([n]) * 65_521 for n in range(160))  # ten million bytes, no two ranges alike
DIGEST = digest_of(BLOB)


@pytest.fixture
async def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    without_certificates(monkeypatch)
    fleet = Fleet(tmp_path)
    await fleet.open()
    yield fleet
    await fleet.close()


def test_the_blob_of_these_tests_has_more_than_two_ranges() -> None:
    assert len(BLOB) > 2 * PIECE


async def test_a_blob_comes_whole_from_whoever_has_it(fleet: Fleet) -> None:
    await fleet.node("a", BLOB)
    b = await fleet.node("b")
    told: list[tuple[str, str, int, int]] = []
    await b.blobs.ensure_blob(DIGEST, progress=lambda *words: told.append(words))  # type: ignore[arg-type]
    assert b.content.path(DIGEST).read_bytes() == BLOB
    assert told[-2][2:] == (len(BLOB), len(BLOB))
    assert DIGEST in b.content.held, "nothing may be collected meanwhile"


async def test_a_blob_that_is_here_is_asked_of_nobody(fleet: Fleet) -> None:
    b = await fleet.node("b", BLOB)
    await b.blobs.ensure_blob(DIGEST)
    assert fleet.questions == 0


async def test_two_who_want_it_at_once_on_one_node_share_the_work(fleet: Fleet) -> None:
    a, b = await fleet.node("a", BLOB), await fleet.node("b")
    await asyncio.gather(b.blobs.ensure_blob(DIGEST), b.blobs.ensure_blob(DIGEST))
    assert a.given == len(BLOB)


async def test_several_who_have_it_each_give_a_part(fleet: Fleet) -> None:
    large = BLOB * 3
    holders = [await fleet.node(name, large) for name in "abc"]
    d = await fleet.node("d")
    await d.blobs.ensure_blob(digest_of(large))
    assert sum(holder.given for holder in holders) == len(large)
    assert sum(1 for holder in holders if holder.given) > 1


async def test_a_node_of_an_earlier_version_gives_blobs_too(fleet: Fleet) -> None:
    old, c = await fleet.node("a", BLOB, b"small"), await fleet.node("c")
    old.is_old = True
    for digest in (DIGEST, digest_of(b"small")):
        await c.blobs.ensure_blob(digest)
        assert c.content.has(digest)


async def test_a_node_that_dies_in_the_middle_is_followed_by_another(fleet: Fleet) -> None:
    dying, other = await fleet.node("a", BLOB), await fleet.node("b", BLOB)
    dying.broken_after = PIECE // 2
    c = await fleet.node("c")
    await c.blobs.ensure_blob(DIGEST, first=[Provider("a", dying.address)])
    assert c.content.path(DIGEST).read_bytes() == BLOB
    assert other.given > 0


async def test_what_is_not_what_it_says_is_fetched_again_from_others(fleet: Fleet) -> None:
    liar, honest, c = await fleet.node("a"), await fleet.node("b", BLOB), await fleet.node("c")
    liar.content.plant(DIGEST, BLOB[:-1] + b"!")
    await c.blobs.ensure_blob(DIGEST, first=[Provider("a", liar.address), Provider("b", honest.address)])
    assert c.content.path(DIGEST).read_bytes() == BLOB


async def test_what_nobody_has_right_is_refused_and_not_stored(fleet: Fleet) -> None:
    liar, c = await fleet.node("a"), await fleet.node("c")
    liar.content.plant(DIGEST, BLOB[:-1] + b"!")
    with pytest.raises((Invalid, NotFound)):
        await c.blobs.ensure_blob(DIGEST, patience=1)
    assert not c.content.has(DIGEST)


async def test_what_nobody_has_is_not_found(fleet: Fleet) -> None:
    c = await fleet.node("c")
    with pytest.raises(NotFound, match=f"No such blob: {DIGEST}"):
        await c.blobs.ensure_blob(DIGEST, patience=1)


async def test_those_who_cannot_give_what_they_have_are_unavailable_with_the_reason(fleet: Fleet) -> None:
    a, c = await fleet.node("a", BLOB), await fleet.node("c")
    a.broken_after = 0
    with pytest.raises(Unavailable, match=f"{DIGEST} could not be fetched: {a.address}: the node died"):
        await c.blobs.ensure_blob(DIGEST, patience=1)


async def test_nodes_that_come_together_all_get_it_although_one_serves_few_at_a_time(fleet: Fleet) -> None:
    await fleet.node("seed", BLOB)
    others = [await fleet.node(f"n{number}") for number in range(6)]
    await asyncio.gather(*(node.blobs.ensure_blob(DIGEST) for node in others))
    assert all(node.content.has(DIGEST) for node in others)


async def test_everything_below_a_digest_comes_and_what_an_index_only_lists_is_left_out(fleet: Fleet) -> None:
    layer, config = b"a layer", b"{}"
    manifest = (
        f'{{"config":{{"digest":"{digest_of(config)}"}},"layers":[{{"digest":"{digest_of(layer)}"}},'
        f'{{"digest":"{digest_of(b"elsewhere")}","urls":["https://example.com/x"]}}]}}'
    ).encode()
    index = (
        f'{{"manifests":[{{"digest":"{digest_of(manifest)}"}},{{"digest":"{digest_of(b"of another")}"}}]}}'
    ).encode()
    await fleet.node("a", layer, config, manifest, index)
    b = await fleet.node("b")
    found = await parts.everything(b.blobs, b.content, digest_of(index))
    assert set(found) == {digest_of(data) for data in (layer, config, manifest, index)}
    assert all(b.content.has(digest) for digest in found)
    with pytest.raises(NotFound):
        await parts.everything(b.blobs, b.content, digest_of(b"nowhere"), patience=1)


async def test_while_a_slow_node_serves_us_those_who_have_it_by_now_are_found() -> None:
    slow, fast = Provider("slow", "1"), Provider("fast", "2")
    chooser = Chooser("me", lambda: 0.5)
    chooser.learn([slow])
    large, asked, written, helped = BLOB * 3, 0, bytearray(), asyncio.Event()

    async def locate() -> list[Provider]:
        nonlocal asked
        asked += 1
        return [slow] if asked == 1 else [slow, fast]

    async def fetch(provider: Provider, part: Range | None) -> Answer:
        if provider is fast:
            helped.set()
        elif part is not None:
            async with asyncio.timeout(60):
                await helped.wait()
        begin, length = (part.offset, part.length) if part else (0, PIECE)
        return Answer(large[begin : begin + length], len(large))

    async def write(data: bytes) -> None:
        written.extend(data)

    copy = Copy(
        DIGEST, chooser, fetch=fetch, locate=locate, write=write, clock=StillClock(),
        told=lambda current, total: None,
    )  # fmt: skip
    await copy.run()
    assert bytes(written) == large
