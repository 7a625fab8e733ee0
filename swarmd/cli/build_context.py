"""The context of a build: which files it has, told as a list first, and sent when the daemon asks for them.

A file is hashed once: what was found is remembered with its inode, size and times, below ``~/.cache``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from swarmd.cli.errors import CliError
from swarmd.image.build.core.ignore import Ignore, read_ignore
from swarmd.rpc.v1 import build_pb2 as pb

_KINDS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
_BATCH = 2000
_CHUNK = 1 << 20
_TOGETHER = 256 << 10
_DIGITS = 64
_SETTLED = 2.0
"""Seconds after which a change can be told by a file's times; a younger one is hashed again."""

Known = dict[str, tuple[str, str]]
"""Path → how the file looks (inode, size, time of content and of the inode in ns), SHA-256 in hexadecimal.

Kept as lines: the two, and the path.
"""


class BuildContext:
    """The directory ``top``, without what the text of a .dockerignore keeps out; None: an empty context.

    ``patterns`` are the lines of that text that say something.  Raises Invalid for one that cannot be read.
    """

    def __init__(self, top: Path | None, ignore: bytes, now: float, memory: Path | None = None) -> None:
        self._top = top
        self.patterns = read_ignore(ignore)
        self._ignore = Ignore(self.patterns)
        self._now = now
        self._memory = memory
        self._paths: list[str] = []
        self.size = 0

    def entries(self) -> Iterator[pb.ContextEntries]:
        """The list, in parts.  Raises CliError for what cannot be read."""
        if self._top is None:
            yield pb.ContextEntries(last=True)
            return
        before, known = self._remembered(), Known()
        part = pb.ContextEntries()
        for path, entry in self._walk():
            part.entries.append(self._told(path, entry, before, known))
            if len(part.entries) >= _BATCH:
                yield part
                part = pb.ContextEntries()
        part.last = True
        yield part
        if known != before:
            self._remember(known)

    def files(self, numbers: Sequence[int]) -> Iterator[pb.FilesData]:
        """The contents of those files, in that order."""
        together, size = pb.FilesData(), 0
        for number in numbers:
            for data, last in self._pieces(number):
                together.files.add(number=number, data=data, last=last)
                size += len(data)
                if size >= _TOGETHER:
                    yield together
                    self.size += size
                    together, size = pb.FilesData(), 0
        if together.files:
            self.size += size
            yield together

    def _pieces(self, number: int) -> Iterator[tuple[bytes, bool]]:
        try:
            with open(self._paths[number], "rb") as file:
                data = file.read(_CHUNK)
                while True:
                    following = file.read(_CHUNK)
                    yield data, not following
                    if not following:
                        return
                    data = following
        except OSError as error:
            raise CliError(f"open {self._paths[number]}: {error.strerror}") from error

    def _walk(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        waiting = [("", str(self._top))]
        while waiting:
            inside, directory = waiting.pop()
            for entry in sorted(_scan(directory), key=lambda each: each.name):
                path = f"{inside}{entry.name}"
                is_directory = entry.is_dir(follow_symlinks=False)
                is_out = bool(self._ignore) and self._ignore.ignores(path)
                if is_directory and (not is_out or self._ignore.may_hold(path)):
                    waiting.append((f"{path}/", entry.path))
                if not is_out:
                    yield path, entry

    def _told(self, path: str, entry: os.DirEntry[str], before: Known, known: Known) -> pb.ContextEntry:
        try:
            seen = entry.stat(follow_symlinks=False)
            if stat.S_IFMT(seen.st_mode) not in _KINDS:
                raise CliError(f"cannot send {path} of the build context: it is no file, directory or link")
            told = pb.ContextEntry(
                path=os.fsencode(path), mode=seen.st_mode, size=seen.st_size, mtime_ns=seen.st_mtime_ns
            )
            if entry.is_symlink():
                told.link = os.fsencode(os.readlink(entry.path))
            elif stat.S_ISREG(seen.st_mode):
                told.digest = self._digest(path, entry.path, seen, before, known)
        except OSError as error:
            raise CliError(f"open {entry.path}: {error.strerror}") from error
        self._paths.append(entry.path)
        return told

    def _digest(self, path: str, place: str, seen: os.stat_result, before: Known, known: Known) -> bytes:
        looks = f"{seen.st_ino} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}"
        before_it, digest = before.get(path, ("", ""))
        if looks != before_it:
            digest = _hashed(place)
        if max(seen.st_mtime, seen.st_ctime) < self._now - _SETTLED and "\n" not in path:
            known[path] = (looks, digest)
        return bytes.fromhex(digest)

    def _remembered(self) -> Known:
        if self._memory is None:
            return {}
        try:
            lines = os.fsdecode(self._memory.read_bytes()).split("\n")
        except OSError:
            return {}
        return dict(found for line in lines if (found := _known(line)) is not None)

    def _remember(self, known: Known) -> None:
        if self._memory is None:
            return
        try:
            self._memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self._memory.with_suffix(f".{os.getpid()}")
            lines = [f"{looks} {digest} {path}\n" for path, (looks, digest) in known.items()]
            new.write_bytes(os.fsencode("".join(lines)))
            new.replace(self._memory)
        except OSError:
            return  # it is hashed again the next time


def memory_of(top: Path) -> Path:
    """Where the digests of a directory's files are remembered: by what it is, wherever it is."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    seen = top.stat()
    return Path(home, "swarmctl", "contexts", f"{seen.st_dev:x}-{seen.st_ino:x}")


def _hashed(place: str) -> str:
    import hashlib  # with OpenSSL behind it; what is remembered needs none

    with open(place, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known(line: str) -> tuple[str, tuple[str, str]] | None:
    *looks, digest, path = (*line.split(" ", 5), "", "")[:6]
    if len(digest) != _DIGITS or digest.strip("0123456789abcdef") or not path:
        return None
    return path, (" ".join(looks), digest)


def _scan(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError as error:
        raise CliError(f"open {directory}: {error.strerror}") from error
