"""Published ports by their keys: ``tcp/80``, or ``tcp/80@192.0.2.1`` when open on one address only."""

from __future__ import annotations

from collections.abc import Iterable


def clash(one: str, other: str) -> bool:
    """Whether a node cannot open both.  An interface and an address may be the same thing; only the node
    knows."""
    number, _, host = one.partition("@")
    other_number, _, other_host = other.partition("@")
    return number == other_number and (not host or not other_host or host == other_host)


def clashing(key: str, keys: Iterable[str]) -> str:
    """The first of ``keys`` that clashes with ``key``; empty: none does."""
    return next((other for other in keys if clash(key, other)), "")


def key_of_row(row_id: str, mode: str) -> str:
    """The port that an allocation row is about; one of a host-mode port ends with its service."""
    return row_id.rpartition("@")[0] if mode == "host" else row_id


def number_of_row(row_id: str) -> str:
    """``tcp/80`` of an allocation row that is no route's, on whichever address."""
    return row_id.partition("@")[0]
