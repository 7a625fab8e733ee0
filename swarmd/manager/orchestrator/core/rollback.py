"""Decide what an automatic rollback means: the previous spec becomes the present one.

A rollback by hand is an update like any other and belongs to ``control.services``.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarmd.model.errors import Refused
from swarmd.model.objects import Service, SpecVersion, UpdateStatus, spec_version_id
from swarmd.model.replace import replace
from swarmd.model.states import UpdateState
from swarmd.model.versions import number_for


def rolled_back(
    service: Service, versions: Iterable[SpecVersion], now: float, *, failed_task: str
) -> tuple[Service, SpecVersion | None]:
    """``service`` with its previous spec, and the spec version to store beside it; None: it is there.

    There is no way back from it: the spec that failed is not kept.  Raises Refused when there is no previous
    spec.
    """
    spec = service.previous_spec
    if spec is None:
        raise Refused(f"service {service.spec.name} does not have a previous spec")
    ports = service.ports if spec.ports == service.spec.ports else spec.ports
    number, exists = number_for(spec.template, ports, versions)
    status = UpdateStatus(
        state=UpdateState.ROLLBACK_STARTED,
        started_at=now,
        message=f"update rolled back due to failure or early termination of task {failed_task}",
    )
    after = replace(service, spec=spec, spec_version=number, previous_spec=None, update_status=status)
    if exists:
        return after, None
    version = SpecVersion(
        id=spec_version_id(service.id, number),
        service_id=service.id,
        number=number,
        template=spec.template,
        ports=ports,
    )
    return after, version
