"""``swarmctl ps`` and ``inspect``: containers, single ones and tasks', as Docker shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from swarmd.cli import session
from swarmd.cli.grammar import Command, switch
from swarmd.cli.listing import Layout, Row
from swarmd.cli.states import ago
from swarmd.cli.table import ellipsis, truncate_id
from swarmd.cli.units import format_decimal, human_duration, rfc3339

if TYPE_CHECKING:
    from swarmd.cli.views_container import Json
    from swarmd.rpc.v1 import containers_pb2 as pb

CONTAINERS = Layout(
    ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"),
    {
        "ID": "CONTAINER ID",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "RunningFor": "CREATED",
        "Status": "STATUS",
        "Ports": "PORTS",
        "Names": "NAMES",
        "State": "STATE",
        "Labels": "LABELS",
        "Address": "ADDRESS",
        "Size": "SIZE",
    },
)
SIZED = CONTAINERS._replace(columns=(*CONTAINERS.columns, "Size"))
_FILTERS = ("id", "name", "status", "label", "exited", "ancestor", "is-task")
_COMMAND_WIDTH = 20


@click.command("ps", cls=Command)
@switch("everything", "-a", "--all", text="Show all containers (default shows just running)")
@click.option("-f", "--filter", "filters", metavar="KEY=VALUE", multiple=True, help="Only such containers")
@click.option("--format", "template", help="table, json, or a Go template")
@click.option("-n", "--last", type=int, default=-1, help="Show the n last created, in all states")
@switch("-l", "--latest", text="Show the last created, in all states")
@switch("--no-trunc", text="Do not truncate output")
@switch("-q", "--quiet", text="Only display container IDs")
@switch("-s", "--size", text="Display total file sizes")
def ps(
    everything: bool | None, filters: tuple[str, ...], template: str | None, last: int, latest: bool | None,
    no_trunc: bool | None, quiet: bool | None, size: bool | None,
) -> None:  # fmt: skip
    """List the containers of this node."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    wanted = session.parse_filters(filters, _FILTERS)
    with session.open_client() as client:
        measured = bool(size) or ".Size" in (template or "")
        found = list(client.containers.ListContainers(pb.ListContainersRequest(size=measured)).containers)
    found.sort(key=lambda each: (each.created_at or each.started_at, each.id), reverse=True)
    most = 1 if latest else last
    everything = bool(everything) or most >= 0 or "status" in wanted or "exited" in wanted
    shown = [each for each in found if (everything or _is_up(each)) and _matches(each, wanted)]
    shown = shown[:most] if most >= 0 else shown
    form = SIZED if size else CONTAINERS
    session.print_listing(form, container_rows(shown, session.now(), not no_trunc), template, quiet)


@click.command("inspect", cls=Command)
@click.option("-f", "--format", "template", help="json or a Go template")
@click.argument("refs", nargs=-1, required=True, metavar="TASK|CONTAINER...")
def inspect(template: str | None, refs: tuple[str, ...]) -> None:
    """Display detailed information on containers, on whatever node they are."""
    from swarmd.rpc.v1 import containers_pb2 as pb

    with session.open_client() as client:
        session.inspect(
            refs, lambda ref: document(client.containers.GetContainer(pb.ContainerRequest(ref=ref))), template
        )


def document(answer: pb.GetContainerResponse) -> Json:
    """What ``inspect`` shows, under Docker's names."""
    each = answer.container
    return {
        "Id": each.id,
        "Name": each.name,
        "Created": _moment(each.created_at or each.started_at),
        "Image": each.image,
        "Args": list(each.command),
        "Node": {"Hostname": answer.node},
        "State": {
            "Status": each.status,
            "Running": each.status in ("running", "paused"),
            "Paused": each.status == "paused",
            "Restarting": each.status == "restarting",
            "Pid": each.pid,
            "ExitCode": each.exit_code,
            "Error": each.error,
            "StartedAt": _moment(each.started_at),
            "FinishedAt": _moment(each.finished_at),
        },
        "RestartCount": each.restarts,
        "HostConfig": {"RestartPolicy": {"Name": each.restart_policy or "no"}},
        "Config": {"Labels": dict(each.labels), "Tty": answer.tty, "OpenStdin": answer.stdin},
        "NetworkSettings": {
            "IPAddress": each.address,
            **({"Networks": {one.name: _place(one) for one in each.networks}} if each.networks else {}),
        },
        "Task": each.task_id,
    }


def _place(one: pb.ContainerPlace) -> dict[str, object]:
    return {
        "NetworkID": one.id,
        "IPAddress": next((each for each in one.addresses if ":" not in each), ""),
        "GlobalIPv6Address": next((each for each in one.addresses if ":" in each), ""),
        "Aliases": list(one.aliases) or None,
    }


def _moment(at: float) -> str:
    return rfc3339(at) if at else "0001-01-01T00:00:00Z"  # as Docker says never


def container_rows(found: list[pb.ContainerView], now: float, truncate: bool) -> list[Row]:
    """Docker's cells."""
    return [_row(each, now, truncate) for each in found]


def _row(each: pb.ContainerView, now: float, truncate: bool) -> Row:
    identity = truncate_id(each.id) if truncate else each.id
    command = " ".join(each.command)
    name = each.name
    if truncate and each.task_id and name.endswith(f".{each.id}"):
        name = f"{name.removesuffix(each.id)}{identity}"
    created = each.created_at or each.started_at
    return {
        "ID": identity,
        "Image": each.image,
        "Command": f'"{ellipsis(command, _COMMAND_WIDTH) if truncate else command}"',
        "RunningFor": ago(created, now) if created else "",
        "Status": status_text(each, now),
        "Ports": "",
        "Names": name,
        "State": each.status,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(each.labels.items())),
        "Address": each.address,
        "Size": size_text(each),
    }


def status_text(each: pb.ContainerView, now: float) -> str:
    """``Up 2 minutes``, ``Exited (0) 3 hours ago``, ``Created``."""
    if each.status in ("running", "paused"):
        health = f" ({each.health})" if each.health else ""
        paused = " (Paused)" if each.status == "paused" else ""
        return f"Up {human_duration(now - each.started_at)}{health}{paused}"
    if each.status == "exited":
        return f"Exited ({each.exit_code}) {ago(each.finished_at, now)}"
    if each.status == "restarting":
        return f"Restarting ({each.exit_code}) {ago(each.finished_at, now)}"
    return each.status.capitalize()


def size_text(each: pb.ContainerView) -> str:
    """``12.3kB (virtual 4.5MB)``: its own layer, and with the image below; empty when nobody measured."""
    if not each.HasField("size"):
        return ""
    virtual = format_decimal(each.size + each.image_size)
    return f"{format_decimal(each.size)} (virtual {virtual})"


def _is_up(each: pb.ContainerView) -> bool:
    return each.status in ("running", "paused", "restarting")


def _matches(each: pb.ContainerView, wanted: dict[str, set[str]]) -> bool:
    return (
        session.matches(wanted, "id", each.id, prefix=True)
        and any(want in each.name for want in wanted.get("name", {""}))
        and session.matches(wanted, "status", each.status)
        and session.matches(wanted, "exited", str(each.exit_code) if each.status == "exited" else "")
        and session.matches(wanted, "ancestor", each.image, each.image.rpartition(":")[0])
        and session.matches(wanted, "is-task", str(bool(each.task_id)).lower())
        and session.matches_labels(wanted, "label", each.labels.items())
    )
