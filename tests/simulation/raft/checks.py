"""What must hold in every run, looked at after every event.  A violation ends the run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any

from swarmd.rpc.v1 import peer_pb2 as pb
from swarmd.store.raft.engine import Engine
from swarmd.store.raft.node import RaftNode
from swarmd.store.raft.port import StateView
from swarmd.store.raft.records import Marker, recover
from swarmd.store.raft.snapshots import Base, decode_base, encode_base
from swarmd.store.raft.wal import replay
from tests.simulation.raft.disk import SimDisk


class Violation(Exception):
    """A promise was broken."""


class Checker:
    """What all machines did so far, taken together."""

    def __init__(self) -> None:
        self.history: list[str] = []
        self.digests: list[bytes] = [bytes(16)]
        self.place: dict[str, int] = {}
        self.acknowledged: dict[str, int] = {}
        self.newest_acknowledged = 0
        self.denied: set[str] = set()
        self.leaders: dict[tuple[int, int], str] = {}
        self.committed: dict[int, list[tuple[int, bytes]]] = {}
        self.members_of: dict[int, dict[str, str]] = {}
        self.beginnings: dict[int, tuple[object, ...]] = {}
        self.bases: dict[int, bytes] = {}
        self.asked: Counter[frozenset[str]] = Counter()
        self._believed: set[tuple[str, int, int]] = set()
        self._followed: dict[tuple[str, int], int] = {}
        self.newest_read = 0
        self.reads = 0
        self.on_violation: Callable[[Violation], None] = lambda _: None

    def broken(self, what: str) -> Violation:
        """To be raised; told at once too, since what is tested may swallow it."""
        violation = Violation(what)
        self.on_violation(violation)
        return violation

    # -- the state machine ---------------------------------------------------------------------------

    def applied(self, name: str, index: int, command: str) -> None:
        """``name`` applied ``command`` as the ``index``-th."""
        if index <= len(self.history):
            if self.history[index - 1] != command:
                raise self.broken(
                    f"state machine safety: {name} applied {command!r} as number {index}, "
                    f"another machine {self.history[index - 1]!r}"
                )
            return
        if index != len(self.history) + 1:
            raise self.broken(f"{name} applied number {index}, but only {len(self.history)} are known")
        if command in self.place:
            raise self.broken(f"{command!r} was applied twice: as {self.place[command]} and {index}")
        if command in self.denied:
            raise self.broken(f"{command!r} was applied although its client was told that it was not")
        self.history.append(command)
        self.place[command] = index
        self.digests.append(hashlib.blake2b(self.digests[-1] + command.encode(), digest_size=16).digest())

    def restored(self, name: str, index: int, digest: bytes) -> None:
        """``name`` took over a state of ``index`` commands."""
        if index >= len(self.digests) or self.digests[index] != digest:
            raise self.broken(f"{name} restored a state of {index} commands that never was")

    # -- what clients heard --------------------------------------------------------------------------

    def wrote(self, command: str, index: object) -> None:
        """A client was told that its write is number ``index``."""
        if not isinstance(index, int) or self.place.get(command) != index:
            raise self.broken(f"{command!r} was acknowledged as {index}, it is {self.place.get(command)}")
        self.acknowledged[command] = index
        self.newest_acknowledged = max(self.newest_acknowledged, index)

    def deny(self, command: str) -> None:
        """A client was told that its write did not happen and will not."""
        if command in self.place:
            raise self.broken(f"the client of {command!r} was told it was not applied, but it was")
        self.denied.add(command)

    def read(self, name: str, known: int, seen: int) -> None:
        """A read through ``name`` saw ``seen`` commands, when ``known`` were known before it."""
        self.reads += 1
        self.newest_read = max(self.newest_read, seen)
        if seen < known:
            raise self.broken(f"stale read: {name} showed {seen} commands, {known} were known before")

    @property
    def newest_known(self) -> int:
        """How many commands somebody outside has seen the effect of."""
        return max(self.newest_acknowledged, self.newest_read)

    # -- Raft ----------------------------------------------------------------------------------------

    def spoke(self, name: str, node: RaftNode, frame: pb.PeerFrame) -> None:
        """``name`` sends ``frame``: whoever appends in a term is its only leader and has everything."""
        if frame.WhichOneof("body") != "raft":
            return
        for message in frame.raft.messages:
            if message.type != pb.RaftMessage.TYPE_APPEND_ENTRIES:
                continue
            key = (frame.raft.epoch, message.term)
            known = self.leaders.setdefault(key, "")
            if known and known != name:
                raise self.broken(f"two leaders in epoch {key[0]}, term {key[1]}: {known} and {name}")
            if not known:
                self.leaders[key] = name
                self._check_complete(name, node, *key)

    def claims(self, name: str, disk: SimDisk, status: pb.PeerStatus) -> None:
        """``name`` says what it holds: all of that is on its disk for good."""
        epoch, base = status.newest_epoch, status.base_epoch
        if not status.started:
            self._check_copy(name, disk, epoch, status.applied_index)
        if (name, epoch, base) in self._believed:
            return
        based = disk.durable(f"base-{base:012d}.snapshot")
        if base and (based is None or decode_base(based, "base").epoch != base):
            raise self.broken(f"{name} says that it has the base of epoch {base}, which may vanish")
        if epoch > base and _marker_of(disk, epoch) is None:
            raise self.broken(f"{name} says that it began epoch {epoch}, of which it may know nothing later")
        self._believed.add((name, epoch, base))

    def forget(self, name: str) -> None:
        """The disk of ``name`` was replaced, or it lost its power: look again."""
        self._believed = {claim for claim in self._believed if claim[0] != name}
        self._followed = {key: index for key, index in self._followed.items() if key[0] != name}

    def _check_copy(self, name: str, disk: SimDisk, epoch: int, index: int) -> None:
        """``name`` follows ``epoch`` up to entry ``index``: it has that for good, and nothing else."""
        if index <= max(1, self._followed.get((name, epoch), 1)):
            return
        data = disk.durable(f"log-{epoch:012d}.wal") or b""
        entries = replay(recover(data, epoch, "copy").items, "copy").entries if data else []
        if len(entries) + 1 < index:
            raise self.broken(f"{name} says that it follows epoch {epoch} to entry {index}, which may vanish")
        agreed = self.committed.get(epoch, [])
        for entry in entries:
            if entry.index - 2 >= len(agreed) or agreed[entry.index - 2] != (entry.term, entry.command):
                raise self.broken(
                    f"{name} follows epoch {epoch} with an entry {entry.index} nobody agreed upon"
                )
        self._followed[name, epoch] = index

    def _check_complete(self, name: str, node: RaftNode, epoch: int, term: int) -> None:
        live = node._held.live[epoch]
        for position, (entry_term, command) in enumerate(self.committed.get(epoch, []), 2):
            if entry_term >= term:
                continue
            if position > live.engine.position.last or _entry(live.engine, position) != (entry_term, command):
                raise self.broken(
                    f"leader completeness: {name} leads epoch {epoch} in term {term} without the committed "
                    f"entry {position} of term {entry_term}"
                )

    def progressed(self, name: str, epoch: int, engine: Engine, since: int) -> None:
        """``name`` holds the entries behind ``since`` of ``epoch`` for agreed upon."""
        known = self.committed.setdefault(epoch, [])
        for position in range(since + 1, engine.applied + 1):
            entry = _entry(engine, position)
            if position - 2 < len(known):
                if known[position - 2] != entry:
                    raise self.broken(
                        f"log matching: {name} committed another entry {position} of epoch {epoch}: "
                        f"term {entry[0]}, elsewhere {known[position - 2][0]}"
                    )
            else:
                known.append(entry)

    def began(self, name: str, epoch: int, members: dict[str, str]) -> None:
        """``name`` starts ``epoch``: everybody must start it with the same members."""
        before = self.members_of.get(epoch - 1)
        if epoch not in self.members_of and before is not None:
            self._check_asked(epoch, before, members)
        known = self.members_of.setdefault(epoch, members)
        if known != members:
            raise self.broken(f"{name} begins epoch {epoch} with {sorted(members)}, others {sorted(known)}")

    def _check_asked(self, epoch: int, before: dict[str, str], members: dict[str, str]) -> None:
        """Members change because somebody asked for these, and may still be waiting for them."""
        if members.keys() != before.keys() and not self.asked[frozenset(members)]:
            raise self.broken(
                f"epoch {epoch} changes the members from {sorted(before)} to "
                f"{sorted(members)}, which nobody asks for any more"
            )

    def based(self, name: str, start: Base | Marker) -> None:
        """``name`` writes the base of an epoch, or the marker for it: it is the same for everybody."""
        here = (start.applied, sorted(start.members.items()), start.sessions)
        known = self.beginnings.setdefault(start.epoch, here)
        if known != here:
            raise self.broken(f"{name} begins epoch {start.epoch} with {here}, others with {known}")
        if isinstance(start, Base):
            digest = hashlib.sha256(encode_base(start)).digest()
            if self.bases.setdefault(start.epoch, digest) != digest:
                raise self.broken(f"the base of epoch {start.epoch} at {name} is not the others'")

    def members(self) -> dict[str, str]:
        """Those of the newest epoch."""
        return self.members_of[max(self.members_of)] if self.members_of else {}


def _marker_of(disk: SimDisk, epoch: int) -> Marker | None:
    data = disk.durable(f"log-{epoch:012d}.wal")
    return None if data is None else replay(recover(data, epoch, "log").items, "log").marker


def _entry(engine: Engine, position: int) -> tuple[int, bytes]:
    command, _, term = engine.journal[position - 1]
    return term, command


class Register:
    """The state machine of one machine: a count, and a digest of all that was applied."""

    _PADDING = 700

    def __init__(self, checker: Checker, name: str, note: Any) -> None:
        self._checker = checker
        self._name = name
        self._note = note
        self.index = 0
        self.digest = bytes(16)

    def apply(self, index: int, command: bytes) -> object:
        if index != self.index + 1:
            raise self._checker.broken(f"{self._name} applied number {index} after {self.index}")
        self._note("apply", self._name, index, command)
        self._checker.applied(self._name, index, command.decode())
        self.index = index
        self.digest = hashlib.blake2b(self.digest + command, digest_size=16).digest()
        return index

    def view(self) -> StateView:
        state = self.index.to_bytes(8, "big") + self.digest + bytes(self._PADDING)
        return lambda: [state]

    def restore(self, index: int, data: bytes) -> None:
        self.index, self.digest = int.from_bytes(data[:8], "big"), data[8:24]
        if self.index != index:
            raise self._checker.broken(f"{self._name} restored {self.index} commands as {index}")
        self._checker.restored(self._name, index, self.digest)
