"""``swarmctl run``, ``create``, ``start``, ``stop``, ``restart`` ``rm``: single containers of this node."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swarmd.cli import keys, session, terminal
from swarmd.cli.commands.container_session import NO_TERMINAL, attach_to
from swarmd.cli.commands.registry import have_image
from swarmd.cli.commands.service_create import new_spec
from swarmd.cli.errors import BAD_USAGE, CliError, DaemonError
from swarmd.cli.grammar import Command, F, Parsed, switch
from swarmd.cli.network_text import memberships, parse_membership
from swarmd.cli.run_flags import apply_run, run_options
from swarmd.cli.spec_text import env_file_lines

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.rpc.v1 import containers_pb2 as pb

_KEYS = Parsed("string", keys.parse_keys)
_NETWORK = Parsed("network", parse_membership)


class RunFailed(CliError):
    """The container could not be made or started: 125, so that it is not taken for the program's own."""

    def __init__(self, text: str, code: int = BAD_USAGE) -> None:
        super().__init__(text)
        self.exit_code = code


def _making(command: F) -> F:
    for decorate in (
        click.argument("command", nargs=-1, metavar="[COMMAND] [ARG...]"),
        click.argument("image"),
        click.option(
            "--env-file", "env_files", metavar="list", multiple=True, help="Read variables from a file"
        ),
        run_options,
        switch("--rm", text="Remove the container and its anonymous volumes when it ends"),
        click.option("--restart", default="no", help="no, on-failure[:N], always or unless-stopped"),
        click.option(
            "--network",
            "networks",
            type=_NETWORK,
            multiple=True,
            help="Network to join (NAME, or name=…,alias=…,ip=…), host, or none",
        ),
        click.option("--network-alias", metavar="list", multiple=True, help="Further name in the network"),
        click.option("--ip", default="", help="Address in the network"),
        click.option("--ip6", default="", help="IPv6 address in the network"),
        click.option(
            "-p", "--publish", multiple=True, metavar="list", help="Refused: services publish ports"
        ),
        click.option(
            "--pull",
            "policy",
            metavar="always|missing|never",
            default="missing",
            help="When the image is pulled (missing)",
        ),
        click.option("--platform", default="", help="Of a platform such as linux/arm64 (this node's)"),
        click.option("--name", default="", help="Name of the container"),
    ):
        command = decorate(command)
    return command


@click.command("run", cls=Command, context_settings={"allow_interspersed_args": False})
@switch("-d", "--detach", text="Run it in the background and print its ID")
@click.option("--detach-keys", type=_KEYS, default=keys.DEFAULT, help="Keys that leave the session")
@switch("--sig-proxy", text="Pass signals on to the program (true unless set to false)")
@_making
def run(detach: bool | None, detach_keys: bytes, sig_proxy: bool | None, **given: Any) -> int:
    """Create and run a container on this node, of no service."""
    if given["tty"] and given["interactive"] and not detach and not terminal.is_terminal(sys.stdin):
        raise CliError(NO_TERMINAL)
    with session.open_client() as client:
        made = _make(client, given, auto_remove=bool(given["rm"]))
        try:
            if detach:
                _start(client, made.id)
                click.echo(made.id)
                return 0
            code, left = _follow(client, made.id, given, detach_keys, signals=sig_proxy is not False)
        except CliError:
            if given["rm"]:
                _remove(client, made.id)
            raise
        if given["rm"] and not left:
            _remove(client, made.id)
        return code


@click.command("create", cls=Command, context_settings={"allow_interspersed_args": False})
@_making
def create(**given: Any) -> None:
    """Create a container on this node, of no service, and do not start it."""
    with session.open_client() as client:
        click.echo(_make(client, given, auto_remove=bool(given["rm"])).id)


@click.command("start", cls=Command)
@click.argument("refs", nargs=-1, required=True, metavar="CONTAINER...")
def start(refs: tuple[str, ...]) -> None:
    """Start single containers that do not run."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    with session.open_client() as client:
        session.each(refs, lambda ref: client.containers.StartContainer(pb.ContainerRequest(ref=ref)))


def _stopping(command: F) -> F:
    for decorate in (
        click.argument("refs", nargs=-1, required=True, metavar="CONTAINER..."),
        click.option("-t", "--time", "grace", type=int, help="Seconds to wait before killing the container"),
        click.option("-s", "--signal", default="", help="Signal to send to the container"),
    ):
        command = decorate(command)
    return command


@click.command("stop", cls=Command)
@_stopping
def stop(signal: str, grace: int | None, refs: tuple[str, ...]) -> None:
    """Stop single containers, and do not start them again."""
    with session.open_client() as client:
        session.each(
            refs, lambda ref: client.containers.StopContainer(_stop(ref, signal, grace), timeout=None)
        )


@click.command("restart", cls=Command)
@_stopping
def restart(signal: str, grace: int | None, refs: tuple[str, ...]) -> None:
    """Stop single containers and start them again."""
    with session.open_client() as client:
        session.each(
            refs, lambda ref: client.containers.RestartContainer(_stop(ref, signal, grace), timeout=None)
        )


@click.command("rm", cls=Command)
@switch("-f", "--force", text="Kill a container that runs")
@switch("-v", "--volumes", text="Remove its anonymous volumes as well")
@click.argument("refs", nargs=-1, required=True, metavar="CONTAINER...")
def remove(force: bool | None, volumes: bool | None, refs: tuple[str, ...]) -> None:
    """Remove single containers."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    def one(ref: str) -> None:
        client.containers.RemoveContainer(
            pb.RemoveContainerRequest(ref=ref, force=bool(force), volumes=bool(volumes))
        )

    with session.open_client() as client:
        session.each(refs, one)


def _make(client: Client, given: dict[str, Any], *, auto_remove: bool) -> pb.CreateContainerResponse:
    from swarmd.rpc.v1 import containers_pb2 as pb

    if given["publish"]:
        raise RunFailed(
            "a single container publishes no ports: reach it at its own address, or make a service"
        )
    spec = new_spec("run", "replicated", given["image"], given["command"])
    given["env"] = (*(line for path in given["env_files"] for line in _lines(path)), *given["env"])
    try:
        apply_run(spec, given)
        mode, joined = memberships(
            given["networks"], given["network_alias"], [one for one in (given["ip"], given["ip6"]) if one]
        )
    except ValueError as error:
        raise RunFailed(str(error)) from None
    have_image(client, given["image"], given["policy"], given["platform"])
    template = spec.template
    request = pb.CreateContainerRequest(
        name=given["name"] or _random_name(),
        spec=template.container,
        limits=template.limits,
        runtime=template.runtime,
        network=mode,
        restart=given["restart"],
        auto_remove=auto_remove,
    )
    for one in joined:
        request.networks.add(target=one.target, aliases=one.aliases, addresses=one.addresses)
    try:
        return client.containers.CreateContainer(request)
    except DaemonError as error:
        raise RunFailed(str(error)) from None


def _start(client: Client, container_id: str) -> None:
    """Raises RunFailed, with the exit code of a program that could not be executed."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    try:
        client.containers.StartContainer(pb.ContainerRequest(ref=container_id))
    except DaemonError as error:
        code = _code(client, container_id) if error.kind == "invalid" else BAD_USAGE
        raise RunFailed(str(error), code) from None


def _code(client: Client, container_id: str) -> int:
    from swarmd.rpc.v1 import containers_pb2 as pb

    with contextlib.suppress(DaemonError):
        return (
            client.containers.Wait(pb.ContainerRequest(ref=container_id), timeout=5.0).exit_code or BAD_USAGE
        )
    return BAD_USAGE


def _follow(
    client: Client, container_id: str, given: dict[str, Any], detach_keys: bytes, *, signals: bool
) -> tuple[int, bool]:
    """(the exit code, whether the user left it running)."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    if given["interactive"] or given["tty"]:
        code = attach_to(
            client,
            container_id,
            keys=detach_keys,
            stdin=bool(given["interactive"]),
            signals=signals,
            begun=lambda: _start(client, container_id),
        )
        about = client.containers.GetContainer(pb.ContainerRequest(ref=container_id))
        return code, about.container.status != "exited"
    _start(client, container_id)
    _print_all(client, container_id, signals=signals)
    return client.containers.Wait(pb.ContainerRequest(ref=container_id)).exit_code, False


def _print_all(client: Client, container_id: str, *, signals: bool) -> None:
    """Its output until it ends; signals go to it meanwhile."""
    import signal

    from swarmd.cli.commands.container import print_entry
    from swarmd.rpc.v1 import containers_pb2 as pb

    def passed_on(number: int, _: object) -> None:
        with contextlib.suppress(DaemonError):
            client.containers.Kill(pb.KillRequest(ref=container_id, signal=signal.Signals(number).name))

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
    with terminal.handling(dict.fromkeys(numbers, passed_on) if signals else {}):
        request = pb.ContainerLogsRequest(ref=container_id, follow=True, tail=-1)
        for entry in client.containers.ReadLogs(request):
            print_entry(entry)


def _remove(client: Client, container_id: str) -> None:
    from swarmd.rpc.v1 import containers_pb2 as pb

    with contextlib.suppress(DaemonError):
        client.containers.RemoveContainer(
            pb.RemoveContainerRequest(ref=container_id, force=True, volumes=True)
        )


def _stop(ref: str, signal: str, grace: int | None) -> pb.StopContainerRequest:
    from swarmd.rpc.v1 import containers_pb2 as pb

    request = pb.StopContainerRequest(ref=ref, signal=signal)
    if grace is not None:
        request.grace = grace
    return request


def _random_name() -> str:
    from swarmd.cli.names import random_name
    from swarmd.kit.ids import random_fraction

    return random_name(random_fraction)


def _lines(path: str) -> list[str]:
    try:
        return env_file_lines(Path(path).read_text())
    except OSError as error:
        raise RunFailed(f"open {path}: {error.strerror}") from error
    except ValueError as error:
        raise RunFailed(f"{path}: {error}") from error
