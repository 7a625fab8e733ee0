"""The part of the Control service that tells what happens, from this manager's own ring of events."""

from __future__ import annotations

from collections.abc import AsyncIterator

from swarmd.control.core.events import KINDS, Happening, describe, transactions
from swarmd.model.errors import Invalid, OutOfSequence
from swarmd.rpc.v1 import control_pb2 as pb
from swarmd.store.store import Store
from swarmd.store.watch import Overrun

GONE = (
    "this manager does not remember what happened after transaction {}: list what you need, "
    "then watch from now on"
)


async def watch(store: Store, request: pb.WatchRequest) -> AsyncIterator[pb.WatchResponse]:
    """A response for each transaction with something of ``request.kinds``, in order, without end.

    Raises Invalid for an unknown kind, OutOfSequence when the ring does not reach back so far, or when
    whoever reads is slower than what happens.
    """
    unknown = sorted(set(request.kinds) - KINDS)
    if unknown:
        raise Invalid(f'there is no kind "{unknown[0]}": use {", ".join(sorted(KINDS))}')
    kinds = frozenset(request.kinds) or KINDS
    if request.HasField("after_index"):
        seen = request.after_index
    else:
        seen = store.index_before(request.since) if request.since else store.index
    watching = store.watch(after=seen)
    yield pb.WatchResponse(index=seen)
    while True:
        try:
            events = await watching.next()
        except Overrun:
            raise OutOfSequence(GONE.format(seen)) from None
        for index, group in transactions(events):
            told = [one for event in group if (one := describe(event)) is not None and one.kind in kinds]
            seen = index
            if told:
                yield pb.WatchResponse(index=index, events=[_event(one) for one in told])


def _event(one: Happening) -> pb.WatchEvent:
    return pb.WatchEvent(
        at=one.at, kind=one.kind, action=one.action, id=one.id, name=one.name, attributes=one.attributes
    )
