"""A version that was there before is itself again; anything else is the next one."""

from __future__ import annotations

from swarmd.model.objects import SpecVersion
from swarmd.model.spec import ContainerSpec, PortSpec, TaskTemplate
from swarmd.model.versions import number_for

ONE = TaskTemplate(container=ContainerSpec(image="one"))
TWO = TaskTemplate(container=ContainerSpec(image="two"))
PORTS = (PortSpec(target=80, published=80),)


def row(number: int, template: TaskTemplate, ports: tuple[PortSpec, ...] = ()) -> SpecVersion:
    return SpecVersion(id=f"s.{number}", service_id="s", number=number, template=template, ports=ports)


def test_an_equal_version_keeps_its_number_the_highest_if_there_are_several() -> None:
    assert number_for(ONE, (), [row(1, ONE), row(2, TWO), row(3, ONE)]) == (3, True)


def test_a_new_version_comes_after_every_number_that_was_given() -> None:
    assert number_for(TWO, (), [row(1, ONE), row(4, ONE)]) == (5, False)
    assert number_for(ONE, (), []) == (1, False)


def test_other_ports_make_another_version() -> None:
    assert number_for(ONE, PORTS, [row(1, ONE)]) == (2, False)
