"""One node's key ring on disk, and the sealing it allows.

    vault/keys   the data keys, wrapped
    vault/kek    the key that wraps them; not there when the operator holds it (autolock)

Both are replaced durably, in an order in which a crash leaves a ring that can be opened: by the old key or
the new.  Removing ``vault/`` makes everything sealed unreadable.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from swarmd.kit.ids import random_bytes
from swarmd.model.errors import Invalid, Refused, Unavailable
from swarmd.model.replace import replace
from swarmd.security import keyring
from swarmd.security.durable import sync_directory, write_durably
from swarmd.security.keyring import Keyring
from swarmd.security.sealing import KEY_BYTES, NONCE_BYTES, CannotOpen, RandomBytes, Reader, Writer, is_sealed

LOCKED = (
    "Swarm is encrypted and needs to be unlocked before it can be used. "
    'Please use "swarmctl swarm unlock" to unlock it.'
)
_WAY_OUT = "restore the data directory from a backup, or run `swarmctl swarm leave --force` and join again"


class Locked(Refused):
    """The operator holds the key to what is on this disk."""


class _Open(msgspec.Struct, frozen=True):
    key: bytes
    by_operator: bool
    ring: Keyring
    writer: Writer
    reader: Reader


class Vault:
    """A :class:`~swarmd.security.sealing.Sealer` with keys of its own, in ``directory``."""

    def __init__(self, directory: Path, random: RandomBytes = random_bytes) -> None:
        self._directory = directory
        self._keys = directory / "keys"
        self._kek = _KeyBeside(directory / "kek")
        self._random = random
        self._open: _Open | None = None
        self._change = threading.Lock()
        self._users: list[Callable[[], Iterable[int]]] = []

    # -- life ------------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        return self._keys.exists()

    @property
    def is_open(self) -> bool:
        return self._open is not None

    @property
    def ring(self) -> Keyring:
        """Raises Locked before it is open."""
        return self._opened().ring

    def create(self, *, plain_epochs: int = 0, settled: bool = True) -> None:
        """A new ring, wrapped by a key beside it.  Raises Unavailable."""
        ring = Keyring(keys={1: self._random(KEY_BYTES)}, plain_epochs=plain_epochs, settled=settled)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.chmod(0o700)
            sync_directory(self._directory.parent)
        except OSError as error:
            raise Unavailable(f"{self._directory} cannot be made: {error.strerror}") from error
        with self._change:
            self._wrap(ring, b"")

    def open_here(self) -> None:
        """With the key beside.  Raises Locked when the operator holds it, Invalid when it cannot be."""
        wrapped = self._wrapped()
        if wrapped.by_operator:
            self._open = None
            with contextlib.suppress(OSError):
                self._kek.erase()  # a crash came before that
            raise Locked(LOCKED)
        keys = {keyring.fingerprint(key): key for key in self._kek.read()}
        if wrapped.fingerprint not in keys:
            raise Invalid(f"{self._kek.path} does not hold the key to this disk: {_WAY_OUT}")
        self._take(keys[wrapped.fingerprint], by_operator=False)

    def unlock(self, key: bytes) -> None:
        """With the operator's key.  Raises Invalid for a wrong one: nothing has changed then."""
        wrapped = self._wrapped()
        if not wrapped.by_operator:
            raise Refused("swarm is not locked")
        if wrapped.fingerprint != keyring.fingerprint(key):
            raise Invalid(keyring.BAD_KEY)
        self._take(key, by_operator=True)

    def remove(self) -> None:
        """All that was sealed is lost.  Raises OSError."""
        self._open = None
        if self._directory.exists():
            self._kek.erase()
            shutil.rmtree(self._directory)

    # -- what changes it -------------------------------------------------------------------------

    def is_held(self, unlock_key: bytes) -> bool:
        """Whether the ring is wrapped by that key; empty: by one beside it."""
        now = self._opened()
        return now.key == unlock_key if now.by_operator else not unlock_key

    def rewrap(self, unlock_key: bytes, *, followed: int) -> None:
        """Give the key to the operator, or (empty) take it back; what is sealed next has a new data key.

        ``followed``: see Keyring.  Raises Unavailable: the old key holds then.
        """
        with self._change:
            ring = keyring.with_new_key(self._opened().ring, self._random(KEY_BYTES))
            self._wrap(replace(ring, followed=followed), unlock_key)

    def settle(self) -> None:
        """The node's own files are sealed.  Raises Unavailable."""
        with self._change:
            self._rewrite(replace(self._opened().ring, settled=True))

    def also_used(self, user: Callable[[], Iterable[int]]) -> None:
        """``user`` answers the key ids of pieces outside of the replicated log.  Raises OSError."""
        self._users.append(user)

    def retain(self, used: frozenset[int]) -> None:
        """Forget the keys that nothing uses any more.  When the disk does not let it, the next time."""
        with self._change, contextlib.suppress(OSError, Unavailable):
            now = self._opened().ring
            ring = keyring.retained(now, used.union(*(user() for user in self._users)))
            if ring != now:
                self._rewrite(ring)

    # -- sealing ---------------------------------------------------------------------------------

    def seal(self, place: bytes, data: bytes) -> bytes:
        """Raises Locked before the vault is open."""
        return self._opened().writer.seal(place, data)

    def open(self, place: bytes, data: bytes, *, epoch: int = 0) -> bytes:
        """Raises CannotOpen, and Locked before the vault is open."""
        now = self._opened()
        if not is_sealed(data) and (epoch <= now.ring.plain_epochs if epoch else not now.ring.settled):
            return data
        return now.reader.open(place, data)

    # -- small parts -----------------------------------------------------------------------------

    def _opened(self) -> _Open:
        if self._open is None:
            raise Locked(LOCKED)
        return self._open

    def _wrapped(self) -> keyring.Wrapped:
        try:
            return keyring.wrapped_by(self._keys.read_bytes())
        except FileNotFoundError:
            raise Invalid(
                f"{self._keys} is missing: nothing on this disk can be read without it; {_WAY_OUT}"
            ) from None
        except CannotOpen as error:
            raise self._damaged(error) from None

    def _damaged(self, error: CannotOpen) -> Invalid:
        return Invalid(f"{self._directory} is damaged ({error}): {_WAY_OUT}")

    def _take(self, key: bytes, *, by_operator: bool) -> None:
        try:
            ring = keyring.unwrap(self._keys.read_bytes(), key)
        except CannotOpen as error:
            raise self._damaged(error) from None
        self._use(ring, key, by_operator=by_operator)

    def _use(self, ring: Keyring, key: bytes, *, by_operator: bool) -> None:
        writer = Writer(ring.newest, ring.keys[ring.newest], self._random)
        self._open = _Open(key, by_operator, ring, writer, Reader(ring.keys))

    def _wrap(self, ring: Keyring, unlock_key: bytes) -> None:
        """A key beside is on disk before the ring needs it, and off it only when the ring does not."""
        key = unlock_key or self._random(KEY_BYTES)
        if not unlock_key:
            self._kek.write([*self._kek.read(), key])
        self._store(ring, key, by_operator=bool(unlock_key))
        self._use(ring, key, by_operator=bool(unlock_key))
        if unlock_key:
            self._kek.erase()
        else:
            self._kek.write([key])

    def _rewrite(self, ring: Keyring) -> None:
        now = self._opened()
        self._store(ring, now.key, by_operator=now.by_operator)
        self._use(ring, now.key, by_operator=now.by_operator)

    def _store(self, ring: Keyring, key: bytes, *, by_operator: bool) -> None:
        nonce = self._random(NONCE_BYTES)
        write_durably(self._keys, keyring.wrap(ring, key, by_operator=by_operator, nonce=nonce))


class _KeyBeside:
    """The file with the wrapping key; for a moment of a change with the old one and the new."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[bytes]:
        """None of them when there is no file."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        return [data[start : start + KEY_BYTES] for start in range(0, len(data), KEY_BYTES)]

    def write(self, keys: list[bytes]) -> None:
        """Raises Unavailable."""
        write_durably(self.path, b"".join(keys))

    def erase(self) -> None:
        """Overwritten first: some disks write in place.  Raises OSError."""
        for path in (self.path, self.path.with_name(self.path.name + ".new")):
            if path.exists():
                with path.open("r+b") as file:
                    file.write(bytes(path.stat().st_size))
                    file.flush()
                    os.fsync(file.fileno())
                path.unlink()
        if self.path.parent.exists():
            sync_directory(self.path.parent)
