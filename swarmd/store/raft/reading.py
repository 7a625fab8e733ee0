"""A manager's state as it lies on disk, only looked at: nothing is written, cut off, or mended.

    look     what is in the files, and what is wrong with them
    examine  whether they fit together: what a start would refuse, and what no start would notice
    replay   the state that a manager would go on with

A daemon may be at work on the directory meanwhile: when files look damaged, come or go, all are read again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from swarmd.model.errors import SwarmError
from swarmd.model.replace import replace
from swarmd.security.sealing import PLAIN, Sealer
from swarmd.store.raft.envelope import Envelope, Seal, decode_envelope
from swarmd.store.raft.journal import REGULAR
from swarmd.store.raft.port import StateMachine
from swarmd.store.raft.records import HEADER_SIZE, Corrupt, Entry, Marker, file_header, recover
from swarmd.store.raft.replica import Replica
from swarmd.store.raft.snapshots import Base, Floor, decode_base, open_floor
from swarmd.store.raft.wal import replay as replay_log

_BASE = re.compile(r"base-(\d{12})\.snapshot")
_LOG = re.compile(r"log-(\d{12})\.wal")
_OURS = re.compile(rf"floor|{_BASE.pattern}|{_LOG.pattern}")
_LOOKS = 3
"""What a daemon works on may look damaged once, or incomplete; what is damaged looks so each time."""


class BaseFile(msgspec.Struct, frozen=True):
    """A base that is whole; ``size`` in bytes."""

    path: Path
    size: int
    base: Base


class LogFile(msgspec.Struct, frozen=True):
    """A log that is whole but for a torn tail: ``good_bytes`` of ``size`` are used."""

    path: Path
    epoch: int
    size: int
    good_bytes: int
    records: int
    entries: list[Entry]
    term: int
    vote: str | None
    marker: Marker | None = None


class Problem(msgspec.Struct, frozen=True):
    """``text`` says what is wrong with ``path``, where, and what to do."""

    path: Path
    text: str


class Picture(msgspec.Struct, frozen=True):
    """Everything in ``directory``, by epoch."""

    directory: Path
    floor: Floor
    bases: dict[int, BaseFile]
    logs: dict[int, LogFile]
    problems: tuple[Problem, ...]

    @property
    def newest(self) -> BaseFile | None:
        """The base a manager would begin with."""
        return self.bases[max(self.bases)] if self.bases else None

    @property
    def chain(self) -> list[LogFile]:
        """The logs that go on from the newest base: its own, and those of epochs that a marker began."""
        found: list[LogFile] = []
        epoch = max(self.bases, default=0)
        while epoch in self.logs and (not found or self.logs[epoch].marker is not None):
            found.append(self.logs[epoch])
            epoch += 1
        return found

    @property
    def position(self) -> tuple[int, int, int]:
        """(epoch, last term, last index): of two managers of one swarm, the greater one knows more."""
        if not self.chain:
            return max(self.bases, default=0), 0, 1
        last = self.chain[-1]
        entry = last.entries[-1] if last.entries else Entry(1, 0, b"")
        return last.epoch, entry.term, entry.index


class Replayed(msgspec.Struct, frozen=True):
    """Where a log leads: the base behind its last entry, or behind its seal."""

    base: Base
    sealed: bool


def look(directory: Path, sealer: Sealer = PLAIN) -> Picture:
    """Read what is there.  Raises SwarmError when the directory itself cannot be read."""
    paths = _files(directory)
    picture = _look_once(directory, paths, sealer)
    for _ in range(_LOOKS - 1):
        before, paths = paths, _files(directory)
        if not picture.problems and paths == before:
            break
        picture = _look_once(directory, paths, sealer)
    return picture


def _files(directory: Path) -> list[Path]:
    try:
        found = sorted(directory.iterdir())
    except OSError as error:
        raise SwarmError(f"{directory} cannot be read: {error.strerror}") from error
    return [path for path in found if _OURS.fullmatch(path.name)]


def _look_once(directory: Path, paths: list[Path], sealer: Sealer) -> Picture:
    problems: list[Problem] = []
    bases: dict[int, BaseFile] = {}
    logs: dict[int, LogFile] = {}
    floor = Floor()
    for path in paths:
        try:
            if match := _BASE.fullmatch(path.name):
                bases[int(match[1])] = _base(path, int(match[1]), sealer)
            elif match := _LOG.fullmatch(path.name):
                logs[int(match[1])] = _log(path, int(match[1]), sealer)
            else:
                floor = open_floor(path.read_bytes(), str(path), sealer)
        except FileNotFoundError:
            continue  # the daemon has just replaced it by something newer
        except Corrupt as error:
            problems.append(Problem(path, str(error)))
        except OSError as error:
            problems.append(Problem(path, f"{path} cannot be read: {error.strerror}. Mend the disk."))
    return Picture(directory, floor, bases, logs, tuple(problems))


def _base(path: Path, epoch: int, sealer: Sealer) -> BaseFile:
    data = path.read_bytes()
    base = decode_base(data, str(path), sealer, epoch=epoch)
    if base.epoch != epoch:
        raise Corrupt(f"The snapshot {path} says it is of epoch {base.epoch}: somebody renamed it.")
    return BaseFile(path, len(data), base)


def _log(path: Path, epoch: int, sealer: Sealer) -> LogFile:
    data = path.read_bytes()
    if len(data) <= HEADER_SIZE and (file_header(epoch).startswith(data) or not any(data)):
        return LogFile(path, epoch, len(data), len(data), 0, [], 0, None)
    found = recover(data, epoch, str(path), sealer)
    state = replay_log(found.items, str(path))
    return LogFile(
        path,
        epoch,
        len(data),
        found.good_bytes,
        found.sequence,
        state.entries,
        state.term,
        state.vote,
        state.marker,
    )


def envelopes(log: LogFile) -> Iterator[tuple[Entry, Envelope | None]]:
    """Each entry with what was proposed; None for one of the Raft core itself.

    Raises SwarmError for one that this version does not know.
    """
    for entry in log.entries:
        is_proposal = entry.command[:1] == REGULAR
        yield entry, decode_envelope(entry.command[1:]) if is_proposal else None


def replay(base: Base, logs: Sequence[LogFile], machine: StateMachine) -> Replayed:
    """Go on from ``base`` with all that ``logs`` of consecutive epochs hold, agreed upon or not.

    A log leads as far as its seal, and the next one on from there.
    """
    replica = Replica(machine)
    replica.restore(base)
    epoch, members, is_sealed = base.epoch, base.members, False
    for log in logs:
        is_sealed = False
        for _, envelope in envelopes(log):
            if envelope is not None and isinstance(envelope.body, Seal):
                epoch, members, is_sealed = log.epoch + 1, envelope.body.members, True
                break
            if envelope is not None:
                replica.apply(envelope)
    return Replayed(replica.base(epoch, members), is_sealed)


def examine(
    picture: Picture, new_machine: Callable[[], StateMachine], same: Callable[[bytes, bytes], bool]
) -> list[Problem]:
    """What is wrong with the files one by one, then with how they fit together.

    ``same``: whether two states are equal; their bytes need not be.
    """
    problems = list(picture.problems)
    for log in picture.logs.values():
        problems += _unreadable_entries(log)
    if not picture.problems:
        problems += _missing(picture)
    if not problems:
        problems += _broken_chain(picture, new_machine, same)
    return problems


def _missing(picture: Picture) -> list[Problem]:
    """Files that must be there, given those that are."""
    problems = [
        Problem(
            log.path,
            f"The log {log.path} has no snapshot to begin from: {_base_name(epoch)} is missing. "
            "Put it back, or remove this manager from the swarm and join it again.",
        )
        for epoch, log in picture.logs.items()
        if epoch not in picture.bases and not (log.marker is not None and epoch - 1 in picture.logs)
    ]
    newest, held = picture.position[0], picture.floor.epoch
    if held > newest > 0:
        text = (
            f"This machine has held epoch {held}, and its newest files are of epoch {newest}: newer "
            "files are missing. Remove this manager from the swarm and join it again."
        )
        problems.append(Problem(picture.directory / "floor", text))
    return problems


def _base_name(epoch: int) -> str:
    return f"base-{epoch:012d}.snapshot"


def _unreadable_entries(log: LogFile) -> list[Problem]:
    try:
        for _ in envelopes(log):
            pass
    except SwarmError as error:
        return [Problem(log.path, f"The log {log.path} cannot be understood. {error}")]
    return []


def _broken_chain(
    picture: Picture, new_machine: Callable[[], StateMachine], same: Callable[[bytes, bytes], bool]
) -> list[Problem]:
    """Every manager makes the next base from the base and the log before it: so can we."""
    problems: list[Problem] = []
    for epoch, held in picture.bases.items():
        log, following = picture.logs.get(epoch), picture.logs.get(epoch + 1)
        successor = picture.bases.get(epoch + 1)
        made = replay(held.base, [log], new_machine()) if log is not None else None
        if made is None or not made.sealed:
            continue
        if successor is not None and not _are_equal(made.base, successor.base, same):
            problems.append(_differs(successor.path, held.path))
        marker = following.marker if following is not None else None
        if following is not None and marker is not None and not _begins_there(marker, made.base):
            problems.append(_differs(following.path, held.path))
    return problems


def _differs(path: Path, before: Path) -> Problem:
    text = (
        f"{path} does not follow from {before} and the log behind it: this manager differs from the others. "
        "Remove it from the swarm and join it again."
    )
    return Problem(path, text)


def _begins_there(marker: Marker, base: Base) -> bool:
    there = (base.epoch, base.members, base.applied, base.sessions)
    return (marker.epoch, marker.members, marker.applied, marker.sessions) == there


def _are_equal(one: Base, other: Base, same: Callable[[bytes, bytes], bool]) -> bool:
    return replace(one, state=b"") == replace(other, state=b"") and same(one.state, other.state)
