"""Networks as rows of ``network ls`` and in Docker's own JSON shape.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_network
from typing import TYPE_CHECKING

from swarmd.cli.listing import Layout, Row
from swarmd.cli.table import natural_key
from swarmd.cli.units import rfc3339
from swarmd.cli.views import address_with_length, ports
from swarmd.cli.views_container import Json, filled

if TYPE_CHECKING:
    from swarmd.rpc.v1 import networks_pb2, types_pb2

OWN = {"bridge": "bridge", "host": "host", "none": "null"}
"""What every node has of its own, with Docker's names of the drivers; the id is the name."""

NETWORKS = Layout(
    ("ID", "Name", "Driver", "Scope"),
    {
        "ID": "NETWORK ID",
        "Name": "NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "IPv4": "IPV4",
        "IPv6": "IPV6",
        "Internal": "INTERNAL",
        "Encrypted": "ENCRYPTED",
        "Subnet": "SUBNET",
        "Labels": "LABELS",
        "CreatedAt": "CREATED AT",
        "Type": "TYPE",
        "Services": "SERVICES",
        "Tasks": "TASKS",
        "Containers": "CONTAINERS",
        "Taken": "TAKEN",
    },
)


def network_rows(
    views: Iterable[networks_pb2.NetworkView], is_wanted: Callable[[Row], bool] = lambda row: True
) -> list[Row]:
    """One row a network, by name, those of every node among them."""
    rows = [*(_own_row(name, driver) for name, driver in OWN.items()), *(_row(view) for view in views)]
    return sorted((row for row in rows if is_wanted(row)), key=lambda row: natural_key(row["Name"]))


def network(answer: networks_pb2.GetNetworkResponse, *, verbose: bool) -> Json:
    """A network, for ``inspect``."""
    it = answer.network.network
    spec = it.spec
    own = prefixes(it)
    options = dict(spec.options) | ({"encrypted": ""} if spec.encrypted else {})
    out = _shape(it.name, it.id, it.driver, "swarm") | {
        "Created": rfc3339(it.created_at),
        "EnableIPv6": any(":" in one for one in own),
        "IPAM": {"Driver": "default", "Options": None, "Config": _pools(it)},
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": it.ingress,
        "Options": options or None,
        "Labels": dict(spec.labels) or None,
        "Addresses": {"Taken": answer.network.taken, "Total": answer.network.addresses},
        "Containers": {one.id: _container(one, own) for one in answer.containers} or None,
    }
    if verbose:
        out["Peers"] = [
            {"Name": one.node_id, "Hostname": one.hostname, "IP": one.address} for one in answer.peers
        ]
        out["Services"] = {one.name: _service(one, own) for one in answer.services}
    return out


def own_network(name: str) -> Json:
    """One that every node has of its own."""
    return _shape(name, name, OWN[name], "local") | {
        "IPAM": {"Driver": "default", "Options": None, "Config": []}
    }


def _shape(name: str, identity: str, driver: str, scope: str) -> Json:
    return {
        "Name": name,
        "Id": identity,
        "Created": "0001-01-01T00:00:00Z",
        "Scope": scope,
        "Driver": driver,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": None,
        "Options": None,
        "Labels": None,
    }


def _pools(it: types_pb2.Network) -> list[Json]:
    if not it.subnets and it.subnet:
        return [{"Subnet": it.subnet}]
    return [
        {"Subnet": one.subnet}
        | filled(IPRange=one.ip_range)
        | {"Gateway": one.gateway or str(ip_network(one.subnet)[1])}
        | filled(AuxiliaryAddresses=dict(one.reserved))
        for one in it.subnets
    ]


def prefixes(it: types_pb2.Network) -> list[str]:
    """Of a network, as it was given them."""
    return [one.subnet for one in it.subnets] or [one for one in (it.subnet,) if one]


def _container(one: networks_pb2.NetworkContainer, own: list[str]) -> Json:
    """A single container; its node is what Docker, which shows those of one node, does not say."""
    addresses = [address_with_length(address, own) for address in one.addresses]
    return {
        "Name": one.name,
        "EndpointID": one.id,
        "MacAddress": "",
        "IPv4Address": next((each for each in addresses if ":" not in each), ""),
        "IPv6Address": next((each for each in addresses if ":" in each), ""),
        **filled(Aliases=list(one.aliases)),
        "Up": one.up,
        "Node": {"Hostname": one.hostname, "State": one.state, "IP": one.node_address},
    }


def _service(one: networks_pb2.NetworkService, own: list[str]) -> Json:
    return {
        "VIP": one.addresses[0] if one.addresses else "",
        **filled(VIPs=list(one.addresses) if len(one.addresses) > 1 else []),
        **filled(Aliases=list(one.aliases)),
        "Ports": ports(one.ports),
        "Tasks": [
            {
                "Name": task.name,
                "EndpointID": task.id,
                "EndpointIP": task.addresses[0] if task.addresses else "",
                "Addresses": [address_with_length(address, own) for address in task.addresses],
                "Up": task.up,
                "Info": {"Host IP": task.node_address, "Host": task.hostname},
            }
            for task in one.tasks
        ],
    }


def _row(view: networks_pb2.NetworkView) -> Row:
    it = view.network
    own = prefixes(it)
    return {
        "ID": it.id,
        "Name": it.name,
        "Driver": it.driver,
        "Scope": "swarm",
        "IPv4": "true",
        "IPv6": _truth(any(":" in one for one in own)),
        "Internal": _truth(it.spec.internal),
        "Encrypted": _truth(it.spec.encrypted),
        "Subnet": ",".join(own),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(it.spec.labels.items())),
        "CreatedAt": rfc3339(it.created_at),
        "Type": "builtin" if it.ingress else "custom",
        "Services": str(view.services),
        "Tasks": str(view.tasks),
        "Containers": str(view.containers),
        "Taken": f"{view.taken}/{view.addresses}",
    }


def _own_row(name: str, driver: str) -> Row:
    return dict.fromkeys(NETWORKS.headers, "") | {
        "ID": name,
        "Name": name,
        "Driver": driver,
        "Scope": "local",
        "IPv4": _truth(name == "bridge"),
        "IPv6": "false",
        "Internal": "false",
        "Encrypted": "false",
        "Type": "builtin",
    }


def _truth(value: bool) -> str:
    return "true" if value else "false"
