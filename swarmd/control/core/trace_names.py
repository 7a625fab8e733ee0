"""Which addresses a name leads to for a task, as the DNS at 127.0.0.11 of its container answers it.

a name in one of its networks, in their order ──► NAME.NETWORK ──► somebody outside
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from swarmd.control.core.trace_rows import Rows, Single, listed
from swarmd.model.objects import Network, Service, Task


class Answer(msgspec.Struct, frozen=True):
    """``text``: what the name is; empty addresses: it is known and leads nowhere now."""

    text: str
    addresses: tuple[str, ...] = ()
    is_known: bool = True


def resolve(rows: Rows, source: Task, name: str) -> Answer:
    """What ``source`` is answered for ``name``."""
    own = [rows.networks[one.network_id] for one in source.networks if one.network_id in rows.networks]
    wanted = name.lower().rstrip(".")
    for network in own:
        found = _in_network(rows, network, wanted)
        if found is not None:
            return found
    for network in own:
        if wanted.endswith(f".{network.name.lower()}"):
            found = _in_network(rows, network, wanted.removesuffix(f".{network.name.lower()}"))
            if found is not None:
                return found
    return _unknown(rows, own, wanted, name)


def aliases(service: Service, network_id: str) -> tuple[str, ...]:
    """More names of a service in a network."""
    networks = service.spec.template.networks
    return tuple(alias for one in networks if one.target == network_id for alias in one.aliases)


def is_in(service: Service, network_id: str) -> bool:
    """Whether the service asked for that network, or has an address there."""
    return any(one.target == network_id for one in service.spec.template.networks) or any(
        one.network_id == network_id for one in service.vips
    )


def _in_network(rows: Rows, network: Network, wanted: str) -> Answer | None:
    for service in sorted(rows.services.values(), key=lambda one: one.spec.name):
        if is_in(service, network.id):
            names = (service.spec.name.lower(), *(one.lower() for one in aliases(service, network.id)))
            found = _of_service(rows, network, service, names, wanted)
            if found is not None:
                return found
    for task in rows.tasks:
        names = (f"{task.name}.{task.id}",)
        if isinstance(task, Single):
            names = (task.name, *task.aliases.get(network.id, ()))
        if wanted in (*(name.lower() for name in names), task.id, task.id[:12]):
            addresses = _addresses((task,), network)
            if addresses:
                what = "container" if isinstance(task, Single) else "task"
                return Answer(f"{what} {task.name} in network {network.name}", addresses)
    return None


def _of_service(
    rows: Rows, network: Network, service: Service, names: tuple[str, ...], wanted: str
) -> Answer | None:
    called = "" if wanted == names[0] else "an alias of "
    up = rows.of_service(service.id)
    if wanted in names:
        virtual = [a for vip in service.vips if vip.network_id == network.id for a in vip.addresses]
        if virtual:
            text = f"{called}service {service.spec.name} in network {network.name}: its virtual address"
            return Answer(f"{text} {listed(virtual)}", tuple(virtual))
        return _of_tasks(f"{called}service {service.spec.name}", up, network, "which has no virtual address")
    if wanted.startswith("tasks.") and wanted.removeprefix("tasks.") in names:
        return _of_tasks(f"the tasks of service {service.spec.name}", up, network, "")
    slot, dot, rest = wanted.partition(".")
    if dot and slot.isdecimal() and rest == names[0]:
        found = [task for task in rows.of_service(service.id, up=False) if task.slot == int(slot)]
        ready = [task for task in found if rows.is_up(task)]
        return _of_tasks(f"slot {slot} of service {service.spec.name}", ready or found, network, "")
    return None


def _of_tasks(what: str, tasks: list[Task], network: Network, why: str) -> Answer:
    addresses = _addresses(tasks, network)
    shown = f"its tasks there that are up: {listed(addresses)}" if addresses else "no task of it is up there"
    return Answer(f"{what} in network {network.name}{', ' + why if why else ''}: {shown}", addresses)


def _addresses(tasks: Iterable[Task], network: Network) -> tuple[str, ...]:
    return tuple(
        a for t in tasks for one in t.networks if one.network_id == network.id for a in one.addresses
    )


def _unknown(rows: Rows, own: list[Network], wanted: str, name: str) -> Answer:
    elsewhere = [
        rows.network_name(network_id)
        for network_id in sorted(rows.networks, key=rows.network_name)
        if network_id not in {one.id for one in own}
        and _in_network(rows, rows.networks[network_id], wanted) is not None
    ]
    mine = f"the source is in {listed([one.name for one in own])}" if own else "the source is in no network"
    if elsewhere:
        return Answer(f"{name} is a name in {listed(elsewhere)} only; {mine}", is_known=False)
    of_none = [one for one in rows.services.values() if one.spec.name.lower() == wanted]
    if of_none:
        return Answer(f"service {name} is in no network that has names; {mine}", is_known=False)
    return Answer("", is_known=False)
