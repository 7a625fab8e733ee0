"""Tell the core of untagged manifests what it decides on."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from swarmd.manager.core.untagged import plan_untagged
from swarmd.manager.plan import Agenda, Plan, agenda
from swarmd.model import image_ref
from swarmd.model.errors import Invalid
from swarmd.model.objects import Service, SpecVersion
from swarmd.model.registry import RegistryManifest, RegistryTag
from swarmd.store.core.tables import Event
from swarmd.store.store import Store


class UntaggedPlanner:
    """Deletes manifests that nobody needs.  A key is a repository; ``keep``: seconds, 0 = for ever."""

    def __init__(self, store: Store, keep: float) -> None:
        self._store = store
        self._keep = keep

    def reset(self) -> Iterable[str]:
        return {row.repository for row in self._store.all(RegistryManifest)} if self._keep else ()

    def touched(self, event: Event) -> Iterable[str]:
        row = event.new or event.old
        if isinstance(row, RegistryManifest | RegistryTag):
            return (row.repository,) if self._keep else ()
        # A spec that is gone may have been the last to name a manifest.
        return self.reset() if isinstance(row, SpecVersion) and event.new is None else ()

    def plan(self, keys: Collection[str], now: float) -> Agenda:
        named = self._named()
        return agenda({key: self._plan(key, named, now) for key in keys})

    def _plan(self, repository: str, named: Collection[str], now: float) -> Plan:
        manifests = self._store.in_repository(repository)
        tagged = [row.digest for row in self._store.tags_in(repository)]
        return plan_untagged(manifests, tagged, named, now=now, keep=self._keep)

    def _named(self) -> set[str]:
        templates = [row.template for row in self._store.all(SpecVersion)]
        for service in self._store.all(Service):
            templates.append(service.spec.template)
            if service.previous_spec is not None:
                templates.append(service.previous_spec.template)
        texts = {template.container.image for template in templates}
        for template in templates:
            texts |= {mount.source for mount in template.container.mounts if mount.kind == "image"}
        return {digest for text in texts if (digest := _digest(text))}


def _digest(text: str) -> str:
    try:
        return image_ref.parse(text).digest
    except Invalid:
        return ""
