"""``swarmctl service update`` and ``rollback``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from swarmd.cli import session
from swarmd.cli.commands.service_create import give_login
from swarmd.cli.errors import CliError, DaemonError
from swarmd.cli.flag_table import WORDS
from swarmd.cli.grammar import Command, switch
from swarmd.cli.networks import identified
from swarmd.cli.service_edit import set_path
from swarmd.cli.service_flags import apply_update, update_options

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.rpc.v1 import types_pb2


@click.command("update", cls=Command)
@click.option("--image", metavar="IMAGE", help="Image of new tasks")
@click.option("--args", type=WORDS, help="Arguments of the command")
@update_options
@switch("--force", text="Replace the tasks even if nothing else changes")
@switch("back", "--rollback", text="Go back to the specification before")
@switch("--no-resolve-image", text="Do not ask what the image's digest is")
@switch("--with-registry-auth", text="Give the swarm your log-in to the image's registry")
@switch("-d", "--detach", text="Exit at once instead of waiting for the service to converge")
@switch("-q", "--quiet", text="Suppress progress output")
@click.argument("ref", metavar="SERVICE")
def update(
    ref: str, back: bool | None, no_resolve_image: bool | None, with_registry_auth: bool | None,
    detach: bool | None, quiet: bool | None, **given: Any,
) -> None:  # fmt: skip
    """Update a service."""
    with session.open_client() as client:
        if back:
            if any(value not in (None, ()) for value in given.values()):
                raise CliError("other flags may not be combined with --rollback")
            roll_back(client, ref, bool(detach), bool(quiet))
            return
        service = get_service(client, ref)
        given["network_add"] = identified(client, given["network_add"])
        given["network_rm"] = identified(client, given["network_rm"], lenient=True)
        try:
            change(service.spec, given)
        except ValueError as error:
            raise CliError(str(error)) from None
        if with_registry_auth:
            give_login(client, service.spec.template.container.image)
        resolve = given["image"] is not None and not no_resolve_image
        for warning in put_service(client, service, resolve):
            session.warn(warning)
        click.echo(ref)
        if not detach:
            wait(client, service, ref, bool(quiet))


@click.command("rollback", cls=Command)
@switch("-d", "--detach", text="Exit at once instead of waiting for the service to converge")
@switch("-q", "--quiet", text="Suppress progress output")
@click.argument("ref", metavar="SERVICE")
def rollback(ref: str, detach: bool | None, quiet: bool | None) -> None:
    """Revert changes to a service's configuration."""
    with session.open_client() as client:
        roll_back(client, ref, bool(detach), bool(quiet))


def change(spec: types_pb2.ServiceSpec, given: dict[str, Any]) -> None:
    """Apply exactly the flags that were given.  Raises ValueError with a sentence."""
    apply_update(spec, given)
    if given["image"] is not None:
        spec.template.container.image = given["image"]
    if given["args"] is not None:
        set_path(spec, "template.container.args", given["args"])
    if given["force"]:
        spec.template.force_update += 1


def get_service(client: Client, ref: str) -> types_pb2.Service:
    """The service ``ref`` means."""
    from swarmd.rpc.v1 import control_pb2

    return client.control.GetService(control_pb2.GetServiceRequest(ref=ref)).service.service


def put_service(client: Client, service: types_pb2.Service, resolve_image: bool = False) -> list[str]:
    """Store the changed spec of a service as it was read; answers warnings."""
    from swarmd.rpc.v1 import control_pb2

    request = control_pb2.UpdateServiceRequest(
        ref=service.id, version=service.version, spec=service.spec, resolve_image=resolve_image
    )
    try:
        return list(client.control.UpdateService(request).warnings)
    except DaemonError as error:
        if error.kind != "out_of_sequence":
            raise
        raise CliError(
            f"{error}\nService {service.spec.name} was changed by somebody else at the same time "
            "(update out of sequence); look at it and run the command again."
        ) from None


def wait(client: Client, service: types_pb2.Service, label: str, quiet: bool) -> None:
    """Wait until a service just changed has converged; ``service`` as it was before."""
    from swarmd.cli.converge import wait_converged

    wait_converged(client, service.id, label, quiet, service.update_status.started_at)


def roll_back(client: Client, ref: str, detach: bool, quiet: bool) -> None:
    """Swap the service's spec with the one before."""
    from swarmd.rpc.v1 import control_pb2

    service = get_service(client, ref)
    client.control.RollbackService(control_pb2.RollbackServiceRequest(ref=service.id))
    click.echo(ref)
    if not detach:
        wait(client, service, ref, quiet)
