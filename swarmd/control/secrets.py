"""Secrets: made, listed, removed.  What is in them is never told again."""

from __future__ import annotations

import re
from collections.abc import Mapping

from swarmd.control import lookup
from swarmd.control.again import insist
from swarmd.kit.ids import NewId
from swarmd.model.errors import Conflict, Invalid, Refused
from swarmd.model.objects import Secret, Service
from swarmd.store.core.transaction import Delete, Put
from swarmd.store.store import Store

LARGEST = 500 * 1024
"""Bytes (Docker's number)."""

MOST = 1000
"""Secrets at a time: each is in every manager's memory."""

_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9])?")
_LONGEST_LABELS = 64 << 10


class Secrets:
    """The use cases; runs on the leader."""

    def __init__(self, store: Store, new_id: NewId) -> None:
        self._store = store
        self._new_id = new_id

    async def create(self, name: str, data: bytes, labels: Mapping[str, str]) -> str:
        """Its id.  Raises Invalid, Conflict for a name that is taken, Refused when there are too many."""
        if not _NAME.fullmatch(name):
            raise Invalid(
                "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, "
                "and the start and end character must be [a-zA-Z0-9]"
            )
        if not 0 < len(data) <= LARGEST:
            raise Invalid(f"secret data must be larger than 0 and at most {LARGEST} bytes, not {len(data)}")
        if sum(len(key) + len(value) for key, value in labels.items()) > _LONGEST_LABELS or "" in labels:
            raise Invalid(f"labels have names, and at most {_LONGEST_LABELS} characters together")
        if self._store.secret_by_name(name) is not None:
            raise Conflict(f"secret {name} already exists")
        if len(self._store.all(Secret)) >= MOST:
            raise Refused(f"the swarm has {MOST} secrets, the most there may be: remove some (secret rm)")
        row = Secret(id=self._new_id(), name=name, labels=dict(labels), data=data)
        await self._store.commit([Put(row)])
        return row.id

    def all(self) -> list[Secret]:
        """In order of their names."""
        return sorted(self._store.all(Secret), key=lambda row: row.name)

    def get(self, ref: str) -> Secret:
        """Raises NotFound, or Invalid when a prefix fits several."""
        return lookup.secret(self._store, ref)

    async def remove(self, ref: str) -> str:
        """Answers its id.  Raises Refused naming the services that use it."""

        async def attempt() -> str:
            row = lookup.secret(self._store, ref)
            users = self._users(row)
            if users:
                which = "service" if len(users) == 1 else "services"
                raise Refused(f"secret '{row.name}' is in use by the following {which}: {', '.join(users)}")
            await self._store.commit([Delete(Secret, row.id, row.version)])
            return row.id

        return await insist(attempt, self._store.queue)

    def _users(self, row: Secret) -> list[str]:
        """Names of the services whose ports are served with it."""
        used = (
            service.spec.name
            for service in self._store.all(Service)
            if any(port.tls and self._means(port.tls, row) for port in (*service.spec.ports, *service.ports))
        )
        return sorted(used)

    def _means(self, ref: str, row: Secret) -> bool:
        return ref == row.id or ref.lower() == row.name.lower()
