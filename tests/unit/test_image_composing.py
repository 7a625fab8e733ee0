"""Images that are put together again and are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarmd.image.core.config import ImageConfig, write_config
from swarmd.image.disk import Disk
from swarmd.image.store import ImageStore
from swarmd.kit.clock import SystemClock


def config(*command: str) -> bytes:
    return write_config(ImageConfig(cmd=command), diff_ids=(), created=0.0, arch="amd64")


async def test_what_is_there_under_that_name_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ImageStore(tmp_path, SystemClock())
    await store.open()
    writes: list[str] = []
    save, write = Disk.save, Disk.write_blob

    def saving(disk: Disk, *what: Any) -> Any:
        writes.append("save")
        return save(disk, *what)

    def writing(disk: Disk, *what: Any) -> Any:
        writes.append("blob")
        return write(disk, *what)

    monkeypatch.setattr(Disk, "save", saving)
    monkeypatch.setattr(Disk, "write_blob", writing)
    first = await store.compose(config("one"), (), ("app:1",))
    assert writes == ["blob", "blob", "save"]
    writes.clear()
    assert await store.compose(config("one"), (), ("app:1",)) == first
    assert writes == []

    other = await store.compose(config("two"), (), ("app:1",))
    assert store.resolve("app:1").digest == other.digest
    again = await store.compose(config("one"), (), ("app:1",))
    assert again.digest == store.resolve("app:1").digest == first.digest
    more = await store.compose(config("one"), (), ("app:1", "app:2"))
    assert more.refs == ("app:1", "app:2")

    await store.remove(first.digest, in_use=lambda digest: (), force=True)
    writes.clear()
    assert (await store.compose(config("one"), (), ("app:1",))).digest == first.digest
    assert "save" in writes
