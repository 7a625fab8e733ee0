"""What managers keep: enough have it before anybody is told so, the others follow, nothing is collected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from swarmd.daemon.keeping import Keeping
from swarmd.kit.supervise import Nursery
from swarmd.model import image_ref
from swarmd.model.errors import NotFound, Unavailable
from swarmd.model.objects import Cluster, Node, NodeStatus, Service, SpecVersion
from swarmd.model.registry import RegistryManifest
from swarmd.model.spec import ContainerSpec, MountSpec, TaskTemplate
from swarmd.node.distribution.core.choosing import Provider
from tests.unit.distribution_rig import Files, digest_of
from tests.unit.test_control_bed import Bed, a_spec, settle

LAYER = b"a layer"
MANIFEST = f'{{"layers":[{{"digest":"{digest_of(LAYER)}"}}]}}'.encode()
LAYER_DIGEST, DIGEST = digest_of(LAYER), digest_of(MANIFEST)
WORLD = {digest_of(data): data for data in (LAYER, MANIFEST)}


class Ways:
    """Blobs come from ``world``, at once."""

    def __init__(self, content: Files) -> None:
        self.content = content
        self.world = dict(WORLD)
        self.first: list[list[str]] = []
        self.standing: asyncio.Event | None = None

    async def ensure_blob(
        self, digest: str, *, first: Iterable[Provider] = (), progress: Any = None, patience: int = 4
    ) -> None:
        self.first.append([provider.node_id for provider in first])
        if self.standing is not None:
            await self.standing.wait()
        if not self.content.has(digest):
            if digest not in self.world:
                raise NotFound(f"No such blob: {digest}")
            self.content.plant(digest, self.world[digest])

    async def ensure_blobs(
        self, digests: Iterable[str], *, first: Iterable[Provider] = (), progress: Any = None
    ) -> None:
        for digest in digests:
            await self.ensure_blob(digest, first=first)


class Rig(Bed):
    """The manager m1 of three; ``refusals``: managers that cannot get anything."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.content = Files(directory / "content")
        self.ways = Ways(self.content)
        self.members = ["m1", "m2", "m3"]
        self.having: set[str] = set()
        self.asked: list[tuple[str, list[str], str]] = []
        self.refusals: set[str] = set()
        self.failures: list[BaseException] = []
        self.nursery = Nursery(lambda name, error: self.failures.append(error))
        self.keeping = Keeping(
            node_id="m1",
            store=self.store,
            members=lambda: dict.fromkeys(self.members, ""),
            having=lambda digest: self.having,
            content=self.content,
            blobs=cast("Any", self.ways),
            channels=cast("Any", None),
            clock=self.clock,
        )
        self.keeping._call = self.call  # type: ignore[method-assign]

    async def call(self, member: str, digests: Sequence[str], holder: str) -> None:
        self.asked.append((member, list(digests), holder))
        if member in self.refusals:
            raise Unavailable("its disk is full")

    async def found(self) -> None:
        rows = [Node(id=name, status=NodeStatus(address=f"10.0.0.{name}")) for name in (*self.members, "w1")]
        await self.put(Cluster(id="c1"), *rows)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    await rig.found()
    yield rig
    await rig.nursery.close()
    assert rig.failures == []


async def test_what_a_worker_has_goes_to_this_manager_and_another(rig: Rig) -> None:
    await rig.keeping.spread([DIGEST, LAYER_DIGEST], holder="w1")
    assert rig.content.has(DIGEST)
    assert rig.ways.first[0] == ["w1"]
    assert rig.asked == [("m2", [DIGEST, LAYER_DIGEST], "w1")]


async def test_what_another_manager_has_goes_to_this_one_alone(rig: Rig) -> None:
    await rig.keeping.spread([DIGEST], holder="m2")
    assert rig.content.has(DIGEST)
    assert rig.asked == []


async def test_a_manager_that_cannot_is_followed_by_the_next(rig: Rig) -> None:
    rig.refusals = {"m2"}
    await rig.keeping.spread([DIGEST], holder="m1")
    assert [member for member, _, _ in rig.asked] == ["m2", "m3"]


async def test_too_few_managers_are_an_error_that_says_who_and_why(rig: Rig) -> None:
    rig.refusals = {"m2", "m3"}
    with pytest.raises(
        Unavailable, match=r"only 1 of 2 managers .*m2: its disk is full; m3: its disk is full"
    ):
        await rig.keeping.spread([DIGEST], holder="m1")


async def test_the_only_manager_is_enough(rig: Rig) -> None:
    rig.members = ["m1"]
    await rig.keeping.spread([DIGEST], holder="w1")
    assert rig.content.has(DIGEST)
    assert rig.asked == []


PINNED = image_ref.parse(f"app:1@{DIGEST}")


async def test_an_image_that_one_worker_has_is_brought_to_two_managers_with_all_its_parts(rig: Rig) -> None:
    rig.having = {"w1"}
    assert await rig.keeping.keep_image(PINNED) == ""
    assert rig.content.has(LAYER_DIGEST)
    assert [(member, set(digests)) for member, digests, _ in rig.asked] == [("m2", {DIGEST, LAYER_DIGEST})]


async def test_an_image_that_enough_managers_have_is_asked_of_nobody(rig: Rig) -> None:
    rig.having = {"m2", "m3", "w1"}
    assert await rig.keeping.keep_image(PINNED) == ""
    rig.having = set()
    assert await rig.keeping.keep_image(PINNED) == "", "an outside registry's"
    assert (rig.ways.first, rig.asked) == ([], [])


async def test_an_image_that_cannot_be_kept_is_a_warning(rig: Rig) -> None:
    rig.having, rig.refusals = {"w1"}, {"m2", "m3"}
    warning = await rig.keeping.keep_image(PINNED)
    assert warning.startswith(f"image app:1@{DIGEST} is not yet kept by enough managers (only 1 of 2")


async def test_an_image_that_takes_long_is_a_warning_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmd.daemon.keeping.CREATE_LIMIT", 0.01)
    rig.having, rig.ways.standing = {"w1"}, asyncio.Event()
    assert "after 0 seconds" in await rig.keeping.keep_image(PINNED)


async def arrived(rig: Rig, digest: str) -> None:
    """Until the blob is there; files are read in threads, so turns of the loop are not enough."""
    for _ in range(10_000):
        if rig.content.has(digest):
            return
        await asyncio.sleep(0.002)
    raise AssertionError(f"{digest} never came")


def template(image: str, *mounts: MountSpec) -> TaskTemplate:
    return TaskTemplate(container=ContainerSpec(image=image, mounts=mounts))


async def test_roots_are_all_that_specs_and_the_registry_name(rig: Rig) -> None:
    now, before, running, mounted = (f"sha256:{letter * 64}" for letter in "abcd")
    service = Service(
        id="s1",
        spec=a_spec("web", image=f"app@{now}"),
        previous_spec=a_spec("web", image=f"app@{before}"),
    )
    mount = MountSpec(kind="image", source=f"data@{mounted}", target="/data")
    row = SpecVersion(
        id="s1.1", service_id="s1", number=1, template=template(f"app@{running}", mount), ports=()
    )
    unpinned = SpecVersion(id="s1.2", service_id="s1", number=2, template=template("app:2"), ports=())
    kept = RegistryManifest(id=f"app@{DIGEST}", repository="app", digest=DIGEST, blobs=(LAYER_DIGEST,))
    await rig.put(service, row, unpinned, kept)
    assert rig.keeping.roots() == {now, before, running, mounted, DIGEST, LAYER_DIGEST}


def test_before_the_swarm_is_known_nobody_may_collect_anything(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="not known yet"):
        Rig(tmp_path).keeping.roots()


async def test_a_manager_fetches_what_rows_name_as_they_come(rig: Rig) -> None:
    rig.nursery.start("keeping", rig.keeping.run())
    await rig.put(
        RegistryManifest(id=f"app@{DIGEST}", repository="app", digest=DIGEST, blobs=(LAYER_DIGEST,))
    )
    await arrived(rig, LAYER_DIGEST)


async def test_what_cannot_be_had_is_tried_again(rig: Rig) -> None:
    del rig.ways.world[LAYER_DIGEST]
    rig.nursery.start("keeping", rig.keeping.run())
    await rig.put(
        RegistryManifest(id=f"app@{DIGEST}", repository="app", digest=DIGEST, blobs=(LAYER_DIGEST,))
    )
    await arrived(rig, DIGEST)
    for _ in range(10_000):
        if rig.keeping._failed:
            break
        await asyncio.sleep(0.002)
    await settle()
    rig.ways.world = dict(WORLD)
    rig.clock.advance(31)
    await arrived(rig, LAYER_DIGEST)
