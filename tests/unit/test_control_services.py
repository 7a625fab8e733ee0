"""Creating, changing, rolling back and removing services: one transaction each, ports never taken twice."""

from __future__ import annotations

import pytest

from swarmd.control.services import NO_DIGEST
from swarmd.model.errors import Conflict, Invalid, NotFound, OutOfSequence, Refused
from swarmd.model.objects import PortAllocation, Service, SpecVersion, UpdateStatus
from swarmd.model.replace import replace
from swarmd.model.spec import ContainerSpec, Placement, TaskTemplate
from swarmd.model.states import TaskState, UpdateState
from swarmd.store.core.transaction import Delete
from tests.unit.test_control_bed import Bed, a_spec, a_task, ingress

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def bed() -> Bed:
    return Bed()


async def create(bed: Bed, name: str = "web", **fields: object) -> Service:
    service, _ = await bed.services.create(replace(a_spec(name), **fields), resolve_image=False)
    return service


def ports_taken(bed: Bed) -> dict[str, str]:
    return {row.id: row.service_name for row in bed.store.all(PortAllocation)}


def template(bed: Bed, **fields: object) -> TaskTemplate:
    return replace(bed.service("web").spec.template, **fields)


NEW_IMAGE = ContainerSpec(image="nginx:2")


async def test_a_new_service_comes_with_its_first_version_and_its_ports(bed: Bed) -> None:
    service = await create(bed, ports=(ingress(80),))
    row = bed.store.spec_version(service.id, 1)
    assert row is not None
    assert (row.template, row.ports) == (service.spec.template, service.ports)
    assert ports_taken(bed) == {"tcp/80": "web"}
    assert len({row.version for row in (bed.service("web"), row)}) == 1, "one transaction"


async def test_a_taken_name_is_a_conflict_and_takes_no_port(bed: Bed) -> None:
    await create(bed)
    with pytest.raises(Conflict, match="name conflicts with an existing object: service WEB already exists"):
        await create(bed, "WEB", ports=(ingress(80),))
    assert ports_taken(bed) == {}


@pytest.mark.parametrize(
    ("first", "second", "how"),
    [
        ("ingress", "ingress", "an ingress port"),
        ("ingress", "host", "an ingress port"),
        ("host", "ingress", "a host-published port"),
    ],
)
async def test_a_port_conflict_names_the_service_that_has_it(
    bed: Bed, first: str, second: str, how: str
) -> None:
    holder = await create(bed, ports=(replace(ingress(8080), mode=first),))
    with pytest.raises(Invalid) as caught:
        await create(bed, "other", ports=(replace(ingress(8080), mode=second),))
    assert str(caught.value) == f"port '8080' is already in use by service 'web' ({holder.id}) as {how}"


async def test_host_ports_may_be_shared_and_protocols_are_apart(bed: Bed) -> None:
    await create(bed, ports=(replace(ingress(53), mode="host"),))
    await create(bed, "two", ports=(replace(ingress(53), mode="host"),))
    await create(bed, "three", ports=(replace(ingress(53), protocol="udp"),))
    assert len(ports_taken(bed)) == 3


async def test_one_number_may_be_had_by_two_services_on_different_addresses_only(bed: Bed) -> None:
    here, there = (replace(ingress(80), host_ip=host) for host in ("192.0.2.1", "eth1"))
    first = await create(bed, ports=(here,))
    await create(bed, "two", ports=(there,))
    assert ports_taken(bed) == {"tcp/80@192.0.2.1": "web", "tcp/80@eth1": "two"}
    for taken in (ingress(80), here, replace(here, mode="host"), replace(ingress(80), mode="host")):
        with pytest.raises(Invalid, match=f"by service 'web' \\({first.id}\\) as an ingress port"):
            await create(bed, "three", ports=(taken,))
    await create(bed, "three", ports=(replace(here, protocol="udp"),))
    await create(bed, "four", ports=(replace(here, published=81, mode="host"),))
    with pytest.raises(Invalid, match=r"by service 'four'.* as a host-published port"):
        await create(bed, "five", ports=(ingress(81),))
    await create(bed, "five", ports=(replace(there, published=81),))


async def test_a_port_of_a_range_takes_no_row_until_it_has_a_number_and_keeps_it_after(bed: Bed) -> None:
    ranged = replace(ingress(8000), published_end=8010)
    await create(bed, ports=(ranged,))
    assert bed.service("web").ports == (ingress(0),)
    assert ports_taken(bed) == {}
    row = bed.service("web")
    allocated = PortAllocation(id="tcp/8003", service_id=row.id, service_name="web")
    await bed.put(replace(row, ports=(ingress(8003),)), allocated)
    await bed.change("web", template=template(bed, container=NEW_IMAGE))
    assert bed.service("web").ports == (ingress(8003),)
    await bed.change("web", ports=(replace(ranged, published=8005),))
    assert bed.service("web").ports == (ingress(0),)


async def test_two_who_take_one_port_at_the_same_moment_cannot_both_have_it(bed: Bed) -> None:
    bed.quicker(lambda: PortAllocation(id="tcp/80", service_id="s9", service_name="quick"))
    with pytest.raises(Conflict, match=r"port 80/tcp is already in use by service 'quick' \(s9\)"):
        await create(bed, ports=(ingress(80),))
    assert bed.store.service_by_name("web") is None


async def test_an_update_frees_the_ports_it_drops_and_takes_new_ones(bed: Bed) -> None:
    await create(bed, ports=(ingress(80), ingress(81)))
    await bed.change("web", ports=(ingress(81), ingress(82)))
    assert ports_taken(bed) == {"tcp/81": "web", "tcp/82": "web"}
    await create(bed, "other", ports=(ingress(80),))
    with pytest.raises(Invalid, match="by service 'web'"):
        await bed.change("other", ports=(ingress(82),))
    assert bed.service("other").ports == (ingress(80),)


async def test_a_port_that_changes_its_mode_changes_its_row(bed: Bed) -> None:
    service = await create(bed, ports=(ingress(80),))
    await bed.change("web", ports=(replace(ingress(80), mode="host"),))
    assert ports_taken(bed) == {f"tcp/80@{service.id}": "web"}


async def test_a_dynamic_port_keeps_its_number_across_updates(bed: Bed) -> None:
    await create(bed, ports=(ingress(0),))
    row = bed.service("web")
    allocated = PortAllocation(id="tcp/30001", service_id=row.id, service_name="web")
    await bed.put(replace(row, ports=(ingress(30001),)), allocated)
    await bed.change("web", template=template(bed, container=NEW_IMAGE))
    assert bed.service("web").ports == (ingress(30001),)
    assert bed.service("web").spec.ports == (ingress(0),)
    await bed.change("web", ports=(ingress(0), ingress(0, target=81)))
    assert bed.service("web").ports == (ingress(30001), ingress(0, target=81))
    assert ports_taken(bed) == {"tcp/30001": "web"}
    await bed.change("web", ports=())
    assert ports_taken(bed) == {}


async def test_a_new_template_or_port_is_a_new_version_and_an_update_begins(bed: Bed) -> None:
    service = await create(bed)
    await bed.change("web", template=template(bed, container=NEW_IMAGE))
    row = bed.service("web")
    assert row.spec_version == 2
    assert row.update_status is not None
    assert row.update_status.state is UpdateState.UPDATING
    assert row.update_status.started_at == bed.clock.now()
    await bed.change("web", ports=(ingress(80),))
    assert bed.service("web").spec_version == 3
    third = bed.store.spec_version(service.id, 3)
    assert third is not None
    assert third.ports == (ingress(80),)
    assert {row.number for row in bed.store.all(SpecVersion)} == {1, 2, 3}


@pytest.mark.parametrize(
    "change",
    [
        {"ports": (replace(ingress(80), allow=("10.0.0.0/8",)),)},
        {"ports": (replace(ingress(80), sticky=True),)},
        {"ports": (replace(ingress(80), host_ip="192.0.2.1"),)},
        {"ports": (ingress(8080),)},
        {"ports": (ingress(8080), ingress(80))},
        {"ingress_source": "masquerade"},
    ],
    ids=["allow", "sticky", "host-ip", "another number", "one more number", "ingress-source"],
)
async def test_how_the_world_reaches_a_port_changes_under_the_tasks_that_run(
    bed: Bed, change: dict[str, object]
) -> None:
    service = await create(bed, ports=(ingress(80),))
    before = bed.store.spec_version(service.id, 1)
    await bed.change("web", **change)
    row = bed.service("web")
    assert (row.spec_version, row.update_status) == (1, None)
    assert row.ports == change.get("ports", service.ports), "and what nodes are told of is the new one"
    assert bed.store.spec_version(service.id, 1) == before


async def test_what_a_port_takes_of_the_container_or_the_node_is_a_new_version(bed: Bed) -> None:
    await create(bed, ports=(ingress(80),))
    host = replace(ingress(80), mode="host")
    for number, port in enumerate(
        (ingress(80, target=81), replace(ingress(80), protocol="udp"), host, replace(host, published=81)), 2
    ):
        await bed.change("web", ports=(port,))
        assert bed.service("web").spec_version == number, port


async def test_a_new_number_of_replicas_restarts_nothing(bed: Bed) -> None:
    service = await create(bed)
    before = bed.store.spec_version(service.id, 1)
    await bed.change("web", replicas=5)
    row = bed.service("web")
    assert (row.spec.replicas, row.spec_version, row.update_status) == (5, 1, None)
    assert row.previous_spec == service.spec, "a rollback undoes a scale, too"
    assert bed.store.spec_version(service.id, 1) == before, "not even rewritten"


async def test_a_placement_alone_keeps_the_version_and_is_written_into_it(bed: Bed) -> None:
    service = await create(bed)
    place = Placement(constraints=("node.role==worker",))
    await bed.change("web", template=template(bed, placement=place))
    row, version = bed.service("web"), bed.store.spec_version(service.id, 1)
    assert (row.spec_version, row.update_status) == (1, None)
    assert version is not None
    assert version.template.placement == place
    assert bed.store.spec_version(service.id, 2) is None


async def test_a_change_during_an_update_lets_the_update_go_on(bed: Bed) -> None:
    await create(bed)
    await bed.change("web", template=template(bed, container=NEW_IMAGE))
    await bed.put(replace(bed.service("web"), update_status=UpdateStatus(state=UpdateState.PAUSED)))
    await bed.change("web", replicas=3)
    status = bed.service("web").update_status
    assert status is not None
    assert status.state is UpdateState.UPDATING


async def test_an_update_of_what_changed_meanwhile_is_out_of_sequence(bed: Bed) -> None:
    read = await create(bed)
    read = bed.service("web")
    await bed.change("web", replicas=2)
    with pytest.raises(OutOfSequence, match="update out of sequence"):
        await bed.services.update("web", read.version, read.spec, resolve_image=False)
    bed.quicker(lambda: replace(bed.service("web"), update_status=None))
    with pytest.raises(OutOfSequence):
        await bed.change("web", replicas=9)
    assert bed.service("web").spec.replicas == 2


async def test_an_update_that_is_refused_changes_nothing(bed: Bed) -> None:
    await create(bed)
    before = bed.service("web")
    for wrong in ({"name": "db"}, {"mode": "global"}, {"replicas": -1}):
        with pytest.raises(Invalid):
            await bed.change("web", **wrong)
    assert bed.service("web") == before


async def test_an_image_is_pinned_to_the_digest_that_a_node_holds(bed: Bed) -> None:
    bed.images["nginx:1"] = DIGEST
    service, warnings = await bed.services.create(a_spec(), resolve_image=True)
    assert service.spec.template.container.image == f"nginx:1@{DIGEST}"
    assert warnings == []
    await bed.services.update("web", bed.service("web").version, service.spec, resolve_image=True)
    assert bed.service("web").spec_version == 1, "what was read and sent back is no change"


async def test_an_image_that_nobody_has_is_taken_with_a_warning(bed: Bed) -> None:
    service, warnings = await bed.services.create(a_spec(image="nosuch"), resolve_image=True)
    assert service.spec.template.container.image == "nosuch"
    assert warnings == [NO_DIGEST.format("nosuch:latest")]
    bed.images["nginx:2"] = DIGEST
    spec = replace(service.spec, template=template(bed, container=NEW_IMAGE))
    assert await bed.services.update("web", bed.service("web").version, spec, resolve_image=True) == []
    assert bed.service("web").spec.template.container.image == f"nginx:2@{DIGEST}"


async def test_nobody_is_asked_where_the_user_said_so_or_gave_a_digest(bed: Bed) -> None:
    bed.images["nginx:1"] = DIGEST
    service, warnings = await bed.services.create(a_spec(), resolve_image=False)
    assert (service.spec.template.container.image, warnings) == ("nginx:1", [])
    pinned = f"nginx:1@sha256:{'b' * 64}"
    service, warnings = await bed.services.create(a_spec("two", image=pinned), resolve_image=True)
    assert (service.spec.template.container.image, warnings) == (pinned, [])


async def test_a_rollback_goes_back_and_a_second_one_comes_forward(bed: Bed) -> None:
    first = await create(bed, ports=(ingress(80),))
    await bed.change("web", template=template(bed, container=NEW_IMAGE), ports=(ingress(81),))
    second = bed.service("web").spec
    await bed.services.rollback("web")
    row = bed.service("web")
    assert (row.spec, row.previous_spec, row.spec_version) == (first.spec, second, 1)
    assert row.update_status is not None
    assert row.update_status.state is UpdateState.ROLLBACK_STARTED
    assert ports_taken(bed) == {"tcp/80": "web"}
    await bed.services.rollback("web")
    assert bed.service("web").spec == second
    assert ports_taken(bed) == {"tcp/81": "web"}


async def test_a_rollback_needs_something_to_go_back_to_and_its_ports_free(bed: Bed) -> None:
    await create(bed, ports=(ingress(80),))
    with pytest.raises(Refused, match="service web does not have a previous spec"):
        await bed.services.rollback("web")
    await bed.change("web", ports=())
    await create(bed, "other", ports=(ingress(80),))
    with pytest.raises(Invalid, match="by service 'other'"):
        await bed.services.rollback("web")


async def test_removing_frees_name_and_ports_at_once(bed: Bed) -> None:
    service = await create(bed, ports=(ingress(80), replace(ingress(53), mode="host")))
    assert await bed.services.remove(service.id[:4]) == service.id
    assert ports_taken(bed) == {}
    with pytest.raises(NotFound, match="service web not found"):
        await bed.services.remove("web")
    await create(bed, ports=(ingress(80),))


async def test_a_loop_that_writes_the_row_meanwhile_is_no_users_problem(bed: Bed) -> None:
    await create(bed)
    await bed.change("web", replicas=2)
    completed = UpdateStatus(state=UpdateState.COMPLETED)
    bed.quicker(lambda: replace(bed.service("web"), update_status=completed))
    await bed.services.rollback("web")
    assert bed.service("web").spec.replicas == 1
    bed.quicker(lambda: replace(bed.service("web"), update_status=completed))
    await bed.services.remove("web")
    assert bed.store.service_by_name("web") is None


async def test_what_somebody_else_removed_meanwhile_is_not_found(bed: Bed) -> None:
    service = await create(bed)

    async def remove() -> None:
        await bed.store.commit([Delete(Service, service.id, bed.service("web").version)])

    bed.proposer.first.append(remove)
    with pytest.raises(NotFound):
        await bed.services.remove("web")


async def test_a_list_counts_what_runs_and_what_shall(bed: Bed) -> None:
    service = await create(bed, replicas=3)
    stopping = TaskState.SHUTDOWN
    await bed.put(
        a_task("t1", "n1", service_id=service.id),
        a_task("t2", "n2", service_id=service.id, desired_state=stopping),
        a_task("t3", "n3", TaskState.STARTING, service_id=service.id),
    )
    assert bed.services.counts(bed.service("web")) == (1, 3)
    everywhere = replace(bed.service("web"), spec=replace(service.spec, mode="global"))
    assert bed.services.counts(everywhere) == (1, 2)
