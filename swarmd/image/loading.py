"""Archives and root file system tars → verified files, ready to be adopted.  Blocking; for threads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from swarmd.image.codecs import Buffered, decoded, gzipper
from swarmd.image.core.archive import Contents, Member, compression_of, find_images, link_name
from swarmd.image.core.catalog import ImageRow, row_for
from swarmd.image.core.changes import apply_changes
from swarmd.image.core.config import MAX_CONFIG, History, ImageConfig, linux_platform, write_config
from swarmd.image.core.manifest import (
    LAYER_COMPRESSIONS,
    layer_descriptor,
    read_manifest,
    sha256,
    write_manifest,
)
from swarmd.image.core.rules import Limits, link_target, step_for
from swarmd.image.core.tar import CHUNK, Kind, TarReader
from swarmd.image.disk import Disk
from swarmd.image.kernel import goarch
from swarmd.image.streams import LayerSource, Readable, disk_errors
from swarmd.model.errors import Invalid

_MAX_MEMBERS = 100_000


class Staged(msgspec.Struct, frozen=True):
    """An image whose every blob is verified and lies in a temporary file.

    ``files`` holds the blobs by digest; those already stored may be among them.
    """

    row: ImageRow
    refs: tuple[str, ...]
    manifest: bytes
    files: dict[str, Path]


def stage_archive(disk: Disk, source: Readable, work: Path, arch: str) -> tuple[Staged, ...]:
    """Read an image archive into the empty directory ``work``; raises :class:`Invalid`, Unavailable.

    ``arch`` (Go's name) chooses among the manifests of an index.
    """
    with disk_errors(disk.root):
        contents, files = _spool(source, work, disk.limits)
        found = find_images(contents, lambda member: files[member.digest].read_bytes(), arch)
    return tuple(_checked(disk, image.manifest, image.refs, files) for image in found)


def imported(changes: tuple[str, ...], message: str, platform: str, now: float) -> Callable[[str], bytes]:
    """The configuration of an import, by its layer's diffID; raises :class:`Invalid`."""
    run = apply_changes(ImageConfig(), changes)
    arch, variant = linux_platform(platform) if platform else (goarch(), "")
    history = (History(now, comment=message or "Imported from -"),)
    return lambda diff_id: write_config(
        run, diff_ids=(diff_id,), created=now, arch=arch, variant=variant, history=history
    )


def stage_rootfs(
    disk: Disk, path: Path, refs: tuple[str, ...], configure: Callable[[str], bytes], work: Path
) -> Staged:
    """Make an image of one layer out of the tar at ``path``; raises :class:`Invalid`, Unavailable.

    ``configure``: the bytes of its configuration, by the layer's diffID.
    """
    path = _as_layer(disk, path, work / "layer")
    with path.open("rb") as file, LayerSource(file, disk.limits.bytes) as source:
        _inspect(TarReader(source.read), disk.limits)
        digest, size, diff_id = source.finish()
    config = configure(diff_id)
    manifest = write_manifest(config, (layer_descriptor(digest, size, source.compression),))
    with disk_errors(disk.root):
        (work / "config").write_bytes(config)
    files = {digest: path, sha256(config): work / "config"}
    return Staged(row_for(manifest, config), refs, manifest, files)


def _as_layer(disk: Disk, path: Path, into: Path) -> Path:
    """``path``, or ``into`` with its content as gzip: no image format knows layers in xz and bzip2."""
    with path.open("rb") as file:
        plain, compression = decoded(file.read)
        if compression in LAYER_COMPRESSIONS:
            return path
        gzip, left = gzipper(), disk.limits.bytes
        with disk_errors(disk.root), into.open("wb") as made:
            while piece := plain(CHUNK):
                left -= len(piece)
                if left < 0:
                    raise Invalid(f"the stream is longer than the {disk.limits.bytes} bytes it may have")
                made.write(gzip.compress(piece))
            made.write(gzip.flush())
    path.unlink()
    return into


def adopt(disk: Disk, staged: Iterable[Staged]) -> None:
    """Give the staged blobs their names; the manifest comes last."""
    for image in staged:
        for digest, path in image.files.items():
            if path.exists():
                disk.adopt(path, digest)
        disk.write_blob(image.manifest)


def _inspect(reader: TarReader, limits: Limits) -> None:
    """Refuse now what could not be unpacked later."""
    for count, entry in enumerate(reader):
        if count >= limits.entries:
            raise Invalid(f"the root file system has more than {limits.entries} entries")
        step_for(entry, limits)
        if entry.kind is Kind.HARDLINK:
            link_target(entry, limits)


def _spool(source: Readable, work: Path, limits: Limits) -> tuple[Contents, dict[str, Path]]:
    plain, _ = decoded(source.read)
    reader = TarReader(Buffered(plain).read)
    contents, files, left = Contents({}, {}), dict[str, Path](), limits.bytes
    for count, entry in enumerate(reader):
        left -= entry.size
        if count >= _MAX_MEMBERS or left < 0:
            raise Invalid(
                f"the image archive is too big: limits are {_MAX_MEMBERS} files, {limits.bytes} bytes"
            )
        name = link_name("", os.fsdecode(entry.name), symbolic=False)
        if entry.kind is Kind.FILE:
            member = _save(reader, work / str(count))
            contents.files[name] = member
            files[member.digest] = work / str(count)
        elif entry.kind in (Kind.SYMLINK, Kind.HARDLINK):
            target = os.fsdecode(entry.link)
            contents.links[name] = link_name(name, target, symbolic=entry.kind is Kind.SYMLINK)
    return contents, files


def _save(reader: TarReader, path: Path) -> Member:
    digest, size, magic = hashlib.sha256(), 0, b""
    with path.open("wb", buffering=CHUNK) as file:
        for piece in reader.chunks():
            digest.update(piece)
            file.write(piece)
            size += len(piece)
            magic = magic or piece[:6]
    return Member(f"sha256:{digest.hexdigest()}", size, magic)


def _checked(disk: Disk, manifest: bytes, refs: tuple[str, ...], files: dict[str, Path]) -> Staged:
    """Verify every blob of an image against its manifest and its configuration."""
    parsed = read_manifest(manifest)
    for blob in parsed.blobs():
        if blob.digest not in files:
            raise Invalid(f"the image archive lacks blob {blob.digest}: it is incomplete")
    if parsed.config.size > MAX_CONFIG:
        raise Invalid(f"an image configuration of {parsed.config.size} bytes is refused")
    row = row_for(manifest, files[parsed.config.digest].read_bytes())
    for layer, diff_id in zip(parsed.layers, row.diff_ids, strict=True):
        with files[layer.digest].open("rb") as file:
            compressed = compression_of(file.read(6))
        if compressed or layer.digest != diff_id or files[layer.digest].stat().st_size != layer.size:
            disk.check_layer(files[layer.digest], layer.digest, layer.size, diff_id)
    return Staged(row, refs, manifest, {blob.digest: files[blob.digest] for blob in parsed.blobs()})
