"""``swarmctl image``: the images of one node, looked at, named and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from swarmd.cli import session
from swarmd.cli.commands import image_archive
from swarmd.cli.commands.swarm_images import preload
from swarmd.cli.errors import CliError, DaemonError
from swarmd.cli.grammar import Command, Group, switch
from swarmd.cli.units import format_decimal, parse_since

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from swarmd.cli.client import Client
    from swarmd.cli.views_container import Json
    from swarmd.rpc.v1 import images_pb2, node_pb2

_FILTERS = ("before", "dangling", "label", "reference", "since", "until")
_PRUNE_FILTERS = ("label", "label!", "until")
_DANGLING = "WARNING! This will remove all dangling images."
_UNUSED = "WARNING! This will remove all images without at least one container associated to them."


_ELSEWHERE = {
    "pull": "swarmd.cli.commands.registry:pull",
    "push": "swarmd.cli.commands.registry:push",
    "sbom": "swarmd.cli.commands.scan:sbom",
    "scan": "swarmd.cli.commands.scan:scan",
}


@click.group("image", cls=Group, lazy=_ELSEWHERE)
def group() -> None:
    """Manage images of this node."""


group.aliases = {"list": "ls", "remove": "rm"}
group.add_command(preload)
group.lazy["build"] = "swarmd.cli.commands.build:build"


@group.command("ls", cls=Command)
@switch("everything", "-a", "--all", text="Show all images: none is hidden without it")
@switch("--digests", text="Show digests")
@click.option("-f", "--filter", "filters", metavar="KEY=VALUE", multiple=True, help="Only such images")
@click.option("--format", "template", help="table, json, or a Go template")
@switch("--no-trunc", text="Do not truncate output")
@switch("-q", "--quiet", text="Only show image IDs")
@click.argument("reference", required=False, metavar="[REPOSITORY[:TAG]]")
def ls(
    everything: bool | None, digests: bool | None, filters: tuple[str, ...], template: str | None,
    no_trunc: bool | None, quiet: bool | None, reference: str | None,
) -> None:  # fmt: skip
    """List images."""
    from swarmd.cli.rows_image import IMAGES, WITH_DIGESTS, image_rows
    from swarmd.rpc.v1 import node_pb2

    wanted = session.parse_filters(filters, _FILTERS)
    if reference:
        wanted.setdefault("reference", set()).add(reference)
    with session.open_client() as client:
        found = list(client.node.ListImages(node_pb2.ListImagesRequest()).images)
        images = chosen(found, wanted, _edges(client, wanted), session.now())
    all_digests = bool(digests) or ".Digest" in (template or "")
    rows = image_rows(images, session.now(), truncate=not no_trunc, digests=all_digests)
    if quiet:
        rows = list({row["ID"]: row for row in rows}.values())
    session.print_listing(WITH_DIGESTS if digests else IMAGES, rows, template, quiet)


def _edges(client: Client, wanted: dict[str, set[str]]) -> tuple[float, float]:
    """(after, before): when the images were made that ``since`` and ``before`` name."""
    from swarmd.rpc.v1 import node_pb2

    def created(key: str) -> list[float]:
        requests = (node_pb2.GetImageRequest(ref=ref) for ref in sorted(wanted.get(key, ())))
        return [client.node.GetImage(request).image.created_at for request in requests]

    return max(created("since"), default=float("-inf")), min(created("before"), default=float("inf"))


def chosen(
    images: Iterable[node_pb2.Image], wanted: dict[str, set[str]], edges: tuple[float, float], now: float
) -> list[node_pb2.Image]:
    """The images that the filters mean, with the names that they mean."""
    from swarmd.cli.rows_image import is_dangling, matching

    dangling = session.truth(wanted.get("dangling", ()), "dangling")
    before = min([edges[1], *(_point(text, now) for text in wanted.get("until", ()))])
    named = (matching(image, sorted(wanted.get("reference", ()))) for image in images)
    return [
        image
        for image in named
        if image is not None
        and dangling in (None, is_dangling(image))
        and edges[0] < image.created_at < before
        and session.matches_labels(wanted, "label", image.labels.items())
    ]


def _point(text: str, now: float) -> float:
    try:
        return parse_since(text, now)
    except ValueError as error:
        raise CliError(str(error)) from None


@group.command("inspect", cls=Command)
@click.option("-f", "--format", "template", help="json or a Go template")
@click.argument("refs", nargs=-1, required=True, metavar="IMAGE [IMAGE...]")
def inspect(template: str | None, refs: tuple[str, ...]) -> None:
    """Display detailed information on one or more images."""
    with session.open_client() as client:
        session.inspect(refs, lambda ref: _looked_at(client, ref), template)


@group.command("history", cls=Command)
@click.option("--format", "template", help="table, json, or a Go template")
@switch("-H", "--human", text="Print sizes and dates in human readable format (true unless set to false)")
@switch("--no-trunc", text="Do not truncate output")
@switch("-q", "--quiet", text="Only show image IDs")
@click.argument("ref", metavar="IMAGE")
def history(
    template: str | None, human: bool | None, no_trunc: bool | None, quiet: bool | None, ref: str
) -> None:
    """Show the history of an image."""
    from swarmd.cli.rows_image import HISTORY, PLAIN_HISTORY, history_rows
    from swarmd.rpc.v1 import images_pb2

    with session.open_client() as client:
        entries = client.images.GetHistory(images_pb2.GetHistoryRequest(ref=ref)).entries
    rows = history_rows(entries, session.now(), truncate=not no_trunc, human=human is not False)
    session.print_listing(PLAIN_HISTORY if human is False else HISTORY, rows, template, quiet)


def _looked_at(client: Client, ref: str) -> Json:
    """An image, and on a manager what the swarm knows of it."""
    from swarmd.cli.rows_trust import trust_of
    from swarmd.cli.views_image import image
    from swarmd.rpc.v1 import node_pb2

    answer = client.node.GetImage(node_pb2.GetImageRequest(ref=ref))
    return {**image(answer), **trust_of(client, answer.image)}


@group.command("rm", cls=Command)
@switch("-f", "--force", text="Remove it although containers use it, and do not mind what is not there")
@switch("--no-prune", text="Keep untagged parents: an image here has none")
@click.argument("refs", nargs=-1, required=True, metavar="IMAGE [IMAGE...]")
def rm(force: bool | None, no_prune: bool | None, refs: tuple[str, ...]) -> None:
    """Remove one or more images."""
    from swarmd.rpc.v1 import node_pb2

    def one(ref: str) -> None:
        try:
            answer = client.node.RemoveImage(node_pb2.RemoveImageRequest(ref=ref, force=bool(force)))
        except DaemonError as error:
            if not force or error.kind != "not_found":
                raise
            session.warn(str(error))
            return
        session.print_lines(f"Untagged: {name}" for name in answer.untagged)
        session.print_lines(f"Deleted: {digest}" for digest in answer.deleted)

    with session.open_client() as client:
        session.fail_if(session.collect(refs, one)[1])


@group.command("tag", cls=Command)
@click.argument("source", metavar="SOURCE_IMAGE[:TAG]")
@click.argument("target", metavar="TARGET_IMAGE[:TAG]")
def tag(source: str, target: str) -> None:
    """Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE."""
    from swarmd.rpc.v1 import node_pb2

    with session.open_client() as client:
        client.node.TagImage(node_pb2.TagImageRequest(source=source, target=target))


@group.command("prune", cls=Command)
@switch("everything", "-a", "--all", text="Remove all unused images, not just dangling ones")
@click.option(
    "--filter", "filters", metavar="KEY=VALUE", multiple=True, help="Only such images: until, label, label!"
)
@switch("-f", "--force", text="Do not prompt for confirmation")
def prune(everything: bool | None, filters: tuple[str, ...], force: bool | None) -> None:
    """Remove unused images of this node, by default those without a name."""
    from swarmd.rpc.v1 import images_pb2

    limits = prune_limits(filters)
    if not force and not session.is_sure(_UNUSED if everything else _DANGLING):
        raise CliError("image prune has been cancelled")
    with session.open_client() as client:
        request = images_pb2.PruneImagesRequest(
            all=bool(everything), until=limits.until, labels=limits.labels, without=limits.without
        )
        answer = client.images.PruneImages(request)
    session.print_lines(pruned_lines(answer))
    click.echo(f"Total reclaimed space: {format_decimal(answer.reclaimed, 4)}")


class Only(NamedTuple):
    """What a prune is about, as fields of its request."""

    until: float
    labels: list[str]
    without: list[str]


def prune_limits(filters: Sequence[str]) -> Only:
    """Raises CliError."""
    wanted = session.parse_filters(filters, _PRUNE_FILTERS)
    now = session.now()
    return Only(
        until=min((_point(text, now) for text in wanted.get("until", ())), default=0.0),
        labels=sorted(wanted.get("label", ())),
        without=sorted(wanted.get("label!", ())),
    )


def pruned_lines(answer: images_pb2.PruneImagesResponse) -> list[str]:
    """What was removed, and an empty line; nothing when nothing was."""
    lines = [f"untagged: {name}" for name in answer.untagged]
    lines += [f"deleted: {digest}" for digest in answer.deleted]
    return ["Deleted Images:", *lines, ""] if lines else []


for command in (image_archive.load, image_archive.import_, image_archive.save):
    group.add_command(command)
