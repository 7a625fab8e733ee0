"""``swarmctl service scale``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from swarmd.cli import session
from swarmd.cli.commands.service_update import get_service, put_service, wait
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, switch

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.rpc.v1 import types_pb2


@click.command("scale", cls=Command)
@switch("-d", "--detach", text="Exit at once instead of waiting for the service to converge")
@click.argument("targets", nargs=-1, required=True, metavar="SERVICE=REPLICAS [SERVICE=REPLICAS...]")
def scale(detach: bool | None, targets: tuple[str, ...]) -> None:
    """Scale one or multiple replicated services."""
    wanted = [parse_target(text) for text in targets]
    problems: list[str] = []
    scaled: list[tuple[str, types_pb2.Service]] = []
    with session.open_client() as client:
        for ref, replicas in wanted:
            try:
                scaled.append((ref, _scale(client, ref, replicas)))
                click.echo(f"{ref} scaled to {replicas}")
            except CliError as error:
                problems.append(f"{ref}: {error}")
        for ref, service in () if detach else scaled:
            try:
                wait(client, service, ref, quiet=False)
            except CliError as error:
                problems.append(f"{ref}: {error}")
    session.fail_if(problems)


def parse_target(text: str) -> tuple[str, int]:
    """``web=3``.  Raises UsageError with a sentence."""
    ref, equals, number = text.partition("=")
    if not ref or not equals:
        raise click.UsageError(f"invalid scale specifier '{text}': write SERVICE=REPLICAS")
    if not number.isdecimal():
        raise click.UsageError(f"invalid replicas value {number}: write a whole number of 0 or more")
    return ref, int(number)


def _scale(client: Client, ref: str, replicas: int) -> types_pb2.Service:
    service = get_service(client, ref)
    if service.spec.mode != "replicated":
        raise CliError("scale can only be used with replicated mode")
    service.spec.replicas = replicas
    put_service(client, service)
    return service
