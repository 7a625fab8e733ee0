"""``swarmctl pull``, ``push`` and ``registry``: images of registries, and how the swarm logs in there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

import click

from swarmd.cli import logins, session, transfer
from swarmd.cli.errors import BAD_USAGE, CliError, DaemonError
from swarmd.cli.grammar import Command, Group, switch

if TYPE_CHECKING:
    from swarmd.cli.client import Client


POLICIES = ("always", "missing", "never")


class NotHad(CliError):
    """There is no image to run: 125, as for every container that could not be made."""

    exit_code = BAD_USAGE


@click.command("pull", cls=Command)
@switch("-a", "--all-tags", text="Download all tagged images in the repository")
@click.option("--platform", default="", help="Of a platform such as linux/arm64 (this node's)")
@switch("-q", "--quiet", text="Suppress verbose output")
@click.argument("ref", metavar="NAME[:TAG|@DIGEST]")
def pull(all_tags: bool | None, platform: str, quiet: bool | None, ref: str) -> None:
    """Download an image from a registry."""
    with session.open_client() as client:
        pull_image(client, ref, platform=platform, all_tags=bool(all_tags), quiet=bool(quiet))
    click.echo(complete_name(ref, all_tags=bool(all_tags)))


@click.command("push", cls=Command)
@switch("-a", "--all-tags", text="Push all tags of an image to the repository")
@switch("-q", "--quiet", text="Suppress verbose output")
@click.argument("ref", metavar="NAME[:TAG]")
def push(all_tags: bool | None, quiet: bool | None, ref: str) -> None:
    """Upload an image to a registry."""
    from swarmd.rpc.v1 import registry_pb2 as pb

    host = logins.host_of_image(ref)
    if not all_tags:
        _say_default_tag(ref, quiet=bool(quiet))
    request = pb.PushRequest(ref=ref, all_tags=bool(all_tags), logins=logins.as_messages(host))
    with session.open_client() as client:
        messages = client.registry.Push(request)
        if quiet:
            list(messages)
        else:
            transfer.show(messages)
    if quiet:
        click.echo(complete_name(ref, all_tags=bool(all_tags)))


def pull_image(
    client: Client,
    ref: str,
    *,
    platform: str = "",
    all_tags: bool = False,
    needed: bool = False,
    quiet: bool = False,
    out: TextIO | None = None,
) -> None:
    """Have the daemon pull an image, with this user's log-in; if it is only ``needed``, from anywhere in the
    swarm.  Raises CliError."""
    from swarmd.rpc.v1 import registry_pb2 as pb

    host = logins.host_of_image(ref)
    if not all_tags:
        _say_default_tag(ref, quiet=quiet, out=out)
    request = pb.PullRequest(
        ref=ref, platform=platform, all_tags=all_tags, needed=needed, logins=logins.as_messages(host)
    )
    messages = client.registry.Pull(request)
    if quiet:
        list(messages)
    else:
        transfer.show(messages, out)


def have_image(client: Client, image: str, policy: str, platform: str) -> None:
    """Pull an image that is to run, as ``docker run`` does.  Raises NotHad."""
    from swarmd.rpc.v1 import node_pb2

    if policy not in POLICIES:
        raise NotHad(f'invalid pull option: \'{policy}\': must be one of "always", "missing" or "never"')
    try:
        if policy != "always":
            client.node.GetImage(node_pb2.GetImageRequest(ref=image))
            return
    except DaemonError as error:
        if error.kind != "not_found" or policy == "never":
            raise NotHad(str(error)) from None
        session.warn(f"Unable to find image '{shown_name(image)}' locally")
    try:
        pull_image(client, image, platform=platform, needed=policy == "missing", out=sys.stderr)
    except DaemonError as error:
        raise NotHad(str(error)) from None


def shown_name(image: str) -> str:
    """With its tag, as people write it.  Raises NotHad for what is no name."""
    from swarmd.model import image_ref
    from swarmd.model.errors import Invalid

    try:
        return image_ref.parse(image).familiar()
    except Invalid as error:
        raise NotHad(str(error)) from None


def complete_name(ref: str, *, all_tags: bool = False) -> str:
    """The name with its host, as pulls end: ``docker.io/library/nginx:latest``."""
    from swarmd.model import image_ref

    found = image_ref.parse(ref)
    return found.name if all_tags else str(found)


def _say_default_tag(ref: str, *, quiet: bool, out: TextIO | None = None) -> None:
    name = ref.rpartition("/")[2]
    if not quiet and ":" not in name and "@" not in ref:
        click.echo("Using default tag: latest", file=out or sys.stdout)


@click.group("credential", cls=Group)
def credential() -> None:
    """Manage how the swarm logs in to outside registries (`login --swarm` adds one)."""


credential.aliases = {"list": "ls", "remove": "rm"}


@credential.command("ls", cls=Command)
@click.option("--format", "template", help="table, json, or a Go template")
@switch("-q", "--quiet", text="Only display hosts")
def credential_ls(template: str | None, quiet: bool | None) -> None:
    """List the registries that the swarm logs in to; passwords are never shown."""
    from swarmd.cli.listing import Layout
    from swarmd.cli.units import human_duration
    from swarmd.rpc.v1 import control_pb2

    form = Layout(
        ("Host", "Username", "Saved"), {"Host": "HOST", "Username": "USERNAME", "Saved": "SAVED"}, "Host"
    )
    with session.open_client() as client:
        found = client.control.ListRegistryLogins(control_pb2.ListRegistryLoginsRequest()).logins
    rows = [
        {
            "Host": one.host,
            "Username": one.username or "<token>",
            "Saved": f"{human_duration(session.now() - one.updated_at)} ago",
        }
        for one in found
    ]
    session.print_listing(form, rows, template, quiet)


@credential.command("rm", cls=Command)
@click.argument("hosts", nargs=-1, required=True, metavar="HOST [HOST...]")
def credential_rm(hosts: tuple[str, ...]) -> None:
    """Remove the swarm's log-ins to one or more registries."""
    from swarmd.rpc.v1 import control_pb2

    def one(host: str) -> None:
        request = control_pb2.RemoveRegistryLoginRequest(host=logins.host_of(host))
        client.control.RemoveRegistryLogin(request)

    with session.open_client() as client:
        session.each(hosts, one)
