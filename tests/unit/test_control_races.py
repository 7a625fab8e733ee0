"""Users who ask for things that exclude each other, or share a row, in the same moment."""

from __future__ import annotations

import asyncio

import pytest

from swarmd.model.errors import NotFound, Refused
from swarmd.model.network import NetworkAttachment, NetworkSpec
from swarmd.model.objects import Cluster, Network, PortAllocation, Service
from swarmd.model.replace import replace
from swarmd.model.spec import PortSpec, ServiceSpec
from swarmd.store.store import Store
from tests.unit.test_control_bed import Bed, Interposing, a_spec

CLIENTS, TIMES = 50, 3


class Slow(Interposing):
    """A commit takes a while, in which others read what was before."""

    async def propose(self, command: bytes, *, timeout: float = 10.0) -> object:
        for _ in range(3):
            await asyncio.sleep(0)
        return await super().propose(command, timeout=timeout)


@pytest.fixture
async def bed(monkeypatch: pytest.MonkeyPatch) -> Bed:
    monkeypatch.setattr("tests.unit.test_control_bed.Interposing", Slow)
    bed = Bed()
    await bed.put(Cluster(id="c"), Network(id="ing", name="ingress", ingress=True))
    await bed.networks.create(NetworkSpec(name="blue"))
    return bed


def inside(name: str, *ports: PortSpec) -> ServiceSpec:
    """A service in the network."""
    plain = a_spec(name, ports=ports)
    template = replace(plain.template, networks=(NetworkAttachment(target="blue"),))
    return replace(plain, template=template)


async def create(bed: Bed, spec: ServiceSpec) -> Service:
    service, _ = await bed.services.create(spec, resolve_image=False)
    return service


def networks_named(store: Store) -> set[str]:
    return {one.target for row in store.all(Service) for one in row.spec.template.networks}


async def test_a_network_is_not_removed_under_a_service_that_comes_meanwhile(bed: Bed) -> None:
    bed.proposer.first = [lambda: create(bed, inside("web"))]
    with pytest.raises(Refused, match="network blue is in use by service web"):
        await bed.networks.remove("blue")
    assert networks_named(bed.store) == {bed.networks.get("blue").id}


async def test_a_service_does_not_come_into_a_network_that_goes_meanwhile(bed: Bed) -> None:
    bed.proposer.first = [lambda: bed.networks.remove("blue")]
    with pytest.raises(NotFound, match="network .* not found"):
        await create(bed, inside("web"))
    assert not bed.store.all(Service)


async def test_a_service_does_not_move_into_a_network_that_goes_meanwhile(bed: Bed) -> None:
    await create(bed, a_spec("web"))
    bed.proposer.first = [lambda: bed.networks.remove("blue")]
    with pytest.raises(NotFound, match="network .* not found"):
        await bed.change("web", template=inside("web").template)
    assert networks_named(bed.store) == set()


async def test_fifty_who_share_a_network_and_a_port_are_all_served(bed: Bed) -> None:
    async def client(number: int) -> None:
        for time in range(TIMES):
            name = f"s{number}-{time}"
            host = PortSpec(protocol="tcp", target=80, published=80, host=f"{name}.example.com")
            await create(bed, inside(name, host))

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    assert len(bed.store.all(Service)) == CLIENTS * TIMES
    assert len(bed.store.all(PortAllocation)) == CLIENTS * TIMES + 1
