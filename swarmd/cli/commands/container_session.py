"""``swarmctl exec`` and ``swarmctl attach``: a program in a container of any node, and this terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from swarmd.cli import keys, session, terminal
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, Parsed, switch
from swarmd.cli.spec_text import env_file_lines

if TYPE_CHECKING:
    from swarmd.cli.client import Client

NO_TERMINAL = "the input device is not a TTY"
_KEYS = Parsed("string", keys.parse_keys)


@click.command("exec", cls=Command, context_settings={"allow_interspersed_args": False})
@switch("-d", "--detach", text="Run it in the background")
@click.option("--detach-keys", type=_KEYS, default=keys.DEFAULT, help="Keys that leave the session")
@click.option("-e", "--env", metavar="list", multiple=True, help="Set environment variables")
@click.option("--env-file", "env_files", metavar="list", multiple=True, help="Read variables from a file")
@switch("-i", "--interactive", text="Keep standard input open")
@switch("--privileged", text="Give the program every capability")
@switch("-t", "--tty", text="Give the program a terminal")
@click.option("-u", "--user", default="", help="Name or id (format: user[:group])")
@click.option("-w", "--workdir", default="", help="Working directory in the container")
@click.argument("ref", metavar="TASK|CONTAINER")
@click.argument("command", nargs=-1, required=True, metavar="COMMAND [ARG...]")
def execute(
    detach: bool | None, detach_keys: bytes, env: tuple[str, ...], env_files: tuple[str, ...],
    interactive: bool | None, privileged: bool | None, tty: bool | None, user: str, workdir: str,
    ref: str, command: tuple[str, ...],
) -> int:  # fmt: skip
    """Run a program in a running container, on whatever node it is."""
    from swarmd.cli.talking import Manner, Talk
    from swarmd.rpc.v1 import containers_pb2 as pb

    with_input = bool(interactive) and not detach
    if tty and with_input and not terminal.is_terminal(sys.stdin):
        raise CliError(NO_TERMINAL)
    rows, columns = terminal.size()
    wanted = pb.ExecCommand(
        args=command,
        env=_environment(env, env_files),
        cwd=workdir,
        user=user,
        tty=bool(tty),
        stdin=with_input,
        privileged=bool(privileged),
        detach=bool(detach),
        size=pb.TerminalSize(rows=rows, columns=columns),
    )
    manner = Manner(tty=bool(tty), stdin=with_input, keys=detach_keys)
    with session.open_client() as client:
        return Talk(pb.SessionInput(ref=ref, command=wanted), manner).hold(client, "Exec")


@click.command("attach", cls=Command)
@click.option("--detach-keys", type=_KEYS, default=keys.DEFAULT, help="Keys that leave the session")
@switch("--no-stdin", text="Do not attach standard input")
@switch("--sig-proxy", text="Pass signals on to the program (true unless set to false)")
@click.argument("ref", metavar="TASK|CONTAINER")
def attach(detach_keys: bytes, no_stdin: bool | None, sig_proxy: bool | None, ref: str) -> int:
    """Attach this terminal to the program of a running container."""
    with session.open_client() as client:
        return attach_to(client, ref, keys=detach_keys, stdin=not no_stdin, signals=sig_proxy is not False)


def attach_to(
    client: Client,
    ref: str,
    *,
    keys: bytes,
    stdin: bool,
    signals: bool,
    begun: Callable[[], object] = lambda: None,
) -> int:
    """Be connected with a container's program until it ends; answers its exit code.

    ``begun`` is done once the connection stands.
    """
    from swarmd.cli.talking import Manner, Talk
    from swarmd.rpc.v1 import containers_pb2 as pb

    about = client.containers.GetContainer(pb.ContainerRequest(ref=ref))
    if about.container.status == "exited":
        raise CliError("You cannot attach to a stopped container, start it first")
    tty, takes_input = about.tty, stdin and about.stdin
    if tty and takes_input and not terminal.is_terminal(sys.stdin):
        raise CliError(NO_TERMINAL)
    manner = Manner(tty=tty, stdin=takes_input, keys=keys, signals=signals)
    return Talk(pb.SessionInput(ref=ref), manner, begun).hold(client, "Attach")


def _environment(given: tuple[str, ...], files: tuple[str, ...]) -> list[str]:
    """As Docker: a name without a value takes the value it has here, or is left out."""
    found = []
    for path in files:
        try:
            found += env_file_lines(Path(path).read_text())
        except OSError as error:
            raise CliError(f"open {path}: {error.strerror}") from error
        except ValueError as error:
            raise CliError(f"{path}: {error}") from error
    for entry in given:
        if "=" in entry:
            found.append(entry)
        elif entry in os.environ:
            found.append(f"{entry}={os.environ[entry]}")
    return found
