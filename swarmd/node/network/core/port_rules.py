"""The part of the ruleset that serves published ports: its sets, and the chains that choose a container.

Everything is there twice: for ports that are open on all addresses of the node, and (``_at``) for those on
one address, whose keys begin with it.
"""

from __future__ import annotations

from swarmd.node.mesh.core.buckets import LARGE, SMALL
from swarmd.node.network.core.family import Family

# By hash, not at random: when a container still remembers an earlier connection of this address and port it
# makes the client reset that and try again, and only the same container has forgotten it then.  The kernel
# seeds each node's hash differently; where the client alone decides, all nodes must agree.
_ANY = "jhash {ip} saddr . th sport mod {size}"
_STICKY = "jhash {ip} saddr mod {size} seed 0x5eed"

# `numgen` in the maps' types only says "a 32-bit number": nft has no other word for the hash's result.
_SETS = """
  map ep{at} {{ typeof {key} . numgen random mod {small} : {ip} daddr . th dport; }}
  map ep_large{at} {{ typeof {key} . numgen random mod {large} : {ip} daddr . th dport; }}
  set published{at} {{ typeof {key}; }}
  set counted{at} {{ typeof {key}; counter; }}
  set guarded{at} {{ typeof {key}; }}
  set allowed{at} {{ typeof {key} . {ip} saddr; flags interval; }}
  set sticky{at} {{ typeof {key}; }}
"""
_MASKED_SET = """
  set masked {{ typeof {ip} daddr . meta l4proto . th dport; }}"""

# A client that may not connect is not translated, and then refused like anybody at a closed port.
_CHAINS = """
  chain c_sticky{at} {{
    {protocols} dnat {ip} to {key} . {sticky_small} map @ep{at}
    {protocols} dnat {ip} to {key} . {sticky_large} map @ep_large{at}
  }}
  chain c_pub{at} {{
    {key} @guarded{at} {key} . {ip} saddr != @allowed{at} return
    {key} @sticky{at} goto c_sticky{at}
    {protocols} dnat {ip} to {key} . {any_small} map @ep{at}
    {protocols} dnat {ip} to {key} . {any_large} map @ep_large{at}
  }}"""

_ENTRY = """
  chain c_open {{
    {plain} @counted goto c_pub
    {hosted} @counted_at goto c_pub_at
  }}
  chain c_closed {{
    {plain} @published goto c_rej
    {hosted} @published_at goto c_rej
  }}
  chain c_rej {{
    meta l4proto tcp reject with tcp reset
    reject with {icmp} port-unreachable
  }}"""

_MASKED = """
    ct status & dnat == dnat {ip} daddr . meta l4proto . th dport @masked masquerade"""


def sets(family: Family) -> str:
    """Declarations of the sets and maps."""
    pair = "".join(_SETS.format(**_words(family, at)) for at in ("", "_at"))
    return pair + _MASKED_SET.format(ip=family)


def chains(family: Family, icmp: str) -> str:
    """``c_open``: go there with a new connection to an address of the node.  ``c_closed``: and there with one
    that was not translated."""
    pair = "".join(_CHAINS.format(**_words(family, at)) for at in ("", "_at"))
    return pair + _ENTRY.format(plain=_key(family, ""), hosted=_key(family, "_at"), icmp=icmp)


def masked(family: Family) -> str:
    """Source translation towards containers that are not to see the client's address."""
    return _MASKED.format(ip=family)


def _key(family: Family, at: str) -> str:
    return f"{family} daddr . meta l4proto . th dport" if at else "meta l4proto . th dport"


def _words(family: Family, at: str) -> dict[str, object]:
    words: dict[str, object] = {
        "ip": family, "at": at, "key": _key(family, at), "small": SMALL, "large": LARGE,
        "protocols": "meta l4proto { tcp, udp, sctp }",
    }  # fmt: skip
    for name, rule in (("any", _ANY), ("sticky", _STICKY)):
        words[f"{name}_small"] = rule.format(ip=family, size=SMALL)
        words[f"{name}_large"] = rule.format(ip=family, size=LARGE)
    return words
