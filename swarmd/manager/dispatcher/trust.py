"""What images must be, as every node is told it in its session."""

from __future__ import annotations

from typing import Any, TypeVar

from swarmd.model.objects import Row
from swarmd.model.registry import TrustKey, TrustRule
from swarmd.rpc import codec
from swarmd.store.store import Store

R = TypeVar("R", bound=Row)

KINDS = (TrustRule, TrustKey)


def rules(store: Store) -> list[Any]:
    """Messages of all rules, in the order of their patterns."""
    return _messages(store, TrustRule)


def keys(store: Store) -> list[Any]:
    """Messages of all keys, in the order of their names."""
    return _messages(store, TrustKey)


def _messages(store: Store, kind: type[R]) -> list[Any]:
    return [codec.to_proto(row) for row in sorted(store.all(kind), key=lambda row: row.id)]
