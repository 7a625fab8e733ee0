"""Who has which address is asked of the loop while a thread connects and disconnects containers."""

from __future__ import annotations

from collections.abc import Callable

from swarmd.node.network.containers import Containers
from swarmd.node.network.port import Attachment


class Number(int):
    """Of a container's place; when it is compared, somebody else does something."""

    meanwhile: Callable[[], object] = staticmethod(bool)

    def __lt__(self, other: object) -> bool:
        self.meanwhile()
        return int(self) < int(other)  # type: ignore[call-overload, no-any-return]


class Name(str):
    """Of a task, likewise."""

    meanwhile: Callable[[], object] = staticmethod(bool)

    def __eq__(self, other: object) -> bool:
        self.meanwhile()
        return str(self) == other

    __hash__ = str.__hash__


def test_a_container_is_found_while_another_one_comes() -> None:
    containers = Containers(None)
    name = Name("first")
    containers._by_index = {1: Attachment(name, 1, "10.128.1.1"), 2: Attachment("second", 2, "10.128.1.2")}
    name.meanwhile = lambda: containers._by_index.update({3: Attachment("third", 3, "10.128.1.3")})
    found = containers.get("second")
    assert found is not None
    assert found.pid == 2


def test_all_containers_are_told_while_one_of_them_goes() -> None:
    containers = Containers(None)
    numbers = [Number(number) for number in (2, 1)]
    containers._by_index = {one: Attachment(f"t{one}", one, f"10.128.1.{one}") for one in numbers}
    numbers[1].meanwhile = lambda: containers._by_index.pop(numbers[0], None)
    assert [one.pid for one in containers.all()] == [1, 2]
