"""How an epoch begins that no seal leads to: a new swarm, or a lost one begun anew by a survivor."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from swarmd.model.errors import Invalid, Refused
from swarmd.model.replace import replace
from swarmd.store.raft.envelope import Seal, decode_envelope
from swarmd.store.raft.epochs import check_members
from swarmd.store.raft.held import Held
from swarmd.store.raft.replica import Replica
from swarmd.store.raft.snapshots import Base

FORCED_EPOCHS = 1000
"""So far ahead is an epoch that no seal leads to: those who come back late learn that they are out."""


AHEAD = 1_000_000_000
"""So many changes ahead does the count go on there: who saw changes that are lost now (an agent its mesh, a
user a version) shall never take others for them."""


async def found(held: Held, replica: Replica, node_id: str, members: Mapping[str, str]) -> None:
    """The first epoch of a new swarm of ``members``, from the state as it is.  Raises Invalid, Refused."""
    check_members(members)
    if node_id not in members:
        raise Invalid(f"The first managers must include this node, {node_id}.")
    if held.newest or held.floor.epoch:
        raise Refused("This node is, or was, part of a swarm already. Leave it and clear its state first.")
    base = replica.base(1, members)
    await held.adopt(base)
    replica.restore(base)


async def begin_alone(
    held: Held, replica: Replica, node_id: str, address: str, mend: Callable[[Base, int], bytes]
) -> Base:
    """An epoch of this machine alone, with all its log holds, whether it was agreed upon or not.

    ``mend`` answers the state to begin with, given the base found and the index it begins at; blocking,
    called in the disk thread.
    A crash leaves the old epoch or the new one whole.
    """
    commands = held.current.engine.all_commands() if held.current is not None else []
    if held.copy is not None:
        commands = [command for _, command in held.copy.take_durable()]
    for data in commands:
        envelope = decode_envelope(data)
        if isinstance(envelope.body, Seal):
            break
        replica.apply(envelope)
    found = replica.base(held.newest + FORCED_EPOCHS, {node_id: address})
    index = found.applied + AHEAD
    base = replace(found, applied=index, state=await held.run(lambda: mend(found, index)))
    await held.adopt(base)
    await held.forget_old()
    return base
