"""Decide what the audit log says of a call: whether anything, and which of its fields.

What may be shown is listed, call by call; nothing else of a request or an answer ever is.  A call that nobody
has listed is recorded without any field.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from google.protobuf.message import Message

PACKAGE = "/swarmd.rpc.v1."
LONGEST = 200
"""Characters of a text in a line."""


class Shown(msgspec.Struct, frozen=True):
    """Paths of fields ("spec.name"): what the call is about, what else of it, what of its answer."""

    target: str = ""
    more: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()


_SERVICE = (
    "spec.mode", "spec.replicas", "spec.template.container.image", "spec.template.container.privileged",
    "spec.template.container.pid_mode", "spec.template.runtime",
)  # fmt: skip
_ADDRESSES = ("advertise_addr", "listen_addr", "availability")

_SETTINGS = (
    "spec.autolock", "spec.heartbeat", "spec.task_history", "spec.certificate_expiry", "spec.address_pools",
    "spec.subnet_size",
)  # fmt: skip

_CONTAINERS = ("Containers", "NodeContainers")
_OPERATING = {
    "Exec": Shown(
        "ref", ("command.args", "command.user", "command.privileged", "command.tty"), ("end.exit_code",)
    ),
    "Attach": Shown("ref", answer=("end.exit_code",)),
    "CopyOut": Shown("ref", ("path",)),
    "CopyIn": Shown("ref", ("path", "keep_owners")),
    "Pause": Shown("ref"),
    "Unpause": Shown("ref"),
    "Kill": Shown("ref", ("signal",)),
    "Commit": Shown("ref", ("image", "pause"), ("id", "node")),
    "SetLimits": Shown("ref", ("memory", "memory_swap", "nano_cpus", "pids")),
}
"""On a container; never what is typed or printed in it."""

SHOWN: Mapping[str, Shown] = {
    "Control/UpdateCluster": Shown(more=("version", *_SETTINGS)),
    "Control/RotateToken": Shown("role"),
    "Control/RotateAuthority": Shown(more=("certificate_expiry",), answer=("digest",)),
    "Control/CreateToken": Shown(
        more=("role", "labels", "availability", "description", "lifetime", "max_uses"), answer=("view.id",)
    ),
    "Control/RemoveToken": Shown("ref"),
    "Control/UpdateNode": Shown("ref", ("role", "availability", "label_add", "label_rm")),
    "Control/RemoveNode": Shown("ref", ("force",)),
    "Control/SaveRegistryLogin": Shown("host", ("login.username",)),
    "Control/RemoveRegistryLogin": Shown("host"),
    "Registry/Pull": Shown("ref", ("platform", "all_tags")),
    "Registry/Push": Shown("ref", ("all_tags",)),
    "Registry/CheckLogin": Shown("host"),
    "Control/CreateService": Shown("spec.name", _SERVICE, ("id",)),
    "Control/UpdateService": Shown("ref", ("version", *_SERVICE)),
    "Control/RollbackService": Shown("ref"),
    "Control/RemoveService": Shown("ref"),
    "Control/SaveSnapshot": Shown(),
    "Control/PreloadImage": Shown("ref", ("constraints", "detach")),
    "Control/RemoveFromRegistry": Shown("ref", answer=("untagged", "deleted")),
    "NodePeer/KeepBlobs": Shown(more=("digests", "holder.node_id")),
    "RegistryNames/PutManifest": Shown("repository", ("manifest.digest", "tags")),
    "RegistryNames/DeleteTag": Shown("repository", ("tag",), ("found",)),
    "RegistryNames/DeleteManifest": Shown("repository", ("digest",), ("found",)),
    **{f"{service}/{call}": shown for service in _CONTAINERS for call, shown in _OPERATING.items()},
    "Containers/CreateContainer": Shown(
        "name", ("spec.image", "spec.privileged", "network", "restart", "auto_remove"), ("id",)
    ),
    "Containers/StartContainer": Shown("ref"),
    "Containers/StopContainer": Shown("ref", ("signal", "grace")),
    "Containers/RestartContainer": Shown("ref", ("signal", "grace")),
    "Containers/RemoveContainer": Shown("ref", ("force", "volumes")),
    "Containers/ConnectNetwork": Shown("ref", ("network.target", "network.aliases", "network.addresses")),
    "Containers/DisconnectNetwork": Shown("ref", ("network",)),
    "NodeApi/InitSwarm": Shown(
        more=(*_ADDRESSES, "autolock", "force_new_cluster", "force"), answer=("node_id",)
    ),
    "NodeApi/RestoreSwarm": Shown(answer=("node_id", "cluster_id")),
    "NodeApi/JoinSwarm": Shown("remote_addrs", _ADDRESSES, ("node_id", "role")),
    "NodeApi/LeaveSwarm": Shown(more=("force",)),
    "NodeApi/LoadImages": Shown(answer=("refs",)),
    "NodeApi/ImportImage": Shown(answer=("id",)),
    "NodeApi/TagImage": Shown("source", ("target",)),
    "NodeApi/RemoveImage": Shown("ref", ("force",), ("untagged", "deleted")),
    "NodeApi/CreateVolume": Shown("name", ("driver",), ("volume.name",)),
    "NodeApi/RemoveVolume": Shown("name"),
    "NodeApi/PruneVolumes": Shown(more=("all", "labels"), answer=("deleted", "reclaimed")),
    "Images/SaveImages": Shown("refs", ("platform",)),
    "Images/PruneImages": Shown(
        more=("all", "until", "labels", "without"), answer=("untagged", "deleted", "reclaimed")
    ),
    "Images/PruneContainers": Shown(more=("until", "labels", "without"), answer=("deleted", "reclaimed")),
    "Builder/Build": Shown(answer=("done.digest", "done.refs")),
    "Builder/PruneCache": Shown(more=("keep", "all"), answer=("reclaimed",)),
    "Builder/ExportCache": Shown(),
    "Builder/ImportCache": Shown(answer=("entries",)),
    "Trust/AddTrustKey": Shown("name", ("added_by",), ("added.fingerprint",)),
    "Trust/RemoveTrustKey": Shown("name"),
    "Trust/SetTrustRule": Shown(
        "rule.id",
        ("rule.action", "rule.keys", "rule.threshold", "rule.max_severity", "rule.max_scan_age"),
        ("pattern",),
    ),
    "Trust/RemoveTrustRule": Shown("pattern"),
    "Trust/AddSignature": Shown("image", answer=("repository", "tag", "digest")),
    "Trust/RecordScan": Shown("scan.id", ("scan.image", "scan.counts")),
    "Networks/CreateNetwork": Shown(
        "spec.name",
        tuple(f"spec.{field}" for field in ("attachable", "internal", "encrypted", "ipv6")),
        ("id",),
    ),
    "Networks/RemoveNetwork": Shown("ref", answer=("id",)),
    "Networks/PruneNetworks": Shown(more=("labels", "without", "until"), answer=("deleted",)),
    "Networks/ReleaseContainer": Shown("network", ("container",), ("container_id",)),
    "Attachments/AttachContainer": Shown("container_id", ("name", "up")),
    "Attachments/ReportContainers": Shown(answer=("stale", "released")),
    "Secrets/CreateSecret": Shown("name", ("labels",), ("id",)),
    "Secrets/RemoveSecret": Shown("ref", answer=("id",)),
    "Authority/Join": Shown("address", answer=("node_id", "role")),
    "Authority/Renew": Shown(answer=("role",)),
    "ClusterPort/Join": Shown(answer=("node_id", "role")),
    "ClusterPort/Connect": Shown(),
}
"""By service and method.  Of the cluster port, which is no gRPC: a stranger's join, a connection refused."""

QUIET = frozenset(
    {
        "Containers/ListContainers",
        *(
            f"{service}/{call}"
            for service in _CONTAINERS
            for call in (
                "GetContainer", "ReadLogs", "StatPath", "Diff", "Top", "Stats", "Wait",
            )
        ),
        "Control/ListNodes", "Control/GetNode", "Control/ListServices", "Control/GetService",
        "Control/ListTasks", "Control/ListTokens", "Control/GetToken", "Control/Logs",
        "Control/GetAuthority", "Control/ListRegistry", "Control/ListRegistryLogins",
        "NodeApi/Info", "NodeApi/ListImages", "NodeApi/GetImage", "NodeApi/ReadAudit",
        "NodeApi/ListVolumes", "NodeApi/GetVolume", "Dispatcher/GetRegistryLogin",
        "Images/GetHistory", "Images/GetUsage", "Builder/ListCache",
        "Dispatcher/Session", "Dispatcher/LocateImage", "Dispatcher/LocateBlobs", "Dispatcher/Leave",
        "Trust/ListTrustKeys", "Trust/ListTrustRules", "Trust/ReadClaim", "Trust/ReadTrust",
        "TrustEvidence/GetEvidence", "Scanner/GetInventory", "Scanner/ReadFindings",
        "Networks/ListNetworks", "Networks/GetNetwork", "Secrets/ListSecrets", "Secrets/GetSecret",
        "NetworkDoctor/ExamineNetwork", "NetworkDoctor/TracePacket", "NodeNetwork/ExamineNode",
        "NodePeer/GetManifest", "NodePeer/GetBlob", "NodePeer/TaskLogs",
        "RegistryNames/FindManifest", "RegistryNames/ListTags", "RegistryNames/ListReferrers",
        "RegistryNames/ListRepositories", "RegistryNames/HoldsBlob",
    }
)  # fmt: skip
"""Reads that tell no secret, and what nodes say to each other all the time: recorded only when refused."""


class Caller(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asked.  ``via``: the manager that passed the call on; the rest is then what that manager said."""

    kind: str = "unknown"
    node: str = ""
    role: str = ""
    address: str = ""
    via: str = ""


class Line(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line.  ``outcome``: "ok", or the kind of the error.  ``suppressed``: refusals left out before."""

    time: str
    node: str
    request: str
    caller: Caller
    method: str
    target: Any = ""
    fields: dict[str, Any] = {}
    answer: dict[str, Any] = {}
    outcome: str
    error: str = ""
    duration_ms: float = 0.0
    suppressed: int = 0


def short_name(method: str) -> str:
    """ "Control/GetNode" for what gRPC calls "/swarmd.rpc.v1.Control/GetNode"."""
    return method.removeprefix(PACKAGE).removeprefix("/")


def is_recorded(name: str, outcome: str, caller: Caller, answer: object) -> bool:
    """Whether a call that ended so is worth a line."""
    if outcome == "denied":
        return True
    if name == "Authority/Renew":  # every node does it all the time; a change of role is another thing
        return outcome != "ok" or getattr(answer, "role", "") != caller.role
    if name == "Attachments/ReportContainers" and outcome == "ok":  # every node does, of each new leader
        return bool(getattr(answer, "stale", ()) or getattr(answer, "released", ()))
    return name not in QUIET


def may_flood(name: str, outcome: str) -> bool:
    """Whether somebody without any right could write such lines without end."""
    return outcome == "denied" or (outcome != "ok" and name.endswith("/Join"))


def described(name: str, request: object, answer: object) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """(target, fields, answer) as the line shows them."""
    shown = SHOWN.get(name, Shown())
    asked = _picked(request, (shown.target, *shown.more))
    target = asked.pop(shown.target, "")
    return target, asked, _picked(answer, shown.answer)


def sentence(name: str, kind: str, text: str, request: object) -> str:
    """The sentence of an error, without what it quotes of a request that is not to be shown."""
    if kind == "invalid":  # these are the ones that quote what the user wrote
        if not isinstance(request, Message):
            return ""  # a stream: what it said is gone
        text = re.sub(r"(['\"]).*['\"]", "…", text, flags=re.DOTALL)
    if isinstance(request, Message):
        shown = SHOWN.get(name, Shown())
        for hidden in sorted(_texts(request, {shown.target, *shown.more}, ""), key=len, reverse=True):
            text = text.replace(hidden, "…")
    return _cut(text)


def timestamp(at: float) -> str:
    """``2026-01-02T03:04:05.678Z``: of one width, so that lines compare as their times do."""
    moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def is_since(line: bytes, at: float) -> bool:
    """Whether a line is of that time (seconds since 1970) or later."""
    head = b'{"time":"'
    return at <= 0 or (line.startswith(head) and line[len(head) :] >= timestamp(at).encode())


def encode(line: Line) -> bytes:
    """JSON without a line break."""
    return msgspec.json.encode(line)


def _picked(message: object, paths: tuple[str, ...]) -> dict[str, Any]:
    found = {path: _at(message, path) for path in paths if path and isinstance(message, Message)}
    return {path: value for path, value in found.items() if value not in (None, "", 0, False, {}, [])}


def _at(message: Any, path: str) -> Any:
    for name in path.split("."):
        message = getattr(message, name)
    return _plain(message)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_cut(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _texts(message: Message, shown: set[str], prefix: str) -> Iterator[str]:
    """Texts of a request that are not shown, whole and what follows a "=" in them."""
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if path in shown:
            continue
        for one in _each(value):
            if isinstance(one, Message):
                yield from _texts(one, shown, f"{path}.")
            elif isinstance(one, str):
                yield from (part for part in (one, one.partition("=")[2]) if len(part) >= 4)


def _each(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
