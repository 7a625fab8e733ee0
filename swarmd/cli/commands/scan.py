"""``swarmctl image sbom`` and ``swarmctl image scan``: what is in an image, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError, DaemonError
from swarmd.cli.grammar import Command, switch

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.rpc.v1 import trust_pb2

LEVELS = ("low", "medium", "high", "critical")


@click.command("sbom", cls=Command)
@click.option("--format", "template", help="table, json, cyclonedx, or a Go template")
@click.argument("image")
def sbom(template: str | None, image: str) -> None:
    """List the packages in an image: Debian's, Alpine's and Python's."""
    from swarmd.cli.rows_scan import PACKAGES, package_rows
    from swarmd.rpc.v1 import trust_pb2

    document = template == "cyclonedx"
    with session.open_client() as client:
        answer = client.scanner.GetInventory(trust_pb2.GetInventoryRequest(ref=image, document=document))
    session.warn_all(answer.warnings)
    if document:
        click.echo(answer.document.decode(), nl=False)
    else:
        session.print_listing(PACKAGES, package_rows(answer.packages), template, None)


@click.command("scan", cls=Command)
@click.option(
    "--advisories", "path", metavar="DIR|FILE.zip", required=True, help="Advisories in OSV's format"
)
@click.option(
    "--fail-on", metavar="low|medium|high|critical", default="", help="Fail when there are such, or worse"
)
@click.option("--format", "template", help="table, json, or a Go template")
@switch("--no-record", text="Do not tell the swarm what was found")
@switch("-q", "--quiet", text="Only display ids of advisories")
@click.argument("image")
def scan(
    path: str, fail_on: str, template: str | None, no_record: bool | None, quiet: bool | None, image: str
) -> None:
    """Look for advisories about what is installed in an image."""
    from swarmd.cli.rows_scan import FINDINGS, finding_rows, scan_json, summary

    if fail_on and fail_on not in LEVELS:
        raise CliError(f'unknown severity "{fail_on}": use {", ".join(LEVELS)}')
    with session.open_client() as client:
        answer = client.scanner.ReadFindings(_requests(image, path))
        if not no_record:
            _record(client, answer, Path(path).name)
    session.warn_all(answer.warnings)
    if template == "json":
        click.echo(json.dumps(scan_json(answer), indent=4))
    else:
        session.print_listing(FINDINGS, finding_rows(answer.findings), template, quiet)
        if template is None and not quiet:
            session.warn(summary(answer))
    _fail(answer, fail_on)


def _requests(image: str, path: str) -> Iterator[trust_pb2.ReadFindingsRequest]:
    from swarmd.cli.advisories import batches
    from swarmd.rpc.v1 import trust_pb2

    yield trust_pb2.ReadFindingsRequest(ref=image)
    for batch in batches(path):
        yield trust_pb2.ReadFindingsRequest(advisories=batch)


def _record(client: Client, answer: trust_pb2.ReadFindingsResponse, advisories: str) -> None:
    """Rules can ask for it then.  A node that is no manager has nobody to tell."""
    from swarmd.rpc.v1 import trust_pb2, types_pb2

    row = types_pb2.ImageScan(
        id=answer.digest, image=answer.name, counts=answer.counts, advisories=advisories[:200]
    )
    try:
        client.trust.RecordScan(trust_pb2.RecordScanRequest(scan=row))
    except DaemonError as error:
        if error.kind != "not_manager":
            session.warn(f"WARNING: the swarm was not told of this scan: {error.message}")


def _fail(answer: trust_pb2.ReadFindingsResponse, fail_on: str) -> None:
    if not fail_on:
        return
    bad = {level: answer.counts[level] for level in LEVELS[LEVELS.index(fail_on) :] if answer.counts[level]}
    if "unknown" in answer.counts and fail_on in ("low", "medium"):
        bad["unknown"] = answer.counts["unknown"]
    if bad:
        found = ", ".join(f"{count} {level}" for level, count in bad.items())
        raise CliError(f"{answer.name}: {found} (--fail-on {fail_on})")
