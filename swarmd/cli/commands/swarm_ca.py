"""``swarmctl swarm ca``: the root certificate, and the way to another one."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING

import click

from swarmd.cli.commands.swarm import join_address, join_text
from swarmd.cli.converge import POLL_SECONDS, Screen
from swarmd.cli.files import read_pem
from swarmd.cli.grammar import Command, Parsed, switch
from swarmd.cli.rotation import describe, done, lines
from swarmd.cli.session import open_client, print_lines
from swarmd.cli.units import parse_duration

if TYPE_CHECKING:
    from swarmd.cli.client import Client

_ROTATING = ("ca_cert", "ca_key", "cert_expiry", "detach", "quiet")


@click.command("ca", cls=Command)
@switch("--rotate", text="Go over to another root; without a file the swarm makes a new one")
@click.option("--ca-cert", metavar="FILE", default="", help="Go over to this root CA certificate (PEM)")
@click.option("--ca-key", metavar="FILE", default="", help="The private key of that certificate (PEM)")
@click.option(
    "--cert-expiry", type=Parsed("duration", parse_duration), help="How long node certificates are valid"
)
@click.option("--external-ca", metavar="EXTERNAL-CA", default="", help="Not supported", hidden=True)
@switch("-d", "--detach", text="Exit immediately instead of waiting until every node has gone over")
@switch("-q", "--quiet", text="Suppress progress output")
@switch("--status", text="Say how far a rotation is, and which nodes it waits for")
def ca(
    rotate: bool | None,
    ca_cert: str,
    ca_key: str,
    cert_expiry: float | None,
    external_ca: str,
    detach: bool | None,
    quiet: bool | None,
    status: bool | None,
) -> None:
    """Display and rotate the root CA."""
    from swarmd.rpc.v1 import control_pb2

    if external_ca:
        raise click.UsageError("external-ca: certificates are signed by the managers only; leave it out")
    given = {
        "ca_cert": ca_cert,
        "ca_key": ca_key,
        "cert_expiry": cert_expiry,
        "detach": detach,
        "quiet": quiet,
    }
    if not rotate:
        for name in _ROTATING:
            if given[name] not in (None, "", False):
                raise click.UsageError(f"`--{name.replace('_', '-')}` flag requires the `--rotate` flag")
    with open_client() as client:
        if not rotate:
            _show(client, status=bool(status))
            return
        request = control_pb2.RotateAuthorityRequest(
            ca_cert=read_pem(ca_cert), ca_key=read_pem(ca_key), certificate_expiry=cert_expiry or 0.0
        )
        digest = client.control.RotateAuthority(request).digest
        if detach:
            return
        if _follow(client, digest, quiet=bool(quiet)):
            _show_new(client, quiet=bool(quiet))


def _show(client: Client, *, status: bool) -> None:
    """The root that is trusted, or all there is to know."""
    from swarmd.rpc.v1 import control_pb2

    answer = client.control.GetAuthority(control_pb2.GetAuthorityRequest())
    if status:
        print_lines(describe(answer))
        return
    roots = [answer.root, answer.next] if answer.phase else [answer.root]
    for root in roots:
        click.echo(root.certificate_pem.decode("ascii", "replace").rstrip("\n"))
    if answer.phase:
        click.echo("The root CA is being rotated: see `swarmctl swarm ca --status`.", err=True)


def _follow(client: Client, digest: str, *, quiet: bool) -> bool:
    """Until that root is the only one.  False when another rotation took its place, or on Ctrl-C."""
    from swarmd.rpc.v1 import control_pb2

    screen = Screen(quiet)
    try:
        while True:
            answer = client.control.GetAuthority(control_pb2.GetAuthorityRequest())
            screen.show(lines(answer, digest))
            over = done(answer, digest)
            if over is not None:
                return over
            Event().wait(POLL_SECONDS)
    except KeyboardInterrupt:
        click.echo("\nOperation continuing in background.")
        click.echo("Use `swarmctl swarm ca --status` to check progress.")
        return False


def _show_new(client: Client, *, quiet: bool) -> None:
    from swarmd.rpc.v1 import control_pb2

    cluster = client.control.GetCluster(control_pb2.GetClusterRequest())
    click.echo(cluster.root_ca.decode("ascii", "replace").rstrip("\n"))
    if quiet:
        return
    address = join_address(client)
    click.echo("\nThe join tokens carry the new root's digest; older ones are dead.\n")
    for role, token in (("worker", cluster.worker_token), ("manager", cluster.manager_token)):
        click.echo(join_text(role, token, address))
