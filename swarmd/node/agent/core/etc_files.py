"""Decide what stands in the files that are generated for a container: hosts, hostname, resolv.conf."""

from __future__ import annotations

from collections.abc import Sequence

from swarmd.model.spec import ContainerSpec
from swarmd.node.runtime.port import Files

SERVER = "127.0.0.11"
"""Where containers in networks of the swarm find our name server; images have this address built in."""

_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def files(spec: ContainerSpec, hostname: str, node_resolv_conf: str, addresses: Sequence[str] = ()) -> Files:
    """``hostname``: the container's; ``node_resolv_conf``: the node's own file.

    ``addresses``: the container's in networks of the swarm.  With any, it asks our name server, which asks
    those that would stand here otherwise.
    """
    names = f"{hostname}.{spec.domainname} {hostname}" if spec.domainname else hostname
    own = [f"{address}\t{names}" for address in addresses or ("127.0.1.1",)]
    extra = [f"{address}\t{name}" for address, _, name in (line.partition(" ") for line in spec.hosts)]
    if addresses:
        resolv = embedded_resolv_conf(node_resolv_conf, spec.dns_search, spec.dns_options)
    else:
        resolv = resolv_conf(node_resolv_conf, spec.dns, spec.dns_search, spec.dns_options)
    return Files(
        hosts="\n".join([*_HOSTS.splitlines(), *own, *extra, ""]),
        hostname=f"{hostname}\n",
        resolv_conf=resolv,
    )


def embedded_resolv_conf(host: str, search: Sequence[str] = (), options: Sequence[str] = ()) -> str:
    """As :func:`resolv_conf` with our name server alone.

    Names without dots are those of networks first: unless somebody says otherwise (``ndots``) they are asked
    for as they are before any search, as in Docker.
    """
    lines = resolv_conf(host, (SERVER,), search, options).splitlines()
    said = [word for line in lines if line.split()[:1] == ["options"] for word in line.split()[1:]]
    if not any(word.startswith("ndots:") for word in said):
        lines.append("options ndots:0")
    return "\n".join([*lines, ""])


def resolv_conf(
    host: str, servers: Sequence[str] = (), search: Sequence[str] = (), options: Sequence[str] = ()
) -> str:
    """The node's settings without name servers that only the node itself can reach; what is given instead.

    As in Docker each of the three replaces the node's own; a search for ``.`` is none.
    """
    kept = [line for line in host.splitlines() if not _is_local_resolver(line)]
    given = {"nameserver": servers, "search": search, "options": options}
    for keyword, values in given.items():
        if values:
            also = ("domain",) if keyword == "search" else ()
            kept = [line for line in kept if line.split()[:1] not in ([keyword], *([one] for one in also))]
    kept += [f"nameserver {server}" for server in servers]
    if search and list(search) != ["."]:
        kept.append(f"search {' '.join(search)}")
    if options:
        kept.append(f"options {' '.join(options)}")
    return "\n".join([*kept, ""])


def _is_local_resolver(line: str) -> bool:
    words = line.split()
    return len(words) > 1 and words[0] == "nameserver" and words[1].startswith(("127.", "::1"))
