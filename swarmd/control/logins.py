"""How the swarm logs in to outside registries: kept in the replicated store, told to nobody but nodes."""

from __future__ import annotations

from swarmd.control.again import insist
from swarmd.model.errors import Invalid, NotFound, Refused
from swarmd.model.image_ref import parse
from swarmd.model.registry import RegistryCredential
from swarmd.model.replace import replace
from swarmd.store.core.transaction import Delete, Put
from swarmd.store.store import Store

MOST = 100
LONGEST = 64 << 10
"""Bytes of a password or token."""


class Logins:
    """The use cases; runs on the leader."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def save(self, wanted: RegistryCredential) -> None:
        """From now on that, for its host.  Raises Invalid, Refused."""
        _check(wanted)

        async def attempt() -> None:
            held = self._store.get(RegistryCredential, wanted.id)
            if held is None and len(self._store.all(RegistryCredential)) >= MOST:
                raise Refused(f"the swarm logs in to {MOST} registries, the most there may be: remove some")
            await self._store.commit([Put(replace(wanted, version=held.version if held else 0))])

        await insist(attempt)

    def all(self) -> list[RegistryCredential]:
        """By host."""
        return sorted(self._store.all(RegistryCredential), key=lambda row: row.id)

    async def remove(self, host: str) -> None:
        """From now on a stranger there.  Raises NotFound."""

        async def attempt() -> None:
            row = self._store.get(RegistryCredential, host)
            if row is None:
                raise NotFound(f"the swarm does not log in to {host}")
            await self._store.commit([Delete(RegistryCredential, row.id, row.version)])

        await insist(attempt)


def _check(wanted: RegistryCredential) -> None:
    if not is_host(wanted.id):
        raise Invalid(f'"{wanted.id}" is no registry: write its host, with its port if it has one')
    if not (wanted.username and wanted.password) and not wanted.identity_token:
        raise Invalid("a log-in needs a username and a password")
    if max(len(wanted.username), len(wanted.password), len(wanted.identity_token)) > LONGEST:
        raise Invalid(f"username, password and token have at most {LONGEST} bytes")


def is_host(text: str) -> bool:
    """Whether images may be named by that host."""
    try:
        ref = parse(f"{text}/image")
    except Invalid:
        return False
    return ref.name.partition("/")[0] == text
