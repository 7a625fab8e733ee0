"""``swarmctl cp``: files between a container of any node and here, named as Docker names them."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from swarmd.cli import session, terminal
from swarmd.cli.errors import CliError, DaemonError
from swarmd.cli.grammar import Command, switch

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.kit.tree.unpacking import Taking
    from swarmd.rpc.v1 import containers_pb2 as pb

_CHUNK = 256 << 10


class Place(NamedTuple):
    """Where from, or where to; no ``ref``: here."""

    ref: str
    path: str


class Target(NamedTuple):
    """``directory``: into which a tar is unpacked; ``name``: what its top becomes, "" as it is."""

    directory: str
    name: str = ""


@click.command("cp", cls=Command)
@switch("-a", "--archive", text="Keep owners and set-user-id bits as they are")
@switch("-L", "--follow-link", text="Copy what a symbolic link leads to")
@switch("-q", "--quiet", text="Suppress progress output")
@click.argument("source", metavar="TASK:SRC_PATH|SRC_PATH|-")
@click.argument("target", metavar="TASK:DEST_PATH|DEST_PATH|-")
def copy(
    archive: bool | None, follow_link: bool | None, quiet: bool | None, source: str, target: str
) -> None:
    """Copy files between a container and here; - is a tar on standard input or output."""
    begin, end = parse_place(source), parse_place(target)
    if bool(begin.ref) == bool(end.ref):
        raise CliError(
            "copying between containers is not supported"
            if begin.ref
            else "must specify at least one container source"
        )
    with session.open_client() as client:
        if begin.ref:
            _copy_out(client, begin, end.path, archive=bool(archive), follow=bool(follow_link))
        else:
            _copy_in(client, begin.path, end, archive=bool(archive), follow=bool(follow_link))
    if not quiet and "-" not in (source, target):
        arrow = f"{source} to {target}"
        session.warn(f"Successfully copied {arrow}")


def parse_place(text: str) -> Place:
    """``CONTAINER:PATH``, or a path here (one with a slash before its first colon is)."""
    ref, colon, path = text.partition(":")
    if not colon or not ref or "/" in ref or ref.startswith("."):
        return Place("", text)
    return Place(ref, path or "/")


def target_of(name: str, *, is_directory: bool, path: str, there: int | None, parent_exists: bool) -> Target:
    """Where an archive goes whose top is called ``name``, as Docker decides it.

    ``there``: the mode of what is at ``path``, None when nothing is.  Raises CliError.
    """
    parent, _, last = path.rstrip("/").rpartition("/")
    if there is not None and stat.S_ISDIR(there):
        return Target(path)
    if there is not None:
        if is_directory:
            raise CliError("cannot copy directory to a file")
        return Target(parent or ("/" if path.startswith("/") else "."), last)
    if not is_directory and path.endswith("/"):
        raise CliError("no such directory")
    if not parent_exists:
        raise CliError(f"no such directory: {parent or '/'}")
    if name == ".":  # the contents of a directory: there will be a directory of that name
        return Target(path, "")
    return Target(parent or ("/" if path.startswith("/") else "."), last)


# -- out of a container --------------------------------------------------------------------------------


def _copy_out(client: Client, source: Place, target: str, *, archive: bool, follow: bool) -> None:
    from swarmd.rpc.v1 import containers_pb2 as pb

    request = pb.CopyOutRequest(ref=source.ref, path=source.path, follow=follow)
    answers = (answer.data for answer in client.containers.CopyOut(request))
    if target == "-":
        if terminal.is_terminal(sys.stdout):
            raise CliError("refusing to write a tar archive to a terminal: redirect it")
        sys.stdout.flush()
        for data in answers:
            sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    about = client.containers.StatPath(pb.StatPathRequest(ref=source.ref, path=source.path, follow=follow))
    _unpack_here(answers, _here(about, target), archive=archive)


def _here(about: pb.StatPathResponse, path: str) -> Target:
    parent = os.path.dirname(path.rstrip("/")) or "."
    try:
        there = os.stat(path).st_mode
    except FileNotFoundError:
        there = None
    found = target_of(
        about.name,
        is_directory=stat.S_ISDIR(about.mode),
        path=path,
        there=there,
        parent_exists=os.path.isdir(parent),
    )
    if about.name == "." and there is None:
        os.mkdir(path)
    return found


def _unpack_here(pieces: Iterator[bytes], target: Target, *, archive: bool) -> None:
    from swarmd.kit.tree.confined import held
    from swarmd.kit.tree.unpacking import BadArchive, Stream, unpack

    try:
        with held(os.open(target.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as top:
            unpack(top, Stream(pieces).as_file(), _taking(target.name, archive=archive))
    except BadArchive as error:
        raise CliError(str(error)) from error
    except OSError as error:
        raise CliError(f"cannot copy to {target.directory}: {error.strerror}") from error


def _taking(name: str, *, archive: bool) -> Taking:
    """What a container says of owners and privileges counts here only when that is asked for."""
    from swarmd.kit.tree.unpacking import Taking

    own = None if archive else (os.geteuid(), os.getegid())
    return Taking(owner=own, privileges=archive, devices=archive, first=name)


# -- into a container ----------------------------------------------------------------------------------


def _copy_in(client: Client, source: str, target: Place, *, archive: bool, follow: bool) -> None:
    if source == "-":
        _send(client, Target(target.path), _standard_input(), target.ref, archive=archive)
        return
    from swarmd.kit.tree.confined import held
    from swarmd.kit.tree.packing import pack

    flags = os.O_PATH | os.O_CLOEXEC | (0 if follow or source.endswith(("/", "/.")) else os.O_NOFOLLOW)
    try:
        with held(os.open(source, flags)) as top:
            is_directory = stat.S_ISDIR(os.fstat(top).st_mode)
            name = "." if source.endswith("/.") or source == "." else os.path.basename(source.rstrip("/"))
            place = _there(client, target, name or ".", is_directory=is_directory)
            _send(client, place, pack(top, place.name or name or "."), target.ref, archive=archive)
    except OSError as error:
        raise CliError(f"{source}: {error.strerror}") from error


def _there(client: Client, target: Place, name: str, *, is_directory: bool) -> Target:
    there = _stat(client, target.ref, target.path)
    parent = os.path.dirname(target.path.rstrip("/")) or "/"
    above = there if there is not None else _stat(client, target.ref, parent)
    found = target_of(
        name, is_directory=is_directory, path=target.path, there=there, parent_exists=above is not None
    )
    if name == "." and there is None:
        return Target(parent, os.path.basename(target.path.rstrip("/")))
    return found


def _stat(client: Client, ref: str, path: str) -> int | None:
    from swarmd.rpc.v1 import containers_pb2 as pb

    try:
        return client.containers.StatPath(pb.StatPathRequest(ref=ref, path=path, follow=True)).mode
    except DaemonError as error:
        if error.kind == "not_found" and "Could not find the file" in error.message:
            return None
        raise


def _send(client: Client, target: Target, pieces: Iterator[bytes], ref: str, *, archive: bool) -> None:
    from swarmd.rpc.v1 import containers_pb2 as pb

    def messages() -> Iterator[pb.CopyInRequest]:
        yield pb.CopyInRequest(ref=ref, path=target.directory, keep_owners=archive)
        for piece in pieces:
            for at in range(0, len(piece), _CHUNK):
                yield pb.CopyInRequest(data=piece[at : at + _CHUNK])

    client.containers.CopyIn(messages())


def _standard_input() -> Iterator[bytes]:
    while data := os.read(sys.stdin.fileno(), _CHUNK):
        yield data
