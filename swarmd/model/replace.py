"""Frozen structs are changed by making another."""

from __future__ import annotations

from typing import TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


def replace(struct: S, **changes: object) -> S:
    """``struct`` with some fields changed (typed wrapper of msgspec's)."""
    return msgspec.structs.replace(struct, **changes)
