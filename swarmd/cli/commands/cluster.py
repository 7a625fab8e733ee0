"""``swarmctl cluster snapshot``: save, inspect, restore everything a swarm knows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, Group
from swarmd.cli.session import open_client

if TYPE_CHECKING:
    from swarmd.rpc.v1 import node_pb2

_passphrase = click.option(
    "--passphrase-file",
    metavar="FILE",
    help="Seal the snapshot, or open it: the file's first line is the passphrase",
)


@click.group("cluster", cls=Group)
def group() -> None:
    """Manage the swarm as a whole."""


@group.group("snapshot", cls=Group)
def snapshot() -> None:
    """Save the swarm to a file and bring it back."""


@snapshot.command("save", cls=Command)
@_passphrase
@click.argument("file", metavar="[FILE|-]", default="", required=False)
def save(passphrase_file: str | None, file: str) -> None:
    """Save everything the swarm knows, its keys and tokens too; - writes to STDOUT."""
    from swarmd.rpc import snapshot_file
    from swarmd.rpc.v1 import control_pb2
    from swarmd.security import passphrase

    if file == "-" and sys.stdout.isatty():
        raise CliError("a snapshot holds keys and is no text: name a file, or send STDOUT somewhere")
    with open_client() as client:
        pieces = client.control.SaveSnapshot(control_pb2.SaveSnapshotRequest())
        data = b"".join(piece.data for piece in pieces)
    header, _ = snapshot_file.decode(data, "received")
    if passphrase_file:
        data = passphrase.seal(data, _read_passphrase(passphrase_file))
    if file == "-":
        sys.stdout.buffer.write(data)
        return
    path = Path(file or f"swarm-{header.cluster_id[:12]}-{header.index}.snapshot")
    _write(path, data)
    sealed = (
        "sealed with the passphrase"
        if passphrase_file
        else "it holds the swarm's keys: keep it like a password"
    )
    click.echo(f"Saved {path}: {_count(header.counts)}, change {header.index}; {sealed}.")


@snapshot.command("inspect", cls=Command)
@_passphrase
@click.option("--format", "form", metavar="json", help="Print JSON")
@click.argument("file", metavar="FILE")
def inspect(passphrase_file: str | None, form: str | None, file: str) -> None:
    """Show what a snapshot holds; needs no daemon, shows no secret."""
    from swarmd.cli.commands.cluster_text import as_json, as_text

    if form not in (None, "", "json"):
        raise click.UsageError(f"unknown format {form}: write json")
    data = _opened(file, passphrase_file)
    click.echo(as_json(data, file) if form else as_text(data, file))


@snapshot.command("restore", cls=Command)
@_passphrase
@click.option(
    "--advertise-addr", metavar="IP[:PORT]", default="", help="Address the others reach this node at"
)
@click.option("--listen-addr", metavar="IP[:PORT]", default="", help="Address to listen on")
@click.argument("file", metavar="FILE|-")
def restore(passphrase_file: str | None, advertise_addr: str, listen_addr: str, file: str) -> None:
    """Bring a swarm back on this node, which becomes its only manager."""
    from swarmd.rpc import snapshot_file
    from swarmd.rpc.v1 import node_pb2

    data = _opened(file, passphrase_file)
    snapshot_file.decode(data, file)
    first = node_pb2.RestoreSwarmRequest(advertise_addr=advertise_addr, listen_addr=listen_addr)
    with open_client() as client:
        answer = client.node.RestoreSwarm(_requests(first, data))
    click.echo(
        f"Swarm {answer.cluster_id} restored with {answer.services} services: this node ({answer.node_id}) "
        f"is now its only manager, at {answer.address}.\n\n"
        "Nodes that are alive come back as workers, with their tasks, if this node has the address and the "
        "place of a manager they know; on others run 'swarmctl swarm leave --force' and join them again. "
        "Add managers with the token of 'swarmctl swarm join-token manager'.\n"
    )


def _requests(first: node_pb2.RestoreSwarmRequest, data: bytes) -> Iterator[node_pb2.RestoreSwarmRequest]:
    from swarmd.rpc import snapshot_file

    yield first
    for piece in snapshot_file.pieces(data):
        yield type(first)(data=piece)


def _opened(file: str, passphrase_file: str | None) -> bytes:
    from swarmd.security import passphrase

    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CliError(f"open {file}: {error.strerror}") from error
    if not passphrase.is_sealed(data):
        return data
    if not passphrase_file:
        raise CliError(f"{file} is sealed: give its passphrase with --passphrase-file")
    return passphrase.unseal(data, _read_passphrase(passphrase_file), file)


def _read_passphrase(file: str) -> bytes:
    try:
        lines = Path(file).read_bytes().splitlines()
    except OSError as error:
        raise CliError(f"open {file}: {error.strerror}") from error
    if not lines or not lines[0]:
        raise CliError(f"{file} is empty: its first line is the passphrase")
    return lines[0]


def _write(path: Path, data: bytes) -> None:
    """For its owner only, and whole or not at all."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise CliError(f"write {path}: {error.strerror}") from error


def _count(counts: dict[str, int]) -> str:
    return ", ".join(f"{counts.get(kind, 0)} {kind}s" for kind in ("service", "task", "node"))
