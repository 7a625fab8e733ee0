"""Structs survive the wire, and the two schemas say the same."""

from __future__ import annotations

import typing

import msgspec
import pytest

from swarmd.model.objects import Node, Service, Task, TaskStatus, UpdateStatus
from swarmd.model.spec import (
    ContainerSpec,
    DeviceSpec,
    MountSpec,
    NodeSpec,
    PortSpec,
    Resources,
    ServiceSpec,
    TaskTemplate,
    ThrottleSpec,
    UlimitSpec,
)
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


def test_everything_a_container_can_be_told_comes_back_as_it_was() -> None:
    template = TaskTemplate(
        container=ContainerSpec(
            groups=("wheel",), hosts=("10.0.0.1 db",), dns=("1.1.1.1",), dns_search=("a.b",), tty=True,
            dns_options=("ndots:2",), open_stdin=True, ulimits=(UlimitSpec(name="nofile", soft=1, hard=-1),),
            sysctls={"net.core.somaxconn": "9"}, privileged=True, devices=(DeviceSpec(source="/dev/fuse"),),
            device_rules=("c 1:3 rwm",), seccomp="unconfined", oom_score_adj=-5, shm_size=1 << 20,
            pid_mode="host", ipc_mode="host", uts_mode="host", cgroupns_mode="host", userns="host",
            domainname="example.org",
            mounts=(MountSpec(target="/t", labels={"a": "b"}, tmpfs_options=("noexec",), no_copy=True),),
        ),
        limits=Resources(memory_swap=-1, read_bps=(ThrottleSpec(device="/dev/vda", rate=7),)),
        runtime="crun",
    )  # fmt: skip
    assert codec.decode(TaskTemplate, codec.encode(template)) == template


@pytest.mark.parametrize("swappiness", [None, 0, 60])
def test_a_number_that_is_not_given_is_other_than_zero(swappiness: int | None) -> None:
    amount = Resources(memory_swappiness=swappiness)
    assert codec.decode(Resources, codec.encode(amount)) == amount
