"""The image directory: blobs by digest, unpacked trees, the catalogue.  Blocking; for threads.

::

    store.db                images, references, and what is known of blobs (SQLite)
    blobs/                  immutable, as they came
    ingest/<key>            blobs on their way in
    layers/<diffID hex>     an unpacked layer; chain-<hex>: one that is right only on its lowers
    work/ trash/            what is under way, and what is being removed; emptied when the store opens

A name is given only to what is complete and on disk: write, sync, rename, sync the directory, and then
the row.  So a row never points to a missing file, and a file without a row is garbage.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from swarmd.image.blobs import Blobs
from swarmd.image.core.catalog import Catalog, ImageRow
from swarmd.image.core.manifest import sha256
from swarmd.image.core.rules import Limits
from swarmd.image.kernel import spread_directories
from swarmd.image.lowers import OPAQUE
from swarmd.image.packing import pack_layer
from swarmd.image.records import Records
from swarmd.image.settling import Settling
from swarmd.image.streams import LayerSource, disk_errors
from swarmd.image.trash import Trash
from swarmd.image.unpack import unpack_layer
from swarmd.model.errors import Invalid, NotFound


class Disk:
    """Everything the image store does to files."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self.root = root
        self.limits = limits
        self.blobs = Blobs(root / "blobs")
        self.ingests = root / "ingest"
        self._layers = root / "layers"
        self._work = root / "work"
        self._trash = Trash(root / "trash")
        self._settling = Settling(self._layers)
        self._tree_sizes: dict[str, int] = {}  # trees do not change
        self._records = Records(root / "store.db", root / "catalog.json")

    def open(self) -> tuple[Catalog, tuple[str, ...]]:
        """Make the directories, drop leftovers of a crash; answer the catalogue and what was lost.

        An image whose blobs are not all there is dropped.  Raises :class:`SwarmError` for a damaged
        catalogue.
        """
        with disk_errors(self.root):
            for directory in (self.ingests, self._layers, self._work):
                directory.mkdir(parents=True, exist_ok=True)
            for directory in (self._layers, self._work):
                spread_directories(directory)
            # Images bring setuid files and device nodes: nobody else may reach them by path.
            self.root.chmod(0o700)
            self.blobs.open()
            self._trash.open()
            leftovers = [*self._work.iterdir(), *self._settling.open()]
            self.collect(*(self._trash.bury(path) for path in leftovers))
            found = self._records.open()
        broken = [row for row in found.images.values() if not self._complete(row)]
        lost = tuple(
            f"image {', '.join(found.refs_of(row.digest)) or row.id} is dropped: some of its blobs are gone"
            for row in broken
        )
        catalog = found.without(row.digest for row in broken)
        catalog = catalog.lost(
            digest for digest in (*catalog.indexes, *catalog.layers) if not self.blobs.has(digest)
        )
        if catalog != found:
            self.save(catalog)
        return catalog, lost

    def save(self, catalog: Catalog) -> None:
        """Replace the catalogue on disk, durably."""
        self._records.save(catalog)

    def close(self) -> None:
        """Let go of the catalogue's file, and stop removing."""
        self._trash.close()
        self._settling.close()
        self._records.close()

    # blobs

    def blob(self, digest: str) -> Path:
        """Where the blob is or would be."""
        return self.blobs.path(digest)

    def blob_size(self, digest: str) -> int:
        """Bytes of a stored blob; raises :class:`NotFound`."""
        return self.blobs.size(digest)

    def read_blob(self, digest: str) -> bytes:
        """A small blob (manifest, configuration); raises :class:`NotFound`, or Invalid if it rotted."""
        return self.blobs.read(digest)

    def write_blob(self, raw: bytes, digest: str = "") -> str:
        """Store a small blob under its ``digest``, which the caller has verified; answers it."""
        digest = digest or sha256(raw)
        if self.blobs.has(digest):
            return digest
        with disk_errors(self.root):
            temp = self.temp_file()
            try:
                temp.write_bytes(raw)
                self.blobs.adopt(temp, digest)
            finally:
                temp.unlink(missing_ok=True)
        return digest

    def adopt(self, temp: Path, digest: str) -> None:
        """Give a verified temporary file its name among the blobs."""
        with disk_errors(self.root):
            self.blobs.adopt(temp, digest)

    def temp_file(self) -> Path:
        """A fresh empty file for work under way."""
        with disk_errors(self.root):
            fd, name = tempfile.mkstemp(dir=self._work)
        os.close(fd)
        return Path(name)

    def temp_dir(self) -> Path:
        """A fresh empty directory for work under way."""
        with disk_errors(self.root):
            return Path(tempfile.mkdtemp(dir=self._work))

    def check_layer(self, path: Path, digest: str, size: int, diff_id: str) -> None:
        """Raise :class:`Invalid` unless ``path`` has this digest, size and, unpacked, diffID."""
        with path.open("rb", buffering=0) as file, LayerSource(file, self.limits.bytes) as source:
            found = source.finish()
        _compare(found, digest, size, diff_id)

    def check_stored(self, digest: str, diff_id: str) -> None:
        """Raise :class:`Invalid` unless the stored blob is whole and unpacks to ``diff_id``."""
        self.check_layer(self.blob(digest), digest, self.blob_size(digest), diff_id)

    def pack(self, upper: Path, into: Path, clamp: float | None) -> tuple[str, str, int]:
        """Write the layer ``upper`` holds to the file ``into``; see :func:`pack_layer`."""
        with disk_errors(self.root), into.open("wb", buffering=0) as blob:
            return pack_layer(upper, blob, clamp)

    # trees

    def tree(self, names: tuple[str, str]) -> Path | None:
        """The unpacked layer under either of its names; None when it is not unpacked."""
        return next((self._layers / name for name in reversed(names) if (self._layers / name).is_dir()), None)

    def unpack(self, digest: str, diff_id: str, names: tuple[str, str], lowers: tuple[Path, ...]) -> Path:
        """Unpack a stored layer on ``lowers`` (topmost first); answers its directory.

        Both digests are verified again on the way.  Raises :class:`Invalid`, and :class:`Unavailable`
        for a full disk; then nothing is left behind.
        """
        work = self.temp_dir()
        try:
            with disk_errors(self.root):
                tree, grave = work / "tree", work / "grave"
                tree.mkdir(mode=0o755)
                grave.mkdir()
                blob = self.blob(digest).open("rb", buffering=0)
                with blob, LayerSource(blob, self.limits.bytes) as source:
                    leans = unpack_layer(source.read, tree, grave, lowers, self.limits)
                    _compare(source.finish(), digest, self.blob_size(digest), diff_id)
                return self._settling.publish(tree, names[leans])
        finally:
            self.remove(work)

    def adopt_tree(self, upper: Path, diff_id: str) -> None:
        """Make the directory ``upper`` the tree of ``diff_id``; it is gone from where it was."""
        with disk_errors(self.root):
            self._settling.publish(upper, diff_id.removeprefix("sha256:"))
            if upper.exists():
                self.remove(upper)

    def hides_all(self, tree: Path) -> bool:
        """Whether the layer's root is opaque: overlayfs looks at no root, so the list must end here."""
        try:
            return os.getxattr(tree, OPAQUE) == b"y"
        except OSError:
            return False

    def sizes(self) -> dict[str, int]:
        """Bytes of every blob, by digest, and of the files in every tree, by name."""
        found, trees = dict[str, int](), dict[str, int]()
        for digest in self.blobs:
            with contextlib.suppress(NotFound):  # collected meanwhile, as trees may be
                found[digest] = self.blobs.size(digest)
        for path in self._layers.iterdir():
            with contextlib.suppress(FileNotFoundError):
                trees[path.name] = self._tree_sizes.get(path.name) or _bytes_in(path)
        self._tree_sizes = trees
        return found | trees

    # removal

    def bury(self, keep_blobs: Iterable[str], keep_trees: Iterable[str]) -> tuple[list[Path], int, list[str]]:
        """Move every blob and tree but these out of the way, quickly.

        Answers what to :meth:`collect`, the bytes of blobs in it, and their digests.
        """
        blobs, trees = set(keep_blobs), set(keep_trees)
        gone = [digest for digest in self.blobs if digest not in blobs]
        victims = [self.blobs.path(digest) for digest in gone]
        freed = sum(each.stat().st_size for each in victims)
        victims += [each for each in self._layers.iterdir() if each.name not in trees]
        return [self._trash.bury(each) for each in victims], freed, gone

    def bury_ingests(self, before: float) -> list[Path]:
        """Move unfinished blobs away that got nothing since ``before`` (seconds since 1970)."""
        buried = []
        for path in self.ingests.iterdir():
            with contextlib.suppress(FileNotFoundError):  # it has come to its end meanwhile
                if path.stat().st_mtime < before:
                    buried.append(self._trash.bury(path))
        return buried

    def remove(self, *paths: Path) -> None:
        """Remove files, and trees of any depth, now; needs no space."""
        self._trash.remove(*paths)

    def finish(self) -> None:
        """What was collected is gone afterwards."""
        self._trash.finish()

    def collect(self, *buried: Path) -> None:
        """Remove what :meth:`bury` moved away: a little now, the rest in the background."""
        self._trash.collect(*buried)
        self._records.keep_reserve()

    def _complete(self, row: ImageRow) -> bool:
        return all(self.blobs.is_whole(digest) for digest in (row.digest, row.id, *row.layers))


def _compare(found: tuple[str, int, str], digest: str, size: int, diff_id: str) -> None:
    if found[0] != digest or found[1] != size:
        raise Invalid(
            f"layer {digest} ({size} bytes) is damaged: its content is {found[0]} ({found[1]} bytes)"
        )
    if found[2] != diff_id:
        raise Invalid(
            f"layer {digest} is forged: it unpacks to {found[2]}, but the image's configuration "
            f"says {diff_id}"
        )


def _bytes_in(tree: Path) -> int:
    """Bytes of the files in ``tree``, one with several names counted once."""
    sizes: dict[int, int] = {}
    waiting = [tree]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    seen = entry.stat(follow_symlinks=False)
                    sizes[seen.st_ino] = seen.st_size
    return sum(sizes.values())
