"""A spec that cannot work is refused with the field, the value and the way out, and nothing else happens."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.control.cluster import check_spec
from swarmd.control.core import validate
from swarmd.model.errors import Invalid
from swarmd.model.replace import replace
from swarmd.model.spec import (
    ClusterSpec,
    ContainerSpec,
    MountSpec,
    Placement,
    PortSpec,
    Resources,
    RestartPolicy,
    ServiceSpec,
    UpdateConfig,
)
from tests.unit.test_control_bed import a_spec


def refusal(spec: ServiceSpec) -> str:
    with pytest.raises(Invalid) as caught:
        validate.service(spec)
    return str(caught.value)


def container(**fields: object) -> ServiceSpec:
    return template(container=replace(ContainerSpec(image="nginx"), **fields))


def template(**fields: object) -> ServiceSpec:
    spec = a_spec()
    return replace(spec, template=replace(spec.template, **fields))


def mount(**fields: object) -> ServiceSpec:
    return container(mounts=(replace(MountSpec(target="/data"), **fields),))


REFUSED: list[tuple[ServiceSpec, tuple[str, ...]]] = [
    (a_spec(""), ("name",)),
    (a_spec("bad name!"), ("name", "bad name!", "DNS")),
    (a_spec("x" * 64), ("name", "63", "64")),
    (replace(a_spec(), mode="job"), ("mode", "job", "replicated")),
    (replace(a_spec(), replicas=-1), ("replicas", "-1")),
    (replace(a_spec(), replicas=10**12), ("replicas", "1000000000000")),
    (a_spec(image=""), ("image",)),
    (a_spec(image="NoSuch:Image:x"), ('ContainerSpec: "NoSuch:Image:x" is not a valid repository/tag',)),
    (a_spec(image="a" * 1000), ("image", "512", "1000")),
    (container(stop_grace=-1.0), ("stop-grace-period", "-1")),
    (container(stop_grace=math.nan), ("stop-grace-period", "nan")),
    (container(env=("A={{.Node.Hostnam}}",)), ("env", "{{.Node.Hostnam}}", "no field Hostnam", "Hostname")),
    (container(env=("A={{.Task.Slot",)), ("env", "unclosed action", "character 3")),
    (container(hostname='{{env "HOME"}}'), ("hostname", 'function "env" not defined', "character 1")),
    (container(env=("A={{range .Service.Labels}}x{{end}}",)), ("range cannot be used here", "character 3")),
    (container(env=('A={{printf "%99999999d" 1}}',)), ('function "printf" not defined',)),
    (container(env=("A={{.Service.Labels.color}}",)), ("env", "no field color")),
    (mount(source="{{.Task.Nmae}}"), ("mount /data: source", "no field Nmae")),
    (mount(kind="bind", source="{{.Task.Name}}"), ("bind mount source", "web.1.", "absolute")),
    (mount(labels={"a": "{{.Foo}}"}), ("mount /data: label a", "no field Foo")),
    (container(env=("A",)), ("env", '"A"', "NAME=value")),
    (container(env=("=x",)), ("env", "=x", "NAME=value")),
    (container(args=("a\0b",)), ("args", "zero byte")),
    (container(hostname="a\0b"), ("hostname", "zero byte")),
    (container(mounts=(MountSpec(target="/a"), MountSpec(target="/a"))), ("duplicate mount point: /a",)),
    (mount(kind="npipe"), ("mount type", "npipe", "bind, volume, tmpfs or image")),
    (mount(target="data"), ("mount target", "data", "absolute")),
    (mount(kind="bind", source="here"), ("bind mount source", "here", "absolute")),
    (mount(kind="tmpfs", source="/x"), ("tmpfs", "/x")),
    (mount(kind="tmpfs", tmpfs_size=-4), ("tmpfs-size", "-4")),
    (mount(kind="tmpfs", tmpfs_mode=0o17777), ("tmpfs-mode", "17777")),
    (template(limits=Resources(nano_cpus=5)), ("cpu limit", "0.001")),
    (template(reservations=Resources(memory=1024)), ("memory reservation", "4MiB", "1024")),
    (template(limits=Resources(pids=-3)), ("pids limit", "-3")),
    (template(restart=RestartPolicy(condition="maybe")), ("restart condition", "maybe", "on-failure")),
    (template(restart=RestartPolicy(delay=math.inf)), ("restart delay", "inf")),
    (template(restart=RestartPolicy(window=-2.0)), ("restart window", "-2")),
    (template(restart=RestartPolicy(max_attempts=-1)), ("max-attempts", "-1")),
    (template(placement=Placement(max_replicas=-1)), ("replicas-max-per-node", "-1")),
    (template(placement=Placement(constraints=("node.x~y",))), ("node.x~y", "==")),
    (replace(a_spec(), update=UpdateConfig(failure_action="cry")), ("update failure action", "cry", "pause")),
    (
        replace(a_spec(), rollback=UpdateConfig(failure_action="rollback")),
        ("rollback failure action", "rollback", "continue"),
    ),
    (replace(a_spec(), update=UpdateConfig(order="any")), ("update order", "any", "start-first")),
    (replace(a_spec(), update=UpdateConfig(parallelism=-1)), ("update parallelism", "-1")),
    (replace(a_spec(), rollback=UpdateConfig(monitor=math.nan)), ("rollback monitor", "nan")),
    (replace(a_spec(), update=UpdateConfig(max_failure_ratio=1.5)), ("max-failure-ratio", "1.5")),
    (a_spec(ports=(PortSpec(target=0),)), ("target port", "0")),
    (a_spec(ports=(PortSpec(target=80, published=70000),)), ("published port", "70000")),
    (a_spec(ports=(PortSpec(target=80, protocol="dccp"),)), ("protocol", "dccp", "tcp, udp or sctp")),
    (a_spec(ports=(PortSpec(target=80, mode="mesh"),)), ("port mode", "mesh", "ingress or host")),
    (
        a_spec(ports=(PortSpec(target=80, published=8080), PortSpec(target=81, published=8080, mode="host"))),
        ("8080/tcp", "twice"),
    ),
    (
        a_spec(ports=(PortSpec(target=80, published=80), PortSpec(target=81, published=80, host_ip="eth0"))),
        ("80/tcp", "twice"),
    ),
    (a_spec(ports=(PortSpec(target=80, published=90, published_end=90),)), ("90-90", "lower number first")),
    (a_spec(ports=(PortSpec(target=80, published_end=90),)), ("0-90", "lower number first")),
    (
        a_spec(ports=(PortSpec(target=80, published=80, published_end=90, mode="host"),)),
        ("host mode", "80-90", "ingress"),
    ),
    (a_spec(ports=(PortSpec(target=80, host_ip="a b"),)), ("host_ip", "a b", "address", "interface")),
    (a_spec(ports=(PortSpec(target=80, host_ip="0.0.0.0"),)), ("host_ip 0.0.0.0", "leave it out")),
    (a_spec(ports=(PortSpec(target=80, host_ip="fe80::1"),)), ("host_ip fe80::1", "address of the node")),
    (a_spec(ports=(PortSpec(target=80, host_ip="2001:DB8::1"),)), ("2001:DB8::1 is written 2001:db8::1",)),
    (a_spec(ports=(PortSpec(target=80, allow=("10/8",)),)), ("allow", "10/8", "10.0.0.0/8")),
    (a_spec(ports=(PortSpec(target=80, allow=("10.0.0.1/8",)),)), ("10.0.0.1/8 is written 10.0.0.0/8",)),
    (
        a_spec(ports=(PortSpec(target=80, allow=tuple(f"10.0.{n}.0/24" for n in range(257))),)),
        ("257 prefixes", "256"),
    ),
    (
        replace(a_spec(), ingress_source="nat"),
        ("nat", "keep, masquerade or proxy-protocol"),
    ),
    (
        replace(a_spec(ports=(PortSpec(target=53, protocol="udp"),)), ingress_source="proxy-protocol"),
        ("proxy-protocol", "53/udp", "another service"),
    ),
]


@pytest.mark.parametrize(("spec", "words"), REFUSED, ids=lambda value: str(value)[-40:])
def test_a_refusal_names_the_field_and_the_value(spec: ServiceSpec, words: tuple[str, ...]) -> None:
    text = refusal(spec)
    assert [word for word in words if word not in text] == []


def test_ports_may_ask_for_addresses_clients_and_ranges() -> None:
    asked = (
        PortSpec(target=80, published=80, host_ip="192.0.2.1", allow=("10.0.0.0/8", "192.0.2.7", "::/0")),
        PortSpec(target=80, published=80, host_ip="eth0.100", sticky=True),
        PortSpec(target=80, published=8000, published_end=8010, protocol="sctp"),
        PortSpec(target=81, published=8000, published_end=8010, protocol="sctp"),
    )
    validate.service(replace(a_spec(ports=asked), ingress_source="masquerade"))


def test_what_swarm_takes_is_taken() -> None:
    validate.service(a_spec("my_web-1", image="registry:5000/team/app:2"))
    validate.service(
        a_spec(
            ports=(
                PortSpec(target=53, published=53),
                PortSpec(target=53, published=53, protocol="udp"),
                PortSpec(target=80),
                PortSpec(target=80),
            )
        )
    )
    validate.service(replace(a_spec(), replicas=0))


def test_templates_are_taken_where_docker_expands_them() -> None:
    spec = container(
        hostname="{{.Node.Hostname}}-{{.Task.Slot}}",
        env=("A={{.Service.Name}}/{{.Service.Labels.color}}", 'B={{index .Service.Labels "a.b"}}'),
        mounts=(MountSpec(source="{{.Service.Name}}-{{.Task.Slot}}", target="/{{.Task.Name}}"),),
        args=("{{anything}}",),
    )
    validate.service(replace(spec, labels={"color": "red", "a.b": "c"}))


def test_a_small_text_does_not_become_a_huge_one() -> None:
    labels = {"big": "x" * 60_000}
    many = replace(container(env=("A=" + "{{.Service.Labels.big}}" * 20,)), labels=labels)
    assert "more than 1048576 characters" in refusal(many)
    several = replace(
        container(env=tuple(f"A{n}={{{{.Service.Labels.big}}}}" for n in range(20))), labels=labels
    )
    assert "more than 1048576 characters" in refusal(several)
    assert "service labels of 65536" in refusal(replace(many, labels={"big": "x" * 70_000}))
    assert "may have 4096" in refusal(container(env=("A={{.Task.ID}}" + "x" * 5000,)))
    assert "no text" in refusal(container(env=('A={{"\\ud800"}}',)))


FRAGMENTS = st.sampled_from(
    ["{{", "}}", "if ", "else", "end", ".Task.Slot", ".", "(", ")", "|", '"a"', "`", "print ", "index ", "5",
     ".Service.Labels", "-", " ", "len ", "and ", "x", "$", '"\\u']
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(FRAGMENTS, max_size=30).map("".join))
def test_whatever_a_template_is_the_answer_is_yes_or_a_sentence(text: str) -> None:
    began = time.thread_time()
    accepted(container(env=(f"A={text}",)))
    assert time.thread_time() - began < 1.0, "it is checked in the manager's loop"


def test_a_long_name_that_does_not_fit_is_refused_at_once() -> None:
    # Nested repetition would take 2^60 steps here and hold the manager's loop for ever.
    assert "DNS name" in refusal(a_spec("a" * 60 + "!"))


def test_name_and_mode_stay_for_life() -> None:
    with pytest.raises(Invalid, match='renaming services is not supported: "web" cannot become "db"'):
        validate.change(a_spec("web"), a_spec("db"))
    with pytest.raises(Invalid, match="service mode change is not allowed: replicated cannot become global"):
        validate.change(a_spec(), replace(a_spec(), mode="global"))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ClusterSpec(certificate_expiry=60.0), ("cert-expiry", "1h0m0s", "60")),
        (ClusterSpec(certificate_expiry=math.nan), ("cert-expiry", "nan")),
        (ClusterSpec(certificate_expiry=1e300), ("cert-expiry", "20 years")),
        (ClusterSpec(heartbeat=0.0), ("dispatcher-heartbeat", "more than 0s")),
        (ClusterSpec(heartbeat=math.nan), ("dispatcher-heartbeat", "nan")),
        (ClusterSpec(task_history=-1), ("task-history-limit", "-1")),
    ],
)
def test_settings_of_the_swarm_are_held_to_what_clocks_and_certificates_can_do(
    spec: ClusterSpec, words: tuple[str, ...]
) -> None:
    with pytest.raises(Invalid) as caught:
        check_spec(spec)
    assert [word for word in words if word not in str(caught.value)] == []


TEXT = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", "web", "/data", "nginx:1", "node.role==worker", "tcp", "host", "any", "a=b"]),
)


@settings(max_examples=150, deadline=None)
@given(
    st.builds(
        ServiceSpec,
        name=TEXT,
        mode=TEXT,
        replicas=st.integers(),
        template=st.builds(
            type(a_spec().template),
            container=st.builds(
                ContainerSpec,
                image=TEXT,
                args=st.lists(TEXT, max_size=3).map(tuple),
                env=st.lists(TEXT, max_size=3).map(tuple),
                stop_grace=st.floats(),
                mounts=st.lists(
                    st.builds(MountSpec, kind=TEXT, source=TEXT, target=TEXT, tmpfs_size=st.integers()),
                    max_size=2,
                ).map(tuple),
            ),
            limits=st.builds(Resources, nano_cpus=st.integers(), memory=st.integers(), pids=st.integers()),
            restart=st.builds(RestartPolicy, condition=TEXT, delay=st.floats(), window=st.floats()),
            placement=st.builds(Placement, constraints=st.lists(TEXT, max_size=2).map(tuple)),
        ),
        update=st.builds(
            UpdateConfig, parallelism=st.integers(), delay=st.floats(), max_failure_ratio=st.floats()
        ),
        ports=st.lists(
            st.builds(PortSpec, protocol=TEXT, target=st.integers(), published=st.integers(), mode=TEXT),
            max_size=3,
        ).map(tuple),
    )
)
def test_whatever_a_spec_says_the_answer_is_yes_or_a_sentence(spec: ServiceSpec) -> None:
    durations = (spec.template.container.stop_grace, spec.template.restart.delay, spec.update.delay)
    assert not accepted(spec) or all(math.isfinite(one) and one >= 0 for one in durations)


def accepted(spec: ServiceSpec) -> bool:
    """Anything raised but Invalid is a defect, and fails the test."""
    try:
        validate.service(spec)
    except Invalid:
        return False
    return True
