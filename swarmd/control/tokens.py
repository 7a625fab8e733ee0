"""Join tokens made for some nodes.  The two standing tokens of the swarm are ``control.cluster``'s."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from swarmd.control import lookup
from swarmd.control.again import insist
from swarmd.control.core import validate
from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId
from swarmd.model.errors import Invalid, Refused, Unavailable
from swarmd.model.objects import JoinToken
from swarmd.model.states import Availability, Role
from swarmd.security import tokens
from swarmd.store.core.transaction import Delete, Put
from swarmd.store.store import Store

MOST = 1000
"""Tokens at a time."""

LONGEST_TEXT = 200
"""Characters of a description, and of a label's key or value."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What ``token create`` asks for.  ``lifetime``: seconds, 0 = for ever; ``max_uses``: 0 = any number."""

    role: str
    labels: Mapping[str, str] = {}
    availability: str = ""
    description: str = ""
    lifetime: float = 0.0
    max_uses: int = 0


class Tokens:
    """The use cases; runs on the leader."""

    def __init__(self, store: Store, clock: Clock, new_id: NewId) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id

    async def create(self, wanted: Wanted) -> tuple[str, JoinToken]:
        """The token's text, which cannot be had a second time, and its row.  Raises Invalid, Refused."""
        cluster = self._store.cluster()
        if cluster is None:
            raise Unavailable("the swarm is not initialised yet; try again in a moment")
        if len(self._store.all(JoinToken)) >= MOST:
            raise Refused(f"the swarm has {MOST} join tokens, the most there may be: remove some (token rm)")
        secret = self._new_id()
        row = _row(wanted, self._new_id(), tokens.secret_hash(secret), self._clock.now())
        await self._store.commit([Put(row)])
        return tokens.make_token(cluster.root_ca, secret), self._store.get(JoinToken, row.id) or row

    def all(self) -> list[JoinToken]:
        """Oldest first."""
        return sorted(self._store.all(JoinToken), key=lambda row: (row.created_at, row.id))

    def get(self, ref: str) -> JoinToken:
        """Raises NotFound, or Invalid when a prefix fits several."""
        return lookup.token(self._store, ref)

    async def remove(self, ref: str) -> str:
        """Nobody joins with it any more; nodes that did stay.  Answers its id."""

        async def attempt() -> str:
            row = lookup.token(self._store, ref)
            await self._store.commit([Delete(JoinToken, row.id, row.version)])
            return row.id

        return await insist(attempt)

    def state(self, row: JoinToken) -> str:
        """ "valid", "expired" or "used up"."""
        if row.is_expired(self._clock.now()):
            return "expired"
        return "used up" if row.is_used_up else "valid"


def _row(wanted: Wanted, row_id: str, secret_hash: str, now: float) -> JoinToken:
    validate.seconds("expires", wanted.lifetime)
    if wanted.max_uses < 0:
        raise Invalid(f"uses must be 0 (any number) or more, not {wanted.max_uses}")
    if len(wanted.description) > LONGEST_TEXT:
        raise Invalid(
            f"description must be {LONGEST_TEXT} characters or fewer, not {len(wanted.description)}"
        )
    for key, value in wanted.labels.items():
        if not key or max(len(key), len(value)) > LONGEST_TEXT:
            raise Invalid(f'label "{key[:20]}": key and value have 1 to {LONGEST_TEXT} characters')
    return JoinToken(
        id=row_id,
        secret_hash=secret_hash,
        role=_role(wanted.role),
        labels=dict(wanted.labels),
        availability=_availability(wanted.availability),
        description=wanted.description,
        expires_at=now + wanted.lifetime if wanted.lifetime else 0.0,
        max_uses=wanted.max_uses,
    )


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError as error:
        raise Invalid(f'unknown role "{text}": use worker or manager') from error


def _availability(text: str) -> Availability:
    try:
        return Availability(text or "active")
    except ValueError as error:
        raise Invalid(f'invalid Availability: "{text}": use active, pause or drain') from error
