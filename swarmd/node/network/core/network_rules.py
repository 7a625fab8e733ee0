"""The rules that make networks of the swarm: virtual addresses, who may speak to whom, who has no way out.

Pieces of the template in :mod:`swarmd.node.network.core.rules`; their sets are filled from
:mod:`swarmd.node.network.core.networks`.
"""

from __future__ import annotations

from collections.abc import Mapping

from swarmd.node.mesh.core.buckets import LARGE, SMALL

# samenet: (prefix, prefix) of one network.  refused: addresses that lead to no container: virtual ones, and
# those of tasks on dead nodes.  secured: prefixes of encrypted networks.  inward: addresses of containers
# that are in internal networks only.
_SETS = """
  map vip {{ typeof {ip} daddr . numgen random mod {small} : {ip} daddr; }}
  map vip_large {{ typeof {ip} daddr . numgen random mod {large} : {ip} daddr; }}
  set refused {{ type {address}; }}
  set samenet {{ type {address} . {address}; flags interval; }}
  set inward {{ type {address}; }}
  set secured {{ type {address}; flags interval; }}
  map node_of {{ type {address} : mark; }}"""

# c_size: links of nodes may carry packets of different sizes.  Both ends of a connection through the overlay
# are told what fits through this node, so that none of them has to find out from packets that are lost.
# All ports of a virtual address lead to one of its containers; what has no ports (ping) goes by the caller.
_CHAINS = """
  chain c_vip {{
    meta l4proto {{ tcp, udp, sctp }} dnat {ip} to {ip} daddr . {bucket} mod {small} map @vip
    meta l4proto {{ tcp, udp, sctp }} dnat {ip} to {ip} daddr . {bucket} mod {large} map @vip_large
    dnat {ip} to {ip} daddr . jhash {ip} saddr mod {small} map @vip
    dnat {ip} to {ip} daddr . jhash {ip} saddr mod {large} map @vip_large
  }}
  chain c_size {{
    iifname "{overlay}" tcp option maxseg size set rt mtu
    oifname "{overlay}" tcp option maxseg size set rt mtu
  }}"""

# An address alone proves nothing: a neighbour of the node may write any into its packets.  Containers and
# other nodes are known by the interface they come through.
_DNAT = """
    meta iifgroup {group} {ip} saddr . {ip} daddr @samenet jump c_vip"""
_INWARD = """
    {ip} saddr @inward ct state & (established | related) == 0 \\
      fib daddr type {{ local, broadcast, multicast, anycast }} reject with {icmp} admin-prohibited"""
_NOEP = """
    {ip} daddr @refused jump c_rej"""
_FORWARD = """
    meta iifgroup {group} {ip} saddr . {ip} daddr @samenet accept
    iifname {{ "{overlay}", "sx0" }} {ip} saddr . {ip} daddr @samenet accept
    meta iifgroup {group} {ip} saddr @inward reject with {icmp} admin-prohibited
    meta oifgroup {group} ct status & dnat == 0 reject with {icmp} admin-prohibited"""
# Not only translated flows: whoever talks to a task of a dead node must hear of it.
_NOTE = """
    oifname {{ "{overlay}", "sx0" }} ct mark == 0 ct mark set {ip} daddr map @node_of"""

# What is encrypted between nodes never comes in the clear, whoever sent it.
_RAW = """
    {ip} daddr @secured iifname != "sx0" drop"""

_PIECES = {
    "network_raw": _RAW,
    "network_sets": _SETS,
    "network_chains": _CHAINS,
    "network_dnat": _DNAT,
    "network_inward": _INWARD,
    "network_noep": _NOEP,
    "network_forward": _FORWARD,
    "network_note": _NOTE,
}


def pieces(values: Mapping[str, object]) -> dict[str, str]:
    """By their names in the template.  ``values``: the family's words, the names of devices and groups."""
    bucket = f"jhash {values['ip']} saddr . th sport"
    every = {**values, "small": SMALL, "large": LARGE, "bucket": bucket}
    return {name: text.format(**every) for name, text in _PIECES.items()}
