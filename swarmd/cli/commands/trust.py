"""``swarmctl trust``: who may sign images, which images may run, and who signed one."""

from __future__ import annotations

import click

from swarmd.cli import session
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, Group, Parsed, switch
from swarmd.cli.spec_text import parse_count, parse_labels
from swarmd.cli.units import parse_duration


@click.group("trust", cls=Group, lazy={"key": "swarmd.cli.commands.trust_key:group"})
def group() -> None:
    """Manage which images may run, and who signed them."""


group.aliases = {"list": "ls", "remove": "rm"}


@group.command("require", cls=Command)
@click.option(
    "--threshold", type=Parsed("int", parse_count), help="How many of the keys must have signed (1)"
)
@click.option(
    "--max-severity",
    metavar="none|low|medium|high|critical",
    default="",
    help="The worst finding that a scan may have had",
)
@click.option(
    "--max-scan-age", type=Parsed("duration", parse_duration), help="How old the scan may be (168h)"
)
@click.argument("pattern")
@click.argument("keys", nargs=-1, metavar="[KEY...]")
def require(
    threshold: int | None, max_severity: str, max_scan_age: float | None, pattern: str, keys: tuple[str, ...]
) -> None:
    """Let images of that name run only when they are signed, or scanned."""
    from swarmd.rpc.v1 import types_pb2

    if threshold == 0:
        raise CliError("a threshold of 0 signatures requires none: leave the keys out")
    _set(
        types_pb2.TrustRule(
            id=pattern, action="require", keys=keys, threshold=1 if threshold is None else threshold,
            max_severity=max_severity, max_scan_age=max_scan_age or 0.0,
        )
    )  # fmt: skip


@group.command("accept", cls=Command)
@click.argument("pattern")
def accept(pattern: str) -> None:
    """Let all images of that name run."""
    from swarmd.rpc.v1 import types_pb2

    _set(types_pb2.TrustRule(id=pattern, action="accept"))


@group.command("reject", cls=Command)
@click.argument("pattern")
def reject(pattern: str) -> None:
    """Let no image of that name run."""
    from swarmd.rpc.v1 import types_pb2

    _set(types_pb2.TrustRule(id=pattern, action="reject"))


@group.command("ls", cls=Command)
@click.option("--format", "template", help="table, json, or a Go template")
@switch("-q", "--quiet", text="Only display patterns")
def ls(template: str | None, quiet: bool | None) -> None:
    """List the rules; of those that fit an image, the longest decides."""
    from swarmd.cli.rows_trust import RULES, rule_rows
    from swarmd.rpc.v1 import trust_pb2

    with session.open_client() as client:
        rules = client.trust.ListTrustRules(trust_pb2.ListTrustRulesRequest()).rules
    session.print_listing(RULES, rule_rows(rules), template, quiet)


@group.command("rm", cls=Command)
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN [PATTERN...]")
def rm(patterns: tuple[str, ...]) -> None:
    """Remove one or more rules."""
    from swarmd.rpc.v1 import trust_pb2

    with session.open_client() as client:
        session.each(
            patterns,
            lambda one: client.trust.RemoveTrustRule(trust_pb2.RemoveTrustRuleRequest(pattern=one)),
        )


@group.command("sign", cls=Command)
@click.option("--key", "key", metavar="FILE", required=True, help="The private key")
@click.option("--certificate", metavar="FILE", default="", help="A certificate of the key, to go with it")
@click.option("--chain", metavar="FILE", default="", help="Certificates between that one and its root")
@click.option("-a", "--annotation", "notes", metavar="KEY=VALUE", multiple=True, help="Say this, too")
@click.option(
    "--password-file", metavar="FILE", default="", help="The file's first line is the key's password"
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE [IMAGE...]")
def sign(
    key: str,
    certificate: str,
    chain: str,
    notes: tuple[str, ...],
    password_file: str,
    images: tuple[str, ...],
) -> None:
    """Sign one or more images; the signature is kept in the swarm's registry, as cosign keeps it."""
    from swarmd.cli.files import read_pem
    from swarmd.cli.secrets import open_key
    from swarmd.rpc.v1 import trust_pb2
    from swarmd.security import signing

    try:
        annotations = parse_labels(notes)
    except ValueError as error:
        raise CliError(str(error)) from None
    private = open_key(key, password_file)
    pem, others = read_pem(certificate), read_pem(chain)

    def one(image: str) -> None:
        wanted = trust_pb2.ReadClaimRequest(image=image, annotations=annotations)
        found = client.trust.ReadClaim(wanted)
        signature = trust_pb2.ImageSignature(
            payload=found.payload, signature=signing.sign(private, found.payload),
            certificate=pem, chain=others,
        )  # fmt: skip
        client.trust.AddSignature(trust_pb2.AddSignatureRequest(image=image, signature=signature))
        click.echo(f"Signed {found.name}@{found.digest}")

    with session.open_client() as client:
        session.fail_if(session.collect(images, one)[1])


@group.command("verify", cls=Command)
@click.option(
    "--key", "key", metavar="FILE", default="", help="Look for this public key's signature, not at rules"
)
@switch("-q", "--quiet", text="Only the exit code")
@click.argument("image")
def verify(key: str, quiet: bool | None, image: str) -> None:
    """Say whether an image may run; the exit code is 1 when it may not."""
    from swarmd.cli.files import read_pem
    from swarmd.cli.rows_trust import keys_of, verdict_lines
    from swarmd.rpc.v1 import trust_pb2

    with session.open_client() as client:
        answer = client.trust.ReadTrust(trust_pb2.ReadTrustRequest(image=image))
    if key:
        if not keys_of(answer, read_pem(key)):
            raise CliError(f"{answer.name}@{answer.digest} has no signature by {key}")
        if not quiet:
            click.echo(f"{answer.name}@{answer.digest} is signed by {key}")
        return
    if answer.refusal:
        raise CliError(answer.refusal)
    if not quiet:
        session.print_lines(verdict_lines(answer))


@group.command("inspect", cls=Command)
@click.option("-f", "--format", "template", help="json or a Go template")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE [IMAGE...]")
def inspect(template: str | None, images: tuple[str, ...]) -> None:
    """Display signatures, scan and verdict of one or more images."""
    from swarmd.cli.rows_trust import known
    from swarmd.rpc.v1 import trust_pb2

    with session.open_client() as client:
        session.inspect(
            images,
            lambda image: known(client.trust.ReadTrust(trust_pb2.ReadTrustRequest(image=image))),
            template,
        )


def _set(rule: object) -> None:
    from swarmd.rpc.v1 import trust_pb2

    with session.open_client() as client:
        answer = client.trust.SetTrustRule(trust_pb2.SetTrustRuleRequest(rule=rule))  # type: ignore[arg-type]
    session.warn_all(answer.warnings)
    click.echo(answer.pattern)
