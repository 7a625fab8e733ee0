"""``swarmd registry-user``: a line for the registry's file of users."""

from __future__ import annotations

import secrets
import sys

import click

from swarmd.image.registry.access import hashed

_SALT = 16


@click.command("registry-user")
@click.argument("name")
@click.option("--pull-only", is_flag=True, help="The user may read, not push or delete")
@click.option("--password-stdin", is_flag=True, help="Take the password from standard input")
def registry_user(name: str, *, pull_only: bool, password_stdin: bool) -> None:
    """Print the line of users_file for NAME, whose password is asked for."""
    if not name or any(each in name for each in ":# \t\r\n"):
        raise click.ClickException(f"a user's name has no colon, blank or #: {name!r}")
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if not password:
        raise click.ClickException("the password is empty")
    click.echo(f"{name}:{hashed(password, secrets.token_bytes(_SALT))}{':pull' if pull_only else ''}")
