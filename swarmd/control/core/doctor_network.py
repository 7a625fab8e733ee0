"""Decide what is wrong with one network, from its rows and what its nodes say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_network

from swarmd.control.core.doctor_ways import MTU_OPTION, NOTICE, PROBLEM
from swarmd.control.core.trace_names import is_in
from swarmd.model.objects import Network, Service, Task
from swarmd.model.states import TaskState
from swarmd.rpc.v1 import netdiag_pb2 as pb

MTU = "com.docker.network.driver.mtu"
_NEARLY = 0.9


def of_network(
    network: Network, services: Iterable[Service], tasks: Sequence[Task], nodes: Sequence[pb.ExaminedNode]
) -> Iterator[pb.NetworkFinding]:
    """``tasks``: those that have not ended; ``nodes``: those that have some of the network's."""
    inside = [service for service in services if is_in(service, network.id)]
    for service in inside:
        addresses = [a for vip in service.vips if vip.network_id == network.id for a in vip.addresses]
        if service.spec.endpoint_mode != "dnsrr" and not addresses:
            text = f"service {service.spec.name} has no virtual address in {network.name}"
            yield _finding(PROBLEM, "no-address", text)
    members = {service.id for service in inside}
    for task in tasks:
        mine = [a for one in task.networks if one.network_id == network.id for a in one.addresses]
        if task.service_id in members and task.state is TaskState.RUNNING and not mine:
            text = f"task {task.name} runs without an address in {network.name}"
            yield _finding(NOTICE, "no-address", text, "it was made before its service joined the network")
        elif task.service_id in members and not mine and task.status.error:
            yield _finding(PROBLEM, "no-address", f"task {task.name}: {task.status.error}")
    yield from _fill(network, inside, tasks)
    yield from _mtu(network, nodes)


def _fill(
    network: Network, services: Iterable[Service], tasks: Iterable[Task]
) -> Iterator[pb.NetworkFinding]:
    taken = sum(1 for task in tasks if any(one.network_id == network.id for one in task.networks))
    taken += sum(1 for service in services if any(vip.network_id == network.id for vip in service.vips))
    prefixes = [ip_network(one.ip_range or one.subnet, strict=False) for one in network.subnets]
    room = sum(one.num_addresses - 3 for one in prefixes if one.version == 4)
    if room > 0 and taken >= _NEARLY * room:
        text = f"{taken} of about {room} addresses of {network.name} are taken"
        yield _finding(NOTICE, "addresses", text, "make a network with a larger --subnet for what comes next")


def _mtu(network: Network, nodes: Iterable[pb.ExaminedNode]) -> Iterator[pb.NetworkFinding]:
    wanted = int(network.spec.options.get(MTU) or 0)
    for node in nodes:
        most = node.report.overlay_mtu
        if 0 < most < wanted:
            name = node.hostname or node.id
            text = f"{network.name} wants an MTU of {wanted}, and the overlay of {name} takes {most} bytes"
            yield _finding(PROBLEM, "mtu", text, f"make the network with {MTU_OPTION}={most} or less")


def _finding(severity: str, kind: str, text: str, advice: str = "") -> pb.NetworkFinding:
    return pb.NetworkFinding(severity=severity, kind=kind, text=text, advice=advice)
