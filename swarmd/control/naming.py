"""Under which names a digest is known: whoever writes ``name@sha256:…`` may write any name before it.

the swarm's registry ─┐
nodes, by name        ├─► names of the digest ─► is the name that was written one of them? ─► its registry
services              ┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

import structlog

from swarmd.control.core import trust as rules
from swarmd.control.pinning import SOON, Ask
from swarmd.image.trust.core import patterns
from swarmd.kit.clock import Clock
from swarmd.model import image_ref
from swarmd.model.errors import SwarmError
from swarmd.model.image_ref import ImageRef
from swarmd.model.objects import Service
from swarmd.model.registry import RegistryCredential, TrustRule
from swarmd.model.spec import ServiceSpec
from swarmd.store.store import Store

_MOST = 1000
_AGAIN = 30.0
"""Seconds after which a registry that did not confirm a name is asked once more."""

Held = Callable[[str], Iterable[str]]
"""Complete names of a digest on the nodes; "" stands for a content that none has a name for."""


def nobody_holds(digest: str) -> Iterable[str]:
    """For a manager without nodes."""
    return ()


class Names:
    """``held``: as the present leader knows; ``domains``: hosts that mean the swarm's registry."""

    def __init__(self, store: Store, clock: Clock, held: Held, ask: Ask, domains: Collection[str]) -> None:
        self._log = structlog.get_logger()
        self._store = store
        self._clock = clock
        self._held = held
        self._ask = ask
        self._domains = domains
        self._confirmed: set[tuple[str, str]] = set()
        self._denied: dict[tuple[str, str], float] = {}

    async def of(self, ref: ImageRef, *, for_node: bool = False) -> tuple[str, ...]:
        """Complete names of ``ref.digest``, with that of ``ref`` if its registry says so.

        ``for_node``: a node wants to know.  It must not choose whom a manager talks to, so a registry is
        asked only when the swarm's users have named it: in a service, in a rule, by a log-in.
        """
        known = self._known(ref.digest)
        name = patterns.canonical(ref.name)
        if known and name not in known and await self._confirms(ref, for_node=for_node):
            known.add(name)
        return tuple(sorted(known))

    def _known(self, digest: str) -> set[str]:
        names = set(self._held(digest))
        for row in self._store.manifests(digest):
            names.update(f"{domain}/{row.repository}" for domain in self._domains)
        for spec in self._specs():
            if digest in spec.template.container.image:
                names.add(image_ref.parse(spec.template.container.image).name)
        if len(names) > 1:
            names.discard("")
        return set(map(patterns.canonical, names))

    async def _confirms(self, ref: ImageRef, *, for_node: bool) -> bool:
        """Whether the registry of an outside name has the digest there.  Without rules that is no matter."""
        if not self._store.all(TrustRule):
            return False
        asked = (ref.name, ref.digest)
        if asked in self._confirmed:
            return True
        if for_node and not self._is_named(ref.name.partition("/")[0]):
            return False
        now = self._clock.monotonic()
        if rules.is_own(ref, self._domains) or now - self._denied.get(asked, -_AGAIN) < _AGAIN:
            return False
        is_there = await self._asked(ref)
        if len(self._confirmed) + len(self._denied) >= _MOST:
            self._confirmed.clear()
            self._denied.clear()
        if is_there:
            self._confirmed.add(asked)
        else:
            self._denied[asked] = now
        return is_there

    def _is_named(self, host: str) -> bool:
        """Whether users of the swarm have named the registry: a rule for all of them names none."""
        if self._store.get(RegistryCredential, host) is not None:
            return True
        hosts = (rule.id.partition("/")[0] for rule in self._store.all(TrustRule))
        if any(one.strip("*") and patterns.matches(one, patterns.canonical(host)) for one in hosts):
            return True
        return any(
            image_ref.parse(spec.template.container.image).name.startswith(f"{host}/")
            for spec in self._specs()
        )

    def _specs(self) -> Iterable[ServiceSpec]:
        for service in self._store.all(Service):
            yield service.spec
            if service.previous_spec is not None:
                yield service.previous_spec

    async def _asked(self, ref: ImageRef) -> bool:
        try:
            async with asyncio.timeout(SOON):
                return await self._ask(ref) == ref.digest
        except (SwarmError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            self._log.info("image_not_confirmed", image=ref.familiar(), reason=reason)
            return False
