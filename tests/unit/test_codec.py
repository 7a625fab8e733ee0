"""Structs survive the wire, and the two schemas say the same."""

from __future__ import annotations

import typing

import msgspec
import pytest

from swarmd.model.objects import Node, Service, Task, TaskStatus, UpdateStatus
from swarmd.model.spec import ContainerSpec, MountSpec, NodeSpec, PortSpec, ServiceSpec, TaskTemplate
from swarmd.model.states import Availability, Role, TaskState, UpdateState
from swarmd.rpc import codec

SPEC = ServiceSpec(
    name="web",
    labels={"a": "b"},
    template=TaskTemplate(
        container=ContainerSpec(image="nginx:1.12", mounts=(MountSpec(source="x", target="/y"),))
    ),
    ports=(PortSpec(target=80, published=8080),),
)


@pytest.mark.parametrize("struct", codec.STRUCTS, ids=lambda s: s.__name__)
def test_every_field_of_the_model_has_a_field_on_the_wire(struct: type[msgspec.Struct]) -> None:
    wire = {field.name for field in codec.MESSAGES[struct].DESCRIPTOR.fields}
    assert wire == {field.name for field in msgspec.structs.fields(struct)}
    assert typing.get_type_hints(struct)


@pytest.mark.parametrize(
    "row",
    [
        Service(id="s", version=7, spec=SPEC, previous_spec=SPEC, ports=SPEC.ports,
                update_status=UpdateStatus(state=UpdateState.PAUSED, failed_tasks=("t1", "t2"))),
        Service(id="s", spec=SPEC),
        Task(id="t", service_id="s", service_name="web", spec_version=3, slot=2,
             desired_state=TaskState.SHUTDOWN, status=TaskStatus(state=TaskState.FAILED, exit_code=3)),
        Node(id="n", spec=NodeSpec(role=Role.MANAGER, availability=Availability.DRAIN), number=3),
    ],
)  # fmt: skip
def test_a_row_comes_back_as_it_was(row: msgspec.Struct) -> None:
    assert codec.decode(type(row), codec.encode(row)) == row
