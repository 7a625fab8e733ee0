"""The metrics page: what is written, what is counted, who may read it, and what a failure costs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus_text

from swarmd.daemon.metering import manager, node, scraper, usage
from swarmd.daemon.metering.door import MetricsDoor
from swarmd.daemon.metering.scraper import Scraper
from swarmd.daemon.metrics_config import MetricsConfig
from swarmd.image.registry.exchange import Request
from swarmd.model.errors import Invalid, Unavailable
from swarmd.model.objects import Node, NodeStatus, Service, Task, TaskStatus
from swarmd.model.spec import ServiceSpec
from swarmd.model.states import NodeState, TaskState
from swarmd.node.network import nfread
from swarmd.node.network.core.family import IP
from swarmd.node.network.measures import PortCount, Traffic
from swarmd.node.network.wire import Message, Netlink, attr, nest, text
from swarmd.node.router.counting import Counting
from swarmd.node.runtime.port import BlockUse, ContainerStats, InterfaceUse
from swarmd.store.raft.files import SystemDisk
from swarmd.store.raft.measures import Measures, TimedDisk
from swarmd.telemetry import catalogue
from swarmd.telemetry.exposition import Exposition
from swarmd.telemetry.metrics import Metric, Reading, Spread, one
from swarmd.telemetry.tally import Tally, Timings
from tests.unit.test_control_bed import ManualClock

OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
EVERY = [metric for _, metrics in catalogue.PARTS for metric in metrics]
INHERITED = {f"swarm_manager_{kind}_total" for kind in ("services", "tasks", "networks", "secrets")}
"""Gauges with a counter's name, as SwarmKit has them."""


def page(*readings: Reading, accept: str = "") -> str:
    return Exposition().render(readings, accept)[0].decode()


def samples(text: str) -> dict[str, float]:
    """Of the text format: name and labels as they are written → value."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


# -- what is written ------------------------------------------------------------------------------


def test_every_metric_of_the_catalogue_is_told_by_somebody_once() -> None:
    made = [each for each in vars(catalogue).values() if isinstance(each, Metric)]
    assert sorted(each.name for each in made) == sorted(each.name for each in EVERY)
    assert len({each.name for each in EVERY}) == len(EVERY)


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)
def test_a_metric_is_named_as_prometheus_wants_it(metric: Metric) -> None:
    assert metric.name.endswith("_total") == (metric.kind == "counter" or metric.name in INHERITED)
    if metric.unit:
        assert metric.name.removesuffix("_total").endswith(f"_{metric.unit}")
    assert metric.help.endswith(".")


@pytest.mark.parametrize("accept", ["", OPEN])
def test_both_formats_are_what_their_parsers_read(accept: str) -> None:
    readings = []
    for metric in EVERY:
        labels = tuple(f'"{label}"\\\n' for label in metric.labels)
        if metric.kind == "histogram":
            readings.append(Reading(metric, spreads={labels: Spread((1, 3, 4), 7.5)}, bounds=(0.5, 2.0)))
        else:
            readings.append(Reading(metric, {labels: 7.5}))
    text, media_type = Exposition().render(readings, accept)
    assert media_type.startswith("application/openmetrics-text" if accept else "text/plain; version=0.0.4")
    parse = open_metrics if accept else prometheus_text
    found = {family.name: family for family in parse(text.decode())}
    for metric in EVERY:
        family = found[metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        assert family.unit == (metric.unit if accept else "")
        expected = {label: f'"{label}"\\\n' for label in metric.labels}
        assert family.samples[0].labels.items() >= expected.items()
        if metric.kind != "histogram":
            assert [sample.value for sample in family.samples] == [7.5]


@pytest.mark.parametrize(
    ("accept", "is_open"),
    [
        ("application/openmetrics-text; version=abc", False),
        ("text/plain; version=x; escaping=foo", False),
        ("application/openmetrics-text; version=1.0.0; escaping=allow-utf-8; q=0.5, */*", True),
        ("application/openmetrics-text; version=9.9.9.9", True),
        ("; ;=,,=;q=", False),
    ],
)
def test_whatever_is_asked_for_there_are_two_forms_of_the_page(accept: str, is_open: bool) -> None:
    forms = [Exposition().render((one(catalogue.LEADS, 1),), wanted)[1] for wanted in ("", OPEN)]
    text, media_type = Exposition().render((one(catalogue.LEADS, 1),), accept)
    assert media_type == forms[is_open]
    assert samples(text.decode())["swarm_manager_leader"] == 1


def test_a_histogram_counts_up_to_each_bound_and_all() -> None:
    timings = Timings((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 3.0):
        timings.add(seconds, "shop", "80")
    found = samples(page(timings.of(catalogue.HTTP_SECONDS)))
    name = "swarmd_http_request_duration_seconds"
    of = 'port="80",service="shop"'
    assert [found[f'{name}_bucket{{le="{le}",{of}}}'] for le in ("0.1", "1.0", "+Inf")] == [2, 3, 4]
    assert found[f"{name}_count{{{of}}}"] == 4
    assert found[f"{name}_sum{{{of}}}"] == pytest.approx(3.65)


def test_the_process_tells_of_itself_and_nothing_is_shared_between_two_daemons() -> None:
    first, second = page(one(catalogue.IMAGES, 3)), page()
    assert samples(first)["swarmd_images"] == 3
    assert "process_cpu_seconds_total" in samples(first)
    assert "swarmd_images" not in samples(second)
    assert "process_cpu_seconds_total" in samples(second)


# -- how it is read -------------------------------------------------------------------------------


class Part:
    """One that counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0
        self.fails: Exception | None = None
        self.go = asyncio.Event()
        self.go.set()

    async def read(self) -> Sequence[Reading]:
        self.reads += 1
        await self.go.wait()
        if self.fails is not None:
            raise self.fails
        return (one(catalogue.IMAGES, self.reads),)


async def _read(of: Scraper, accept: str = "") -> dict[str, float]:
    return samples((await of.scrape(accept))[0].decode())


async def _well() -> Sequence[Reading]:
    return (one(catalogue.LEADS, 1),)


async def test_a_part_that_fails_is_left_out_and_counted_and_the_others_are_there() -> None:
    clock, part = ManualClock(), Part()
    of = Scraper({"bad": part.read, "good": _well}, clock)
    part.fails = Unavailable("the kernel is silent")
    found = await _read(of)
    assert found["swarm_manager_leader"] == 1
    assert "swarmd_images" not in found
    assert found['swarmd_scrape_errors_total{part="bad"}'] == 1
    assert found['swarmd_scrape_errors_total{part="good"}'] == 0
    part.fails = None
    clock.advance(scraper.FRESH)
    found = await _read(of)
    assert found["swarmd_images"] == 2
    assert found['swarmd_scrape_errors_total{part="bad"}'] == 1


async def test_a_part_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraper, "PATIENCE", 0.05)
    part = Part()
    part.go.clear()
    found = await _read(Scraper({"slow": part.read, "good": _well}, ManualClock()))
    assert found["swarm_manager_leader"] == 1
    assert found['swarmd_scrape_errors_total{part="slow"}'] == 1


async def test_headers_of_many_kinds_are_answered_with_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []
    render = Exposition.render

    def counted(self: Exposition, readings: Sequence[Reading], accept: str = "") -> tuple[bytes, str]:
        rendered.append(accept)
        return render(self, readings, accept)

    monkeypatch.setattr(Exposition, "render", counted)
    of = Scraper({"good": _well}, ManualClock())
    pages = {await of.scrape(f"text/plain; q=0.{number}") for number in range(5)}
    assert len(pages) == len(rendered) == 1


async def test_scrapes_at_the_same_time_are_one_reading_which_is_good_for_a_second() -> None:
    clock, part = ManualClock(), Part()
    of = Scraper({"one": part.read}, clock)
    part.go.clear()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(of.scrape(accept)) for accept in ("", "", OPEN)]
        await asyncio.sleep(0)
        part.go.set()
    assert part.reads == 1
    assert asked[0].result() == asked[1].result()
    assert asked[2].result()[1].startswith("application/openmetrics-text")
    clock.advance(scraper.FRESH)
    await of.scrape()
    assert part.reads == 2


# -- who may read it ------------------------------------------------------------------------------


def door(**settings: str) -> MetricsDoor:
    return MetricsDoor(MetricsConfig(**settings), Scraper({"one": Part().read}, ManualClock()))


def asked(path: str = "/metrics", method: str = "GET", **headers: str) -> Request:
    return Request(method=method, path=path, headers=headers)


async def test_the_page_is_at_one_path_and_can_only_be_read() -> None:
    here = door()
    got = await here.handle(asked())
    assert (got.status, b"swarmd_images 1.0" in got.body) == (200, True)
    head = await here.handle(asked(method="HEAD"))
    assert (head.status, head.body, head.length) == (200, b"", len(got.body))
    assert (await here.handle(asked("/"))).status == 404
    assert (await here.handle(asked(method="POST"))).status == 405


async def test_a_token_is_asked_for_and_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    here = door(token_file=str(file))
    assert (await here.handle(asked(authorization="Bearer "))).status == 401, "there is no such file"
    file.write_text("first\n")
    assert (await here.handle(asked())).status == 401
    assert (await here.handle(asked(authorization="Bearer second"))).status == 401
    assert (await here.handle(asked(authorization="Bearer first"))).status == 200
    file.write_text("second\n")
    assert (await here.handle(asked(authorization="Bearer second"))).status == 200
    file.write_text("\n")
    assert (await here.handle(asked(authorization="Bearer "))).status == 401, "an empty token is none"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"listen": "9323"}, "ADDRESS:PORT"),
        ({"listen": "0.0.0.0:0"}, "ADDRESS:PORT"),
        ({"certificate": "/c"}, "metrics.key"),
        ({"listen": "0.0.0.0:9323", "token_file": "/t"}, "without TLS"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, str], word: str) -> None:
    with pytest.raises(Invalid, match=word):
        MetricsConfig(**settings).check()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"listen": "", "token_file": "/t"},
        {"listen": "[::1]:9323", "token_file": "/t"},
        {"listen": ":9323", "certificate": "/c", "key": "/k", "token_file": "/t"},
    ],
)
def test_settings_that_can_be_meant_are_taken(settings: dict[str, str]) -> None:
    MetricsConfig(**settings).check()


# -- what is counted ------------------------------------------------------------------------------


def test_published_ports_are_counted_by_the_way_their_connections_went() -> None:
    ports = (
        PortCount("s1", "web", "tcp", 80, "", 5, 2),
        PortCount("s2", "dns", "udp", 53, "192.0.2.1", 7, 0),
    )
    found = samples(page(*node.traffic(Traffic(ports, proxied=1, mended=3))))
    name = "swarmd_port_connections_total"
    assert {series: value for series, value in found.items() if series.startswith(name)} == {
        f'{name}{{host_ip="",path="kernel",port="80",protocol="tcp",service="web"}}': 5,
        f'{name}{{host_ip="",path="proxy",port="80",protocol="tcp",service="web"}}': 2,
        f'{name}{{host_ip="192.0.2.1",path="kernel",port="53",protocol="udp",service="dns"}}': 7,
    }
    assert (found["swarmd_proxy_open"], found["swarmd_network_mended_total"]) == (1, 3)


def _element(key: bytes, packets: int, *, seen: bool = False) -> bytes:
    """As the kernel lists it; ``seen``: with one more expression before the counter's."""
    number = packets.to_bytes(8, "big")
    counter = nest(7, attr(1, text("counter")), nest(2, attr(1, bytes(8)), attr(2, number)))
    return nest(1, nest(1, attr(1, key)), *((attr(9, bytes(4)),) if seen else ()), counter)


@pytest.mark.parametrize("odd", [False, True])
def test_counts_are_read_from_elements_that_are_alike_and_from_others(odd: bool) -> None:
    elements = [_element(f"port{number:04}".encode(), number * 7) for number in range(1, 300)]
    if odd:
        elements.insert(5, _element(b"10.0.0.1port0099", 3, seen=True))
    pieces = (b"".join(elements[:100]), b"".join(elements[100:]), b"")

    class Kernel:
        def ask(self, message: Message) -> list[tuple[int, bytes]]:
            return [(0, bytes(4) + nest(3, piece)) for piece in pieces]

    found = nfread.counts(cast("Netlink", Kernel()), IP, "swarmd", "counted")
    wanted = {f"port{number:04}".encode(): number * 7 for number in range(1, 300)}
    assert found == (wanted | {b"10.0.0.1port0099": 3} if odd else wanted)


def test_requests_on_shared_ports_are_counted_by_class_of_status() -> None:
    counting = Counting()
    for status in (200, 204, 503, 0):
        counting.note("shop", 80, status, 100, 0.01)
    counting.note("", 80, 404, 9, 0.01)
    found = counting.counts(2)
    assert dict(found.requests) == {
        ("shop", "80", "2xx"): 2, ("shop", "80", "5xx"): 1, ("shop", "80", "cut"): 1, ("", "80", "4xx"): 1,
    }  # fmt: skip
    assert dict(found.bytes) == {("shop", "80"): 400, ("", "80"): 9}
    assert found.seconds["shop", "80"].below[-1] == 4
    counting.note("left", 80, 200, 1, 0.01)
    counting.keep_only({("shop", "80")})
    kept = counting.counts(0)
    assert (kept.requests, kept.bytes, kept.seconds) == (found.requests, found.bytes, found.seconds)


def test_containers_are_measured_in_the_units_their_names_say() -> None:
    seen = ContainerStats(
        cpu=2_500_000_000, cpu_throttled=500_000_000, memory=10, memory_usage=15, memory_limit=64, pids=3,
        network=(InterfaceUse("eth0", rx_bytes=7, tx_bytes=8),),
        io=(BlockUse("8:0", 1, 2), BlockUse("8:16", 10, 20)),
    )  # fmt: skip
    found = {each.metric.name: each.values["a",] for each in usage.readings({("a",): seen})}
    assert found == {
        "container_cpu_usage_seconds_total": 2.5,
        "container_cpu_cfs_throttled_seconds_total": 0.5,
        "container_memory_usage_bytes": 15,
        "container_memory_working_set_bytes": 10,
        "container_spec_memory_limit_bytes": 64,
        "container_threads": 3,
        "container_network_receive_bytes_total": 7,
        "container_network_transmit_bytes_total": 8,
        "container_fs_reads_bytes_total": 11,
        "container_fs_writes_bytes_total": 22,
    }


def _task(number: int, service: str, state: TaskState, desired: TaskState = TaskState.RUNNING) -> Task:
    return Task(
        id=f"t{number}", service_id=service, service_name=service, spec_version=1, desired_state=desired,
        status=TaskStatus(state=state),
    )  # fmt: skip


def test_the_leader_counts_the_swarm_and_which_services_lack_tasks() -> None:
    specs = {
        "full": ServiceSpec(name="full", replicas=1),
        "lacks": ServiceSpec(name="lacks", replicas=2),
        "none": ServiceSpec(name="none", replicas=0),
        "everywhere": ServiceSpec(name="everywhere", mode="global"),
    }
    tasks = [
        _task(1, "full", TaskState.RUNNING),
        _task(2, "lacks", TaskState.RUNNING),
        _task(3, "lacks", TaskState.RUNNING, TaskState.SHUTDOWN),
        _task(4, "lacks", TaskState.FAILED),
        _task(5, "everywhere", TaskState.RUNNING),
        _task(6, "everywhere", TaskState.PREPARING),
    ]
    nodes = [
        Node(id="n1", status=NodeStatus(state=NodeState.READY)),
        Node(id="n2", status=NodeStatus(state=NodeState.DOWN)),
        Node(id="n3", status=NodeStatus(state=NodeState.DOWN), removed=True),
    ]
    services = [Service(id=name, spec=spec) for name, spec in specs.items()]
    rows = manager.Rows(nodes=nodes, services=services, tasks=tasks, networks=2, secrets=3)
    found = samples(page(*manager.swarm(rows)))
    assert found['swarm_manager_nodes{state="ready"}'] == 1
    assert found['swarm_manager_nodes{state="down"}'] == 1
    assert found['swarm_manager_tasks_total{state="running"}'] == 4
    assert found['swarm_manager_tasks_total{state="orphaned"}'] == 0
    assert found["swarm_manager_services_total"] == 4
    assert found["swarmd_manager_services_short"] == 2, "lacks, and everywhere"
    assert (found["swarm_manager_networks_total"], found["swarm_manager_secrets_total"]) == (2, 3)


def test_a_moment_without_a_leader_is_no_change_of_leaders() -> None:
    measures = Measures()
    for leader in (None, "a", "a", None, "a", "b", None, "a"):
        measures.saw(leader)
    assert measures.leader_changes == 2


def test_syncs_of_a_managers_disk_are_timed(tmp_path: Path) -> None:
    moments = iter((10.0, 10.02, 20.0, 20.3))
    measures = Measures()
    disk = TimedDisk(SystemDisk(), measures.syncing, lambda: next(moments))
    with (tmp_path / "log").open("wb") as file:
        disk.write(file.fileno(), b"entry")
        disk.sync(file.fileno())
    disk.sync_directory(tmp_path)
    assert (tmp_path / "log").read_bytes() == b"entry"
    assert measures.syncing.spreads()[()].below[-1] == 2
    assert measures.syncing.spreads()[()].total == pytest.approx(0.32)


def test_a_tally_that_was_read_does_not_change_any_more() -> None:
    tally = Tally()
    tally.add("a")
    before = tally.counts()
    tally.add("a", by=2)
    assert (before["a",], tally.counts()["a",]) == (1, 3)
    assert msgspec.structs.asdict(tally.of(catalogue.REACHED))["values"] == {("a",): 3}
