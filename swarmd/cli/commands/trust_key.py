"""``swarmctl trust key``: generate, add, ls, rm."""

from __future__ import annotations

import os
from pathlib import Path

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, Group, switch


@click.group("key", cls=Group)
def group() -> None:
    """Manage the keys that images are signed with."""


group.aliases = {"list": "ls", "remove": "rm"}


@group.command("generate", cls=Command)
@click.option("--kind", metavar="ecdsa|ed25519", default="ecdsa", help="Kind of the key pair (default ecdsa)")
@click.option(
    "--password-file", metavar="FILE", default="", help="The file's first line is the key's password"
)
@click.argument("name")
def generate(kind: str, password_file: str, name: str) -> None:
    """Make a key pair: NAME.key, sealed with a password as cosign does it, and NAME.pub."""
    from swarmd.cli.secrets import password_of
    from swarmd.security import signing

    private, public = Path(f"{name}.key"), Path(f"{name}.pub")
    for path in (private, public):
        if path.exists():
            raise CliError(f"{path} exists already: remove it first, or take another name")
    key = signing.generate(kind)
    sealed = signing.seal(key, password_of(password_file, confirm=True))
    _write(private, sealed, 0o600)
    _write(public, signing.public_pem(key), 0o644)
    click.echo(f"Private key written to {private}\nPublic key written to {public}")


@group.command("add", cls=Command)
@click.argument("name")
@click.argument("path", metavar="FILE")
def add(name: str, path: str) -> None:
    """Add a public key, or a certificate, that rules can name."""
    from swarmd.cli.files import read_pem
    from swarmd.rpc.v1 import trust_pb2

    pem = read_pem(path)
    if b"PRIVATE KEY-----" in pem:
        raise CliError(f"{path} is a private key, which is nobody's but yours: add the .pub file of the pair")
    who = os.environ.get("SUDO_USER") or os.environ.get("USER", "")
    request = trust_pb2.AddTrustKeyRequest(name=name, pem=pem, added_by=who[:100])
    with session.open_client() as client:
        answer = client.trust.AddTrustKey(request)
    click.echo(answer.added.fingerprint)


@group.command("ls", cls=Command)
@click.option("--format", "template", help="table, json, or a Go template")
@switch("-q", "--quiet", text="Only display names")
def ls(template: str | None, quiet: bool | None) -> None:
    """List the keys that rules can name."""
    from swarmd.cli.rows_trust import KEYS, key_rows
    from swarmd.rpc.v1 import trust_pb2

    with session.open_client() as client:
        keys = client.trust.ListTrustKeys(trust_pb2.ListTrustKeysRequest()).keys
    session.print_listing(KEYS, key_rows(keys, session.now()), template, quiet)


@group.command("rm", cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME [NAME...]")
def rm(names: tuple[str, ...]) -> None:
    """Remove one or more keys that no rule names."""
    from swarmd.rpc.v1 import trust_pb2

    with session.open_client() as client:
        session.each(
            names, lambda one: client.trust.RemoveTrustKey(trust_pb2.RemoveTrustKeyRequest(name=one))
        )


def _write(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        raise CliError(f"open {path}: {error.strerror}") from error
