"""What a build is made from: a directory, a tar or Dockerfile on standard input, a URL, a git repository.

Whatever it is, it becomes a directory here (or none), and the bytes of a Dockerfile.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from swarmd.cli.errors import CliError

_WEB = ("https://", "http://")
_GIT = ("git://", "git@", "ssh://", "github.com/")
_SECONDS = 60.0


class Source(NamedTuple):
    """``top``: the context, None for none; ``dockerfile``, its ``name`` and what is to be ignored."""

    top: Path | None
    dockerfile: bytes
    name: str
    ignore: bytes


@contextlib.contextmanager
def source(context: str, dockerfile: str | None) -> Iterator[Source]:
    """What ``CONTEXT`` and ``-f`` mean, as long as it is needed.  Raises CliError."""
    if context == "-" and dockerfile == "-":
        raise CliError("invalid argument: can't use stdin for both build context and dockerfile")
    with contextlib.ExitStack() as stack:
        top: Path | None
        if context == "-":
            top, read = _from_stdin(sys.stdin.buffer.read(), stack)
        elif _is_git(context):
            top, read = _cloned(context, stack), b""
        elif context.startswith(_WEB):
            top, read = _from_stdin(_fetched(context), stack)
        else:
            top, read = _directory(context), b""
        inside = context == "-" or _is_git(context) or context.startswith(_WEB)
        if top is None:
            yield Source(None, read, "Dockerfile", b"")
            return
        if dockerfile == "-":
            yield Source(top, sys.stdin.buffer.read(), "Dockerfile", _ignored(top, None))
            return
        path = _dockerfile(top, dockerfile, inside=inside)
        yield Source(top, _read(path), path.name, _ignored(top, path))


def _is_git(context: str) -> bool:
    where = context.partition("#")[0]
    return where.startswith(_GIT) or (where.startswith(_WEB) and where.endswith(".git"))


def _directory(context: str) -> Path:
    path = Path(context)
    if not path.is_dir():
        raise CliError(f"unable to prepare context: path {context!r} not found")
    return path


def _dockerfile(top: Path, name: str | None, *, inside: bool) -> Path:
    if name is None:
        return top / "Dockerfile"
    return top / name if inside else Path(name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CliError(f"failed to read dockerfile: open {path.name}: no such file or directory") from None
    except OSError as error:
        raise CliError(f"failed to read dockerfile: open {path}: {error.strerror}") from error


def _ignored(top: Path, dockerfile: Path | None) -> bytes:
    """The Dockerfile's own, else that of the context."""
    own = [] if dockerfile is None else [dockerfile.with_name(f"{dockerfile.name}.dockerignore")]
    for path in (*own, top / ".dockerignore"):
        with contextlib.suppress(FileNotFoundError):
            return path.read_bytes()
    return b""


def _from_stdin(data: bytes, stack: contextlib.ExitStack) -> tuple[Path | None, bytes]:
    """A tar, in any compression, or a Dockerfile."""
    import io
    import tarfile

    if not data:
        raise CliError("unable to prepare context: stdin is empty")
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            top = _temporary(stack)
            archive.extractall(top, filter="data")
    except tarfile.ReadError:
        return None, data
    except tarfile.TarError as error:
        raise CliError(f"unable to prepare context: {error}") from error
    return top, b""


def _fetched(url: str) -> bytes:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            return bytes(answer.read())
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise CliError(f"unable to prepare context: {url}: {error}") from error


def _cloned(url: str, stack: contextlib.ExitStack) -> Path:
    """``URL#branch:directory``."""
    import shutil
    import subprocess

    git = shutil.which("git")
    if git is None:
        raise CliError("unable to prepare context: unable to find 'git'")
    where, _, fragment = url.partition("#")
    branch, _, directory = fragment.partition(":")
    where = f"https://{where}" if where.startswith("github.com/") else where
    top = _temporary(stack)
    for command in (
        ["init", "-q"],
        ["fetch", "-q", "--depth=1", "--", where, branch or "HEAD"],
        ["checkout", "-q", "FETCH_HEAD"],
    ):
        done = subprocess.run(
            [git, "-C", str(top), *command],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
        if done.returncode:
            raise CliError(f"unable to prepare context: unable to 'git clone': {done.stderr.strip()}")
    shutil.rmtree(top / ".git")
    inner = (top / directory.strip("/")).resolve()
    if not inner.is_relative_to(top.resolve()) or not inner.is_dir():
        raise CliError(f"unable to prepare context: the repository has no directory {directory!r}")
    return inner


def _temporary(stack: contextlib.ExitStack) -> Path:
    import tempfile

    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swarmctl-build-")))
