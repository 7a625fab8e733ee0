"""``RUN --mount=type=…``: its grammar and what goes together.  Pure.

text ──read_mount──► MountSpec (fields as written) ──settle──► BuildMount, once variables can be replaced
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from typing import Any

from swarmd.image.build.core.flags import did_you_mean, read_bool
from swarmd.image.build.core.graph import BuildMount, Node, Origin
from swarmd.model.errors import Invalid

KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARINGS = ("shared", "private", "locked")
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_SWITCHES = ("readonly", "readwrite", "required")
_FIELDS = (
    *("type", "from", "source", "target", "readonly", "readwrite", "id", "sharing"),
    *("required", "mode", "uid", "gid", "size", "env", *_ALIASES),
)
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)


class MountSpec(Node, frozen=True, kw_only=True):
    """The fields as written: name (aliases undone) and value, None for a name alone."""

    fields: tuple[tuple[str, str | None], ...]
    text: str

    def get(self, name: str) -> str:
        """The last value of that field as written, or empty."""
        return next((value or "" for key, value in reversed(self.fields) if key == name), "")


def read_mount(text: str) -> MountSpec:
    """Divide the flag's value; what can be wrong before variables are known is refused here."""
    rows = list(csv.reader([text], strict=True)) if text else []
    if not rows:
        raise Invalid("failed to parse csv mounts: nothing given")
    fields: list[tuple[str, str | None]] = []
    for field in rows[0]:
        name, equals, value = field.partition("=")
        key = _ALIASES.get(name.lower(), name.lower())
        if key not in _FIELDS:
            raise Invalid(f"unexpected key '{name}' in '{field}'{did_you_mean(name, _FIELDS)}")
        if not equals and key not in _SWITCHES:
            raise Invalid(f"invalid field '{field}' must be a key=value pair")
        if key == "from" and re.search(r"\$.", value):
            raise Invalid("'from' doesn't support variable expansion, define alias stage instead")
        fields.append((key, value if equals else None))
    return MountSpec(fields=tuple(fields), text=text)


def settle(spec: MountSpec, expand: Callable[[str], str], origin: Origin) -> BuildMount:
    """The mount with its variables replaced; ``origin`` is what ``from`` names.  Raises Invalid."""
    kind = _kind(spec, expand)
    made: dict[str, Any] = {"kind": kind, "readonly": kind not in ("cache", "tmpfs"), "origin": origin}
    for key, raw in spec.fields:
        value = None if raw is None else expand(raw)
        if key == "readwrite":
            made["readonly"] = not _switch(key, value)
        elif key in ("readonly", "required"):
            made[key] = _switch(key, value)
        elif key not in ("type", "from"):
            made[key] = _value(key, value or "")
    given = {key for key, _ in spec.fields}
    _check(kind, given)
    return BuildMount(**_defaults(made, given))


def _kind(spec: MountSpec, expand: Callable[[str], str]) -> str:
    written = expand(spec.get("type") or "bind")
    if written.lower() not in KINDS:
        raise Invalid(f'unsupported mount type "{written}"{did_you_mean(written, KINDS)}')
    return written.lower()


def _switch(key: str, value: str | None) -> bool:
    found = True if value is None else read_bool(value)
    if found is None:
        raise Invalid(f"invalid value for {key}: {value}")
    return found


def _value(key: str, value: str) -> str | int:
    if key == "sharing":
        if value.lower() not in _SHARINGS:
            raise Invalid(f'unsupported sharing value "{value}"{did_you_mean(value, _SHARINGS)}')
        return value.lower()
    if key in ("mode", "uid", "gid"):
        if not re.fullmatch(r"[0-7]{1,11}" if key == "mode" else r"\d{1,10}", value):
            raise Invalid(f"invalid value {value} for {key}")
        return int(value, 8 if key == "mode" else 10)
    return _bytes(value) if key == "size" else value


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise Invalid(f"invalid value for size: {text}")
    return int(float(found[1]) * 1024 ** " kmgtp".index(found[2].lower() or " "))


def _check(kind: str, given: set[str]) -> None:
    for key in ("mode", "uid", "gid"):
        if key in given and kind not in ("secret", "ssh", "cache"):
            raise Invalid(f'{key} not allowed for "{kind}" type mounts')
    for key, kinds in (("required", ("secret", "ssh")), ("size", ("tmpfs",)), ("env", ("secret",))):
        if key in given and kind not in kinds:
            raise Invalid(f"unexpected key '{key}' for mount type '{kind}'")
    if "sharing" in given and kind != "cache":
        raise Invalid(
            "secret mount should not define sharing"
            if kind == "secret"
            else f"invalid cache sharing set for {kind} mount"
        )
    if kind == "secret":
        _check_secret(given)


def _check_secret(given: set[str]) -> None:
    if "from" in given:
        raise Invalid("secret mount should not have a from")
    if not given & {"source", "target", "id", "env"}:
        raise Invalid("invalid secret mount. one of source, target required")
    if {"source", "id"} <= given:
        raise Invalid("both source and id can't be set")


def _defaults(made: dict[str, Any], given: set[str]) -> dict[str, Any]:
    kind, target = made["kind"], made.get("target", "")
    if kind in ("bind", "cache", "tmpfs") and not target:
        raise Invalid(f"a {kind} mount needs a target")
    if kind == "cache":
        made.setdefault("id", target)
    elif kind == "secret":
        name = (
            made.pop("source", "") or made.get("id", "") or (target or made.get("env", "")).rpartition("/")[2]
        )
        made["id"] = name
        if "target" not in given and "env" not in given:
            made["target"] = f"/run/secrets/{name.rpartition('/')[2]}"
    elif kind == "ssh":
        made["id"] = made.pop("source", "") or made.get("id", "") or "default"
    return made
