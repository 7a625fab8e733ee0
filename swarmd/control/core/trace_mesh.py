"""The part of a trace that goes through a published port: whose it is, who may use it, who answers."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from swarmd.control.core.trace_rows import Verdict, listed
from swarmd.control.core.trace_way import Way
from swarmd.model.objects import Node, Service, Task
from swarmd.model.spec import PortSpec
from swarmd.model.states import NodeState

Opened = Sequence[tuple[Service, PortSpec]]


def enter(way: Way, node: Node | None) -> tuple[Verdict, str]:
    """The packet goes to a port of a node (None: gone)."""
    if node is None:
        return way.refuse("address", "the node is no longer part of the swarm")
    inside = way.only_inside()
    if inside:
        text = f"the source is in {inside} only, which is internal: it reaches no port of a node"
        return way.refuse("network", text)
    name = way.rows.hostname(node.id)
    is_own = node.id == way.source.node_id
    if node.status.state is NodeState.DOWN:
        return way.refuse("address", f"{name} ({node.status.address}) is down")
    if not is_own:
        way.say("route", f"{node.status.address} is {name}: sent on by its own node, over the nodes' network")
    if not way.to.port:
        return way.end("unknown", f"{name} itself is asked; write ADDRESS:PORT for a published port")
    port = f"{way.to.port}/{way.to.protocol}"
    found = _opened(way, node)
    if not found:
        text = f"no service has published {port} on {name}: it reaches what else listens there, if anything"
        return way.refuse("port", text + _near(way))
    if any(spec.host or spec.path for _, spec in found):
        return _by_router(way, name, port, found)
    service, spec = found[0]
    way.say("port", f"{port} on {name} is published by {service.spec.name}{_words(service, spec)}")
    if not _may(way, node, spec):
        return way.refuse("port", f"only {listed(spec.allow)} may connect to {port}")
    return _to_tasks(way, service, spec, node)


def to_home(way: Way, address: str, task: Task) -> tuple[Verdict, str]:
    """The packet goes to the address that a task has of its node's block."""
    way.say("address", f"{address} is the address that {task.name} has of its node")
    if way.is_host or task.id == way.source.id:
        return way.arrive([(task, address)])
    text = "such addresses are open to nodes alone: use its name or address in a network that both are in"
    return way.refuse("network", text)


def _opened(way: Way, node: Node) -> list[tuple[Service, PortSpec]]:
    found = []
    for service in sorted(way.rows.services.values(), key=lambda one: one.spec.name):
        for spec in service.ports or service.spec.ports:
            if (spec.published, spec.protocol) != (way.to.port, way.to.protocol):
                continue
            here = [task for task in way.rows.of_service(service.id) if task.node_id == node.id]
            if spec.mode == "ingress" or here:
                found.append((service, spec))
    return found


def _near(way: Way) -> str:
    """Why a port that is published is not open here."""
    for service in way.rows.services.values():
        for spec in service.ports or service.spec.ports:
            if spec.published == way.to.port and spec.protocol != way.to.protocol:
                return f" ({service.spec.name} has published {spec.published}/{spec.protocol})"
            if spec.published == way.to.port and spec.mode == "host":
                return f" ({service.spec.name} has it open on the nodes of its tasks only)"
    return ""


def _words(service: Service, spec: PortSpec) -> str:
    words = [
        *(["mode host"] if spec.mode == "host" else []),
        *([f"only on {spec.host_ip}"] if spec.host_ip else []),
        *([f"only for {listed(spec.allow)}"] if spec.allow else []),
        *(["sticky by client address"] if spec.sticky else []),
        *(
            [f"source {service.spec.ingress_source}"]
            if service.spec.ingress_source not in ("", "keep")
            else []
        ),
    ]
    return f" ({', '.join(words)})" if words else ""


def _may(way: Way, node: Node, spec: PortSpec) -> bool:
    """Whether one of the addresses that the packet may come from is allowed."""
    own = way.rows.nodes.get(way.source.node_id)
    sender = way.source.status.address if own is None or own.id == node.id else own.status.address
    if not spec.allow or not sender:
        return True
    way.say("port", f"the sender there is {sender}")
    address = ip_address(sender)
    return any(address in ip_network(prefix, strict=False) for prefix in spec.allow)


def _to_tasks(way: Way, service: Service, spec: PortSpec, node: Node) -> tuple[Verdict, str]:
    tasks = way.rows.of_service(service.id)
    if spec.mode == "host":
        tasks = [task for task in tasks if task.node_id == node.id]
    backends = [(task, f"{task.status.address}:{spec.target}") for task in tasks if task.status.address]
    if not backends:
        return way.refuse(
            "backend", f"no task of {service.spec.name} is up: the connection is refused at once"
        )
    how = "clients, by address" if spec.sticky else "new connections"
    way.choose(backends, how)
    return way.arrive(backends, back=_back(service))


def _back(service: Service) -> str:
    source = service.spec.ingress_source
    if source == "masquerade":
        return "tasks see a node's address as the client's"
    if source == "proxy-protocol":
        return "tasks see a node's address, and the client's in the header before the data"
    return "tasks see the sender's address; answers come back through the node that took the connection"


def _by_router(way: Way, name: str, port: str, found: Opened) -> tuple[Verdict, str]:
    found = sorted(found, key=lambda one: (one[1].host, -len(one[1].path), one[0].spec.name))
    routes = [f"{spec.host or '*'}{spec.path or '/'} → {service.spec.name}" for service, spec in found]
    way.say("port", f"{port} on {name} is shared by HTTP routes: {listed(routes)}")
    without = []
    for service, spec in found:
        up = [task for task in way.rows.of_service(service.id) if task.status.address]
        if not up:
            without.append(service.spec.name)
            continue
        shown = listed([f"{task.name} ({task.status.address}:{spec.target})" for task in up])
        way.say("backend", f"{spec.host or '*'}{spec.path or '/'}: {shown}")
    for one in without:
        way.say("backend", f"no task of {one} is up: its requests are answered with 503", refused=True)
    if len(without) == len(found):
        return way.end("refused", "no service behind that port has a task that is up")
    return way.end(
        "arrives", f"the router of {name} takes the connection and sends each request where it belongs"
    )
