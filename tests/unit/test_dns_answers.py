"""What a container is answered, by the bytes of question and answer."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.node.dns.core import answer, wire
from swarmd.node.dns.core.zone import Zone, zones
from swarmd.node.network.port import Endpoint, NetworkState, NetworkView, NodeView, ServiceView
from tests.unit.dns_rig import Answer, ask, read

FRONT = NetworkView("net1", "front", ("10.0.1.0/24", "fd00:1::/64"))
BACK = NetworkView("net2", "back", ("10.0.2.0/24",), internal=True)
WEB = ServiceView("svc1", "web", "net1", ("10.0.1.2", "fd00:1::2"), ("www", "Shop"))
PLAIN = ServiceView("svc2", "plain", "net1")
STORE = ServiceView("svc3", "web", "net2", ("10.0.2.2",))
IDS = {letter: letter * 25 for letter in "abcdefgh"}


def task(
    letter: str, slot: int, *addresses: str, service: str = "web", up: bool = True, node: str = "node1"
) -> Endpoint:
    ids = {"web": ("svc1", "net1"), "plain": ("svc2", "net1"), "store": ("svc3", "net2")}
    service_id, network_id = ids[service]
    name = f"{'web' if service == 'store' else service}.{slot}.{IDS[letter]}"
    return Endpoint(IDS[letter], name, service_id, slot, node, network_id, addresses, up=up)


STATE = NetworkState(
    version=1,
    nodes=(),
    ports=(),
    networks=(FRONT, BACK),
    services=(WEB, PLAIN, STORE),
    endpoints=(
        task("a", 1, "10.0.1.11", "fd00:1::11"),
        task("b", 2, "10.0.1.12", "fd00:1::12"),
        task("c", 3, "10.0.1.13", "fd00:1::13", up=False),
        task("d", 1, "10.0.1.21", service="plain"),
        task("e", 2, "10.0.1.22", service="plain"),
        task("f", 1, "10.0.2.11", service="store"),
        Endpoint("g" * 25, "probe", "", 0, "node1", "net1", ("10.0.1.77",), ("helper",)),
    ),
)
IN_FRONT = (("net1", ("10.0.1.11", "fd00:1::11")),)


def seen(
    *networks: tuple[str, tuple[str, ...]], names: tuple[str, ...] = ("me",), state: NetworkState = STATE
) -> answer.View:
    return answer.view(networks or IN_FRONT, names, zones(state, {}))


def look(name: str, kind: str = "A", view: answer.View | None = None, *, turn: int = 0) -> Answer | None:
    query = wire.parse(ask(name, kind))
    assert query is not None
    message = answer.decide(query, view or seen(), turn, by_udp=True)
    return None if message is None else read(message)


def values(name: str, kind: str = "A", view: answer.View | None = None) -> list[str]:
    found = look(name, kind, view)
    assert found is not None
    assert found.code == "NOERROR"
    return found.values


@pytest.mark.parametrize("name", ["web", "WWW", "shop", "web.front", "wEb.FRONT.", "shop.front"])
def test_a_service_and_its_aliases_lead_to_its_virtual_addresses(name: str) -> None:
    assert (values(name), values(name, "AAAA")) == (["10.0.1.2"], ["fd00:1::2"])


def test_an_answer_repeats_the_question_as_it_was_spelled() -> None:
    found = look("wEb")
    assert found is not None
    assert (found.id, found.question, found.records) == (4711, ("wEb", "A"), (("wEb", "A", 600, "10.0.1.2"),))
    assert found.recursion == (True, True)


@pytest.mark.parametrize("name", ["plain", "tasks.plain", "plain.front", "tasks.plain.front"])
def test_without_virtual_addresses_a_service_leads_to_its_tasks_for_a_short_time(name: str) -> None:
    found = look(name)
    assert found is not None
    assert [(ttl, value) for *_, ttl, value in found.records] == [(5, "10.0.1.21"), (5, "10.0.1.22")]


@pytest.mark.parametrize("name", ["tasks.web", "tasks.www", "tasks.shop.front"])
def test_tasks_lead_to_those_that_are_up(name: str) -> None:
    assert values(name) == ["10.0.1.11", "10.0.1.12"]
    assert values(name, "AAAA") == ["fd00:1::11", "fd00:1::12"]


def test_every_task_gets_its_turn_to_be_the_first() -> None:
    answers = [look("tasks.plain", turn=turn) for turn in (0, 1)]
    assert [found.values for found in answers if found] == [
        ["10.0.1.21", "10.0.1.22"],
        ["10.0.1.22", "10.0.1.21"],
    ]


@pytest.mark.parametrize(
    "name", ["3.web", f"web.3.{IDS['c']}", "c" * 12, IDS["c"], "3.web.front", f"{'c' * 12}.front"]
)
def test_a_task_is_found_by_its_own_names_also_before_it_is_up(name: str) -> None:
    assert values(name) == ["10.0.1.13"]


def test_a_slot_leads_to_the_task_that_is_up_while_another_takes_its_place() -> None:
    old = task("h", 3, "10.0.1.99")
    state = replace(STATE, endpoints=(*STATE.endpoints, old))
    assert values("3.web", view=seen(state=state)) == ["10.0.1.99"]


def test_a_single_container_is_found_by_name_and_alias() -> None:
    assert values("probe") == values("helper") == values("g" * 12) == ["10.0.1.77"]


def test_of_containers_with_one_name_those_are_found_whose_nodes_are_there() -> None:
    def container(letter: str, node: str, *, up: bool) -> Endpoint:
        address = f"10.0.1.{ord(letter)}"
        return Endpoint(letter * 25, "Probe", "", 0, node, "net1", (address,), ("helper",), up=up)

    one, other = container("x", "node2", up=True), container("y", "node3", up=False)
    for name in ("probe", "helper", "helper.front"):
        assert values(name, view=seen(state=replace(STATE, endpoints=(one, other)))) == ["10.0.1.120"]
        assert values(name, view=seen(state=replace(STATE, endpoints=(other,)))) == ["10.0.1.121"]
        both = replace(STATE, endpoints=(one, replace(other, up=True)))
        assert values(name, view=seen(state=both)) == ["10.0.1.120", "10.0.1.121"]
        lost = answer.view(IN_FRONT, ("me",), zones(both, {}, unreachable={"node2"}))
        assert values(name, view=lost) == ["10.0.1.121"]
    assert values("y" * 12, view=seen(state=replace(STATE, endpoints=(one, other)))) == ["10.0.1.121"]


def test_a_container_finds_itself_before_anybody_told_of_it() -> None:
    empty = replace(STATE, endpoints=())
    assert values("me", view=seen(state=empty)) == ["10.0.1.11"]


def test_two_services_with_one_alias_are_both_found() -> None:
    both = replace(STATE, services=(replace(PLAIN, aliases=("db",)), replace(WEB, aliases=("db",))))
    found = look("db", view=seen(state=both))
    assert found is not None
    assert {(ttl, value) for *_, ttl, value in found.records} == {
        (5, "10.0.1.21"), (5, "10.0.1.22"), (5, "10.0.1.2"),
    }  # fmt: skip


def test_the_network_that_was_joined_first_answers_first() -> None:
    front, back = ("net1", ("10.0.1.11",)), ("net2", ("10.0.2.11",))
    assert values("web", view=seen(front, back)) == ["10.0.1.2"]
    assert values("web", view=seen(back, front)) == ["10.0.2.2"]
    assert values("web.front", view=seen(back, front)) == ["10.0.1.2"]


@pytest.mark.parametrize("name", ["web.back", "tasks.web.back"])
def test_names_of_other_networks_are_not_seen(name: str) -> None:
    assert look(name) is None
    assert look("f" * 12) is None


@pytest.mark.parametrize(
    ("name", "kind"), [("web", "MX"), ("plain", "AAAA"), ("12.1.0.10.in-addr.arpa", "A")]
)
def test_a_known_name_without_such_records_is_answered_so_and_nobody_else_is_asked(
    name: str, kind: str
) -> None:
    assert values(name, kind) == []


def test_any_is_answered_with_all_addresses() -> None:
    assert values("web", "ANY") == ["10.0.1.2", "fd00:1::2"]


@pytest.mark.parametrize(
    ("name", "owner", "ttl"),
    [
        ("2.1.0.10.in-addr.arpa", "web.front", 600),
        ("12.1.0.10.in-addr.arpa", f"web.2.{IDS['b']}.front", 5),
        ("77.1.0.10.In-Addr.Arpa", "probe.front", 5),
        (f"1.1.{'0.' * 22}1.0.0.0.0.0.d.f.ip6.arpa", f"web.1.{IDS['a']}.front", 5),
    ],
)
def test_addresses_lead_back_to_names(name: str, owner: str, ttl: int) -> None:
    found = look(name, "PTR")
    assert found is not None
    assert [(t, v) for *_, t, v in found.records] == [(ttl, owner)]


def test_an_address_of_the_network_that_nobody_has_is_nobodys() -> None:
    found = look("200.1.0.10.in-addr.arpa", "PTR")
    assert found is not None
    assert (found.code, found.records) == ("NXDOMAIN", ())


@pytest.mark.parametrize("name", ["8.8.8.8.in-addr.arpa", "1.0.10.in-addr.arpa", "x.1.0.10.in-addr.arpa", ""])
def test_what_is_not_of_the_network_is_for_others(name: str) -> None:
    assert look(name, "PTR") is None


def test_a_container_with_no_way_out_is_told_that_other_names_do_not_exist() -> None:
    back = (("net2", ("10.0.2.11",)),)
    found = look("example.com", view=seen(*back))
    assert found is not None
    assert found.code == "NXDOMAIN"
    own_servers = answer.view(back, (), zones(STATE, {}), own_servers=True)
    assert look("example.com", view=own_servers) is None


def test_a_network_that_is_not_known_yet_makes_short_names_wait() -> None:
    early = seen(("net9", ("10.0.9.1",)))
    found = look("web", view=early)
    assert found is not None
    assert found.code == "SERVFAIL"
    assert values("me", view=early) == ["10.0.9.1"]
    assert look("example.com", view=early) is None


def test_tasks_on_nodes_that_do_not_answer_are_left_out_unless_none_is_left() -> None:
    far = replace(STATE, endpoints=(*STATE.endpoints, task("h", 4, "10.0.1.14", node="node2")))
    gone = replace(far, nodes=(NodeView("node2", 2, "192.0.2.2", "10.128.2.0/24", alive=False),))
    assert "10.0.1.14" in values("tasks.web", view=seen(state=far))
    assert "10.0.1.14" not in values("tasks.web", view=seen(state=gone))
    unseen = answer.view(IN_FRONT, (), zones(far, {}, {"node2"}))
    assert "10.0.1.14" not in values("tasks.web", view=unseen)
    nobody = answer.view(IN_FRONT, (), zones(far, {}, {"node1", "node2"}))
    assert len(values("tasks.web", view=nobody)) == 3


def test_only_networks_that_changed_are_made_anew() -> None:
    before = zones(STATE, {})
    after = zones(replace(STATE, services=(WEB, PLAIN, replace(STORE, aliases=("x",)))), before)
    assert after["net1"] is before["net1"]
    assert after["net2"] is not before["net2"]


def test_names_that_no_message_can_hold_do_no_harm() -> None:
    state = replace(
        STATE,
        services=(replace(WEB, aliases=("x" * 64, "", "a..b", ".", "ü")),),
        endpoints=(Endpoint("i" * 25, "y" * 300, "", 0, "n", "net1", ("10.0.1.50",)),),
    )
    assert values("web", view=seen(state=state)) == ["10.0.1.2"]
    assert values("i" * 12, view=seen(state=state)) == ["10.0.1.50"]
    assert isinstance(zones(state, {})["net1"], Zone)


MANY = replace(STATE, endpoints=tuple(task("a", 0, f"10.0.1.{n}", service="plain") for n in range(10, 110)))


@pytest.mark.parametrize(
    ("size", "count", "cut"), [(0, 30, True), (100, 29, True), (1232, 74, True), (4096, 100, False)]
)
def test_as_many_addresses_come_by_udp_as_the_asker_can_take(size: int, count: int, cut: bool) -> None:
    query = wire.parse(ask("plain", size=size))
    assert query is not None
    message = answer.decide(query, seen(state=MANY), 0, by_udp=True)
    assert message is not None
    assert len(message) <= max(size, 512)
    found = read(message)
    assert (len(found.values), found.cut, found.edns) == (count, cut, 1232 if size else 0)


def test_all_addresses_come_by_tcp() -> None:
    query = wire.parse(ask("plain", size=512))
    assert query is not None
    message = answer.decide(query, seen(state=MANY), 7, by_udp=False)
    assert message is not None
    found = read(message)
    assert (len(found.values), found.cut) == (100, False)


def refused(message: bytes) -> str:
    query = wire.parse(message)
    assert query is not None
    made = answer.decide(query, seen(), 0, by_udp=True)
    assert made is not None
    return read(made).code


def test_what_cannot_be_dealt_with_is_said_by_its_code() -> None:
    good = ask("web")
    assert refused(ask("web", "AXFR")) == "REFUSED"
    assert refused(ask("web", klass=3)) == "REFUSED"
    assert refused(ask("web", size=1232, version=1)) == "BADVERS"
    assert refused(good[:2] + b"\x28\x00" + good[4:]) == "NOTIMP"
    assert refused(good[:5] + b"\x02" + good[6:]) == "FORMERR"
    assert refused(good[:-3]) == "FORMERR"
    assert refused(good[:12] + b"\xc0\x0c" + good[12:]) == "FORMERR"
    two = ask("web", size=1232)
    assert refused(two[:11] + b"\x02" + two[12:] + two[-11:]) == "FORMERR"


def test_answers_and_crumbs_are_no_questions() -> None:
    good = ask("web")
    assert wire.parse(good[:2] + b"\x81" + good[3:]) is None
    assert wire.parse(good[:11]) is None
