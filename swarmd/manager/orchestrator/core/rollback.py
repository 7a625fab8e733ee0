"""Decide what going back means: the previous spec becomes the present one, under a new version number."""

from __future__ import annotations

from swarmd.model.errors import Refused
from swarmd.model.objects import Service, SpecVersion, UpdateStatus, spec_version_id
from swarmd.model.replace import replace
from swarmd.model.states import UpdateState

MANUAL = "manually requested rollback"


def rolled_back(service: Service, now: float, *, failed_task: str = "") -> tuple[Service, SpecVersion | None]:
    """``service`` with its previous spec, and the spec version to store beside it.

    The version is None when template and ports are the same as now: nothing has to restart.
    By hand the two specs swap places; an automatic rollback (``failed_task`` says why) has no way back.
    Raises Refused when there is no previous spec.
    """
    spec = service.previous_spec
    if spec is None:
        raise Refused(f"service {service.spec.name} does not have a previous spec")
    same = (spec.template, spec.ports) == (service.spec.template, service.spec.ports)
    number = service.spec_version + (0 if same else 1)
    message = f"update rolled back due to failure or early termination of task {failed_task}"
    after = replace(
        service,
        spec=spec,
        spec_version=number,
        previous_spec=None if failed_task else service.spec,
        update_status=UpdateStatus(
            state=UpdateState.ROLLBACK_STARTED,
            started_at=now,
            message=message if failed_task else MANUAL,
        ),
    )
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
