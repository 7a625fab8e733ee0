"""The rows of ``trust ls`` and ``trust key ls``, and what is known of an image in JSON.  Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from swarmd.cli.errors import DaemonError
from swarmd.cli.listing import Layout, Row
from swarmd.cli.units import format_duration, human_duration, rfc3339
from swarmd.cli.views_container import Json, filled
from swarmd.model import image_ref
from swarmd.model.errors import Invalid

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.rpc.v1 import node_pb2, trust_pb2, types_pb2

SOON = 2.0
"""Seconds that an image is shown without what the swarm knows of it."""

RULES = Layout(
    ("Pattern", "Action", "Keys", "MaxSeverity", "MaxScanAge"),
    {
        "Pattern": "PATTERN",
        "Action": "ACTION",
        "Keys": "SIGNED BY",
        "MaxSeverity": "MAX SEVERITY",
        "MaxScanAge": "MAX SCAN AGE",
        "Threshold": "THRESHOLD",
    },
    identity="Pattern",
)
KEYS = Layout(
    ("Name", "Kind", "Fingerprint", "CreatedAt"),
    {
        "Name": "NAME",
        "Kind": "KIND",
        "Fingerprint": "FINGERPRINT",
        "CreatedAt": "ADDED",
        "AddedBy": "ADDED BY",
    },
    identity="Name",
)


def rule_rows(rules: Iterable[types_pb2.TrustRule]) -> list[Row]:
    """One row a rule, in the order given."""
    return [
        {
            "Pattern": rule.id,
            "Action": rule.action,
            "Keys": _keys(rule),
            "MaxSeverity": rule.max_severity,
            "MaxScanAge": format_duration(rule.max_scan_age) if rule.max_scan_age else "",
            "Threshold": str(rule.threshold) if rule.keys else "",
        }
        for rule in rules
    ]


def _keys(rule: types_pb2.TrustRule) -> str:
    names = ", ".join(rule.keys)
    return f"{rule.threshold} of {names}" if len(rule.keys) > 1 else names


def key_rows(keys: Iterable[trust_pb2.TrustKeyView], now: float) -> list[Row]:
    """One row a key, in the order given."""
    return [
        {
            "Name": key.name,
            "Kind": key.kind,
            "Fingerprint": key.fingerprint,
            "CreatedAt": f"{human_duration(now - key.created_at)} ago",
            "AddedBy": key.added_by,
        }
        for key in keys
    ]


def verdict_lines(answer: trust_pb2.ReadTrustResponse) -> list[str]:
    """Why an image may run."""
    image = f"{answer.name}@{answer.digest}"
    if not answer.rule:
        return [f"{image} may run: no rule is for it"]
    by = f", signed by {', '.join(answer.signed_by)}" if answer.signed_by else ""
    return [f'{image} may run: the rule "{answer.rule}" ({answer.action}){by}']


def keys_of(answer: trust_pb2.ReadTrustResponse, pem: bytes) -> int:
    """How many signatures of this very image are by that key."""
    from swarmd.security import verifying

    key = verifying.public_key(pem)
    return sum(
        1
        for one in answer.signatures
        if verifying.is_signed_by(key, one.signature.payload, one.signature.signature)
        and _claims(one.signature.payload) == (answer.name, answer.digest)
    )


def _claims(payload: bytes) -> tuple[str, str]:
    try:
        critical = json.loads(payload)["critical"]
        name = image_ref.parse(critical["identity"]["docker-reference"]).name
        return name, critical["image"]["docker-manifest-digest"]
    except (ValueError, KeyError, TypeError, Invalid):
        return "", ""


def trust_of(client: Client, image: node_pb2.Image) -> Json:
    """``Trust`` and ``Scan`` of an image, where this node can say and there is something to say."""
    from swarmd.rpc.v1 import trust_pb2

    named = next((ref for ref in image.refs if "@" not in ref), "")
    if not named or not image.digest:
        return {}
    request = trust_pb2.ReadTrustRequest(image=f"{named}@{image.digest}")
    try:
        answer = client.trust.ReadTrust(request, timeout=SOON)
    except DaemonError:
        return {}  # no manager, or none that can say now
    told = known(answer)
    shown = {key: told[key] for key in ("Allowed", "Rule", "Reason", "Signatures") if key in told}
    has_trust = bool(answer.rule or answer.signatures)
    return {**({"Trust": shown} if has_trust else {}), **filled(Scan=told.get("Scan"))}


def known(answer: trust_pb2.ReadTrustResponse) -> Json:
    """Everything that the swarm knows of an image's trust."""
    return {
        "Name": answer.name,
        "Digest": answer.digest,
        "Allowed": not answer.refusal,
        **filled(Rule=answer.rule, Reason=answer.refusal),
        "Signatures": [_signature(one) for one in answer.signatures],
        **filled(Scan=scan(answer.scan) if answer.HasField("scan") else None),
    }


def scan(row: types_pb2.ImageScan) -> Json:
    """What the last scan found."""
    return {
        "ScannedAt": rfc3339(row.scanned_at),
        **filled(Advisories=row.advisories),
        "Findings": dict(sorted(row.counts.items())),
    }


def _signature(one: trust_pb2.SignatureView) -> Json:
    try:
        optional: Any = json.loads(one.signature.payload).get("optional")
    except (ValueError, AttributeError):
        optional = None
    return {
        "SignedBy": list(one.signed_by),
        **filled(Problems=list(one.problems), Annotations=optional),
        "Signature": one.signature.signature.hex(),
        **filled(Certificate=one.signature.certificate.decode("ascii", "replace")),
    }
