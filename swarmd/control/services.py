"""What users do with services: validate, then one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from swarmd.control import certificates, lookup, networks
from swarmd.control.again import insist
from swarmd.control.core import attachments, ports, validate
from swarmd.kit.clock import Clock
from swarmd.kit.ids import NewId
from swarmd.model import image_ref
from swarmd.model.errors import Conflict, NotFound, OutOfSequence, Refused
from swarmd.model.objects import (
    AddressAllocation,
    PortAllocation,
    Service,
    SpecVersion,
    Task,
    UpdateStatus,
    spec_version_id,
)
from swarmd.model.replace import replace
from swarmd.model.spec import ServiceSpec
from swarmd.model.states import TaskState, UpdateState
from swarmd.model.versions import number_for, of_tasks
from swarmd.store.core.transaction import Change, Delete, Put
from swarmd.store.store import Store

NO_DIGEST = (
    "image {0} could not be accessed on a registry to record\n"
    "its digest. Each node will access {0} independently,\n"
    "possibly leading to different nodes running different\n"
    "versions of the image.\n"
)


Pin = Callable[[image_ref.ImageRef], Awaitable[str]]
"""The digest of what an image's name means now; "" when nobody knows."""


class Keep(Protocol):
    """Has a pinned image on enough managers; a warning to show when it is not there yet."""

    async def __call__(self, ref: image_ref.ImageRef) -> str: ...


async def kept_elsewhere(ref: image_ref.ImageRef) -> str:
    """For whoever keeps no images."""
    return ""


class Admit(Protocol):
    """Raises Refused for an image that the swarm's rules do not let run."""

    async def __call__(self, ref: image_ref.ImageRef) -> None: ...


async def admit_all(ref: image_ref.ImageRef) -> None:
    """Where there are no rules."""


class Services:
    """The use cases; runs on the leader."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        new_id: NewId,
        pin: Pin,
        keep: Keep = kept_elsewhere,
        admit: Admit = admit_all,
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._pin = pin
        self._keep = keep
        self._admit = admit

    async def create(self, spec: ServiceSpec, *, resolve_image: bool) -> tuple[Service, list[str]]:
        """A new service; answers it and the warnings to show."""
        validate.service(spec)
        attachments.check(spec)
        spec = self._attached(spec)
        ports.check(spec.ports, self._allocations())
        dated = certificates.check(self._store, spec, self._clock.now())
        spec, warnings = await self._resolved(spec, resolve=resolve_image)
        await self._admit(_image(spec))
        warnings += await self._kept(spec)
        self._attached(spec)  # it may have been removed while the image was looked for
        service = Service(id=self._new_id(), spec=spec, ports=ports.resolved(spec.ports, ()), spec_version=1)
        fresh: list[Change] = [Put(service), Put(_version(service))]
        await insist(lambda: self._commit(fresh, service), self._store.queue)
        return service, warnings + dated

    async def update(self, ref: str, version: int, spec: ServiceSpec, *, resolve_image: bool) -> list[str]:
        """Replace the spec, if the service is still the one that was read."""
        current = lookup.service(self._store, ref)
        if current.version != version:
            raise OutOfSequence("update out of sequence")
        validate.change(current.spec, spec)
        validate.service(spec)
        attachments.check(spec)
        spec = self._attached(spec, current)
        ports.check(spec.ports, self._allocations(), own=current.id)
        warnings = certificates.check(self._store, spec, self._clock.now())
        moves = _image(spec) != _image(current.spec)
        if moves:
            spec, more = await self._resolved(spec, resolve=resolve_image)
            warnings += more
        if spec.template != current.spec.template:
            await self._admit(_image(spec))
        if moves:
            warnings += await self._kept(spec)
        self._attached(spec, current)
        fresh = replace(
            current,
            spec=spec,
            previous_spec=current.spec,
            ports=ports.resolved(spec.ports, current.ports),
        )
        await self._commit_new(current, fresh, UpdateState.UPDATING, "update in progress")
        return warnings

    async def rollback(self, ref: str) -> None:
        """Back to the previous spec; a second rollback comes forward again."""
        await insist(lambda: self._roll_back(ref))

    async def _roll_back(self, ref: str) -> None:
        current = lookup.service(self._store, ref)
        if current.previous_spec is None:
            raise Refused(f"service {ref} does not have a previous spec")
        try:
            previous = self._attached(current.previous_spec, current)
            certificates.check(self._store, previous, self._clock.now())
        except NotFound as error:
            raise Refused(
                f"service {ref} cannot be rolled back, for its previous spec names what was removed: {error}"
            ) from error
        ports.check(previous.ports, self._allocations(), own=current.id)
        await self._admit(_image(previous))
        fresh = replace(
            current,
            spec=previous,
            previous_spec=current.spec,
            ports=ports.resolved(previous.ports, current.ports),
        )
        await self._commit_new(current, fresh, UpdateState.ROLLBACK_STARTED, "manually requested rollback")

    async def remove(self, ref: str) -> str:
        """Gone at once for users; its tasks drain in the background."""
        return await insist(lambda: self._remove(ref), self._store.queue)

    async def _remove(self, ref: str) -> str:
        service = lookup.service(self._store, ref)
        gone = replace(service, ports=())
        await self._store.commit([Delete(Service, service.id, service.version), *self._port_changes(gone)])
        return service.id

    def counts(self, service: Service) -> tuple[int, int]:
        """(running, desired) as ``service ls`` shows them."""
        tasks = self._store.tasks_of_service(service.id)
        running = sum(1 for task in tasks if _counts_as_running(task))
        if service.spec.mode == "replicated":
            return running, service.spec.replicas
        return running, sum(1 for task in tasks if task.is_live)

    async def _commit_new(self, old: Service, fresh: Service, state: UpdateState, message: str) -> None:
        restarts = _restarts(old, fresh)
        resumes = old.update_status is not None and old.update_status.state in (
            UpdateState.UPDATING,
            UpdateState.PAUSED,
            UpdateState.ROLLBACK_STARTED,
            UpdateState.ROLLBACK_PAUSED,
        )
        status = UpdateStatus(state=state, started_at=self._clock.now(), message=message)
        number, exists = old.spec_version, True
        if restarts:
            rows = self._store.spec_versions_of(old.id)
            number, exists = number_for(fresh.spec.template, fresh.ports, rows)
        fresh = replace(fresh, spec_version=number, update_status=status if restarts or resumes else None)
        changes: list[Change] = [Put(fresh)]
        if not exists:
            changes.append(Put(_version(fresh)))
        elif not restarts and fresh.spec.template != old.spec.template:
            # Placement alone restarts nothing: the enforcer moves what no longer fits.
            row = self._store.spec_version(old.id, old.spec_version)
            if row is not None:
                changes.append(Put(replace(row, template=fresh.spec.template)))
        await insist(lambda: self._commit(changes, fresh), self._store.queue)

    async def _commit(self, changes: list[Change], service: Service) -> None:
        """With the claims on its ports, networks and certificates, as they stand now: what is shared others
        write, too, between a look and a commit."""
        current = self._store.get(Service, service.id)
        if service.version != (current.version if current is not None else 0):
            raise OutOfSequence("update out of sequence")
        ports.check(service.spec.ports, self._allocations(), own=service.id)
        held = [*certificates.held(self._store, service.spec), *networks.held(self._store, service.spec)]
        claimed = self._port_changes(service)
        try:
            await self._store.commit([*changes, *claimed, *held])
        except Conflict as error:
            if self._port_changes(service) == claimed:
                raise
            raise OutOfSequence("update out of sequence") from error  # others began to share the port

    def _attached(self, spec: ServiceSpec, current: Service | None = None) -> ServiceSpec:
        """With the ids of its networks.  Raises NotFound, Invalid."""
        own = {current.id: 0} if current else {}
        for task in self._store.tasks_of_service(current.id) if current else ():
            own[task.id] = task.slot if task.is_live and task.slot <= spec.replicas else 0
        return attachments.resolved(
            spec,
            lambda ref: lookup.network(self._store, ref),
            lambda network, address: self._store.get(AddressAllocation, f"{network}/{address}"),
            own,
        )

    async def _resolved(self, spec: ServiceSpec, *, resolve: bool) -> tuple[ServiceSpec, list[str]]:
        container = spec.template.container
        ref = image_ref.parse(container.image)
        if not resolve or ref.digest:
            return spec, []
        digest = await self._pin(ref)
        if not digest:
            return spec, [NO_DIGEST.format(ref.familiar())]
        pinned = replace(container, image=ref.pinned(digest).familiar())
        return replace(spec, template=replace(spec.template, container=pinned)), []

    async def _kept(self, spec: ServiceSpec) -> list[str]:
        """So that the node it was made on may go: nobody else need have it yet."""
        ref = image_ref.parse(spec.template.container.image)
        warning = await self._keep(ref) if ref.digest else ""
        return [warning] if warning else []

    def _allocations(self) -> Collection[PortAllocation]:
        return self._store.all(PortAllocation)

    def _port_changes(self, service: Service) -> list[Change]:
        wanted = ports.claimed(service, self._allocations())
        return [
            *(Put(row) for row in wanted.put),
            *(Delete(PortAllocation, row.id, row.version) for row in wanted.drop),
        ]


def _image(spec: ServiceSpec) -> image_ref.ImageRef:
    return image_ref.parse(spec.template.container.image)


def _version(service: Service) -> SpecVersion:
    return SpecVersion(
        id=spec_version_id(service.id, service.spec_version),
        service_id=service.id,
        number=service.spec_version,
        template=service.spec.template,
        ports=service.ports,
    )


def _restarts(old: Service, new: Service) -> bool:
    """Whether tasks have to be replaced: for anything of the template but its placement, or for where they
    listen; how the world gets there is the mesh's business."""
    same_place = replace(new.spec.template, placement=old.spec.template.placement)
    return same_place != old.spec.template or of_tasks(new.ports) != of_tasks(old.ports)


def _counts_as_running(task: Task) -> bool:
    return task.state is TaskState.RUNNING and task.desired_state <= TaskState.RUNNING
