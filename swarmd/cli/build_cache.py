"""``--cache-from`` and ``--cache-to``: the build cache of a node in a directory here.

``type=local,src=DIR`` and ``type=local,dest=DIR``; the directory has one file, ``cache.tar``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swarmd.cli.errors import CliError

if TYPE_CHECKING:
    from swarmd.cli.client import Client

FILE = "cache.tar"


def directories(texts: Sequence[str], key: str) -> list[Path]:
    """The directories that are meant; ``key``: src or dest.  Raises CliError for what is not supported."""
    found = []
    for text in texts:
        fields = dict(part.partition("=")[::2] for part in text.split(","))
        if fields.get("type") != "local" or not fields.get(key):
            raise CliError(f'invalid build cache "{text}": write type=local,{key}=DIRECTORY')
        found.append(Path(fields[key]))
    return found


def take(client: Client, places: Sequence[Path]) -> None:
    """Before a build; a directory that has none yet is none."""
    for place in places:
        from swarmd.cli.commands.builder import requests

        path = place / FILE
        if path.exists():
            with path.open("rb") as file:
                client.builder.ImportCache(requests(file))


def give(client: Client, places: Sequence[Path]) -> None:
    """After a build."""
    for place in places:
        from swarmd.cli.commands.builder import write_file
        from swarmd.rpc.v1 import build_pb2 as pb

        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CliError(f"mkdir {place}: {error.strerror}") from error
        pieces = client.builder.ExportCache(pb.ExportCacheRequest())
        write_file(place / FILE, (piece.data for piece in pieces))
