"""Decide what a single container may join and leave, and how it is known in its networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from swarmd.model.errors import Invalid, Refused
from swarmd.model.network import PREDEFINED, ContainerNetwork, NetworkAttachment
from swarmd.model.replace import replace
from swarmd.node.network.port import Attachment
from swarmd.node.solo.core.record import Joined, Record


def asked(wanted: Iterable[NetworkAttachment]) -> tuple[Joined, ...]:
    """Networks as a user names them."""
    return tuple(Joined(name=one.target, aliases=one.aliases, asked=one.addresses) for one in wanted)


def wanted(record: Record) -> list[NetworkAttachment]:
    """What a manager is asked for: the addresses it has, else those that its user wants."""
    return [
        NetworkAttachment(
            target=one.id or one.name, aliases=one.aliases, addresses=one.addresses or one.asked
        )
        for one in record.networks
    ]


def answered(
    record: Record, networks: Sequence[ContainerNetwork], names: Sequence[str]
) -> tuple[Joined, ...]:
    """The networks of the record as a manager answered, in the same order."""
    return tuple(
        replace(one, id=got.network_id, name=name, addresses=got.addresses)
        for one, got, name in zip(record.networks, networks, names, strict=True)
    )


def told(record: Record) -> list[ContainerNetwork]:
    """What it has, as the managers know it."""
    return [
        ContainerNetwork(network_id=one.id, addresses=one.addresses, aliases=one.aliases)
        for one in record.networks
        if one.is_settled
    ]


def place(record: Record, pid: int) -> Attachment:
    """Where it is to be on this node's network."""
    hostname = record.spec.hostname or record.id[:12]
    return Attachment(
        task_id=record.id,
        pid=pid,
        address=record.address,
        networks=tuple((one.id, one.addresses) for one in record.networks if one.is_settled),
        names=tuple(dict.fromkeys((record.name, hostname, record.id[:12]))) if record.networks else (),
        servers=record.spec.dns,
    )


def addresses(record: Record) -> tuple[str, ...]:
    """Those in networks of the swarm."""
    return tuple(address for one in record.networks for address in one.addresses)


def joining(record: Record, one: Joined) -> Record:
    """With a further network.  Raises Invalid, Refused in Docker's words."""
    if one.name in PREDEFINED:
        raise Refused(
            f"cannot connect container to {one.name} network - container must be created in {one.name} "
            "network mode"
            if one.name != "bridge"
            else f"container {record.name} has its address of its node, which is what bridge is, already"
        )
    if record.network == "host":
        raise Refused(
            "container sharing network namespace with another container or host cannot be connected to any "
            "other network"
        )
    if record.network == "none":
        raise Refused(
            "container cannot be connected to multiple networks with one of the networks in private (none) "
            "mode"
        )
    if find(record, one.name) is not None:
        raise Refused(f"endpoint with name {record.name} already exists in network {one.name}")
    return replace(record, networks=(*record.networks, one))


def leaving(record: Record, ref: str) -> Record:
    """Without a network.  Raises Invalid, Refused in Docker's words."""
    if ref in PREDEFINED:
        raise Refused(
            f"container cannot be disconnected from {ref} network"
            + (" - container must be created in host network mode" if ref == "host" else "")
        )
    found = find(record, ref)
    if found is None:
        raise Invalid(f"container {record.id} is not connected to network {ref}")
    return replace(record, networks=tuple(one for one in record.networks if one is not found))


def find(record: Record, ref: str) -> Joined | None:
    """The network it is in by that name or id, or by a beginning of the id."""
    exact = [one for one in record.networks if ref in (one.name, one.id)]
    begun = [one for one in record.networks if ref and one.id.startswith(ref)]
    return next(iter(exact or begun), None)
