"""The base ruleset as text and its loading.  Rules are constant; everything that changes is in sets and maps.

Loaded by one ``nft`` process at start and after a foreign flush, never on the path of an update.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil

from swarmd.model.errors import Unavailable
from swarmd.node.mesh.core.buckets import LARGE, SMALL

TABLE = "swarmd"
OVERLAY = "vx0"
VETH_GROUP = 21367
"""Interface group of container interfaces: rules and clean-up know ours by it, whatever others are called."""

# Clients keep their source port, so one port of a client (or of a load balancer) may reach a container
# through several nodes at once.  A zone per ingress node keeps those flows apart; where they meet at the
# container, source translation gives the later one another port, which the detour must find undone: it
# follows dstnat.
_ZONE = """
    iifname "{overlay}" ip saddr != @pools ct original zone set ether saddr map @zone_by_mac"""
_MARK = """
    iifname "{overlay}" ct state new ip saddr != @pools ip daddr @pools \\
      ct mark set ether saddr map @node_by_mac"""
_RETURN = """
    iifname != "{overlay}" ct direction reply ct mark & 0xff0000 == 0x010000 {detour}"""
_DETOUR = 'dup to ct mark map @vtep_by_mark device "{device}" drop'
# By hash, not at random: when a container still remembers an earlier connection of this address and port it
# makes the client reset that and try again, and only the same container has forgotten it then.  The kernel
# seeds each node's hash differently.
_BUCKET = "jhash ip saddr . th sport"
_MASQUERADE = f'oifname "{OVERLAY}" ct status & dnat == dnat ip saddr != @pools masquerade'

# `numgen` in the maps' types only says "a 32-bit number": nft has no other word for the hash's result.
_TEMPLATE = """
table ip {table} {{
  set base_{marker} {{ type mark; }}
  map ep {{ typeof meta l4proto . th dport . numgen random mod {small} : ip daddr . th dport; }}
  map ep_large {{ typeof meta l4proto . th dport . numgen random mod {large} : ip daddr . th dport; }}
  set published {{ type inet_proto . inet_service; }}
  map node_by_mac {{ type ether_addr : mark; }}
  map zone_by_mac {{ typeof ether saddr : ct zone; }}
  map vtep_by_mark {{ type mark : ipv4_addr; }}
  map node_by_prefix {{ type ipv4_addr : mark; flags interval; }}
  set pools {{ type ipv4_addr; flags interval; }}
  set nodes {{ type ipv4_addr; }}
  set own {{ type ifname . ipv4_addr; }}
  set pub_local {{ type ipv4_addr . inet_proto . inet_service; }}
  set hairpin {{ type ipv4_addr . ipv4_addr; }}
  chain c_raw_pre {{ type filter hook prerouting priority raw;
    udp dport {port} ip saddr != @nodes drop
    udp dport {port} notrack
    meta iifgroup {group} iifname . ip saddr != @own drop{zone}
  }}
  chain c_raw_out {{ type filter hook output priority raw;
    udp dport {port} notrack
  }}
  chain c_mark {{ type filter hook prerouting priority mangle;{mark}
  }}
  chain c_pub {{
    meta l4proto {{ tcp, udp }} dnat ip to meta l4proto . th dport . {bucket} mod {small} map @ep
    meta l4proto {{ tcp, udp }} dnat ip to meta l4proto . th dport . {bucket} mod {large} map @ep_large
  }}
  chain c_dnat {{ type nat hook prerouting priority dstnat - 10;
    iifname "{overlay}" return
    fib daddr type local jump c_pub
  }}
  chain c_back {{ type filter hook prerouting priority dstnat + 3;{back}
  }}
  chain c_noep {{ type filter hook prerouting priority dstnat + 5;
    iif "lo" return
    ct state new fib daddr type local meta l4proto . th dport @published ct status & dnat == 0 jump c_rej
  }}
  chain c_rej {{
    meta l4proto tcp reject with tcp reset
    reject with icmp port-unreachable
  }}
  chain c_out {{ type nat hook output priority -100;
    ip daddr != 127.0.0.0/8 fib daddr type local jump c_pub
  }}
  chain c_fwd {{ type filter hook forward priority filter;
    ct state established,related accept
    iifname "{overlay}" ip daddr . meta l4proto . th dport @pub_local accept
    ip saddr @pools ip daddr @pools ct status & dnat == 0 reject with icmp admin-prohibited
  }}
  chain c_note {{ type filter hook postrouting priority srcnat - 20;
    oifname "{overlay}" ct state new ct status & dnat == dnat ct mark == 0 \\
      ct mark set ip daddr map @node_by_prefix
  }}
  chain c_snat {{ type nat hook postrouting priority srcnat - 10;
    ct status & dnat == dnat ip saddr . ip daddr @hairpin snat to 169.254.1.1
    {masquerade}
    ip saddr @pools ip daddr != @pools ct status & dnat == 0 ct direction original masquerade
  }}
}}
"""


def base(port: int, *, device: str, keep_source: bool, generation: int = 0) -> tuple[str, str]:
    """(text, name of the set that exists exactly when this very text is loaded).

    Loading the text replaces an older table in one transaction.  ``port`` is the overlay's UDP port.
    ``device`` carries replies back to the ingress node: it must exist, and the kernel remembers it by its
    index, so a change of ``generation`` (that index) asks for the text to be loaded again.
    """
    values = {"overlay": OVERLAY, "detour": _DETOUR.format(device=device)}
    kept = {"zone": _ZONE, "mark": _MARK, "back": _RETURN}
    parts = {
        "table": TABLE, "overlay": OVERLAY, "port": port, "group": VETH_GROUP, "small": SMALL, "large": LARGE,
        "bucket": _BUCKET,
        **{name: rule.format(**values) if keep_source else "" for name, rule in kept.items()},
        "masquerade": "" if keep_source else _MASQUERADE,
    }  # fmt: skip
    plain = _TEMPLATE.format(marker="", **parts)
    marker = hashlib.sha256(f"{generation} {plain}".encode()).hexdigest()[:12]
    body = _TEMPLATE.format(marker=marker, **parts)
    return f"table ip {TABLE}\ndelete table ip {TABLE}\n{body}", f"base_{marker}"


async def load(text: str, *, dry_run: bool = False) -> None:
    """Give ``text`` to nft.  Raises :class:`Unavailable` with nft's own words when it is refused."""
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin")
    if program is None:
        raise Unavailable("the program nft is not installed; install the package nftables")
    process = await asyncio.create_subprocess_exec(
        program, *(["-c"] if dry_run else []), "-f", "-",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, complaint = await process.communicate(text.encode())
    if process.returncode:
        first = complaint.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise Unavailable(f"nft refused the ruleset: {first[0]}")


async def remove() -> None:
    """Delete our table; a table that is not there is no error."""
    await load(f"table ip {TABLE}\ndelete table ip {TABLE}\n")
