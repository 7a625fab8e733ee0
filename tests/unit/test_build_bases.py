"""The images that a build begins with have to be ones that may run."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.image.core.catalog import ImageInfo
from swarmd.image.core.config import ImageConfig, write_config
from swarmd.image.kernel import goarch
from swarmd.image.port import Progress
from swarmd.image.store import ImageStore
from swarmd.kit.clock import SystemClock
from swarmd.model.errors import NotFound, Refused
from swarmd.node.building.bases import Documents, Images, Logins


class Ruled:
    """Nobody has other images; what begins with ``bad`` may not run."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def fetch(
        self, ref: str, platform: str, *, newest: bool, logins: Logins, progress: Progress
    ) -> ImageInfo:
        raise NotFound(f"No such image: {ref}")

    async def admit(self, ref: str, digest: str) -> None:
        self.asked.append((ref, digest))
        if ref.startswith("bad"):
            raise Refused(f"image {ref} is refused by the trust rule")


def _silent(item: str, state: str, current: int = 0, total: int = 0) -> None:
    """Nobody is told."""


async def test_an_image_that_may_not_run_is_no_base_although_it_is_here(tmp_path: Path) -> None:
    store = ImageStore(tmp_path, SystemClock())
    await store.open()
    config = write_config(ImageConfig(), diff_ids=(), created=0.0, arch=goarch())
    info = await store.compose(config, (), ("good:1", "bad:1"))
    bases = Ruled()
    images = Images(store, bases, platform=f"linux/{goarch()}", pull=False, logins={}, progress=_silent)
    for _ in range(2):
        assert (await images.resolved("good:1")).info.digest == info.digest
        with pytest.raises(Refused, match="bad:1 is refused"):
            await images.resolved("bad:1")
    assert bases.asked == [("good:1", info.digest), ("bad:1", info.digest), ("bad:1", info.digest)]
    await store.close()


async def test_an_image_that_is_read_for_one_build_is_known_to_the_next_and_judged_again(
    tmp_path: Path,
) -> None:
    store = ImageStore(tmp_path, SystemClock())
    await store.open()
    config = write_config(ImageConfig(), diff_ids=(), created=0.0, arch=goarch())
    await store.compose(config, (), ("good:1",))
    documents: Documents = {}
    for build in (1, 2):
        bases = Ruled()
        images = Images(
            store,
            bases,
            platform=f"linux/{goarch()}",
            pull=False,
            logins={},
            progress=_silent,
            documents=documents,
        )
        found = await images.resolved("good:1")
        assert found.info.refs == (("good:1",) if build == 1 else ("good:1", "good:2"))
        assert bases.asked == [("good:1", found.info.digest)]
        assert list(documents) == [found.info.digest]
        await store.tag("good:1", "good:2")
