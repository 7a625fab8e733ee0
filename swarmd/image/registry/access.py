"""Who may use the registry: on loopback whoever calls it by that name, elsewhere the users in a file.

A line is ``NAME:HASH`` or ``NAME:HASH:pull`` (for one who may only read); ``#`` begins a comment.  The file
is read again when it changes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
from pathlib import Path

import msgspec
import structlog

from swarmd.image.registry.core.refusals import Headers, Refusal
from swarmd.image.registry.exchange import Handle, Reply, Request
from swarmd.model.errors import Invalid

_N, _R, _P = 1 << 14, 8, 1
_SCHEME = "scrypt"
_CHALLENGE: Headers = (("WWW-Authenticate", 'Basic realm="swarm registry"'),)
_READING = ("GET", "HEAD")
_LOCAL = ("localhost", "127.0.0.1", "::1")
_CHECKS = 1  # at a time: whoever guesses passwords has one core at most
_KNOWN = 1000
"""Passwords that are remembered as right, by their digest: each check costs 50 ms of a core."""


class Local:
    """A handler that answers only to names of loopback.

    A page in a browser on this machine can have a name of its own lead to 127.0.0.1; then the browser takes
    the registry for the page's own server, and lets it read, push and delete.  The Host header betrays it.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def __call__(self, request: Request) -> Reply:
        """Answer like the handler, or 403."""
        name = request.header("host").lower().rpartition("]")[0] or request.header("host").partition(":")[0]
        if name.lower().lstrip("[") in _LOCAL:
            return await self._handle(request)
        return _no(Refusal("DENIED", "this registry is for clients that call it localhost"))


class User(msgspec.Struct, frozen=True):
    """``hash``: as :func:`hashed` writes it."""

    name: str
    hash: str
    may_push: bool = True


def hashed(password: str, salt: bytes) -> str:
    """What the file keeps of a password.  ``salt``: 16 random bytes."""
    return f"{_SCHEME}${salt.hex()}${_derived(password, salt).hex()}"


def is_right(user: User, password: str) -> bool:
    """Whether that is the user's password.  Takes 50 ms."""
    _, salt, key = user.hash.split("$")
    return hmac.compare_digest(_derived(password, bytes.fromhex(salt)).hex(), key)


def read_users(text: str, path: str) -> dict[str, User]:
    """The users in a file; raises :class:`Invalid` naming the line."""
    users: dict[str, User] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.strip().partition(":")
        stored, _, right = rest.partition(":")
        if not name or not _is_hash(stored) or right not in ("", "pull"):
            raise Invalid(
                f"{path}, line {number}: write NAME:HASH or NAME:HASH:pull, with a hash from "
                "`swarmd registry-user NAME`"
            )
        users[name] = User(name, stored, right != "pull")
    return users


class Guarded:
    """A handler that lets only the users of a file through.

    Raises :class:`Invalid` at once when the file cannot be used; later the last good one counts.
    """

    def __init__(self, handle: Handle, path: Path) -> None:
        self._handle = handle
        self._path = path
        self._log = structlog.get_logger()
        self._read_at = self._stamp()
        self._users = self._read()
        self._right: dict[tuple[str, bytes], None] = {}
        self._checks = asyncio.Semaphore(_CHECKS)

    async def __call__(self, request: Request) -> Reply:
        """Answer like the handler, or 401, or 403."""
        try:
            await self._check(request)
        except Refusal as refusal:
            return _no(refusal)
        return await self._handle(request)

    async def _check(self, request: Request) -> None:
        name, password = _credentials(request.header("authorization"))
        self._reread()
        user = self._users.get(name)
        if user is None or not await self._knows(user, password):
            raise Refusal("UNAUTHORIZED", "authentication required", headers=_CHALLENGE)
        if request.method not in _READING and not user.may_push:
            raise Refusal("DENIED", f"{name} may pull, not push")

    async def _knows(self, user: User, password: str) -> bool:
        key = (user.hash, hashlib.sha256(password.encode()).digest())
        if key in self._right:
            return True
        async with self._checks:
            if not await asyncio.to_thread(is_right, user, password):
                return False
        if len(self._right) >= _KNOWN:
            self._right.clear()
        self._right[key] = None
        return True

    def _reread(self) -> None:
        stamp = self._stamp()
        if stamp == self._read_at:
            return
        self._read_at = stamp
        try:
            self._users = self._read()
        except Invalid as error:
            self._log.warning("registry_users_not_read", reason=str(error))

    def _read(self) -> dict[str, User]:
        try:
            return read_users(self._path.read_text(), str(self._path))
        except OSError as error:
            raise Invalid(
                f"the registry's users_file {self._path} cannot be read: {error.strerror}"
            ) from error

    def _stamp(self) -> tuple[int, int, int]:
        try:
            found = os.stat(self._path)
        except OSError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_ino, found.st_size)


def _no(refusal: Refusal) -> Reply:
    headers: Headers = (("Content-Type", "application/json"), *refusal.headers)
    return Reply(refusal.status, headers, refusal.body())


def _credentials(header: str) -> tuple[str, str]:
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, password


def _is_hash(text: str) -> bool:
    parts = text.split("$")
    if len(parts) != 3 or parts[0] != _SCHEME:
        return False
    return all(len(part) % 2 == 0 and set(part) <= set("0123456789abcdef") and part for part in parts[1:])


def _derived(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, dklen=32)
