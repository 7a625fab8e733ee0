"""Work on a store that is killed at its n-th step on the disk, for every n; then the store is judged.

    python -m tests.integration.image_crash DIRECTORY

One process prepares everything and forks: a child works until it is killed, another opens what is left.
Prints how many steps were tried.  Forks before any thread or event loop exists.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

from swarmd.image.core.config import ImageConfig, write_config
from swarmd.image.core.manifest import layer_descriptor, sha256, write_manifest
from swarmd.image.store import ImageStore
from tests.integration.image_rig import StillClock, archive, entry, folder, nobody, opened, pack

BASE = pack(folder("d"), entry("d/base", b"base" * 300))
PULLED = gzip.compress(pack(entry("pulled", b"pulled" * 300)), mtime=0)
CONFIG = write_config(
    ImageConfig(cmd=("run",)), diff_ids=(sha256(gzip.decompress(PULLED)),), created=1.0, arch="amd64"
)
MANIFEST = write_manifest(CONFIG, (layer_descriptor(sha256(PULLED), len(PULLED), "gzip"),))
SAVED = archive("base:1", BASE)
_STEPS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate")
_MOST = 1000


async def work(root: Path) -> None:
    """Everything the store does to the disk, once; what was done before is gone over again."""
    store = await opened(root / "images")
    await store.load(io.BytesIO(SAVED))
    ingest = await store.content.ingest()
    await ingest.write(PULLED[:100])
    await ingest.write(PULLED[100:])
    await ingest.commit(sha256(PULLED))
    await store.content.put(CONFIG)
    await store.add(MANIFEST, ("pulled:1",), index=b'{"schemaVersion":2,"manifests":[]}')
    base = await store.prepare("base:1")
    upper = root / "upper"
    upper.mkdir(exist_ok=True)
    (upper / "made").write_bytes(b"made")
    layer = await store.pack(upper, tuple(Path(each) for each in base.layers), clamp=1.0)
    config = write_config(ImageConfig(), diff_ids=(layer.diff_id,), created=1.0, arch="amd64")
    await store.compose(config, (layer,), ("made:1",))
    await store.tag("made:1", "made:2")
    await store.remove("base:1", in_use=nobody, force=True)
    clock = store._clock
    assert isinstance(clock, StillClock)
    clock.seconds += 10 * 3600
    await store.gc(nobody, untagged=True)
    await store.close()


async def judge(root: Path) -> None:
    """What is there is right, and the work can be done again."""
    store = await opened(root / "images")
    assert store.warnings == (), store.warnings
    for path in (root / "images" / "blobs").rglob("*"):
        if path.is_file():
            assert hashlib.file_digest(path.open("rb"), path.parents[1].name).hexdigest() == path.name
    await right(store)
    for path in list((root / "images" / "ingest").iterdir()):
        ingest = await store.content.ingest(path.name)
        await ingest.write(PULLED[ingest.offset :])
        assert await ingest.commit() == (sha256(PULLED), len(PULLED))
    await store.close()
    await work(root)
    store = await opened(root / "images")
    assert sorted(ref for info in store.list() for ref in info.refs) == ["made:1", "made:2", "pulled:1"]
    await right(store)
    await store.close()
    assert list((root / "images" / "work").iterdir()) == []
    assert list((root / "images" / "trash").iterdir()) == []


async def right(store: ImageStore) -> None:
    """Every image can be run and has in it what it should."""
    wanted = {"base:1": ("d/base", b"base" * 300), "pulled:1": ("pulled", b"pulled" * 300),
              "made:1": ("made", b"made"), "made:2": ("made", b"made")}  # fmt: skip
    for info in store.list():
        for ref in info.refs:
            name, data = wanted[ref]
            assert (Path((await store.prepare(ref)).layers[0]) / name).read_bytes() == data


def die_at(count: int) -> None:
    """Kill this process just before its ``count``-th step that others could see."""
    left = count

    def step(event: str, arguments: object) -> None:
        nonlocal left
        if event in _STEPS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sync = os.fsync

    def fsync(fd: int) -> None:
        step("os.rename", ())
        sync(fd)

    os.fsync = fsync
    sys.addaudithook(step)


def child(work: Callable[[Path], Awaitable[None]], root: Path, count: int = 0) -> int:
    """The wait status of a child that did the work, or was killed at step ``count``."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    try:
        if count:
            die_at(count)
        asyncio.run(work(root))  # type: ignore[arg-type]
    except BaseException:  # noqa: BLE001 - a forked child must not go on as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main(root: Path) -> None:
    for count in range(1, _MOST):
        place = root / str(count)
        place.mkdir(parents=True)
        killed = child(work, place, count)
        if killed == 0:
            print(count - 1)
            return
        if killed != signal.SIGKILL or child(judge, place) != 0:
            raise SystemExit(f"wrong after a kill at step {count}")
        with contextlib.suppress(OSError):
            shutil.rmtree(place)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
