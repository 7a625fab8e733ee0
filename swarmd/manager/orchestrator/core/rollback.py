"""Decide what an automatic rollback means: the previous spec becomes the present one, as a new version.

A rollback by hand is an update like any other and belongs to ``control.services``.
"""

from __future__ import annotations

from swarmd.model.errors import Refused
from swarmd.model.objects import Service, SpecVersion, UpdateStatus, spec_version_id
from swarmd.model.replace import replace
from swarmd.model.states import UpdateState


def rolled_back(service: Service, now: float, *, failed_task: str) -> tuple[Service, SpecVersion | None]:
    """``service`` with its previous spec, and the spec version to store beside it.

    The version is None when template and ports are the same as now: nothing has to restart.  There is no way
    back from it: the spec that failed is not kept.  Raises Refused when there is no previous spec.
    """
    spec = service.previous_spec
    if spec is None:
        raise Refused(f"service {service.spec.name} does not have a previous spec")
    same = (spec.template, spec.ports) == (service.spec.template, service.spec.ports)
    number = service.spec_version + (0 if same else 1)
    status = UpdateStatus(
        state=UpdateState.ROLLBACK_STARTED,
        started_at=now,
        message=f"update rolled back due to failure or early termination of task {failed_task}",
    )
    after = replace(service, spec=spec, spec_version=number, previous_spec=None, update_status=status)
    if same:
        return after, None
    version = SpecVersion(
        id=spec_version_id(service.id, number),
        service_id=service.id,
        number=number,
        template=spec.template,
        ports=spec.ports,
    )
    return after, version
