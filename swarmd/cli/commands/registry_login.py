"""``swarmctl login`` and ``logout``: this user's log-ins to registries, or the swarm's."""

from __future__ import annotations

import getpass
import sys

import click

from swarmd.cli import logins, session, terminal
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, switch
from swarmd.cli.logins import Login


@click.command("login", cls=Command)
@click.option("-u", "--username", default="", help="Username")
@click.option("-p", "--password", default="", help="Password")
@switch("--password-stdin", text="Take the password from stdin")
@switch("--swarm", text="Keep it in the swarm, so that all its nodes can pull")
@click.argument("server", required=False, default="", metavar="[SERVER]")
def login(username: str, password: str, password_stdin: bool | None, swarm: bool | None, server: str) -> None:
    """Authenticate to a registry (Docker Hub if no server is named)."""
    from swarmd.rpc.v1 import control_pb2, registry_pb2

    host = logins.host_of(server)
    asked = _asked(username, password, from_stdin=bool(password_stdin), host=host)
    message = registry_pb2.RegistryLogin(username=asked.username, password=asked.password)
    with session.open_client() as client:
        checked = client.registry.CheckLogin(registry_pb2.CheckLoginRequest(host=host, login=message))
        if checked.identity_token:
            asked = Login(asked.username, "", checked.identity_token)
        if swarm:
            kept = registry_pb2.RegistryLogin(**asked._asdict())
            client.control.SaveRegistryLogin(control_pb2.SaveRegistryLoginRequest(host=host, login=kept))
        else:
            logins.save(host, asked)
            session.warn(f"WARNING! Your password is stored unencrypted in {logins.settings_file()}.")
    click.echo("Login Succeeded")


@click.command("logout", cls=Command)
@click.argument("server", required=False, default="", metavar="[SERVER]")
def logout(server: str) -> None:
    """Log out from a registry (Docker Hub if no server is named)."""
    host = logins.host_of(server)
    if logins.forget(host):
        click.echo(f"Removing login credentials for {host}")
    else:
        click.echo(f"Not logged in to {host}")


def _asked(username: str, password: str, *, from_stdin: bool, host: str) -> Login:
    if from_stdin:
        if password:
            raise CliError("--password and --password-stdin are mutually exclusive")
        if not username:
            raise CliError("Must provide --username with --password-stdin")
        password = sys.stdin.read().rstrip("\r\n")
        if not password:
            raise CliError("password is empty")
    elif password:
        session.warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    if not (username and password) and not terminal.is_terminal(sys.stdin):
        raise CliError("Error: Cannot perform an interactive login from a non TTY device")
    known = logins.find(host)
    if not username:
        before = f" ({known.username})" if known is not None and known.username else ""
        username = input(f"Username{before}: ").strip() or (known.username if known is not None else "")
    if not username:
        raise CliError("username is required")
    password = password or getpass.getpass("Password: ")
    if not password:
        raise CliError("password is required")
    return Login(username, password)
