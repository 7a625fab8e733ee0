"""How a container is made from what a service and its image say."""

from __future__ import annotations

import pytest

from swarmd.image.core.config import ImageConfig
from swarmd.model.errors import Invalid
from swarmd.model.replace import replace
from swarmd.model.spec import (
    ContainerSpec,
    DeviceSpec,
    MountSpec,
    Resources,
    TaskTemplate,
    ThrottleSpec,
    UlimitSpec,
)
from swarmd.node.agent.core import container, mounts
from swarmd.node.agent.core.container import NodeFacts
from swarmd.node.agent.core.etc_files import embedded_resolv_conf, files, resolv_conf
from swarmd.node.agent.core.mounts import Source
from swarmd.node.runtime.port import ContainerConfig, Device, Limits, Throttle, Ulimit
from tests.unit.test_agent_cores import record

IMAGE = ImageConfig(cmd=("/bin/demo",))
FACTS = NodeFacts("node1", "host", "nameserver 192.0.2.1\nsearch lan\noptions rotate\n")


def made(template: TaskTemplate, image: ImageConfig = IMAGE) -> ContainerConfig:
    task = replace(record(), template=template)
    wanted = mounts.wanted(template.container.mounts, image)
    return container.config(container.asked(task, wanted, FACTS), image, ("/layer",), FACTS, {})


def spec(**fields: object) -> TaskTemplate:
    return TaskTemplate(container=ContainerSpec(image="demo:1", **fields))  # type: ignore[arg-type]


def test_everything_a_service_says_reaches_the_runtime() -> None:
    config = made(
        spec(
            groups=("wheel",), tty=True, open_stdin=True, privileged=True, seccomp="unconfined",
            ulimits=(UlimitSpec(name="nofile", soft=1, hard=2),), sysctls={"net.core.somaxconn": "9"},
            devices=(DeviceSpec(source="/dev/fuse"),
                     DeviceSpec(source="/dev/a", target="/b", permissions="r")),
            device_rules=("c 1:3 rwm",), oom_score_adj=-5, shm_size=1 << 20, pid_mode="host", ipc_mode="host",
            cgroupns_mode="private", userns="host", hostname="h", domainname="example.org",
        )
    )  # fmt: skip
    assert (config.groups, config.tty, config.stdin, config.privileged) == (("wheel",), True, True, True)
    assert (config.ulimits, config.sysctls) == ((Ulimit("nofile", 1, 2),), {"net.core.somaxconn": "9"})
    assert config.devices == (Device("/dev/fuse", "/dev/fuse", "rwm"), Device("/dev/a", "/b", "r"))
    assert (config.device_rules, config.seccomp) == (("c 1:3 rwm",), "unconfined")
    assert (config.oom_score_adj, config.shm_size) == (-5, 1 << 20)
    assert (config.pid_mode, config.ipc_mode, config.cgroupns_mode, config.userns) == (
        "host", "host", "", "host",
    )  # fmt: skip
    assert "TERM=xterm" in config.env
    assert "127.0.1.1\th.example.org h\n" in config.files.hosts
    assert config.domainname == "example.org"


def test_a_service_that_says_nothing_gets_the_runtime_s_defaults() -> None:
    config = made(spec())
    plain = ContainerConfig(id="x", lower_dirs=(), args=())
    same = ("groups", "devices", "sysctls", "seccomp", "shm_size", "pid_mode", "runtime", "limits", "tty")
    assert [name for name in same if getattr(config, name) != getattr(plain, name)] == []
    assert not any(entry.startswith("TERM=") for entry in config.env)


def test_all_limits_reach_the_runtime_and_the_runtime_s_name_too() -> None:
    amounts = Resources(
        memory=1, memory_swap=-1, memory_swappiness=0, memory_reservation=2, cpu_shares=3, cpu_quota=4,
        cpu_period=5, cpuset_cpus="0", cpuset_mems="1", blkio_weight=6, oom_kill_disable=True, pids=7,
        nano_cpus=8, read_bps=(ThrottleSpec(device="/dev/a", rate=9),),
        write_iops=(ThrottleSpec(device="/dev/b", rate=10),),
    )  # fmt: skip
    config = made(replace(spec(), limits=amounts, runtime="crun"))
    assert config.runtime == "crun"
    assert config.limits == Limits(
        memory=1, memory_swap=-1, swappiness=0, memory_reservation=2, cpu_shares=3, cpu_quota=4,
        cpu_period=5, cpuset_cpus="0", cpuset_mems="1", blkio_weight=6, oom_kill_disable=True, pids=7,
        nano_cpus=8, read_bps=(Throttle("/dev/a", 9),), write_iops=(Throttle("/dev/b", 10),),
    )  # fmt: skip


def test_the_node_s_host_name_is_the_container_s_when_it_shares_it() -> None:
    config = made(spec(uts_mode="host"))
    assert (config.uts_mode, config.hostname, config.files.hostname) == ("host", "", "host\n")
    assert "HOSTNAME=host" in config.env


def test_hosts_come_after_what_every_container_has() -> None:
    lines = made(spec(hosts=("10.0.0.9 db", "fd00::1 six"))).files.hosts.splitlines()
    assert lines[-2:] == ["10.0.0.9\tdb", "fd00::1\tsix"]
    assert lines[0] == "127.0.0.1\tlocalhost"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "nameserver 192.0.2.1\nsearch lan\noptions rotate\n"),
        ({"servers": ("1.1.1.1", "9.9.9.9")},
         "search lan\noptions rotate\nnameserver 1.1.1.1\nnameserver 9.9.9.9\n"),
        ({"search": ("a.b", "c")}, "nameserver 192.0.2.1\noptions rotate\nsearch a.b c\n"),
        ({"search": (".",)}, "nameserver 192.0.2.1\noptions rotate\n"),
        ({"options": ("ndots:2",)}, "nameserver 192.0.2.1\nsearch lan\noptions ndots:2\n"),
    ],
)  # fmt: skip
def test_what_is_said_about_dns_takes_the_place_of_the_node_s_own(
    given: dict[str, tuple[str, ...]], expected: str
) -> None:
    assert resolv_conf(FACTS.resolv_conf, **given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "search lan\noptions rotate\nnameserver 127.0.0.11\noptions ndots:0\n"),
        ({"search": ("a.b",)}, "options rotate\nnameserver 127.0.0.11\nsearch a.b\noptions ndots:0\n"),
        ({"options": ("ndots:2",)}, "search lan\nnameserver 127.0.0.11\noptions ndots:2\n"),
    ],
)
def test_in_a_network_of_the_swarm_our_name_server_takes_the_place_of_all_others(
    given: dict[str, tuple[str, ...]], expected: str
) -> None:
    assert embedded_resolv_conf(FACTS.resolv_conf, **given) == expected


def test_in_networks_of_the_swarm_a_container_knows_its_addresses_there() -> None:
    container = ContainerSpec(image="i", domainname="lan", hosts=("10.0.0.9 db",), dns=("192.0.2.9",))
    made_of = files(container, "h", FACTS.resolv_conf, ("10.0.5.3", "fd00:5::3"))
    assert made_of.hosts.splitlines()[-3:] == ["10.0.5.3\th.lan h", "fd00:5::3\th.lan h", "10.0.0.9\tdb"]
    assert "127.0.1.1" not in made_of.hosts
    assert [line for line in made_of.resolv_conf.splitlines() if "nameserver" in line] == [
        "nameserver 127.0.0.11"
    ]


def test_an_entrypoint_of_one_empty_word_takes_the_image_s_away() -> None:
    config = made(spec(command=("",), args=("/bin/x",)), ImageConfig(entrypoint=("/e",), cmd=("c",)))
    assert config.args == ("/bin/x",)


def test_a_volume_is_filled_from_the_image_unless_that_is_not_wanted() -> None:
    volume, bare = made(
        spec(mounts=(MountSpec(source="v", target="/v"), MountSpec(source="w", target="/w", no_copy=True)))
    ).mounts
    assert (volume.kind, volume.copy_up, bare.copy_up) == ("volume", True, False)


def test_mounts_say_all_that_their_spec_says() -> None:
    bind = MountSpec(
        kind="bind", source="/a", target="/b", readonly=True, propagation="rslave", recursive="writable"
    )
    image = MountSpec(kind="image", source="tools:1", target="/t", subpath="bin")
    tmpfs = MountSpec(kind="tmpfs", target="/r", tmpfs_size=5, tmpfs_mode=0o700, tmpfs_options=("noexec",))
    made_of = mounts.to_mount(bind, Source("/a"))
    assert (made_of.source, made_of.readonly, made_of.propagation, made_of.recursive) == (
        "/a", True, "rslave", "writable",
    )  # fmt: skip
    made_of = mounts.to_mount(image, Source("/top", ("/below",)))
    assert (made_of.kind, made_of.source, made_of.layers, made_of.subpath, made_of.readonly) == (
        "image", "/top", ("/below",), "bin", True,
    )  # fmt: skip
    made_of = mounts.to_mount(tmpfs, Source())
    assert (made_of.kind, made_of.size, made_of.mode, made_of.options) == ("tmpfs", 5, 0o700, ("noexec",))
    with pytest.raises(Invalid, match="upgrade"):
        mounts.to_mount(MountSpec(kind="cluster", target="/x"), Source())


def test_an_image_s_volumes_are_anonymous_ones_where_nothing_else_is_mounted() -> None:
    image = ImageConfig(volumes=("/data", "/var/log/", "relative", "/"))
    given = (MountSpec(kind="tmpfs", target="/var/log"),)
    assert [(one.kind, one.target) for one in mounts.wanted(given, image)] == [
        ("tmpfs", "/var/log"), ("volume", "/data"),
    ]  # fmt: skip
    with pytest.raises(Invalid, match="duplicate mount point: /a/"):
        mounts.wanted((MountSpec(target="/a"), MountSpec(target="/a/")), image)


def test_templates_are_expanded_with_what_the_node_and_the_task_are() -> None:
    task = replace(
        record(
            ContainerSpec(
                image="demo:1",
                hostname="{{.Node.Hostname}}-{{.Task.Slot}}",
                env=(
                    "A={{.Service.Labels.color}}",
                    'B={{index .Service.Labels "a.b"}}',
                    "C={x}",
                    'D={{"{{"}}.Names}}',
                ),
                mounts=(
                    MountSpec(source="{{.Service.Name}}-{{.Task.Slot}}", target="/{{.Node.Platform.OS}}"),
                ),
                args=("{{untouched}}",),
            )
        ),
        service_labels={"color": "red", "a.b": "dots"},
    )
    spec = container.expanded(task, FACTS).template.container
    assert (spec.hostname, spec.env) == ("host-2", ("A=red", "B=dots", "C={x}", "D={{.Names}}"))
    assert (spec.mounts[0].source, spec.mounts[0].target) == ("web-2", "/linux")
    assert spec.args == ("{{untouched}}",)


def test_a_global_task_s_slot_is_its_node() -> None:
    task = record(ContainerSpec(image="demo:1", env=("A={{.Task.Slot}}", "B={{.Task.Name}}")), slot=0)
    assert container.expanded(task, FACTS).template.container.env == (
        "A=node1", f"B=web.node1.{'t' * 25}",
    )  # fmt: skip


def test_a_template_that_asks_for_what_is_not_there_is_refused_in_words() -> None:
    task = record(ContainerSpec(image="demo:1", env=("A={{.Service.Labels.gone}}",)))
    with pytest.raises(Invalid, match=r"env .*no field gone"):
        container.expanded(task, FACTS)


def test_a_spec_without_templates_is_left_as_it_is() -> None:
    task = record()
    assert container.expanded(task, FACTS) is task
