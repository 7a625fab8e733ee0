"""``swarmctl registry`` and ``swarmctl image preload``: images of the whole swarm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from swarmd.cli import session, states
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, Group, switch
from swarmd.cli.listing import Layout, Row
from swarmd.cli.units import format_decimal, rfc3339

if TYPE_CHECKING:
    from swarmd.rpc.v1 import control_pb2

REGISTRY = Layout(
    ("Repository", "Tag", "Digest", "Size", "Pushed"),
    {
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "Digest": "DIGEST",
        "Size": "SIZE",
        "Pushed": "PUSHED",
        "PushedAt": "PUSHED AT",
        "MediaType": "MEDIA TYPE",
    },
    "Digest",
)

_SHORT = len("sha256:") + 12


@click.group("registry", cls=Group, lazy={"credential": "swarmd.cli.commands.registry:credential"})
def registry() -> None:
    """Manage the swarm's own registry, and how the swarm logs in to others."""


registry.aliases = {"list": "ls", "remove": "rm"}


@registry.command("ls", cls=Command)
@click.option("--format", "template", help="table, json, or a Go template")
@switch("--no-trunc", text="Do not truncate output")
@switch("-q", "--quiet", text="Only show digests")
@click.argument("repository", required=False, default="", metavar="[REPOSITORY]")
def ls(template: str | None, no_trunc: bool | None, quiet: bool | None, repository: str) -> None:
    """List what was pushed to the swarm's registry."""
    from swarmd.rpc.v1 import control_pb2

    with session.open_client() as client:
        answer = client.control.ListRegistry(control_pb2.ListRegistryRequest(repository=repository))
    rows = registry_rows(answer.entries, session.now(), truncate=not no_trunc)
    session.print_listing(REGISTRY, rows, template, quiet)


@registry.command("rm", cls=Command)
@click.argument("refs", nargs=-1, required=True, metavar="REPOSITORY[:TAG|@DIGEST]...")
def rm(refs: tuple[str, ...]) -> None:
    """Remove tags, manifests or whole repositories from the swarm's registry."""
    from swarmd.rpc.v1 import control_pb2

    def one(ref: str) -> None:
        answer = client.control.RemoveFromRegistry(control_pb2.RemoveFromRegistryRequest(ref=ref))
        session.print_lines(f"Untagged: {name}" for name in answer.untagged)
        session.print_lines(f"Deleted: {name}" for name in answer.deleted)

    with session.open_client() as client:
        session.fail_if(session.collect(refs, one)[1])


@click.command("preload", cls=Command)
@click.option(
    "--constraint", "constraints", metavar="CONSTRAINT", multiple=True, help="Only nodes that meet it"
)
@switch("-d", "--detach", text="Exit when the nodes were told, without waiting for them")
@click.argument("ref", metavar="IMAGE")
def preload(constraints: tuple[str, ...], detach: bool | None, ref: str) -> None:
    """Have all nodes fetch an image now, so that its tasks start at once."""
    from swarmd.rpc.v1 import control_pb2

    request = control_pb2.PreloadImageRequest(ref=ref, constraints=constraints, detach=bool(detach))
    ends: dict[str, control_pb2.PreloadImageResponse] = {}
    with session.open_client() as client:
        for news in client.control.PreloadImage(request):
            if news.state != "fetching" or _is_worth_a_line(ends.get(news.node_id), news):
                click.echo(preload_line(news))
                ends[news.node_id] = news
    failed = [news for news in ends.values() if news.state in ("failed", "away")]
    if failed:
        raise CliError(f"{len(failed)} of {len(ends)} nodes do not have the image")


def registry_rows(
    entries: Iterable[control_pb2.RegistryEntry], now: float, *, truncate: bool = True
) -> list[Row]:
    """One row a tag, and one a manifest that has none."""
    return [
        {
            "Repository": one.repository,
            "Tag": one.tag or "<none>",
            "Digest": one.digest[:_SHORT] if truncate else one.digest,
            "Size": format_decimal(one.size) if one.size else "N/A",
            "Pushed": states.ago(one.pushed_at, now),
            "PushedAt": rfc3339(one.pushed_at),
            "MediaType": one.media_type,
        }
        for one in entries
    ]


def _is_worth_a_line(
    last: control_pb2.PreloadImageResponse | None, news: control_pb2.PreloadImageResponse
) -> bool:
    """The first of a node, and then each tenth of the image."""
    if last is None or not news.total:
        return last is None
    return news.current - last.current >= max(news.total, 1 << 20) / 10


def preload_line(news: control_pb2.PreloadImageResponse) -> str:
    """What to print of a node's news."""
    name = news.hostname or news.node_id
    if news.state == "fetching" and news.total:
        return f"{name}: fetching {format_decimal(news.current)} of {format_decimal(news.total)}"
    if news.state == "away":
        return f"{name}: not told: {news.message}"
    return f"{name}: {news.state}: {news.message}" if news.message else f"{name}: {news.state}"
