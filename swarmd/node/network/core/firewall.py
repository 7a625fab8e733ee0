"""Decide whether another program's firewall keeps the swarm's traffic out, and say what lets it in.

A packet passes only when every table lets it: what ours accept, another one's policy still drops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from swarmd.node.network.core.rules import OVERLAY, TABLE, VETH_GROUP

FORWARD = 2
"""The hook's number: packets on their way through."""
FIREWALLD = "firewalld"
USERS = "DOCKER-USER"
"""The chain that Docker keeps for its users' rules, and asks first."""


class Chain(Struct, frozen=True):
    """A chain of any table.  ``hook``: None for one that others jump to.  ``drops``: its policy."""

    family: str
    table: str
    name: str
    hook: int | None = None
    drops: bool = False


Lets = Callable[[str, str, str], bool]
"""(family, table, chain) → whether a rule there names the overlay's device or bears our name."""


def sentences(chains: Iterable[Chain], lets: Lets) -> tuple[str, ...]:
    """One for each table that stops what is forwarded and has no rule for us."""
    every = [chain for chain in chains if chain.table != TABLE]
    names = {(chain.family, chain.table, chain.name) for chain in every}
    said: list[str] = []
    for chain in every:
        users = (chain.family, chain.table, USERS) in names
        if chain.hook != FORWARD or _passes(chain, users, lets):
            continue
        if chain.table == FIREWALLD:
            said.append(_FIREWALLD)
        elif chain.drops:
            said.append(_dropping(chain, users))
    return tuple(dict.fromkeys(said))


def legacy(program: str, listing: str) -> str:
    """Of ``iptables -S`` of the tables that nftables does not show; empty: nothing is in the way."""
    lines = listing.splitlines()
    if "-P FORWARD DROP" not in lines or OVERLAY in listing:
        return ""
    return _sentence(f"{program}'s chain FORWARD", _iptables(program, f"-N {USERS}" in lines))


def _passes(chain: Chain, users: bool, lets: Lets) -> bool:
    asked = (chain.name, USERS) if users else (chain.name,)
    if chain.table == FIREWALLD:
        asked = ("",)  # zones have chains of their own
    return any(lets(chain.family, chain.table, name) for name in asked)


_FIREWALLD = (
    "firewalld rejects the swarm's traffic between nodes and containers; let it in with: firewall-cmd "
    f"--permanent --zone=trusted --add-interface={OVERLAY} --add-source=10.128.0.0/10 "
    "--add-source=fd73:7761:726d::/48 && firewall-cmd --reload"
)


def _dropping(chain: Chain, users: bool) -> str:
    where = f"nftables chain {chain.family} {chain.table} {chain.name}"
    if (chain.table, chain.name) == ("filter", "FORWARD") and chain.family in ("ip", "ip6"):
        return _sentence(where, _iptables("iptables" if chain.family == "ip" else "ip6tables", users))
    at = f"insert rule {chain.family} {chain.table} {chain.name}"
    matches = (f"iifname {OVERLAY}", f"oifname {OVERLAY}", f"iifgroup {VETH_GROUP}", f"oifgroup {VETH_GROUP}")
    return _sentence(where, "nft '" + "; ".join(f"{at} {match} accept" for match in matches) + "'")


def _iptables(program: str, users: bool) -> str:
    target = USERS if users else "FORWARD"
    matches = (
        f"-i {OVERLAY}", f"-o {OVERLAY}",
        f"-m devgroup --src-group {VETH_GROUP}", f"-m devgroup --dst-group {VETH_GROUP}",
    )  # fmt: skip
    return "; ".join(f"{program} -I {target} {match} -j ACCEPT" for match in matches)


def _sentence(where: str, cure: str) -> str:
    return f"{where} drops what this node passes on, the swarm's traffic, too; let it through with: {cure}"
