"""The text of the ruleset: one table per family, from one template.

Rules are constant; everything that changes is in sets and maps, whose elements are decided in
:mod:`swarmd.node.mesh.core.table`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from msgspec import Struct

from swarmd.node.network.core import network_rules, port_rules
from swarmd.node.network.core.addresses import GATEWAY, ITSELF6
from swarmd.node.network.core.family import Family

TABLE = "swarmd"
OVERLAY = "vx0"
GOSSIP_PORT = 7946
"""Not tracked between nodes, so that one whose table of connections is full is not taken for dead."""
VETH_GROUP = 21367
"""Interface group of container interfaces: rules and clean-up know ours by it, whatever others are called."""


class Options(Struct, frozen=True):
    """What the rules depend on.

    ``port``: the overlay's UDP port, ``local``: the address that it is open on.  ``device`` carries replies
    back to the ingress node: it must exist, and the kernel remembers it by its index, so a change of
    ``generation`` (that index; 0: there is no overlay) asks for the rules to be loaded again.
    """

    port: int
    device: str
    keep_source: bool
    generation: int = 0
    local: str = "127.0.0.1"


# What differs between the families.  The overlay's outer packets are IPv4.  Link-local IPv6 addresses are the
# neighbours' business: the kernel passes them on to nobody, so the proxy serves those clients.
_WORDS: Mapping[Family, Mapping[str, str]] = {
    "ip": {
        "address": "ipv4_addr",
        "icmp": "icmp",
        "loopback": "127.0.0.0/8",
        "itself": GATEWAY,
        "under": """
    meta l4proto udp jump c_raw_udp""",
        "under_task": """
    udp dport {port} drop""",
        "under_chains": """
  chain c_raw_udp {{
    th dport {port} ip saddr @nodes ip daddr {local} notrack accept
    th dport {port} ip saddr != @nodes drop
    th dport {gossip} th sport {gossip} ip saddr @nodes notrack
  }}
  chain c_raw_out {{ type filter hook output priority raw;
    meta l4proto != udp return
    th dport {port} notrack return
    th dport {gossip} th sport {gossip} ip daddr @nodes notrack
  }}""",
        "neighbours": "",
    },
    "ip6": {
        "address": "ipv6_addr",
        "icmp": "icmpv6",
        "loopback": "::1",
        "itself": ITSELF6,
        "under": "",
        "under_task": "",
        "under_chains": "",
        "neighbours": """
    ip6 saddr fe80::/10 return
    ip6 daddr fe80::/10 return""",
    },
}

# Clients keep their source port, so one port of a client (or of a load balancer) may reach a container
# through several nodes at once.  A zone per ingress node keeps those flows apart; where they meet at the
# container, source translation gives the later one another port, which the detour must find undone: it
# follows dstnat.
_KEPT = {
    "zone": """
    {ip} saddr != @pools ct original zone set ether saddr map @zone_by_mac""",
    "mark": """
    iifname "{overlay}" {ip} saddr != @pools {ip} daddr @pools \\
      ct mark set ether saddr map @node_by_mac""",
    "back": """
    ct direction reply ct mark & 0xff0000 == 0x010000 \\
      dup to ct mark map @vtep_by_mark device "{device}" drop""",
    "masquerade": "",
}
_LOST = {
    "zone": "",
    "mark": "",
    "back": "",
    "masquerade": """
    oifname "{overlay}" ct status & dnat == dnat {ip} saddr != @pools masquerade""",
}

# Every packet pays for each chain that hangs on a hook, and for each rule it passes there.  What is for new
# connections alone lets the others go by its first rule, or stands in a chain of type nat, which the kernel
# runs for the first packet of each.  Where a packet came from is asked first: most rules are for one kind of
# device.  Only what is for the overlay's own port on this node goes by unseen.
_TEMPLATE = """
table {ip} {table} {{
  set {marker} {{ type mark; }}
  map node_by_mac {{ type ether_addr : mark; }}
  map zone_by_mac {{ typeof ether saddr : ct zone; }}
  map vtep_by_mark {{ type mark : {address}; }}
  map node_by_prefix {{ type {address} : mark; flags interval; }}
  set pools {{ type {address}; flags interval; }}
  set nodes {{ type {address}; }}
  set own {{ type ifname . {address}; }}
  set pub_local {{ type {address} . inet_proto . inet_service; }}
  set hairpin {{ type {address} . {address}; }}{port_sets}{network_sets}
  chain c_raw_pre {{ type filter hook prerouting priority raw;
    meta iifgroup {group} goto c_raw_task
    {from_node} goto c_raw_node{under}{network_raw}
  }}
  chain c_raw_task {{
    iifname . {ip} saddr != @own drop{under_task}
  }}
  chain c_raw_node {{{network_raw}{zone}
  }}{under_chains}{port_chains}
  chain c_dnat {{ type nat hook prerouting priority dstnat - 10;
    iifname "{overlay}" return{neighbours}{network_dnat}
    fib daddr type local jump c_open
  }}
  chain c_came {{ type filter hook prerouting priority dstnat + 5;
    meta iifgroup {group} jump c_left
    ct state != new return{mark}
    iif "lo" return{neighbours}{network_noep}
    ct status & dnat == 0 fib daddr type local jump c_closed
  }}
  chain c_left {{{back}{network_inward}
  }}
  chain c_out {{ type nat hook output priority -100;{neighbours}
    {ip} daddr != {loopback} fib daddr type local jump c_open
  }}
  chain c_fwd {{ type filter hook forward priority filter;
    tcp flags & (syn | rst) == syn jump c_size
    ct state established,related accept
    iifname "{overlay}" {ip} daddr . meta l4proto . th dport @pub_local accept{network_forward}
    {ip} saddr @pools {ip} daddr @pools ct status & dnat == 0 reject with {icmp} admin-prohibited
  }}
  chain c_snat {{ type nat hook postrouting priority srcnat - 10;
    oifname "{overlay}" ct status & dnat == dnat ct mark == 0 \\
      ct mark set {ip} daddr map @node_by_prefix{network_note}
    ct status & dnat == dnat {ip} saddr . {ip} daddr @hairpin snat to {itself}{masked}{masquerade}
    {ip} saddr @pools {ip} daddr != @pools ct status & dnat == 0 ct direction original masquerade
  }}{network_chains}
}}
"""


def table(family: Family, options: Options) -> tuple[str, str]:
    """(text of one family's table, name of the set that exists exactly when this very text is loaded).

    Loading the text replaces an older table in one transaction.
    """
    plain = _fill(family, options, "base")
    marker = f"base_{hashlib.sha256(f'{options.generation} {plain}'.encode()).hexdigest()[:12]}"
    return removal(family) + _fill(family, options, marker), marker


def removal(family: Family) -> str:
    """Deletes the family's table, also when there is none."""
    return f"table {family} {TABLE}\ndelete table {family} {TABLE}\n"


def _fill(family: Family, options: Options, marker: str) -> str:
    values: dict[str, object] = {
        "ip": family, "overlay": OVERLAY, "from_node": _from_node(options), "local": options.local,
        "port": options.port, "device": options.device, "table": TABLE,
        "group": VETH_GROUP, "gossip": GOSSIP_PORT,
    }  # fmt: skip
    kept = _KEPT if options.keep_source else _LOST
    words = {name: text.format(**values) for name, text in {**_WORDS[family], **kept}.items()}
    return _TEMPLATE.format(
        marker=marker, port_sets=port_rules.sets(family), masked=port_rules.masked(family),
        port_chains=port_rules.chains(family, words["icmp"]),
        **values, **words, **network_rules.pieces({**values, **words}),
    )  # fmt: skip


def _from_node(options: Options) -> str:
    """A number is compared sooner than a name, and every packet is asked."""
    return f"iif {options.generation}" if options.generation else f'iifname "{OVERLAY}"'
