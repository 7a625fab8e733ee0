"""``swarmctl builder``: what builds on a node have left behind to be faster the next time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, Group, switch
from swarmd.cli.listing import Layout

if TYPE_CHECKING:
    from swarmd.rpc.v1 import build_pb2 as pb

_CHUNK = 1 << 20
_HEADERS = {
    "ID": "CACHE ID",
    "Size": "SIZE",
    "CreatedSince": "CREATED",
    "LastUsedSince": "LAST USED",
    "Description": "DESCRIPTION",
}
CACHE = Layout(tuple(_HEADERS), _HEADERS)


@click.group("builder", cls=Group)
def group() -> None:
    """Manage the build cache of this node."""


group.aliases = {"list": "ls", "du": "ls"}


@group.command("ls", cls=Command)
@click.option("--format", "template", help="table, json, or a Go template")
@switch("-q", "--quiet", text="Only show keys")
def ls(template: str | None, quiet: bool | None) -> None:
    """List what operations of builds came to, the last used first."""
    from swarmd.cli.units import format_decimal
    from swarmd.rpc.v1 import build_pb2 as pb

    with session.open_client() as client:
        answer = client.builder.ListCache(pb.ListCacheRequest())
    session.print_listing(CACHE, [_row(one) for one in answer.entries], template, quiet)
    if not quiet and not template:
        sizes = (("Layers", answer.layers), ("Contexts", answer.contexts), ("Cache mounts", answer.mounts))
        session.print_lines(["", *(f"{name}: {format_decimal(size)}" for name, size in sizes)])


@group.command("prune", cls=Command)
@switch("everything", "-a", "--all", text="Remove all of it, not just what was not used for a week")
@click.option("--filter", "filters", metavar="until=TIME", multiple=True, help="Not used for so long (24h)")
@click.option("--keep-storage", metavar="BYTES", help="Leave so much of what was used last")
@switch("-f", "--force", text="Do not prompt for confirmation")
def prune(
    everything: bool | None, filters: tuple[str, ...], keep_storage: str | None, force: bool | None
) -> None:
    """Remove build cache of this node."""
    from swarmd.cli.units import format_decimal, parse_since, parse_size
    from swarmd.rpc.v1 import build_pb2 as pb

    until = sorted(session.parse_filters(filters, ("until",)).get("until", {"168h"}))
    if not force and not _is_sure("all" if everything else "dangling"):
        raise CliError("builder prune has been cancelled")
    try:
        keep = parse_size(keep_storage) if keep_storage else -1
        before = parse_since(until[0], session.now())
    except ValueError as error:
        raise CliError(str(error)) from None
    request = pb.PruneCacheRequest(
        before=before, keep=keep, all=bool(everything) and not filters and keep < 0
    )
    with session.open_client() as client:
        answer = client.builder.PruneCache(request)
    if answer.deleted:
        session.print_lines(["Deleted build cache objects:", *answer.deleted, ""])
    click.echo(f"Total reclaimed space: {format_decimal(answer.reclaimed)}")


@group.command("export", cls=Command)
@click.option("-o", "--output", metavar="FILE", help="Write to a file, instead of STDOUT")
def export(output: str | None) -> None:
    """Write the build cache of this node to a tar archive."""
    from swarmd.rpc.v1 import build_pb2 as pb

    if output is None and sys.stdout.isatty():
        raise CliError("cowardly refusing to save to a terminal: use -o or redirect")
    with session.open_client() as client:
        pieces = client.builder.ExportCache(pb.ExportCacheRequest())
        if output is None:
            for piece in pieces:
                sys.stdout.buffer.write(piece.data)
            return
        write_file(Path(output), (piece.data for piece in pieces))


@group.command("import", cls=Command)
@click.argument("path", metavar="FILE|-")
def import_(path: str) -> None:
    """Take over a build cache that was exported."""
    with session.open_client() as client, _opened(path) as file:
        click.echo(f"Imported build cache objects: {client.builder.ImportCache(requests(file)).entries}")


def requests(file: BinaryIO) -> Iterator[pb.ImportCacheRequest]:
    """An archive in pieces."""
    from swarmd.rpc.v1 import build_pb2 as pb

    while data := file.read(_CHUNK):
        yield pb.ImportCacheRequest(data=data)


def write_file(path: Path, pieces: Iterator[bytes]) -> None:
    """All or nothing.  Raises CliError."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with new.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        new.replace(path)
    except OSError as error:
        raise CliError(f"open {path}: {error.strerror}") from error
    finally:
        new.unlink(missing_ok=True)


def _opened(path: str) -> BinaryIO:
    if path == "-":
        return sys.stdin.buffer
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise CliError(f"open {path}: {error.strerror}") from error


def _row(one: pb.CacheEntry) -> dict[str, str]:
    from swarmd.cli.units import format_decimal, human_duration

    now = session.now()
    return {
        "ID": one.key[:12],
        "Size": format_decimal(one.size),
        "CreatedSince": f"{human_duration(now - one.created_at)} ago",
        "LastUsedSince": f"{human_duration(now - one.used_at)} ago",
        "Description": one.text,
    }


def _is_sure(which: str) -> bool:
    click.echo(f"WARNING! This will remove {which} build cache.")
    click.echo("Are you sure you want to continue? [y/N] ", nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
