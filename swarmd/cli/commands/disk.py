"""``swarmctl system``: what a node's images, containers, volumes and cache take, and making room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from swarmd.cli import session
from swarmd.cli.commands.image import prune_limits, pruned_lines
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, Group, switch
from swarmd.cli.units import format_decimal
from swarmd.kit.go_values import go_json
from swarmd.kit.template import TemplateError, render, unescape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarmd.cli.client import Client
    from swarmd.cli.listing import Row


_WEEK = 7 * 86400.0


@click.group(
    "system",
    cls=Group,
    lazy={"info": "swarmd.cli.commands.system:info", "events": "swarmd.cli.commands.events:events"},
)
def group() -> None:
    """Look after what is stored on this node."""


@group.command("df", cls=Command)
@click.option("--format", "template", help="table, json, or a Go template")
@switch("-v", "--verbose", text="Show detailed information on space usage")
def df(template: str | None, verbose: bool | None) -> None:
    """Show what images, containers, volumes and build cache of this node take; shared layers count once."""
    from swarmd.cli.commands.container_list import container_rows
    from swarmd.cli.rows_usage import SUMMARY, detailed_lines, detailed_rows, summary_rows
    from swarmd.rpc.v1 import images_pb2

    with session.open_client() as client:
        usage = client.images.GetUsage(images_pb2.GetUsageRequest())
    if not verbose:
        session.print_listing(SUMMARY, summary_rows(usage), template, quiet=False)
        return
    now = session.now()
    cells = container_rows([each.container for each in usage.containers], now, True)
    found = detailed_rows(usage, cells, now)
    if template in (None, "", "table"):
        cache = sum(each.size for each in usage.cache if not each.shared)
        session.print_lines(detailed_lines(found, cache))
    else:
        click.echo(_filled(str(template), found))


def _filled(template: str, found: dict[str, list[Row]]) -> str:
    try:
        return go_json(found) if template == "json" else render(unescape(template), found)
    except TemplateError as error:
        raise CliError(str(error)) from None


@group.command("prune", cls=Command)
@switch("everything", "-a", "--all", text="Remove all unused images, not just dangling ones")
@click.option(
    "--filter", "filters", metavar="KEY=VALUE", multiple=True, help="Only such things: until, label, label!"
)
@switch("-f", "--force", text="Do not prompt for confirmation")
@switch("--volumes", text="Remove anonymous volumes as well")
def prune(
    everything: bool | None, filters: tuple[str, ...], force: bool | None, volumes: bool | None
) -> None:
    """Remove what this node does not use: stopped single containers, dangling images, old build cache."""
    from swarmd.rpc.v1 import images_pb2, node_pb2

    limits = prune_limits(filters)
    for key in ("until", "label!"):
        if volumes and any(each.startswith(f"{key}=") for each in filters):
            raise CliError(f"the '{key}' filter is not supported with '--volumes'")
    warning = "\n".join(warning_lines(filters, everything=bool(everything), volumes=bool(volumes)))
    if not force and not session.is_sure(warning):
        raise CliError("system prune has been cancelled")
    with session.open_client() as client:
        ended = client.images.PruneContainers(
            images_pb2.PruneContainersRequest(
                until=limits.until, labels=limits.labels, without=limits.without
            )
        )
        _tell("Deleted Containers:", ended.deleted)
        freed = ended.reclaimed
        if volumes:
            gone = client.node.PruneVolumes(node_pb2.PruneVolumesRequest(labels=limits.labels))
            _tell("Deleted Volumes:", gone.deleted)
            freed += gone.reclaimed
        request = images_pb2.PruneImagesRequest(
            all=bool(everything), until=limits.until, labels=limits.labels, without=limits.without
        )
        answer = client.images.PruneImages(request)
        session.print_lines(pruned_lines(answer))
        freed += answer.reclaimed
        if not (limits.labels or limits.without):  # what a build remembers has no labels
            freed += _prune_cache(client, limits.until, everything=bool(everything))
    click.echo(f"Total reclaimed space: {format_decimal(freed, 4)}")


def _prune_cache(client: Client, until: float, *, everything: bool) -> int:
    """Forget old steps of builds, or all of them; answers the bytes freed."""
    from swarmd.rpc.v1 import build_pb2

    request = build_pb2.PruneCacheRequest(
        before=until or session.now() - _WEEK, keep=-1, all=everything and not until
    )
    answer = client.builder.PruneCache(request)
    _tell("Deleted build cache objects:", answer.deleted)
    return answer.reclaimed


def warning_lines(filters: tuple[str, ...], *, everything: bool, volumes: bool) -> list[str]:
    """Docker's words on what will go."""
    lines = ["WARNING! This will remove:", "  - all stopped containers"]
    lines += ["  - all anonymous volumes not used by at least one container"] if volumes else []
    lines.append(
        "  - all images without at least one container associated to them"
        if everything
        else "  - all dangling images"
    )
    if not any(each.startswith("label") for each in filters):
        lines.append("  - all build cache" if everything else "  - build cache not used for a week")
    if filters:
        lines += ["", "  Items to be pruned will be filtered with:", *(f"  - {each}" for each in filters)]
    return [*lines, ""]


def _tell(heading: str, names: Sequence[str]) -> None:
    if names:
        session.print_lines([heading, *names, ""])
