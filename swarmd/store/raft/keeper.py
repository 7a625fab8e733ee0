"""What a member does a few times a second besides deciding: tell its status, forget what is finished,
fetch a base it is missing, leave for good, and hand its own base to whoever lacks it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator

from swarmd.kit.supervise import Nursery
from swarmd.model.errors import Refused, SwarmError, Unavailable
from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.epochs import View, apart, is_finished, lost_its_disk, may_install
from swarmd.store.raft.member import Member
from swarmd.store.raft.snapshots import Base
from swarmd.store.raft.space import Space
from swarmd.store.raft.transfer import Download, chunks, verified

_log = logging.getLogger(__name__)

_CLOCKS_SECONDS = 3600.0


class Keeper:
    """Looks after what ``member`` holds.  ``turn`` is called between the pump's turns."""

    def __init__(self, member: Member, self_id: str, nursery: Nursery, space: Space) -> None:
        self._member = member
        self._space = space
        self.self_id = self_id
        self._nursery = nursery
        self._due = 0.0
        self._offered = 0
        self._fetching = False
        self._download = Download()
        self._avoid: str | None = None
        self._refusal: Refused | None = None
        self.left = False
        self.apart: frozenset[str] = frozenset()
        """Managers, maybe this one, whose clock is not that of most of those who can be reached."""

    def views(self) -> dict[str, View]:
        """Who can be reached and what they said, this machine included."""
        member = self._member
        held = member.held
        now = member.clock.monotonic()
        own = View(
            held.newest,
            held.current is not None,
            held.members,
            member.peers.own_address,
            now,
            base=held.base_epoch,
            applied=held.position,
            short=member.short,
        )
        return {**member.peers.reachable(now), self.self_id: own}

    def warnings(self) -> tuple[str, ...]:
        """Sentences about what this manager cannot do now."""
        problems = (self._member.scribe.problem, self._space.problem, self._wrong_clock())
        return tuple(problem for problem in problems if problem is not None)

    def _wrong_clock(self) -> str | None:
        if self.self_id not in self.apart:
            return None
        return (
            "The clock of this manager is more than an hour from that of the other managers: set it. "
            "Certificates are not valid at the time it shows, so it does not lead while another can."
        )

    async def turn(self) -> None:
        """Do what is due.  Raises Refused when this machine lost its disk, DiskFailed."""
        if self._refusal is not None:
            raise self._refusal
        member = self._member
        now = member.clock.monotonic()
        member.scribe.turn()
        self._fetch_if_behind(now)
        if now < self._due and member.held.base_epoch == self._offered:
            return
        # Those who lack a base that was written just now should not wait to learn of it.
        self._offered = member.held.base_epoch
        self._due = now + member.timing.status
        member.tell_status()
        held, views = member.held, self.views()
        self.apart = apart({node_id: view.ahead for node_id, view in views.items()}, _CLOCKS_SECONDS)
        with contextlib.suppress(OSError):
            self._space.saw(*await held.free())
            member.short = self._space.problem is not None
        old_members = {node for members in held.old.values() for node in members}
        if held.old and is_finished(held.newest, held.members, old_members, views):
            if held.has_left:
                await held.wipe()
                self.left = True
            elif held.base_epoch == held.newest and not member.scribe.writing:
                # Not before: the state follows from the logs until the base is written, and a base that is
                # being written needs the key that sealed it.
                await held.forget_old()

    def _fetch_if_behind(self, now: float) -> None:
        held = self._member.held
        if self._fetching or self.left:
            return
        # Whoever follows a log waits for what it leads to; a learner whose log nobody has any more does not.
        follows = held.current is not None or (held.copy is not None and not self._member.learning.gone)
        source = self._member.peers.source(held.newest, eager=not follows, now=now, avoid=self._avoid)
        if source is not None:
            self._fetching = True
            self._nursery.start(f"fetch base from {source}", self._fetch(source))

    async def _fetch(self, peer: str) -> None:
        """Get the newest base of ``peer`` and offer it to the pump; failures are tried again later."""
        member = self._member
        held = member.held
        try:
            request = self._download.request(held.newest + 1)
            async for chunk in member.transport.fetch_base(peer, request):
                self._download.add(peer, chunk)
            whole = self._download.take()
            if whole is None:
                raise Unavailable("it has nothing newer any more")
            data, digest = whole
            self._offer(await held.run_base(lambda: verified(peer, data, digest)))
            self._avoid = None
        except (SwarmError, OSError) as error:
            # What arrived is kept: another one goes on from there.
            self._avoid = peer
            _log.warning("fetching the state from manager %s failed: %s", peer, error)
            await member.clock.sleep(member.timing.status)
        finally:
            self._fetching = False
            member.wake()

    def _offer(self, base: Base) -> None:
        held = self._member.held
        named, newest, floor = self.self_id in base.members, held.newest, held.floor.epoch
        if lost_its_disk(member=named, newest=newest, floor=floor):
            self._refusal = Refused(
                f"The swarm knows this node ({self.self_id}) as a manager, but its disk holds nothing of "
                "that. A manager that lost its disk must be removed and join again under a new id."
            )
        elif may_install(base.epoch, member=named, newest=newest, floor=floor):
            self._member.offer(base)

    async def serve(self, request: pb.SnapshotRequest) -> AsyncIterator[pb.SnapshotChunk]:
        """The newest base on disk in pieces; nothing when it is older than asked for."""
        held = self._member.held
        epoch = held.base_epoch
        if self.left or not epoch or epoch < request.min_epoch:
            return
        data, digest = await held.run_base(lambda: _with_digest(held.store.for_peers(epoch)))
        for chunk in chunks(epoch, data, digest, request):
            yield chunk


def _with_digest(data: bytes) -> tuple[bytes, str]:
    return data, hashlib.sha256(data).hexdigest()
