"""How an epoch begins that no seal leads to: a new swarm, or a lost one begun anew by a survivor."""

from __future__ import annotations

from collections.abc import Mapping

from swarmd.model.errors import Invalid, Refused
from swarmd.store.raft.envelope import Seal, decode_envelope
from swarmd.store.raft.epochs import check_members
from swarmd.store.raft.held import Held
from swarmd.store.raft.replica import Replica

_FORCED_EPOCHS = 1000


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


async def begin_alone(held: Held, replica: Replica, node_id: str, address: str) -> None:
    """An epoch of this machine alone, with all its log holds, whether it was agreed upon or not."""
    current = held.current
    for data in current.engine.all_commands() if current is not None else []:
        envelope = decode_envelope(data)
        if isinstance(envelope.body, Seal):
            break
        replica.apply(envelope)
    # Far enough ahead that those who come back late learn that they are not members any more.
    await held.adopt(replica.base(held.newest + _FORCED_EPOCHS, {node_id: address}))
    await held.forget_old()
