"""Images in and out of a node as archives, and made of a container: load, save, import, commit."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, switch

if TYPE_CHECKING:
    from swarmd.rpc.v1 import node_pb2

CHUNK = 1 << 20
_WEB = ("http://", "https://")


@click.command("load", cls=Command)
@click.option("-i", "--input", "path", metavar="FILE", help="Read from a tar archive instead of STDIN")
@click.option("--platform", default="", help="Load only that platform of an image for several")
@switch("-q", "--quiet", text="Only names of what was loaded")
def load(path: str | None, platform: str, quiet: bool | None) -> None:
    """Load an image from a tar archive or STDIN."""
    from swarmd.rpc.v1 import node_pb2

    if path is None and sys.stdin.isatty():
        raise CliError("requested load from stdin, but stdin is empty")

    def requests(file: BinaryIO) -> Iterator[node_pb2.LoadImagesRequest]:
        if platform:
            yield node_pb2.LoadImagesRequest(platform=platform)
        for data in chunks(file):
            yield node_pb2.LoadImagesRequest(data=data)

    with _opened(path) as file, session.open_client() as client:
        answer = client.node.LoadImages(requests(file))
    session.print_lines(ref if quiet else _loaded(ref) for ref in answer.refs)


def _loaded(ref: str) -> str:
    return f"Loaded image ID: {ref}" if ref.startswith("sha256:") else f"Loaded image: {ref}"


@click.command("save", cls=Command)
@click.option("-o", "--output", "path", metavar="FILE", help="Write to a file, instead of STDOUT")
@click.option("--platform", default="", help="Save only that platform of an image for several")
@click.argument("refs", nargs=-1, required=True, metavar="IMAGE [IMAGE...]")
def save(path: str | None, platform: str, refs: tuple[str, ...]) -> None:
    """Save one or more images to a tar archive (streamed to STDOUT by default)."""
    from swarmd.rpc.v1 import images_pb2

    if path is None and sys.stdout.isatty():
        raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if path is not None:
        _check_target(Path(path))
    with session.open_client() as client:
        answers = client.images.SaveImages(images_pb2.SaveImagesRequest(refs=refs, platform=platform))
        pieces = (answer.data for answer in answers)
        if path is None:
            _write(sys.stdout.buffer, pieces)
        else:
            _write_file(Path(path), pieces)


def _check_target(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise CliError(f'failed to save image: invalid output path: directory "{path.parent}" does not exist')
    if path.is_dir():
        raise CliError(f'failed to save image: invalid output path: "{path}" must be a file')


def _write_file(path: Path, pieces: Iterator[bytes]) -> None:
    """The file is there when all of it is, or as it was before; a device is written to as it is."""
    if path.exists() and not path.is_file():
        with _opened_for(path) as file:
            _write(file, pieces)
        return
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with _opened_for(unfinished) as file:
            _write(file, pieces)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _opened_for(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise CliError(f"failed to save image: open {path}: {error.strerror}") from error


def _write(file: BinaryIO, pieces: Iterator[bytes]) -> None:
    for piece in pieces:
        try:
            file.write(piece)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CliError(f"failed to save image: {error.strerror}") from error
    file.flush()


@click.command("import", cls=Command)
@click.option("-c", "--change", "changes", metavar="INSTRUCTION", multiple=True, help="Apply e.g. CMD /app")
@click.option("-m", "--message", default="", help="Set commit message for imported image")
@click.option("--platform", default="", help="Platform the image is for (linux/amd64)")
@click.argument("path", metavar="FILE|URL|-")
@click.argument("ref", required=False, default="", metavar="[REPOSITORY[:TAG]]")
def import_(changes: tuple[str, ...], message: str, platform: str, path: str, ref: str) -> None:
    """Import the contents from a tarball to create a filesystem image."""
    from swarmd.rpc.v1 import node_pb2

    if path == "-" and sys.stdin.isatty():
        raise CliError("requested import from stdin, but stdin is a terminal")
    about = message or f"Imported from {path}"

    def requests(file: BinaryIO) -> Iterator[node_pb2.ImportImageRequest]:
        yield node_pb2.ImportImageRequest(ref=ref, changes=changes, message=about, platform=platform)
        for data in chunks(file):
            yield node_pb2.ImportImageRequest(data=data)

    with _source(path) as file, session.open_client() as client:
        answer = client.node.ImportImage(requests(file))
    click.echo(answer.id)


@contextlib.contextmanager
def _source(path: str) -> Iterator[BinaryIO]:
    if not path.startswith(_WEB):
        with _opened(None if path == "-" else path) as file:
            yield file
        return
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        answer = urlopen(path)
    except (URLError, OSError, ValueError) as error:
        raise CliError(f"cannot download {path}: {getattr(error, 'reason', error)}") from error
    with answer:
        yield answer


@click.command("commit", cls=Command)
@click.option("-a", "--author", default="", help='Author (e.g. "Ann Example <ann@example.com>")')
@click.option("-c", "--change", "changes", metavar="INSTRUCTION", multiple=True, help="Apply e.g. CMD /app")
@click.option("-m", "--message", default="", help="Commit message")
@switch("-p", "--pause", text="Let its processes stand still meanwhile (true unless set to false)")
@click.argument("ref", metavar="TASK|CONTAINER")
@click.argument("image", required=False, default="", metavar="[REPOSITORY[:TAG]]")
def commit(
    author: str, changes: tuple[str, ...], message: str, pause: bool | None, ref: str, image: str
) -> None:
    """Create a new image from a container's changes, on the node that has the container."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    request = pb.CommitRequest(
        ref=ref, image=image, author=author, message=message, changes=changes, pause=pause is not False
    )
    with session.open_client() as client:
        click.echo(client.containers.Commit(request).id)


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
