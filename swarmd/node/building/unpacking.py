"""Archives that ADD unpacks: told by their first bytes, unpacked into a directory of their own.  Blocking."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import msgspec

from swarmd.image.build.core.tree import Tree
from swarmd.image.codecs import decoded
from swarmd.kit.tree.unpacking import BadArchive, Taking, unpack
from swarmd.kit.trees import remove_tree
from swarmd.model.errors import Invalid
from swarmd.node.building.merged import Merged

_BLOCK = 512
_MAGIC_AT = 257


class Unpacked(msgspec.Struct, frozen=True):
    """What was in an archive."""

    tree: Merged


@contextlib.contextmanager
def unpacked(tree: Tree, path: str, scratch: Path) -> Iterator[Unpacked | None]:
    """The content of an archive, for the length of a block; None when the file is none.

    Raises Invalid for an archive that is damaged or leads out of itself.
    """
    with tempfile.TemporaryFile(dir=scratch) as file:
        tree.write(path, file.fileno())
        file.seek(0)
        plain = _plain(file)
        if plain is None:
            yield None
            return
        directory = Path(tempfile.mkdtemp(dir=scratch))
        directory.chmod(0o755)
        try:
            _unpack(plain, directory, path)
            found = Merged((directory,))
            try:
                yield Unpacked(found)
            finally:
                found.close()
        finally:
            remove_tree(directory)


def _plain(file: IO[bytes]) -> IO[bytes] | None:
    """The tar in a file; None when there is none."""
    try:
        stream = _decoded(file)
        first = stream.read(_BLOCK)
    except (OSError, EOFError, Invalid):
        return None
    if not _is_tar(first):
        return None
    file.seek(0)
    return _decoded(file)


def _decoded(file: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], _Plain(file))


class _Plain:
    """What is in a file, decompressed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._read = decoded(file.read)[0]

    def read(self, count: int) -> bytes:
        return self._read(count)


def _is_tar(block: bytes) -> bool:
    if len(block) < _BLOCK:
        return False
    if block[_MAGIC_AT : _MAGIC_AT + 5] == b"ustar":
        return True
    try:
        told = int(block[148:156].rstrip(b" \0") or b"0", 8)
    except ValueError:
        return False
    return bool(block[0]) and told == sum(block) - sum(block[148:156]) + 8 * 32


def _unpack(plain: IO[bytes], directory: Path, path: str) -> None:
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        unpack(top, plain, Taking(devices=True))
    except (BadArchive, Invalid, OSError, EOFError) as error:
        raise Invalid(f"{path} cannot be unpacked: {error}") from error
    finally:
        os.close(top)
