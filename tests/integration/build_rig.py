"""A builder on a store and a runtime of its own, with a busybox image, for the tests of builds."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from swarmd.image.build.core.context import Told, read_listing
from swarmd.image.build.core.options import Options
from swarmd.image.core.catalog import ImageInfo
from swarmd.image.kernel import goarch
from swarmd.image.port import Progress
from swarmd.image.store import ImageStore
from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id
from swarmd.model.errors import NotFound
from swarmd.node.agent.core.container import NodeFacts
from swarmd.node.building.bases import Logins
from swarmd.node.building.builder import Builder, Built, Request
from swarmd.node.building.context import Context, Sent
from swarmd.node.building.running import Runner
from swarmd.node.runtime.local import LocalRuntime
from tests.integration import runtime_rig

Files = Mapping[str, bytes | str | tuple[str, int]]


class Nowhere:
    """There is nobody to ask."""

    async def fetch(
        self, ref: str, platform: str, *, newest: bool, logins: Logins, progress: Progress
    ) -> ImageInfo:
        """Raises NotFound."""
        raise NotFound(f"No such image: {ref}")

    async def admit(self, ref: str, digest: str) -> None:
        """There are no rules."""


class Watched:
    """What a build said."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.states: dict[str, str] = {}
        self.text: dict[str, bytes] = {}

    def vertex(self, name: str) -> int:
        self.names.append(name)
        return len(self.names) - 1

    def started(self, vertex: int) -> None:
        self.states[self.names[vertex]] = "started"

    def ended(self, vertex: int, *, cached: bool = False, error: str = "") -> None:
        self.states[self.names[vertex]] = error or ("cached" if cached else "done")

    def progress(self, item: str, state: str, current: int = 0, total: int = 0) -> None:
        return

    def output(self, vertex: int, stream: int, data: bytes) -> None:
        name = self.names[vertex]
        self.text[name] = self.text.get(name, b"") + data

    def cached(self) -> list[bool]:
        """Of each step but the FROM lines, in order."""
        return [self.states.get(name) == "cached" for name in self.names if "FROM" not in name]

    def said(self) -> str:
        return b"".join(self.text.values()).decode()


class Client:
    """Sends a directory's files as they are asked for; ``sent`` counts them."""

    def __init__(self, top: Path | None) -> None:
        self.paths = sorted(top.rglob("*")) if top is not None else []
        self.told = [self._tell(path, top) for path in self.paths] if top is not None else []
        self.sent: list[str] = []
        self._queue: asyncio.Queue[Sent] = asyncio.Queue()

    def _tell(self, path: Path, top: Path) -> Told:
        seen = path.lstat()
        return Told(
            path=str(path.relative_to(top)),
            mode=seen.st_mode,
            size=seen.st_size,
            mtime_ns=seen.st_mtime_ns,
            link=os.readlink(path) if stat.S_ISLNK(seen.st_mode) else "",
            digest=sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(seen.st_mode) else "",
        )

    def ask(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.sent.append(self.told[number].path)
            self._queue.put_nowait(Sent(number, self.paths[number].read_bytes(), True))

    async def coming(self) -> AsyncIterator[Sent]:
        while True:
            yield await self._queue.get()


class BuildRig:
    """One node that builds."""

    def __init__(
        self, base: Path, runtime: LocalRuntime, store: ImageStore, builder: Builder, image: Path
    ) -> None:
        self.base = base
        self.image = image
        self.runtime = runtime
        self.store = store
        self.builder = builder

    async def build(
        self, dockerfile: str, context: Path | None = None, watch: Watched | None = None, **fields: Any
    ) -> Built:
        """Build; ``fields`` are those of Request, or of Options."""
        client = Client(context)
        own = {name: fields.pop(name) for name in list(fields) if name in Request.__struct_fields__}
        options = Options(platform=f"linux/{goarch()}", **fields)
        request = Request(dockerfile=dockerfile.encode(), options=options, **own)
        ready = Context(
            read_listing(client.told), self.builder.spool, SystemClock(), client.ask, client.coming()
        )
        built = await self.builder.build(request, ready, watch or Watched())
        self.sent = client.sent
        return built

    async def layers(self, ref: str) -> list[list[str]]:
        """The names in each layer of an image that are no directories, bottom first, the base left out."""
        rootfs = await self.store.prepare(ref)
        found = []
        for layer in reversed(rootfs.layers):
            names = [str(path.relative_to(layer)) for path in Path(layer).rglob("*") if not path.is_dir()]
            found.append(sorted(names))
        return found[1:]

    @asynccontextmanager
    async def shown(self, ref: str) -> AsyncIterator[Path]:
        """The files of an image, mounted."""
        rootfs = await self.store.prepare(ref)
        view = self.base / f"view-{new_id()}"
        lowers = [Path(layer) for layer in rootfs.layers]
        if len(lowers) == 1:
            yield lowers[0]
            return
        view.mkdir()
        # Their names only: one page is all that a mount's options may take.
        names = ":".join(lower.name for lower in lowers)
        options = ("-t", "overlay", "overlay", "-o", f"lowerdir={names}", str(view))
        await asyncio.to_thread(subprocess.run, ["mount", *options], cwd=lowers[0].parent, check=True)
        try:
            yield view
        finally:
            await asyncio.to_thread(subprocess.run, ["umount", str(view)], check=True)


def tar_of(top: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(top, arcname=".")
    return out.getvalue()


def make_files(top: Path, files: Files) -> Path:
    """Files by path: content, or (content, mode); a name that ends with "@" is a link."""
    for name, what in files.items():
        path = top / name.rstrip("@")
        path.parent.mkdir(parents=True, exist_ok=True)
        text, mode = what if isinstance(what, tuple) else (what, 0o644)
        if name.endswith("@"):
            path.symlink_to(text if isinstance(text, str) else text.decode())
            continue
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
    return top


@asynccontextmanager
async def building(base: Path, more: Path | None = None, *, reserve: int = 0) -> AsyncIterator[BuildRig]:
    """A node that builds, with the image ``busybox``, and in it what ``more`` has; nothing of it is left.

    ``reserve``: bytes of the disk that images leave free.
    """
    rig = runtime_rig.Rig(base)
    if more is not None:
        shutil.copytree(more, rig.image, symlinks=True, dirs_exist_ok=True)
    for directory in (base / "data", base / "run"):
        directory.mkdir()
    async with runtime_rig.running(rig) as runtime:
        store = ImageStore(base / "data" / "images", SystemClock(), reserve=reserve)
        await store.open()
        await store.import_rootfs(io.BytesIO(tar_of(rig.image)), "busybox", ('CMD ["sh"]',))
        runner = Runner(
            runtime,
            base / "data" / "containers",
            lambda: None,
            lambda: NodeFacts(node_id="", hostname="builder", resolv_conf="nameserver 192.0.2.1\n"),
            new_id,
        )
        builder = Builder(
            store,
            runner,
            Nowhere(),
            SystemClock(),
            new_id,
            root=base / "data" / "build",
            private=base / "run" / "build",
            processors=2,
        )
        await builder.open()
        try:
            yield BuildRig(base, runtime, store, builder, rig.image)
        finally:
            await builder.close()
            await store.close()


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
