"""Networks of services: names become ids, and what cannot be had is refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from swarmd.model.errors import Invalid, NotFound, SwarmError
from swarmd.model.network import NetworkAttachment, SubnetSpec, TaskNetwork
from swarmd.model.objects import AddressAllocation, Network
from swarmd.model.replace import replace
from swarmd.model.spec import PortSpec, ServiceSpec, TaskTemplate, UpdateConfig
from swarmd.store.core.transaction import Delete
from tests.unit.test_control_bed import Bed, a_spec, a_task, ingress

BLUE, RED = "blue1id", "red1id"


@pytest.fixture
async def bed() -> Bed:
    bed = Bed()
    rows = [
        Network(id=one, name=one[:-3], subnets=(SubnetSpec(subnet=subnet, reserved={"router": address}),))
        for one, subnet, address in ((BLUE, "10.0.5.0/24", "10.0.5.9"), (RED, "10.0.6.0/24", "10.0.6.9"))
    ]
    await bed.put(*rows, Network(id="ing", name="ingress", ingress=True, subnet="10.128.0.0/10"))
    return bed


def in_networks(*attachments: NetworkAttachment, name: str = "web", **fields: Any) -> ServiceSpec:
    spec = a_spec(name)
    own = {key: fields.pop(key) for key in ("drain_delay", "drain_timeout") if key in fields}
    return replace(spec, template=replace(spec.template, networks=attachments, **own), **fields)


def to(target: str, **fields: Any) -> NetworkAttachment:
    return NetworkAttachment(target=target, **fields)


async def create(bed: Bed, spec: ServiceSpec) -> list[str]:
    service, _ = await bed.services.create(spec, resolve_image=False)
    return [one.target for one in service.spec.template.networks]


async def test_names_and_beginnings_of_ids_become_ids_and_what_nodes_have_keeps_its_name(bed: Bed) -> None:
    assert await create(bed, in_networks(to("blue1"), to("red1id"), to("bridge"))) == [BLUE, RED, "bridge"]
    assert await create(bed, in_networks(to("red"), name="two")) == [RED]
    version = bed.store.spec_version(bed.service("two").id, 1)
    assert version is not None
    assert version.template.networks[0].target == RED, "tasks are made from ids"


async def test_an_update_takes_names_and_ids_alike(bed: Bed) -> None:
    await create(bed, in_networks(to("blue1")))
    spec = bed.service("web").spec
    template = replace(spec.template, networks=(to("red1"), *spec.template.networks))
    await bed.change("web", template=template)
    assert [one.target for one in bed.service("web").spec.template.networks] == [RED, BLUE]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (in_networks(to("ingress")), "cannot be explicitly attached to the ingress network"),
        (in_networks(to("")), "write its name or id"),
        (in_networks(to("blue1"), to(BLUE)), "network blue1? is asked for 2 times"),
        (in_networks(to("host"), to("blue1")), 'network "host" excludes all others'),
        (in_networks(to("none"), to("blue1")), 'network "none" excludes all others'),
        (
            in_networks(to("host"), ports=(ingress(80),)),
            "cannot be used with published ports",
        ),
        (
            in_networks(to("host"), ports=(replace(ingress(80), mode="host"),)),
            "cannot be used with published ports",
        ),
        (in_networks(to("none"), ports=(ingress(80),)), "nothing reaches its tasks"),
        (in_networks(to("host", aliases=("a",))), "has no names and no addresses to choose"),
        (in_networks(to("blue1", aliases=("a b",))), 'alias "a b"'),
        (in_networks(to("blue1", options={"x": "y"})), 'driver-opt "x"'),
        (in_networks(endpoint_mode="none"), 'endpoint mode "none" is not known'),
        (in_networks(endpoint_mode="dnsrr", ports=(ingress(80),)), "can't be used with dnsrr mode"),
        (
            in_networks(to("blue1", vip="10.0.5.7"), endpoint_mode="dnsrr"),
            "cannot be used with endpoint mode",
        ),
        (in_networks(to("blue1", vip="10.0.6.7")), r"10\.0\.6\.7 is not in network blue"),
        (in_networks(to("blue1", vip="fd00::7")), "fd00::7 is not in network"),
        (in_networks(to("blue1", vip="seven")), '"seven" in network'),
        (in_networks(to("blue1", vip="10.0.5.1")), "is its gateway's, or reserved"),
        (in_networks(to("blue1", vip="10.0.5.9")), "is its gateway's, or reserved"),
        (in_networks(to("blue1", vip="10.0.5.0")), "is not in network"),
        (in_networks(to("blue1", vip="10.0.5.7", addresses=("10.0.5.7",))), "is asked for 2 times"),
        (in_networks(to("blue1", addresses=("10.0.5.7",)), mode="global"), "a global service has none"),
        (
            in_networks(to("blue1", addresses=("10.0.5.7",)), update=UpdateConfig(order="start-first")),
            "use stop-first",
        ),
        (in_networks(drain_delay=-1.0), "drain-delay must be between 0s"),
        (in_networks(drain_timeout=-1.0), "drain-timeout must be between 0s"),
    ],
)
async def test_what_cannot_be_had_is_refused_with_the_field(bed: Bed, spec: ServiceSpec, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        await create(bed, spec)
    assert bed.store.service_by_name("web") is None


async def test_a_network_that_is_not_there_is_named(bed: Bed) -> None:
    with pytest.raises(NotFound, match="network green not found"):
        await create(bed, in_networks(to("green")))


async def test_a_network_that_is_removed_while_the_image_is_looked_for_is_noticed(bed: Bed) -> None:
    network = bed.store.get(Network, BLUE)
    assert network is not None

    async def pin(ref: object) -> str:
        await bed.store.commit([Delete(Network, BLUE, network.version)])
        return ""

    bed.services._pin = pin
    with pytest.raises(SwarmError, match=f"network {BLUE} not found"):
        await bed.services.create(in_networks(to("blue1")), resolve_image=True)
    assert bed.store.service_by_name("web") is None


async def test_ports_of_the_node_go_with_its_own_network(bed: Bed) -> None:
    port = PortSpec(target=80, published=8080, mode="host")
    assert await create(bed, in_networks(to("bridge"), ports=(port,))) == ["bridge"]


async def test_an_address_that_somebody_has_is_refused_and_ones_own_is_not(bed: Bed) -> None:
    row = AddressAllocation(
        id=f"{BLUE}/10.0.5.7", network_id=BLUE, address="10.0.5.7", owner_kind="task", owner_id="t1"
    )
    await bed.put(row)
    spec = in_networks(to("blue1", addresses=("10.0.5.7",)))
    with pytest.raises(Invalid, match="is in use already: task t1 has it"):
        await create(bed, spec)
    await bed.store.commit([Delete(AddressAllocation, row.id, bed.store.index)])
    await create(bed, spec)
    networks = (TaskNetwork(network_id=BLUE, addresses=("10.0.5.7",)),)
    await bed.put(a_task("t1", "n1", service_id=bed.service("web").id, networks=networks), row)
    assert await bed.change("web", replicas=2) == []


async def test_slots_do_not_swap_addresses_that_each_waits_for_the_other_to_give_up(bed: Bed) -> None:
    first, second = "10.0.5.7", "10.0.5.8"
    await create(bed, in_networks(to("blue1", addresses=(first, second)), replicas=2))
    service = bed.service("web")
    for slot, address in ((1, first), (2, second)):
        networks = (TaskNetwork(network_id=BLUE, addresses=(address,)),)
        await bed.put(
            a_task(f"t{slot}", "n1", service_id=service.id, slot=slot, networks=networks),
            AddressAllocation(
                id=f"{BLUE}/{address}",
                network_id=BLUE,
                address=address,
                owner_kind="task",
                owner_id=f"t{slot}",
            ),
        )

    def changed(**fields: Any) -> TaskTemplate:
        return replace(service.spec.template, networks=(to(BLUE, **fields),))

    for fields in ({"addresses": (second, first)}, {"addresses": (second,)}, {"vip": second}):
        with pytest.raises(Invalid, match=r"is that of slot 2 now, .* scale the service to 0 first"):
            await bed.change("web", template=changed(**fields))
    await bed.change("web", template=changed(addresses=(first, "10.0.5.10")))
    await bed.change("web", template=changed(addresses=(second,)), replicas=1)
    await bed.change("web", template=changed(addresses=(second, first)), replicas=0)
