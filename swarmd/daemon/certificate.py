"""This node's certificate: renewed in time, when the leader asks for it, and even after it has expired.

good      ──► the leader, over the session's channel
expired   ──► on a manager: itself, since its own store holds the authority
              else: any manager's join lane, with proof of the old key
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import grpc
import msgspec
import structlog

from swarmd.daemon.renewal import certificate_problems, renew, renew_as_manager, renew_expired, renewal_due
from swarmd.kit.clock import Clock
from swarmd.kit.ids import random_fraction
from swarmd.kit.supervise import caught, until
from swarmd.manager.authority import Authority
from swarmd.model.errors import Denied, SwarmError
from swarmd.model.objects import NodeCertificate
from swarmd.security import ca, roots, tokens
from swarmd.security.identity import Credentials, IdentityStore

CHECK = 60.0
"""Seconds between looks at the certificate's age."""

RETRY = 3.0
"""Seconds between attempts when the certificate is no good for anything else, or the leader waits for it."""


class Ways(msgspec.Struct, frozen=True):
    """``leader``: a channel to the leader, or Unavailable.  ``cluster_ports``: "ip:port" of known managers.

    ``authority``: that of this node's own store, while it is a manager.
    """

    leader: Callable[[], grpc.aio.Channel]
    cluster_ports: Callable[[], Iterable[str]]
    authority: Callable[[], Authority | None]


class OwnCertificate:
    """Key, certificate and trusted roots, in memory and on disk.

    ``replaced_expired``: whether the present certificate took the place of one that was of no use any more.
    """

    def __init__(self, credentials: Credentials, store: IdentityStore, clock: Clock, ways: Ways) -> None:
        self.credentials = credentials
        self._store = store
        self._clock = clock
        self._ways = ways
        self._due = renewal_due(credentials, random_fraction())
        self.replaced_expired = False
        self._wanted = ""
        self._problem = ""
        self._poked = asyncio.Event()
        self._log = structlog.get_logger()

    async def keep(self, follow: Callable[[], object], lock: asyncio.Lock) -> None:
        """Until cancelled: renew when it is time, under ``lock``, and call ``follow`` after it."""
        while True:
            urgent = self._is_wanted() or self._has_expired()
            await until(self._clock.sleep(RETRY if urgent else CHECK), self._poked)
            self._poked.clear()
            if not self._is_due():
                continue
            error = await caught(self._renew_under(lock, follow))
            if error is not None:
                known = isinstance(error, SwarmError)
                self._log.warning(
                    "certificate_not_renewed", reason=str(error), exc_info=None if known else error
                )
            self._problem = str(error or "")

    async def _renew_under(self, lock: asyncio.Lock, follow: Callable[[], object]) -> None:
        async with lock:
            if self._is_due():
                await self.renew()
                follow()

    async def renew(self) -> None:
        """A new certificate, with the role that this node's row asks for.  Raises SwarmError."""
        expired = self._has_expired()
        fresh = await self._renewed()
        # Other roots may be trusted since it was asked for.
        fresh = Credentials(key=fresh.key, certificate=fresh.certificate, root=self.credentials.root)
        if self._steps_back(fresh) or not roots.leads_to(fresh.certificate, fresh.root):
            raise Denied("the renewed certificate is of an older root than the present one")
        self._store.save(fresh)
        self.credentials, self.replaced_expired = fresh, expired
        self._due = renewal_due(fresh, random_fraction())
        self._log.info("certificate_renewed", role=fresh.identity.role.value)

    async def _renewed(self) -> Credentials:
        if not self._has_expired():
            return await renew(self.credentials, self._ways.leader())
        authority = self._ways.authority()
        if authority is not None:
            try:
                return renew_as_manager(self.credentials, authority)
            except SwarmError as error:
                # Its store may lag behind; another manager's may not.
                self._log.info("certificate_not_renewed_here", reason=str(error))
        return await renew_expired(self.credentials, self._ways.cluster_ports())

    def trust(self, bundle: bytes) -> bool:
        """Trust these roots from now on; whether that changed anything.

        A bundle that this node's own certificate does not lead to is not taken: the leader sends the last
        root alone only when every node is certified by it.
        """
        if not bundle or bundle == self.credentials.root:
            return False
        if not roots.leads_to(self.credentials.certificate, bundle):
            self._log.warning("roots_not_trusted", reason="this node's own certificate is of another root")
            return False
        fresh = Credentials(key=self.credentials.key, certificate=self.credentials.certificate, root=bundle)
        self._store.save(fresh)
        self.credentials = fresh
        self._log.info("roots_trusted", digests=list(self.report().trusts))
        return True

    def save(self) -> None:
        """Write what there is again: what seals it has changed."""
        self._store.save(self.credentials)

    def want(self, issuer: str) -> None:
        """The leader waits for a certificate signed by this key; "" = by any."""
        self._wanted = issuer
        if self._is_wanted():
            self._poked.set()

    def report(self) -> NodeCertificate:
        """What the managers are told of it."""
        begin, end = ca.validity(self.credentials.certificate)
        return NodeCertificate(
            issuer=self._issuer(),
            trusts=tuple(tokens.ca_digest(root) for root in roots.split(self.credentials.root)),
            valid_from=begin,
            valid_until=end,
        )

    def problems(self) -> list[str]:
        """Sentences about what is wrong with it, for a person."""
        return certificate_problems(self.credentials, self._clock.now(), self._due, self._problem)

    def _steps_back(self, fresh: Credentials) -> bool:
        """From the newest of several roots to an older one: a leader said so that leads no more."""
        trusted = roots.split(self.credentials.root)
        return len(trusted) > 1 and self._issuer() == roots.key_id(trusted[-1]) != roots.issuer_key_id(
            fresh.certificate
        )

    def _issuer(self) -> str:
        return roots.issuer_key_id(self.credentials.certificate)

    def _is_wanted(self) -> bool:
        return bool(self._wanted) and self._wanted != self._issuer()

    def _is_due(self) -> bool:
        return self._is_wanted() or self._clock.now() >= self._due

    def _has_expired(self) -> bool:
        return self._clock.now() >= ca.validity(self.credentials.certificate)[1]
