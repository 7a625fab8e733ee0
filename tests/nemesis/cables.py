"""What is done to a node's network from inside its namespace: who is not heard, what is lost, what is slow.

The rules are texts for ``nft`` in a table of their own, made by pure functions; whoever is cut off keeps its
link, and nobody is told.
"""

from __future__ import annotations

from collections.abc import Collection

TABLE = "nemesis"
CLEAR = f"table inet {TABLE} {{}}\ndelete table inet {TABLE}\n"


def _chain(hook: str, rule: str) -> str:
    return f"  chain {hook} {{ type filter hook {hook} priority -300; {rule}; }}\n"


def deaf_to(addresses: Collection[str], *, heard: bool = False, hears: bool = False) -> str:
    """Nothing passes between the node and ``addresses``, but for the direction that is left open.

    ``heard``: what the node sends arrives.  ``hears``: what is sent to it arrives.
    """
    listed = ", ".join(sorted(addresses))
    chains = ""
    if not hears:
        chains += _chain("input", f"ip saddr {{ {listed} }} drop")
    if not heard:
        chains += _chain("output", f"ip daddr {{ {listed} }} drop")
    return f"{CLEAR}table inet {TABLE} {{\n{chains}}}\n"


def losing(percent: int) -> str:
    """That share of the packets from other nodes vanishes, each by its own draw."""
    rule = f'iif "eth0" numgen random mod 100 < {percent} drop'
    return f"{CLEAR}table inet {TABLE} {{\n{_chain('input', rule)}}}\n"


def split(minority: Collection[str], addresses: dict[str, str]) -> dict[str, str]:
    """Node → rules, so that the minority and the rest do not hear each other: they stand on the minority."""
    rest = [address for node, address in addresses.items() if node not in minority]
    return {node: deaf_to(rest) for node in minority}


def bridge(middle: str, addresses: dict[str, str]) -> dict[str, str]:
    """Node → rules for two halves that hear each other only through ``middle``."""
    others = [node for node in sorted(addresses) if node != middle]
    left, right = others[: len(others) // 2], others[len(others) // 2 :]
    return {node: deaf_to([addresses[other] for other in right]) for node in left}


SLOW = (
    ("qdisc", "replace", "dev", "eth0", "root", "netem", "delay", "80ms", "40ms", "loss", "2%"),
    ("qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", "256kbit", "burst", "4kb", "latency", "600ms"),
)
"""Arguments of ``tc`` for a slow link: the second where the kernel has no netem; a queue makes its delay."""
