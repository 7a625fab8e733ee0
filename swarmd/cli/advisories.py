"""Advisories that a user brings: a directory of OSV files, or a zip of them, as they are exported."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from swarmd.cli.errors import CliError

MOST = 8 << 20
"""Bytes of one advisory; a longer one is left out, and counted there."""

BATCH = 1 << 20


def batches(path: str) -> Iterator[list[bytes]]:
    """Advisories, about a megabyte at a time.  Raises CliError."""
    batch: list[bytes] = []
    size = 0
    for raw in _each(Path(path)):
        batch.append(raw)
        size += len(raw)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _each(path: Path) -> Iterator[bytes]:
    try:
        if path.is_dir():
            yield from _of_directory(path)
        elif zipfile.is_zipfile(path):
            yield from _of_zip(path)
        else:
            raise CliError(f"{path} is neither a directory of advisories (OSV, *.json) nor a zip of them")
    except OSError as error:
        raise CliError(f"{error.filename or path}: {error.strerror}") from error
    except zipfile.BadZipFile as error:
        raise CliError(f"{path} is damaged: {error}") from error


def _of_directory(path: Path) -> Iterator[bytes]:
    found = False
    for file in sorted(path.rglob("*.json")):
        found = True
        with file.open("rb") as opened:
            yield opened.read(MOST + 1)
    for file in sorted(path.rglob("*.zip")):
        found = True
        yield from _of_zip(file)
    if not found:
        raise CliError(f"{path} holds no advisories (OSV, *.json or *.zip)")


def _of_zip(path: Path) -> Iterator[bytes]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                with archive.open(name) as opened:
                    yield opened.read(MOST + 1)
