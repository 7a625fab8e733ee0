"""Decide what differs between what the kernel has and what it is to have, and say it in words."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence

FEW = 5
"""Of many differences of one kind so many are told; the rest are counted."""

Elements = Mapping[bytes, bytes | None]

_MEANING = {
    "ep": "the tasks behind published ports",
    "ep_large": "the tasks behind published ports",
    "published": "published ports",
    "own": "which addresses containers may use",
    "hairpin": "containers that call themselves",
    "pub_local": "what other nodes may call here",
    "nodes": "who may send overlay packets",
    "pools": "the addresses of containers",
    "node_by_mac": "the way back to the node a connection came through",
    "zone_by_mac": "the way back to the node a connection came through",
    "vtep_by_mark": "the way back to the node a connection came through",
    "node_by_prefix": "which node containers are on",
    "vip": "the tasks behind services' addresses",
    "vip_large": "the tasks behind services' addresses",
    "refused": "addresses of networks that lead to nobody",
    "samenet": "who shares a network",
    "inward": "containers without a way out",
    "node_of": "which node tasks of networks are on",
}
_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
_BY_PORT = frozenset({"ep", "ep_large", "published"})


def few(sentences: Sequence[str], what: str) -> tuple[str, ...]:
    """The first of many sentences about ``what``, and how many more there are."""
    more = len(sentences) - FEW
    return (*sentences[:FEW], f"{more} more differences of {what}") if more > 1 else tuple(sentences)


def set_differs(family: str, name: str, wanted: Elements, found: Elements | None) -> str:
    """How the content of a set differs, which it must."""
    title = f"nftables set {family} swarmd {name}"
    meaning = _MEANING.get(name)
    about = f" ({meaning})" if meaning else ""
    if found is None:
        return f"{title}{about} is not there"
    missing = [key for key, value in wanted.items() if found.get(key, key) != value]
    unwanted = [key for key in found if key not in wanted]
    parts = [f"lacks {len(missing)} of {len(wanted)} elements"] if missing else []
    parts += [f"has {len(unwanted)} that nobody asked for"] if unwanted else []
    example = _example(name, (missing or unwanted)[0])
    return f"{title}{about} {' and '.join(parts)}{example}"


def _example(name: str, key: bytes) -> str:
    if name not in _BY_PORT or len(key) < 6:
        return ""
    port = struct.unpack_from("!H", key, 4)[0]
    return f", such as for port {port}/{_PROTOCOLS.get(key[0], key[0])}"


def unlistened(served: Iterable[tuple[str, int]], listening: Collection[tuple[str, int]]) -> list[str]:
    """Sentences about published ports that nothing on this node keeps open."""
    missing = sorted(port for port in served if port[0] in ("tcp", "udp") and port not in listening)
    return [
        f"published port {number}/{protocol} is not kept open on this node" for protocol, number in missing
    ]
