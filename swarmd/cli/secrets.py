"""Private keys and their passwords: from a file, from ``COSIGN_PASSWORD``, or typed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from swarmd.cli.errors import CliError
from swarmd.cli.files import read_pem

if TYPE_CHECKING:
    from swarmd.security.signing import PrivateKey

VARIABLE = "COSIGN_PASSWORD"


def password_of(path: str, *, confirm: bool = False) -> bytes:
    """The password of a key; asks for it on a terminal when nothing else says it.  Raises CliError."""
    if path:
        try:
            with Path(path).open("rb") as file:
                return file.readline(4096).rstrip(b"\r\n")
        except OSError as error:
            raise CliError(f"open {path}: {error.strerror}") from error
    if VARIABLE in os.environ:
        return os.environb[VARIABLE.encode()]
    typed: str = click.prompt(
        "Password for the private key", hide_input=True, err=True, default="", show_default=False,
        confirmation_prompt=confirm,
    )  # fmt: skip
    return typed.encode()


def open_key(path: str, password_file: str) -> PrivateKey:
    """The private key of a file.  Raises CliError, Denied for a wrong password."""
    from swarmd.security import signing

    pem = read_pem(path)
    return signing.unseal(pem, password_of(password_file) if signing.needs_password(pem) else b"")
