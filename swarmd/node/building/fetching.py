"""ADD of what lies elsewhere: URLs, with their checksum and time, and git repositories."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import hashlib
import os
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from swarmd.image.build.core.graph import Copy, Origin
from swarmd.image.build.core.select import Chosen
from swarmd.image.build.core.tree import Item, Tree
from swarmd.kit.trees import remove_tree
from swarmd.model.errors import Invalid, Unavailable
from swarmd.node.building.merged import Merged, write_all

_CHUNK = 1 << 20
_SILENCE = 60.0
_MODE = 0o600
_SUMS = ("sha256", "sha384", "sha512")
_SHORTEST = 7


class Limits(msgspec.Struct, frozen=True):
    """Of one place: bytes of a file (a layer may have no more), and seconds until all of it is here."""

    most: int = 64 << 30
    seconds: float = 3600.0


class Fetcher:
    """Fetches into ``scratch``, each place once."""

    def __init__(self, scratch: Path, limits: Limits = Limits()) -> None:  # noqa: B008 - it is frozen
        self._scratch = scratch
        self._limits = limits
        self._count = 0

    async def get(self, origin: Origin, step: Copy) -> tuple[Tree, tuple[Chosen, ...]]:
        """What is there.  Raises Unavailable when it cannot be had, Invalid when it is not what was said."""
        self._count += 1
        target = self._scratch / f"fetched-{self._count}"
        if origin.where == "git":
            async with self._in_time(origin.ref):
                await _clone(origin.ref, target, step.checksum, keep=step.keep_git_dir)
            tree = Merged((target,))
            return tree, (Chosen(path="", name="", item=Item(kind="directory")),)
        over = threading.Event()
        try:
            async with self._in_time(origin.ref):
                most = self._limits.most
                item = await asyncio.to_thread(_download, origin.ref, target, step.checksum, most, over)
        finally:
            over.set()  # the thread of a build that is given up ends as well
        name = _name(origin.ref, step.destination)
        return _OneFile(target, item), (Chosen(path="file", name=name, item=item),)

    @contextlib.asynccontextmanager
    async def _in_time(self, ref: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._limits.seconds):
                yield
        except TimeoutError as error:
            text = f"{ref} cannot be fetched: it takes more than {self._limits.seconds:g} seconds"
            raise Unavailable(text) from error


class _OneFile:
    """A tree of a single file."""

    def __init__(self, path: Path, item: Item) -> None:
        self._path = path
        self._item = item

    def look(self, path: str) -> Item | None:
        return self._item if path else Item(kind="directory")

    def names(self, path: str) -> list[str]:
        return [] if path else ["file"]

    def digest(self, path: str) -> str:
        with self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def write(self, path: str, fd: int) -> None:
        with self._path.open("rb") as file:
            while piece := file.read(_CHUNK):
                write_all(fd, piece)


def _download(url: str, target: Path, checksum: str, most: int, over: threading.Event) -> Item:
    algorithm, _, wanted = checksum.partition(":")
    if checksum and (algorithm not in _SUMS or not wanted):
        raise Invalid(f"invalid checksum {checksum!r}: write {', '.join(_SUMS)} with : and the digits")
    total = hashlib.new(algorithm or "sha256")
    try:
        with urllib.request.urlopen(url, timeout=_SILENCE) as answer, target.open("xb") as file:
            while not over.is_set() and (piece := answer.read1(_CHUNK)):
                if file.tell() + len(piece) > most:
                    raise Invalid(f"{url} has more than {most} bytes")
                total.update(piece)
                file.write(piece)
            told, size = answer.headers.get("Last-Modified", ""), answer.headers.get("Content-Length", "")
            if size.isdecimal() and file.tell() < int(size):
                raise Unavailable(f"{url} cannot be fetched: it ended after {file.tell()} of {size} bytes")
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Unavailable(f"{url} cannot be fetched: {error}") from error
    if wanted and total.hexdigest() != wanted:
        raise Invalid(f"digest mismatch {algorithm}:{total.hexdigest()}: {checksum}")
    return Item(kind="file", mode=_MODE, size=target.stat().st_size, mtime_ns=_time(told))


def _time(told: str) -> int:
    try:
        return int(email.utils.parsedate_to_datetime(told).timestamp()) * 1_000_000_000
    except (TypeError, ValueError):
        return 0


def _name(url: str, destination: str) -> str:
    path = urllib.parse.urlsplit(url).path
    name = urllib.parse.unquote(path.rpartition("/")[2])
    if not name and destination.endswith("/"):
        raise Invalid(f"cannot determine filename from url: {url}")
    return name or "download"


async def _clone(ref: str, target: Path, checksum: str, *, keep: bool) -> None:
    """``URL#branch:directory``; ``checksum``: the beginning of the commit's name, seven digits at least."""
    git = shutil.which("git")
    if git is None:
        raise Unavailable("ADD of a git repository needs the program git on this node")
    url, _, fragment = ref.partition("#")
    branch, _, directory = fragment.partition(":")
    whole = target.with_name(f"{target.name}-git")
    commands = [
        [git, "init", "-q", str(whole)],
        [git, "-C", str(whole), "fetch", "-q", "--depth=1", "--", url, branch or "HEAD"],
        [git, "-C", str(whole), "checkout", "-q", "FETCH_HEAD"],
    ]
    for command in commands:
        await _git(command, ref)
    commit = (whole / ".git" / "HEAD").read_text().strip()
    if checksum and (len(checksum) < _SHORTEST or not commit.startswith(checksum)):
        raise Invalid(f"expected checksum to match {checksum}, got {commit}")
    if not keep:
        await asyncio.to_thread(remove_tree, whole / ".git")
    _directory_in(whole, directory, url).rename(target)


def _directory_in(whole: Path, directory: str, url: str) -> Path:
    """The directory of a repository; raises Invalid for what leads out of it, as any link on the way may."""
    inner = whole
    for part in directory.split("/"):
        inner = inner / part
        if part == ".." or inner.is_symlink() or not inner.is_dir():
            raise Invalid(f"the repository {url} has no directory {directory!r}")
    return inner


async def _git(command: list[str], ref: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        text = said.decode(errors="replace").strip()
        raise Unavailable(f"git repository {ref} cannot be fetched: {text}")
