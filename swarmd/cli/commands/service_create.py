"""``swarmctl service create``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, switch
from swarmd.cli.networks import identified
from swarmd.cli.service_flags import apply_create, create_options
from swarmd.cli.spec_text import env_file_lines

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.rpc.v1 import types_pb2


@click.command("create", cls=Command, context_settings={"allow_interspersed_args": False})
@click.option("--name", default="", help="Service name")
@click.option("--mode", metavar="replicated|global", default="replicated", help="Service mode")
@create_options
@click.option("--env-file", "env_files", metavar="list", multiple=True, help="Read variables from a file")
@switch("--no-resolve-image", text="Do not ask what the image's digest is")
@switch("--with-registry-auth", text="Give the swarm your log-in to the image's registry")
@switch("-d", "--detach", text="Exit at once instead of waiting for the service to converge")
@switch("-q", "--quiet", text="Suppress progress output")
@click.argument("image")
@click.argument("command", nargs=-1, metavar="[COMMAND] [ARG...]")
def create(
    name: str,
    mode: str,
    env_files: tuple[str, ...],
    no_resolve_image: bool | None,
    with_registry_auth: bool | None,
    detach: bool | None,
    quiet: bool | None,
    image: str,
    command: tuple[str, ...],
    **given: Any,
) -> None:
    """Create a new service."""
    from swarmd.cli.converge import wait_converged
    from swarmd.rpc.v1 import control_pb2

    given["env"] = (*(line for path in env_files for line in _env_file(path)), *given["env"])
    spec = new_spec(name or _random_name(), mode, image, command)
    with session.open_client() as client:
        given["network"] = identified(client, given["network"])
        try:
            apply_create(spec, given)
        except ValueError as error:
            raise CliError(str(error)) from None
        if with_registry_auth:
            give_login(client, image)
        request = control_pb2.CreateServiceRequest(spec=spec, resolve_image=not no_resolve_image)
        answer = client.control.CreateService(request)
        for warning in answer.warnings:
            session.warn(warning)
        click.echo(answer.id)
        if not detach:
            wait_converged(client, answer.id, answer.id, bool(quiet))


def new_spec(name: str, mode: str, image: str, args: tuple[str, ...]) -> types_pb2.ServiceSpec:
    """A spec with every default filled in.  Raises CliError for an unknown mode."""
    from swarmd.model.spec import ContainerSpec, ServiceSpec, TaskTemplate
    from swarmd.rpc.codec import to_proto

    if mode not in ("replicated", "global"):
        raise CliError(f"Unknown mode: {mode}, only replicated and global supported")
    template = TaskTemplate(container=ContainerSpec(image=image, args=args))
    spec: types_pb2.ServiceSpec = to_proto(ServiceSpec(name=name, mode=mode, template=template))
    return spec


def give_login(client: Client, image: str) -> None:
    """The swarm logs in to the image's registry as this user from now on, if this user does."""
    from swarmd.cli import logins
    from swarmd.rpc.v1 import control_pb2

    for login in logins.as_messages(logins.host_of_image(image)):
        client.control.SaveRegistryLogin(control_pb2.SaveRegistryLoginRequest(host=login.host, login=login))


def _random_name() -> str:
    from swarmd.cli.names import random_name
    from swarmd.kit.ids import random_fraction

    return random_name(random_fraction)


def _env_file(path: str) -> list[str]:
    try:
        return env_file_lines(Path(path).read_text())
    except OSError as error:
        raise CliError(f"open {path}: {error.strerror}") from error
    except ValueError as error:
        raise CliError(f"{path}: {error}") from error
