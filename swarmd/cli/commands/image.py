"""``swarmctl image``: the images of one node."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, Group, switch

if TYPE_CHECKING:
    from swarmd.rpc.v1 import node_pb2

CHUNK = 1 << 20


@click.group("image", cls=Group)
def group() -> None:
    """Manage images of this node."""


group.aliases = {"list": "ls", "remove": "rm"}


@group.command("load", cls=Command)
@click.option("-i", "--input", "path", metavar="FILE", help="Read from a tar archive instead of STDIN")
@switch("-q", "--quiet", text="Only names of what was loaded")
def load(path: str | None, quiet: bool | None) -> None:
    """Load an image from a tar archive or STDIN."""
    from swarmd.rpc.v1 import node_pb2

    if path is None and sys.stdin.isatty():
        raise CliError("requested load from stdin, but stdin is empty")
    with _opened(path) as file, session.open_client() as client:
        requests = (node_pb2.LoadImagesRequest(data=data) for data in chunks(file))
        answer = client.node.LoadImages(requests)
    session.print_lines(ref if quiet else f"Loaded image: {ref}" for ref in answer.refs)


@group.command("import", cls=Command)
@click.option("-c", "--change", "changes", metavar="INSTRUCTION", multiple=True, help="Apply e.g. CMD /app")
@click.argument("path", metavar="FILE|-")
@click.argument("ref", required=False, default="", metavar="[REPOSITORY[:TAG]]")
def import_(changes: tuple[str, ...], path: str, ref: str) -> None:
    """Import the contents from a tarball to create a filesystem image."""
    from swarmd.rpc.v1 import node_pb2

    def requests(file: BinaryIO) -> Iterator[node_pb2.ImportImageRequest]:
        yield node_pb2.ImportImageRequest(ref=ref, changes=changes)
        for data in chunks(file):
            yield node_pb2.ImportImageRequest(data=data)

    with _opened(None if path == "-" else path) as file, session.open_client() as client:
        answer = client.node.ImportImage(requests(file))
    click.echo(answer.id)


@group.command("ls", cls=Command)
@click.option("--format", "template", help="table, json, or a Go template")
@switch("--no-trunc", text="Do not truncate output")
@switch("-q", "--quiet", text="Only show image IDs")
@click.argument("reference", required=False, metavar="[REPOSITORY[:TAG]]")
def ls(template: str | None, no_trunc: bool | None, quiet: bool | None, reference: str | None) -> None:
    """List images."""
    from swarmd.cli.rows import IMAGES, image_rows
    from swarmd.rpc.v1 import node_pb2

    with session.open_client() as client:
        images = client.node.ListImages(node_pb2.ListImagesRequest()).images
    rows = image_rows(images, session.now(), truncate=not no_trunc)
    if reference:
        rows = [row for row in rows if reference in (row["Repository"], f"{row['Repository']}:{row['Tag']}")]
    if quiet:
        rows = list({row["ID"]: row for row in rows}.values())
    session.print_listing(IMAGES, rows, template, quiet)


@group.command("inspect", cls=Command)
@click.option("-f", "--format", "template", help="json or a Go template")
@click.argument("refs", nargs=-1, required=True, metavar="IMAGE [IMAGE...]")
def inspect(template: str | None, refs: tuple[str, ...]) -> None:
    """Display detailed information on one or more images."""
    from swarmd.cli.views_node import image
    from swarmd.rpc.v1 import node_pb2

    with session.open_client() as client:
        session.inspect(
            refs, lambda ref: image(client.node.GetImage(node_pb2.GetImageRequest(ref=ref))), template
        )


@group.command("rm", cls=Command)
@switch("-f", "--force", text="Remove it although containers use it")
@click.argument("refs", nargs=-1, required=True, metavar="IMAGE [IMAGE...]")
def rm(force: bool | None, refs: tuple[str, ...]) -> None:
    """Remove one or more images."""
    from swarmd.rpc.v1 import node_pb2

    def one(ref: str) -> None:
        answer = client.node.RemoveImage(node_pb2.RemoveImageRequest(ref=ref, force=bool(force)))
        session.print_lines(f"Untagged: {name}" for name in answer.untagged)
        session.print_lines(f"Deleted: {digest}" for digest in answer.deleted)

    with session.open_client() as client:
        session.fail_if(session.collect(refs, one)[1])


@group.command("tag", cls=Command)
@click.argument("source", metavar="SOURCE_IMAGE[:TAG]")
@click.argument("target", metavar="TARGET_IMAGE[:TAG]")
def tag(source: str, target: str) -> None:
    """Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE."""
    from swarmd.rpc.v1 import node_pb2

    with session.open_client() as client:
        client.node.TagImage(node_pb2.TagImageRequest(source=source, target=target))


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """A file in pieces of at most 1 MiB."""
    while data := file.read(CHUNK):
        yield data


def _opened(path: str | None) -> BinaryIO:
    if path is None:
        return sys.stdin.buffer
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise CliError(f"open {path}: {error.strerror}") from error
