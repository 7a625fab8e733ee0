"""Routes on shared ports: what is accepted, who excludes whom, and that nothing is left behind."""

from __future__ import annotations

import pytest

from swarmd.manager.allocator.core import routes
from swarmd.manager.dispatcher.core import routes as told
from swarmd.manager.dispatcher.core.mesh import build
from swarmd.model import claims
from swarmd.model.errors import Conflict, Invalid, OutOfSequence
from swarmd.model.objects import Node, NodeStatus, PortAllocation, Secret, Service, Task, TaskStatus
from swarmd.model.replace import replace
from swarmd.model.spec import PortSpec
from swarmd.model.states import NodeState, TaskState
from swarmd.store.core.transaction import Put
from tests.unit.test_control_bed import Bed, a_spec, ingress


@pytest.fixture
def bed() -> Bed:
    return Bed()


def route(host: str = "", path: str = "", port: int = 80, **more: object) -> PortSpec:
    return replace(PortSpec(target=8080, published=port, host=host, path=path), **more)


async def create(bed: Bed, name: str, *ports: PortSpec) -> Service:
    service, _ = await bed.services.create(a_spec(name, ports=ports), resolve_image=False)
    return service


async def update(bed: Bed, name: str, *ports: PortSpec) -> None:
    row = bed.service(name)
    await bed.services.update(row.id, row.version, replace(row.spec, ports=ports), resolve_image=False)


def rows(bed: Bed) -> dict[str, tuple[str, str]]:
    return {row.id: (row.service_name, row.mode) for row in bed.store.all(PortAllocation)}


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        (route("app_.example.com"), "no host name"),
        (route("*.*.example.com"), "no host name"),
        (route("-app.example.com"), "no host name"),
        (route("10.0.0.1"), "is an address"),
        (route("a" * 64 + ".example.com"), "no host name"),
        (route(path="api"), "cannot be a prefix"),
        (route(path="/a?b"), "cannot be a prefix"),
        (route(path="/a/../b"), "cannot be a prefix"),
        (route(path="/a//b"), "cannot be a prefix"),
        (route("app.example.com", protocol="udp"), "HTTP, which is tcp"),
        (route("app.example.com", mode="host"), "HTTP, which is tcp"),
        (route("app.example.com", port=0), "needs a published port"),
        (route("app.example.com", sticky=True), "or sticky"),
        (route("app.example.com", host_ip="10.0.0.1"), "one address"),
    ],
)
async def test_a_route_that_cannot_be_served_is_refused(bed: Bed, port: PortSpec, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        await create(bed, "web", port)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (route("app.example.com", "/"), "published twice"),
        (route("APP.example.com"), "published twice"),
        (ingress(80), "with and without a host or path"),
        (route("b.example.com", tls="cert"), "with TLS or without"),
    ],
)
async def test_ports_of_one_service_that_contradict_each_other_are_refused(
    bed: Bed, second: PortSpec, reason: str
) -> None:
    with pytest.raises(Invalid, match=reason):
        await create(bed, "web", route("app.example.com"), second)


async def test_services_share_a_port_and_the_last_one_to_go_frees_it(bed: Bed) -> None:
    await create(bed, "one", route("one.example.com"), route("one.example.com", "/api"))
    await create(bed, "two", route("two.example.com"))
    assert rows(bed) == {
        "tcp/80": ("", "http"),
        "tcp/80/one.example.com/": ("one", "http"),
        "tcp/80/one.example.com/api": ("one", "http"),
        "tcp/80/two.example.com/": ("two", "http"),
    }
    await bed.services.remove("one")
    assert rows(bed) == {"tcp/80": ("", "http"), "tcp/80/two.example.com/": ("two", "http")}
    await bed.services.remove("two")
    assert rows(bed) == {}


async def test_a_host_and_path_that_another_service_has_is_refused_with_its_name(bed: Bed) -> None:
    await create(bed, "one", route("app.example.com", "/api/"))
    with pytest.raises(Invalid, match=r"app.example.com/api on port '80' leads to service 'one'"):
        await create(bed, "two", route("App.Example.com", "/api"))
    await create(bed, "two", route("app.example.com", "/apis"))


async def test_a_port_alone_and_routes_on_it_exclude_each_other(bed: Bed) -> None:
    await create(bed, "alone", ingress(80))
    with pytest.raises(Invalid, match="already in use by service 'alone'"):
        await create(bed, "web", route("app.example.com"))
    await create(bed, "web", route("app.example.com", port=81))
    with pytest.raises(Invalid, match=r"already in use by service 'web' .* as a shared port"):
        await create(bed, "other", ingress(81))
    with pytest.raises(Invalid, match="already in use by service 'web'"):
        await create(bed, "other", replace(ingress(81), mode="host"))


async def test_a_range_may_begin_with_a_port_that_is_shared(bed: Bed) -> None:
    await create(bed, "web", route("a.example.com"), PortSpec(target=81, published=80, published_end=85))
    ranged = await create(bed, "other", PortSpec(target=80, published=80, published_end=85))
    held = {row.id: row for row in bed.store.all(PortAllocation)}
    assert [port.published for port in routes.grant(ranged, held).ports or ()] == [81]


async def test_a_port_with_and_without_tls_cannot_be_shared(bed: Bed) -> None:
    await create(bed, "plain", route("a.example.com"))
    taken = {row.id: row for row in bed.store.all(PortAllocation)}
    reason = claims.refusal(route("b.example.com", tls="cert"), taken, own="new")
    assert "served without TLS for service 'plain'" in reason


async def test_a_service_may_change_between_a_route_and_the_port_alone(bed: Bed) -> None:
    await create(bed, "web", ingress(80))
    await update(bed, "web", route("app.example.com"))
    assert rows(bed) == {"tcp/80": ("", "http"), "tcp/80/app.example.com/": ("web", "http")}
    await update(bed, "web", ingress(80))
    assert rows(bed) == {"tcp/80": ("web", "ingress")}
    await update(bed, "web")
    assert rows(bed) == {}


async def test_a_new_host_name_replaces_no_task(bed: Bed) -> None:
    await create(bed, "web", route("app.example.com"))
    await update(bed, "web", route("app.example.com"), route("www.example.com"))
    assert bed.service("web").spec_version == 1
    assert [port.host for port in bed.service("web").ports] == ["app.example.com", "www.example.com"]
    await update(bed, "web", route("app.example.com", target=9090))
    assert bed.service("web").spec_version == 2


async def test_two_services_that_want_a_port_in_the_same_moment_do_not_both_get_it() -> None:
    for mine, theirs in ((ingress(80), route("a.example.com")), (route("a.example.com"), ingress(80))):
        bed = Bed()
        bed.proposer.first = [lambda bed=bed, theirs=theirs: create(bed, "quicker", theirs)]  # type: ignore[misc]
        with pytest.raises((Conflict, Invalid), match="80"):
            await create(bed, "slower", mine)
        assert {name for name, _ in rows(bed).values()} <= {"quicker", ""}
        await bed.services.remove("quicker")
        assert rows(bed) == {}


async def test_two_routes_that_come_in_the_same_moment_are_both_there() -> None:
    bed = Bed()
    bed.proposer.first = [lambda: create(bed, "quicker", route("a.example.com"))]
    await create(bed, "slower", route("b.example.com"))
    assert sorted(rows(bed)) == ["tcp/80", "tcp/80/a.example.com/", "tcp/80/b.example.com/"]


async def test_the_same_route_in_the_same_moment_is_one_services() -> None:
    bed = Bed()
    bed.proposer.first = [lambda: create(bed, "quicker", route("a.example.com"))]
    with pytest.raises((Conflict, Invalid), match="quicker"):
        await create(bed, "slower", route("a.example.com"))


async def test_two_services_that_leave_in_the_same_moment_leave_nothing_behind() -> None:
    bed = Bed()
    await create(bed, "one", route("a.example.com"))
    await create(bed, "two", route("b.example.com"))
    bed.proposer.first = [lambda: bed.services.remove("two")]
    await bed.services.remove("one")
    assert rows(bed) == {}


async def test_a_service_that_comes_while_the_last_one_leaves_keeps_the_port() -> None:
    bed = Bed()
    await create(bed, "one", route("a.example.com"))
    bed.proposer.first = [lambda: create(bed, "two", route("b.example.com"))]
    await bed.services.remove("one")
    assert rows(bed) == {"tcp/80": ("", "http"), "tcp/80/b.example.com/": ("two", "http")}


async def test_an_update_that_loses_to_another_of_its_service_is_out_of_sequence() -> None:
    bed = Bed()
    await create(bed, "web", route("a.example.com"))
    bed.proposer.first = [lambda: update(bed, "web", route("b.example.com"))]
    with pytest.raises(OutOfSequence):
        await update(bed, "web", route("c.example.com"))
    assert sorted(rows(bed)) == ["tcp/80", "tcp/80/b.example.com/"]


# -- the allocator ---------------------------------------------------------------------------------


def allocation(key: str, service: str, mode: str = "http") -> PortAllocation:
    return PortAllocation(id=key, version=3, service_id=service, service_name=service, mode=mode)


def a_row(*ports: PortSpec, had: tuple[PortSpec, ...] = ()) -> Service:
    return Service(id="web", version=5, spec=a_spec("web", ports=ports), ports=had)


def taken(*found: PortAllocation) -> dict[str, PortAllocation]:
    return {row.id: row for row in found}


def test_the_allocator_grants_what_is_claimed_already_without_a_change() -> None:
    port = route("a.example.com")
    held = taken(allocation("tcp/80", ""), allocation("tcp/80/a.example.com/", "web"))
    granted = routes.grant(a_row(port, had=(port,)), held)
    assert (granted.ports, granted.changes) == ((port,), ())


def test_the_allocator_says_whose_a_route_is() -> None:
    held = taken(allocation("tcp/80", ""), allocation("tcp/80/a.example.com/", "other"))
    assert "leads to service 'other'" in routes.grant(a_row(route("a.example.com")), held).error
    assert "as a shared port" in routes.grant(a_row(ingress(80)), held).error


def test_a_rollback_from_a_route_to_the_port_alone_takes_over_the_common_row() -> None:
    held = taken(allocation("tcp/80", ""), allocation("tcp/80/a.example.com/", "web"))
    granted = routes.grant(a_row(ingress(80), had=(route("a.example.com"),)), held)
    puts = [one.row for one in granted.changes if isinstance(one, Put)]
    claim = next(row for row in puts if isinstance(row, PortAllocation))
    assert (claim.id, claim.service_id, claim.mode, claim.version) == ("tcp/80", "web", "ingress", 3)
    assert [one.id for one in granted.changes if not isinstance(one, Put)] == ["tcp/80/a.example.com/"]


def test_rows_of_a_service_that_is_gone_go_and_so_does_a_common_row_without_routes() -> None:
    held = taken(
        allocation("tcp/80", ""),
        allocation("tcp/80/a.example.com/", "gone"),
        allocation("tcp/81", "gone", "ingress"),
    )
    (step,) = routes.freed("gone", held)
    assert sorted(one.id for one in step if not isinstance(one, Put)) == [
        "tcp/80", "tcp/80/a.example.com/", "tcp/81",
    ]  # fmt: skip
    assert routes.freed("", held) == []
    assert [one.id for (one,) in routes.freed("", taken(allocation("tcp/82", "")))] == ["tcp/82"]  # type: ignore[union-attr]


# -- what nodes are told ---------------------------------------------------------------------------


def test_nodes_are_told_routes_with_running_tasks_and_only_the_certificates_they_need() -> None:
    node = Node(id="n1", number=1, status=NodeStatus(state=NodeState.READY, address="10.0.0.1"))
    port = route("App.example.com", "/api/", port=443, tls="cert")
    service = replace(a_row(port, ingress(8080)), ports=(port, ingress(8080)))
    task = Task(id="t", service_id="web", service_name="web", spec_version=1, slot=1, node_id="n1",
                status=TaskStatus(state=TaskState.RUNNING, address="10.128.1.2"))  # fmt: skip
    starting = replace(task, id="u", status=TaskStatus(state=TaskState.STARTING, address="10.128.1.3"))
    secrets = [Secret(id="s1", name="Cert", data=b"pem"), Secret(id="s2", name="other", data=b"hidden")]
    mesh = told.add(build([node], [service], [task, starting]), [service], [task, starting], secrets)
    assert [(one.port, one.protocol) for one in mesh.ports] == [(8080, "tcp")], "routes are not the kernel's"
    (found,) = mesh.routes
    assert (found.host, found.path, found.port, found.tls) == ("app.example.com", "/api", 443, "s1")
    assert [(one.task_id, one.address, one.port) for one in found.backends] == [("t", "10.128.1.2", 8080)]
    assert mesh.certificates == (("s1", b"pem"),)


def test_a_route_whose_secret_is_gone_is_not_told_as_one_without_tls() -> None:
    port = route("app.example.com", tls="gone")
    service = replace(a_row(port), ports=(port,))
    (found,) = told.add(build([], [service], []), [service], [], []).routes
    assert found.tls == "gone"
