"""The content store beside the tools one would use instead, in turns on one disk; prints ratios.

A layer of about 200 MB made of this machine's own files: unpacked from gzip with both digests checked (beside
``pigz -dc | tar -x``, which checks none), packed with both digests (beside ``tar -c | pigz``), imported as a
plain tar; and overlays of many layers, mounted.  Nothing is deleted in between: that slows ext4 down.
Needs root, tar and pigz.

    python -m benchmarks.bench_images [rounds]
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from swarmd.image.core.config import ImageConfig, write_config
from swarmd.image.core.manifest import layer_descriptor, sha256, write_manifest
from swarmd.image.store import ImageStore
from swarmd.kit.clock import SystemClock
from swarmd.node.runtime import child_layers, kernel
from swarmd.node.runtime.core import linux

_BYTES, _FILES = 207 << 20, 11_000
_BIG = 256 << 10  # bytes of a file: an image has many small ones
_SOURCES = ("/usr/lib", "/usr/share", sys.prefix, sys.base_prefix)
_LAYERS = (1, 20, 127)
_MOUNTS = 20


def cpu() -> float:
    """CPU seconds of this process and of the children it waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


class Times:
    """What each contender took: wall and CPU seconds by round."""

    def __init__(self) -> None:
        self.took: dict[str, list[tuple[float, float]]] = {}

    async def time(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        os.sync()  # nobody pays for what another wrote
        begun, used = time.perf_counter(), cpu()
        await work()
        self.took.setdefault(name, []).append((time.perf_counter() - begun, cpu() - used))

    def show(self, what: str, ours: str, peer: str) -> None:
        wall = {name: min(wall for wall, _ in self.took[name]) for name in (ours, peer)}
        used = {name: min(used for _, used in self.took[name]) for name in (ours, peer)}
        pairs = zip(self.took[ours], self.took[peer], strict=True)
        middle = statistics.median(one[0] / other[0] for one, other in pairs)
        print(
            f"{what}: ours / {peer}: wall {wall[ours] / wall[peer]:.2f} (median of pairs {middle:.2f}), "
            f"CPU {used[ours] / used[peer]:.2f}   [{wall[ours]:.2f} s, {wall[peer]:.2f} s]"
        )


async def shell(command: str) -> None:
    process = await asyncio.create_subprocess_shell(command)
    if await process.wait():
        raise SystemExit(f"failed: {command}")


def furnish(root: Path, *, most: int = _BYTES, files: int = _FILES) -> None:
    """Copy files of this machine until there are ``most`` bytes or so many ``files``."""
    size = count = 0
    for source in _SOURCES:
        for directory, _, names in os.walk(source):
            for name in sorted(names):
                path = Path(directory, name)
                seen = path.lstat()
                if size >= most or count >= files:
                    return
                if path.is_symlink() or not path.is_file() or seen.st_size > _BIG:
                    continue
                target = root / str(path)[1:]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
                size, count = size + seen.st_size, count + 1


async def opened(root: Path) -> ImageStore:
    store = ImageStore(root, SystemClock())
    await store.open()
    return store


async def unpacking(store: ImageStore, blob: bytes, diff_id: str) -> Callable[[], Awaitable[object]]:
    """An image whose blobs are stored; what is left is to verify and unpack."""
    config = write_config(ImageConfig(), diff_ids=(diff_id,), created=1.0, arch="amd64")
    for data in (blob, config):
        await store.content.put(data)
    manifest = write_manifest(config, (layer_descriptor(sha256(blob), len(blob), "gzip"),))
    return lambda: store.add(manifest, ("bench:1",))


async def layers(work: Path, rounds: int) -> None:
    tree, tar, squeezed = work / "tree", work / "layer.tar", work / "layer.tar.gz"
    furnish(tree)
    await shell(f"tar -C {tree} -cf {tar} . && pigz -6 -k {tar}")
    size, blob, diff_id = tar.stat().st_size, squeezed.read_bytes(), sha256(tar.read_bytes())
    print(f"a layer of {size >> 20} MB, {len(blob) >> 20} MB as gzip; load {os.getloadavg()[0]:.1f}")
    times = Times()
    for turn in range(rounds):
        await one_round(times, work / str(turn), tree, tar, given=(blob, diff_id))
    times.show("unpack", "ours", "pigz | tar")
    times.show("pack", "pack", "tar | pigz")
    times.show("import of a plain tar", "import", "cp")


async def one_round(times: Times, work: Path, tree: Path, tar: Path, given: tuple[bytes, str]) -> None:
    theirs, upper = work / "theirs", work / "upper"
    theirs.mkdir(parents=True)
    await shell(f"cp -a {tree} {upper}")
    store, packer, importer = [await opened(work / name) for name in ("unpack", "pack", "import")]
    await times.time("ours", await unpacking(store, *given))
    await times.time("pigz | tar", lambda: shell(f"pigz -dc {tar}.gz | tar -xp -C {theirs}"))
    await times.time("tar | pigz", lambda: shell(f"tar -c -C {tree} . | pigz -6 >{work}/theirs.gz"))
    await times.time("pack", lambda: packer.pack(upper))
    await times.time("import", lambda: importer.import_rootfs(tar, "bench:1"))
    await times.time("cp", lambda: shell(f"cp {tar} {work}/copy && sync {work}/copy"))
    for each in (store, packer, importer):
        await each.close()


def mounts(work: Path) -> None:
    """Overlays as the runtime makes them for a container."""
    names = [work / "lowers" / str(number) for number in range(max(_LAYERS))]
    for path in (*names, work / "upper", work / "work", work / "view"):
        path.mkdir(parents=True)
    for count in _LAYERS:
        took = []
        for _ in range(_MOUNTS):
            begun = time.perf_counter()
            child_layers._mount(
                str(work / "view"),
                [str(path) for path in names[:count]],
                [str(work / "upper"), str(work / "work")],
                0,
                "upperdir={},workdir={}",
            )
            took.append(time.perf_counter() - begun)
            kernel.umount(str(work / "view"), linux.MNT_DETACH)
        print(f"an overlay of {count} layers is mounted in {statistics.median(took) * 1000:.2f} ms")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    work = Path(tempfile.mkdtemp(prefix="bench-images-", dir="/var/tmp"))
    try:
        mounts(work)
        asyncio.run(layers(work, rounds))
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
