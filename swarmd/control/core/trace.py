"""Decide where a packet of a task would go, and say why, step by step.

    source ──► name ──► address ──► whose it is ──► same network? ──► which task ──► route
                  │                     ├─ a node's, or a port: the mesh (trace_mesh)
                  └─ unknown: outside   └─ nobody's of the swarm: the way out

Decided from the managers' rows alone; what the source's node said is set against it at the end.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarmd.control.core import trace_mesh
from swarmd.control.core.trace_names import resolve
from swarmd.control.core.trace_rows import (
    Destination,
    Owner,
    Rows,
    Told,
    Trace,
    Verdict,
    listed,
    owner,
)
from swarmd.control.core.trace_way import Way
from swarmd.model.objects import Task
from swarmd.model.spec import TaskTemplate
from swarmd.model.states import TaskState

MOST = 10
"""Targets of a name that are followed one by one."""


def trace(
    rows: Rows,
    source: Task,
    template: TaskTemplate,
    to: Destination,
    told: Told,
    *,
    meant: Task | None = None,
) -> Trace:
    """``template``: of the source; ``meant``: the task that the destination names, if it names one."""
    way = Way(rows, source, to)
    verdict, conclusion = _leave(way, template, meant)
    _kernel(way, told)
    if verdict == "arrives" and (told.error or told.differences or not told.applied):
        conclusion += "; but its node is not as it should be, see above"
    return Trace(tuple(way.steps), verdict, conclusion)


def _leave(way: Way, template: TaskTemplate, meant: Task | None) -> tuple[Verdict, str]:
    source, rows = way.source, way.rows
    where = f"{source.name} ({source.id[:12]})"
    if source.state is not TaskState.RUNNING or not source.node_id:
        state = source.state.name.lower()
        return way.refuse("source", f"{where} is {state}, it has no address to send from")
    own = {one.target for one in template.networks} & {"host", "none"}
    if own == {"none"}:
        return way.refuse("source", f"{where} has the network none: it reaches nothing but itself")
    way.is_host = bool(own)
    if own:
        node = rows.hostname(source.node_id)
        way.say(
            "source", f"{where} runs on {node} in that node's own network: it has its addresses and its DNS"
        )
    else:
        home = ", ".join(one for one in (source.status.address, source.status.address6) if one)
        mine = [f"{listed(one.addresses)} in {rows.network_name(one.network_id)}" for one in source.networks]
        way.say(
            "source",
            f"{where} runs on {rows.hostname(source.node_id)}; its addresses: "
            + ", ".join([f"{home or 'none'} of its node", *mine]),
        )
        asked_for = [one.target for one in template.networks if one.target not in way.networks]
        if asked_for:
            names = listed([rows.network_name(one) for one in asked_for])
            way.say("source", f"it is to be in {names}, and has been given no address there", refused=True)
    if not way.to.host:
        return trace_mesh.enter(way, rows.nodes.get(source.node_id))
    if meant is not None:
        return _to_task(way, meant)
    if way.to.is_address:
        return _to_address(way, way.to.host)
    return _to_name(way)


def _to_task(way: Way, task: Task) -> tuple[Verdict, str]:
    shared = [a for one in task.networks if one.network_id in way.networks for a in one.addresses]
    if task.id == way.source.id:
        return way.done(f"the destination is the source itself, {task.name}")
    if shared:
        way.say("name", f"task {task.name} has {listed(shared)} in a network of the source")
        return _to_address(way, shared[0])
    theirs = [way.rows.network_name(one.network_id) for one in task.networks]
    text = f"task {task.name} is in {listed(theirs) or 'no network'}; the source shares none with it"
    return way.refuse("network", text)


def _to_name(way: Way) -> tuple[Verdict, str]:
    name, is_host = way.to.host, way.is_host
    answer = resolve(way.rows, way.source, name)
    if is_host or not answer.is_known:
        if answer.text and not is_host:
            way.say("name", answer.text, refused=True)
        if not is_host and "." not in name and answer.text:
            return way.end("refused", f"{name} is not known to {way.source.name}")
        way.say("name", f"{name} is asked of the name servers of {way.rows.hostname(way.source.node_id)}")
        return way.end("unknown", f"{name} is no name in the source's networks: it leads where those say")
    way.say("name", answer.text)
    if not answer.addresses:
        return way.end("refused", f"{name} is known, but has no address now")
    verdicts = [_to_address(way, address) for address in answer.addresses[:MOST]]
    if len(answer.addresses) > MOST:
        way.say("address", f"{len(answer.addresses) - MOST} more addresses are not followed")
    if len({verdict for verdict, _ in verdicts}) > 1:
        return _mixed(verdicts)
    if len(verdicts) > 1 and verdicts[0][0] == "arrives":
        return way.end("arrives", f"{name} leads to each of {listed(answer.addresses)}, in turn")
    return verdicts[0]


def _mixed(verdicts: Iterable[tuple[Verdict, str]]) -> tuple[Verdict, str]:
    bad = next((one for one in verdicts if one[0] != "arrives"), None)
    assert bad is not None
    return bad[0], f"some of the addresses: {bad[1]}"


def _to_address(way: Way, address: str) -> tuple[Verdict, str]:
    whose = owner(way.rows, address)
    if whose.kind == "vip":
        return _to_vip(way, address, whose)
    if whose.kind == "task" and whose.task is not None:
        return _in_network(way, address, whose, whose.task)
    if whose.kind == "home" and whose.task is not None:
        return trace_mesh.to_home(way, address, whose.task)
    if whose.kind == "node":
        return trace_mesh.enter(way, whose.node)
    if whose.kind == "overlay":
        return way.refuse(
            "address", f"{address} is a node's own address inside the overlay: nothing serves there"
        )
    if whose.kind == "gateway":
        return way.refuse(
            "address", f"{address} is the gateway of {way.network(whose)}: nothing serves there"
        )
    if whose.kind == "nobody":
        return way.refuse("address", f"{address} is an address of {way.network(whose)} that nobody has now")
    if whose.kind == "loopback":
        return way.end("unknown", f"{address} is the container's own loopback: the packet stays inside")
    return _outside(way, address)


def _to_vip(way: Way, address: str, whose: Owner) -> tuple[Verdict, str]:
    assert whose.service is not None
    name, network = whose.service.spec.name, way.network(whose)
    if whose.network_id not in way.networks:
        text = f"{address} is the virtual address of {name} in {network}, and the source is not in {network}"
        return way.refuse("network", text)
    way.say(
        "network", f"{address} is the virtual address of {name} in {network}, where the source is as well"
    )
    up = way.rows.of_service(whose.service.id)
    backends = [
        (task, one.addresses[0])
        for task in up
        for one in task.networks
        if one.network_id == whose.network_id and one.addresses
    ]
    if not backends:
        return way.refuse("backend", f"no task of {name} is up: the connection is refused at once")
    way.choose(backends, "new connections")
    return way.arrive(backends)


def _in_network(way: Way, address: str, whose: Owner, task: Task) -> tuple[Verdict, str]:
    network = way.network(whose)
    if whose.network_id not in way.networks:
        text = (
            f"{address} is {task.name} in {network}, and the source is not in {network}: networks are apart"
        )
        return way.refuse("network", text)
    way.say("network", f"{address} is {task.name} in {network}, where the source is as well")
    return way.arrive([(task, address)])


def _outside(way: Way, address: str) -> tuple[Verdict, str]:
    inside = way.only_inside()
    if inside:
        text = f"{address} is outside of the swarm, and the source is in {inside} only, which is internal"
        return way.refuse("route", text)
    node = way.rows.nodes.get(way.source.node_id)
    shown = node.status.address if node else "its node's address"
    way.say("route", f"{address} is outside of the swarm: sent on by its node, with {shown} as the sender")
    return way.end("leaves", f"{address} is no address of the swarm's")


def _kernel(way: Way, told: Told) -> None:
    node = way.rows.hostname(way.source.node_id) if way.source.node_id else "its node"
    if told.error:
        way.say("kernel", f"{node} cannot be asked whether it does so: {told.error}", refused=True)
        return
    state = "has applied" if told.applied else "was told, and has not been able to apply,"
    way.say("kernel", f"{node} {state} snapshot {told.snapshot} of the network", refused=not told.applied)
    for text in (*told.differences, *told.problems):
        way.say("kernel", f"{node}: {text}", refused=text in told.differences)
    if told.audited and not told.differences:
        way.say("kernel", f"{node}'s rules are as that snapshot wants them")
