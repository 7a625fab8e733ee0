"""Placement constraints: ``node.labels.zone == a``, and whether a node meets them.

    key OP value      OP is == or !=; several constraints are ANDed

A value is compared as a whole and without regard to case; a label that is missing counts as "".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable

import msgspec

from swarmd.model.errors import Invalid
from swarmd.model.objects import Node

_KEY = re.compile(r"[a-z_][a-z0-9\-_.]+", re.IGNORECASE)
_VALUE = re.compile(r"[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+", re.IGNORECASE)

_FIELDS: dict[str, Callable[[Node], str]] = {
    "node.id": lambda node: node.id,
    "node.hostname": lambda node: node.description.hostname,
    "node.role": lambda node: node.role.value,
    "node.platform.os": lambda node: node.description.os,
    "node.platform.arch": lambda node: node.description.arch,
}
_LABELS: dict[str, Callable[[Node], dict[str, str]]] = {
    "node.labels.": lambda node: node.spec.labels,
    "engine.labels.": lambda node: node.description.labels,
}
_KNOWN = ", ".join([*_FIELDS, *(f"{prefix}KEY" for prefix in _LABELS)])


class Constraint(msgspec.Struct, frozen=True):
    """One condition on a node; ``equal`` False is ``!=``."""

    key: str
    equal: bool
    value: str

    def matches(self, node: Node) -> bool:
        """Whether ``node`` meets it."""
        return (_value_of(self.key, node).lower() == self.value.lower()) is self.equal


def parse(text: str) -> Constraint:
    """``key==value`` or ``key!=value``; raises Invalid with a sentence that quotes ``text``."""
    key, operator, value = _split(text)
    if not operator:
        raise _invalid(text, "it needs one operator, == or !=, as in node.role==worker")
    if not _KEY.fullmatch(key):
        raise _invalid(text, f"key '{key}' is invalid")
    if not _VALUE.fullmatch(value):
        raise _invalid(text, f"value '{value}' is invalid")
    if not _is_known(key):
        raise _invalid(text, f"unknown key '{key}'; known are {_KNOWN}")
    return Constraint(key, operator == "==", value)


def meets(constraints: Iterable[str], node: Node) -> bool:
    """Whether ``node`` meets all of them; one that cannot be read is met by no node."""
    for text in constraints:
        constraint = _parsed(text)
        if constraint is None or not constraint.matches(node):
            return False
    return True


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> Constraint | None:
    try:
        return parse(text)
    except Invalid:
        return None


def _split(text: str) -> tuple[str, str, str]:
    for operator in ("==", "!="):
        key, found, value = text.partition(operator)
        if found:
            return key.strip(), operator, value.strip()
    return text.strip(), "", ""


def _is_known(key: str) -> bool:
    lower = key.lower()
    return lower in _FIELDS or any(lower.startswith(p) and len(lower) > len(p) for p in _LABELS)


def _value_of(key: str, node: Node) -> str:
    """The node's side.  The prefix is read without regard to case, the label's own name with it."""
    lower = key.lower()
    if lower in _FIELDS:
        return _FIELDS[lower](node)
    for prefix, labels in _LABELS.items():
        if lower.startswith(prefix):
            return labels(node).get(key[len(prefix) :], "")
    return ""


def _invalid(text: str, why: str) -> Invalid:
    return Invalid(f'invalid constraint "{text}": {why}')
