"""The swarm's registry as rows: pushed, looked up, moved, removed; and fetching ahead as users ask for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from swarmd.control.core.registry import INLINE
from swarmd.control.preload import News, Preloading
from swarmd.image.registry.port import Stored
from swarmd.model import image_ref
from swarmd.model.errors import Invalid, NotFound, Refused, Unavailable
from swarmd.model.objects import Node, NodeDescription, NodeSpec, NodeStatus
from swarmd.model.registry import RegistryManifest, RegistryTag
from swarmd.model.states import NodeState, Role
from swarmd.rpc.v1 import agent_pb2
from tests.unit.test_control_bed import Bed

ONE, TWO, THREE = (f"sha256:{letter * 64}" for letter in "abc")
LAYER = "sha256:" + "d" * 64


def stored(digest: str = ONE, **fields: object) -> Stored:
    data = b'{"config":{"size":5},"layers":[{"size":100},{"size":20}]}'
    return Stored(digest, "application/x", **{"data": data, "blobs": (LAYER,), **fields})  # type: ignore[arg-type]


@pytest.fixture
def bed() -> Bed:
    return Bed()


async def push(bed: Bed, manifest: Stored, *tags: str, repository: str = "team/app") -> None:
    await bed.registry.put(repository, manifest, tags, holder="n1", present=(manifest.digest,))


async def test_what_was_pushed_is_found_by_tag_and_digest(bed: Bed) -> None:
    await push(bed, stored(annotations={"a": "b"}), "1", "latest")
    registry = bed.registry
    assert registry.find("team/app", "1") == registry.find("team/app", ONE) == stored(annotations={"a": "b"})
    assert (
        registry.find("team/app", "2") is registry.find("other", "1") is registry.find("other", ONE) is None
    )
    assert (registry.tags("team/app"), registry.tags("other")) == (["1", "latest"], None)
    assert registry.repositories() == ["team/app"]
    assert registry.holds("team/app", LAYER)
    assert not registry.holds("other", LAYER)


async def test_contents_are_on_managers_before_a_name_points_to_them(bed: Bed) -> None:
    await push(bed, stored(), "1")
    assert bed.spread == [([ONE], "n1")]

    async def nobody(digests: Sequence[str], *, holder: str) -> None:
        raise Unavailable("only 0 of 2 managers could get the image")

    bed.registry._spread = nobody
    with pytest.raises(Unavailable, match="0 of 2"):
        await push(bed, stored(TWO), "1")
    assert [row.digest for row in bed.store.all(RegistryTag)] == [ONE]


async def test_a_large_manifest_is_no_row_of_the_log(bed: Bed) -> None:
    await push(bed, stored(data=b"x" * (INLINE + 1)), "1")
    found = bed.registry.find("team/app", "1")
    assert found is not None
    assert found.data == b""


async def test_a_tag_that_moves_leaves_the_manifest_and_says_when(bed: Bed) -> None:
    await push(bed, stored(), "1")
    bed.clock.advance(60)
    await push(bed, stored(TWO), "1")
    assert bed.registry.find("team/app", "1") == stored(TWO)
    row = bed.store.get(RegistryManifest, f"team/app@{ONE}")
    assert row is not None
    assert row.tagged_at == bed.clock.now()


async def test_two_pushes_at_the_same_moment_both_arrive(bed: Bed) -> None:
    row = RegistryTag(id="team/app:1", repository="team/app", tag="1", digest=TWO)
    bed.quicker(lambda: row)
    await push(bed, stored(), "1")
    assert bed.registry.find("team/app", "1") == stored()


async def test_referrers_are_listed_by_what_they_are_about(bed: Bed) -> None:
    await push(bed, stored())
    await push(bed, stored(TWO, subject=ONE))
    await push(bed, stored(THREE, subject=ONE), repository="other")
    assert bed.registry.referrers("team/app", ONE) == [stored(TWO, subject=ONE)]


async def test_deleting_a_tag_leaves_the_manifest_and_deleting_that_takes_its_tags(bed: Bed) -> None:
    await push(bed, stored(), "1", "2")
    assert await bed.registry.delete_tag("team/app", "1")
    assert not await bed.registry.delete_tag("team/app", "1")
    assert bed.registry.find("team/app", ONE) is not None
    assert await bed.registry.delete("team/app", ONE)
    assert not await bed.registry.delete("team/app", ONE)
    assert not bed.store.all(RegistryTag)


async def test_a_user_removes_a_tag_and_with_the_last_one_the_manifest(bed: Bed) -> None:
    await push(bed, stored(), "1", "2")
    assert await bed.registry.remove("localhost:5000/team/app:1") == (["team/app:1"], [])
    assert await bed.registry.remove("team/app:2") == (["team/app:2"], [f"team/app@{ONE}"])


async def test_a_part_of_an_index_stays_when_its_last_tag_goes(bed: Bed) -> None:
    await push(bed, stored(), "part")
    await push(bed, stored(TWO, blobs=(ONE,)), "index")
    assert await bed.registry.remove("team/app:part") == (["team/app:part"], [])


async def test_a_user_removes_a_manifest_or_a_repository(bed: Bed) -> None:
    await push(bed, stored(), "1")
    await push(bed, stored(TWO), "2")
    assert await bed.registry.remove(f"team/app@{ONE}") == (["team/app:1"], [f"team/app@{ONE}"])
    assert await bed.registry.remove("team/app") == (["team/app:2"], [f"team/app@{TWO}"])
    for ref in ("team/app", "team/app:1", f"team/app@{ONE}"):
        with pytest.raises(NotFound, match="not found in the swarm's registry"):
            await bed.registry.remove(ref)
    with pytest.raises(Invalid, match="names nothing in a registry"):
        await bed.registry.remove("Team/App")


async def test_the_list_has_tags_first_and_untagged_ones_that_are_no_part_of_others(bed: Bed) -> None:
    await push(bed, stored(), "b", "a")
    await push(bed, stored(TWO))
    await push(bed, stored(THREE, blobs=(LAYER,)))
    await push(bed, stored("sha256:" + "e" * 64, blobs=(THREE,)), "index")
    shown = [(one.tag, one.digest[7], one.size) for one in bed.registry.entries("localhost:5000/team/app")]
    assert shown == [("a", "a", 125), ("b", "a", 125), ("index", "e", 125), ("", "b", 125)]
    assert bed.registry.entries("") == bed.registry.entries("team/app")
    with pytest.raises(NotFound, match="repository nothing not found"):
        bed.registry.entries("nothing")


async def test_names_of_this_registry_mean_what_their_tag_means_now(bed: Bed) -> None:
    await push(bed, stored(), "1")
    digest_of = bed.registry.digest_of
    assert digest_of(image_ref.parse("localhost:5000/team/app:1")) == ONE
    assert digest_of(image_ref.parse("127.0.0.1:5000/team/app:1")) == ONE
    assert digest_of(image_ref.parse("localhost:5000/team/app:2")) == ""
    assert digest_of(image_ref.parse("team/app:1")) == "", "Docker Hub's"


# -- fetching ahead


class Told:
    """Preloads that remember whom they told."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, list[str]]] = []

    def begin(self, ref: str, nodes: Sequence[str]) -> AsyncIterator[tuple[str, agent_pb2.PreloadStatus]]:
        self.begun.append((ref, list(nodes)))

        async def news() -> AsyncIterator[tuple[str, agent_pb2.PreloadStatus]]:
            for node_id in nodes:
                yield node_id, agent_pb2.PreloadStatus(state="done")

        return news()


async def preloading(bed: Bed, told: Told | None) -> Preloading:
    ready, down = NodeStatus(state=NodeState.READY), NodeStatus(state=NodeState.DOWN)
    await bed.put(
        Node(id="n1", description=NodeDescription(hostname="one"), status=ready),
        Node(id="n2", description=NodeDescription(hostname="two"), status=down),
        Node(id="n3", description=NodeDescription(hostname="three"), status=ready, role=Role.MANAGER,
             spec=NodeSpec(role=Role.MANAGER)),
    )  # fmt: skip
    return Preloading(bed.store, preloads=lambda: told, pin=lambda ref: ONE if ref.tag == "1" else "")


async def test_all_nodes_are_told_one_digest_and_those_away_are_named(bed: Bed) -> None:
    told = Told()
    cases = await preloading(bed, told)
    news = [one async for one in cases.run("app:1", (), detach=False)]
    assert told.begun == [(f"app:1@{ONE}", ["n1", "n3"])]
    assert news == [
        News("n2", "two", "away", "the node is down"), News("n1", "one", "done"), News("n3", "three", "done"),
    ]  # fmt: skip


async def test_only_nodes_that_fit_are_told_and_a_name_nobody_knows_is_left_as_it_is(bed: Bed) -> None:
    told = Told()
    cases = await preloading(bed, told)
    news = [one async for one in cases.run("app:2", ("node.role==manager",), detach=True)]
    assert told.begun == [("app:2", ["n3"])]
    assert news == [News("n3", "three", "told")]


async def test_what_makes_no_sense_is_refused_before_anybody_is_told(bed: Bed) -> None:
    told = Told()
    cases = await preloading(bed, told)
    for ref, constraints, error in (
        ("App", (), Invalid),
        ("app:1", ("nonsense",), Invalid),
        ("app:1", ("node.hostname==nobody",), NotFound),
    ):
        with pytest.raises(error):
            await anext(cases.run(ref, constraints, detach=False))
    with pytest.raises(Unavailable, match="does not lead"):
        await anext((await preloading(Bed(), None)).run("app:1", (), detach=False))
    assert told.begun == []


async def test_what_is_about_an_image_has_a_number(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmd.control.core.registry.MOST_ABOUT", 2)
    await push(bed, stored(), "1")
    about = [stored(f"sha256:{number:064}", subject=ONE) for number in range(3)]
    for one in about[:2]:
        await push(bed, one)
    with pytest.raises(Refused, match="2 manifests about it"):
        await push(bed, about[2])
    await push(bed, about[0])  # again
    await push(bed, about[2], repository="another")
    assert await bed.registry.delete("team/app", about[1].digest)
    await push(bed, about[2])
