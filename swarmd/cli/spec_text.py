"""The little languages inside flags: ``--env``, labels, capabilities, ``key=value`` lists.  Pure.

Every parser raises ValueError with a sentence.
"""

from __future__ import annotations

import csv
import shlex
from collections.abc import Iterable, Mapping


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """``key=value`` or ``key`` (empty value); the last one wins."""
    labels: dict[str, str] = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key.strip():
            raise ValueError(f"invalid label '{text}': empty name")
        labels[key] = value
    return labels


def parse_env(texts: Iterable[str], environ: Mapping[str, str]) -> list[str]:
    """``KEY=value``; ``KEY`` alone takes the value it has here and is left out when it has none."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, _ = text.partition("=")
        if not key:
            raise ValueError(f"invalid environment variable: {text}")
        if equals:
            found[key] = text
        elif key in environ:
            found[key] = f"{key}={environ[key]}"
    return list(found.values())


def env_file_lines(content: str) -> list[str]:
    """The variables of an ``--env-file``: one a line, ``#`` starts a comment line."""
    lines = (line.lstrip() for line in content.splitlines())
    kept = [line for line in lines if line and not line.startswith("#")]
    for line in kept:
        if any(c.isspace() for c in line.partition("=")[0]):
            raise ValueError(f"variable '{line.partition('=')[0]}' contains whitespaces")
    return kept


def parse_words(text: str) -> list[str]:
    """Shell words."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"invalid command line '{text}': {error}") from None


def parse_capability(text: str) -> str:
    """``net_admin`` and ``CAP_NET_ADMIN`` are the same; ``ALL`` stays."""
    name = text.strip().upper()
    return name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"


def parse_count(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise ValueError(f'"{text}" is no whole number of 0 or more')
    return int(text)


def parse_ratio(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f'"{text}" is no number from 0 to 1')
    return value


def fields_of(text: str, bare: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """``a=1,b`` as pairs; a name alone is one of ``bare`` and means true."""
    fields: list[tuple[str, str]] = []
    for part in next(csv.reader([text]), []):
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if not equals and name not in bare:
            raise ValueError(f"invalid field '{part}' must be a key=value pair")
        fields.append((name, value if equals else "true"))
    return fields


def parse_boolean(field: str, text: str) -> bool:
    """``true``, ``1``, ``false`` or ``0``."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"invalid value for {field}: {text}")
    return text.lower() in ("true", "1")
