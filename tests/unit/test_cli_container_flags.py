"""What users say about containers: read, refused, merged into a spec, and shown again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from swarmd.cli import container_text, views_container
from swarmd.cli.commands.service_create import create, new_spec
from swarmd.cli.commands.service_update import change, update
from swarmd.cli.grammar import BadArgument, Command
from swarmd.cli.mount_text import Mount, parse_mount, parse_tmpfs, parse_volume
from swarmd.cli.pretty_container import container as pretty_container
from swarmd.cli.pretty_container import resources as pretty_resources
from swarmd.cli.run_flags import apply_run, run_options
from swarmd.cli.service_flags import apply_create
from swarmd.control.core import validate
from swarmd.model.spec import (
    ContainerSpec,
    DeviceSpec,
    MountSpec,
    Resources,
    ServiceSpec,
    ThrottleSpec,
    UlimitSpec,
)
from swarmd.rpc import codec
from swarmd.rpc.v1 import types_pb2

EVERYTHING = shlex.split(
    """
    --group wheel --group 27 --host db:10.0.0.9 --host 'six=[fd00::1]' --dns 1.1.1.1 --dns-search
    a.example --dns-option ndots:2 -t -i --ulimit nofile=10:20 --ulimit core=0 --sysctl
    net.core.somaxconn=99 --privileged --device /dev/fuse --device /dev/sda:/dev/x:r
    --device-cgroup-rule 'c 1:3 rwm' --security-opt no-new-privileges --security-opt
    seccomp=unconfined --oom-score-adj -500 --shm-size 128m --pid host --ipc host --cgroupns
    private --userns host --domainname example.org --hostname h --runtime crun --isolation default
    """
)
AMOUNTS = shlex.split(
    """
    --limit-memory 64m --memory-swap 128m --memory-swappiness 0 --memory-reservation 32m
    --oom-kill-disable --cpu-shares 512 --cpu-quota 50000 --cpu-period 100000 --cpuset-cpus 0-3,7
    --cpuset-mems 0 --blkio-weight 300 --device-read-bps /dev/a:1mb --device-write-bps /dev/a:2mb
    --device-read-iops /dev/a:10 --device-write-iops /dev/a:20
    """
)


def given(command: click.Command, *arguments: str) -> dict[str, Any]:
    return dict(command.make_context(command.name, list(arguments)).params)


def created(*arguments: str) -> types_pb2.ServiceSpec:
    values = given(create, *arguments)
    spec = new_spec("web", values["mode"], values["image"], values["command"])
    apply_create(spec, values)
    return spec


def updated(spec: types_pb2.ServiceSpec, *arguments: str) -> types_pb2.ServiceSpec:
    change(spec, given(update, *arguments, "web"))
    return spec


def container(spec: types_pb2.ServiceSpec) -> ContainerSpec:
    return codec.from_proto(ServiceSpec, spec).template.container


def test_everything_about_a_container_reaches_its_field_and_is_accepted() -> None:
    spec = codec.from_proto(ServiceSpec, created(*EVERYTHING, *AMOUNTS, "busybox"))
    validate.service(spec)
    assert spec.template.runtime == "crun"
    assert spec.template.container == ContainerSpec(
        image="busybox",
        groups=("wheel", "27"),
        hosts=("10.0.0.9 db", "fd00::1 six"),
        dns=("1.1.1.1",),
        dns_search=("a.example",),
        dns_options=("ndots:2",),
        tty=True,
        open_stdin=True,
        ulimits=(UlimitSpec(name="nofile", soft=10, hard=20), UlimitSpec(name="core")),
        sysctls={"net.core.somaxconn": "99"},
        privileged=True,
        devices=(
            DeviceSpec(source="/dev/fuse", target="/dev/fuse", permissions="rwm"),
            DeviceSpec(source="/dev/sda", target="/dev/x", permissions="r"),
        ),
        device_rules=("c 1:3 rwm",),
        no_new_privileges=True,
        seccomp="unconfined",
        oom_score_adj=-500,
        shm_size=128 << 20,
        pid_mode="host",
        ipc_mode="host",
        cgroupns_mode="private",
        userns="host",
        hostname="h",
        domainname="example.org",
    )
    assert spec.template.limits == Resources(
        memory=64 << 20,
        memory_swap=128 << 20,
        memory_swappiness=0,
        memory_reservation=32 << 20,
        oom_kill_disable=True,
        cpu_shares=512,
        cpu_quota=50_000,
        cpu_period=100_000,
        cpuset_cpus="0-3,7",
        cpuset_mems="0",
        blkio_weight=300,
        read_bps=(ThrottleSpec(device="/dev/a", rate=1 << 20),),
        write_bps=(ThrottleSpec(device="/dev/a", rate=2 << 20),),
        read_iops=(ThrottleSpec(device="/dev/a", rate=10),),
        write_iops=(ThrottleSpec(device="/dev/a", rate=20),),
    )


def test_update_adds_and_removes_by_what_tells_them_apart() -> None:
    spec = created(*EVERYTHING, *AMOUNTS, "busybox")
    words = """
        --group-rm wheel --group-add adm --host-rm db --host-rm six:fd00::2 --dns-rm 1.1.1.1
        --dns-add 9.9.9.9 --ulimit-rm core --ulimit-add nofile=5 --sysctl-rm net.core.somaxconn
        --sysctl-add net.ipv4.ip_forward=1 --device-rm /dev/fuse --device-cgroup-rule-rm
        'c 1:3 rwm' --device-read-bps-rm /dev/a --memory-swappiness -1 --security-opt seccomp=default
        --privileged=false --pid ''
    """
    updated(spec, *shlex.split(words))
    template = codec.from_proto(ServiceSpec, spec).template
    got = template.container
    assert (got.groups, got.hosts, got.dns) == (("27", "adm"), ("fd00::1 six",), ("9.9.9.9",))
    assert got.ulimits == (UlimitSpec(name="nofile", soft=5, hard=5),)
    assert got.sysctls == {"net.ipv4.ip_forward": "1"}
    assert [one.source for one in got.devices] == ["/dev/sda"]
    assert (got.device_rules, got.seccomp, got.privileged, got.pid_mode) == ((), "", False, "")
    assert (got.no_new_privileges, got.tty) == (True, True)  # nobody spoke of them
    assert (template.limits.read_bps, template.limits.memory_swappiness) == ((), None)
    assert template.limits.write_bps == (ThrottleSpec(device="/dev/a", rate=2 << 20),)


def test_an_update_that_says_nothing_changes_nothing() -> None:
    spec = created(*EVERYTHING, *AMOUNTS, "busybox")
    before = spec.SerializeToString(deterministic=True)
    assert updated(spec).SerializeToString(deterministic=True) == before


def test_a_seccomp_profile_is_read_here_and_sent_along(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    spec = created("--security-opt", f"seccomp={profile}", "busybox")
    assert container(spec).seccomp == '{"defaultAction": "SCMP_ACT_ALLOW"}'
    with pytest.raises(ValueError, match="opening seccomp profile"):
        created("--security-opt", f"seccomp={tmp_path}/none.json", "busybox")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--ulimit", "nofile"), "NAME=SOFT"),
        (("--ulimit", "nofile=x"), "'x' is no number"),
        (("--device", "/dev/a:/dev/b:rq"), "invalid device mode: rq"),
        (("--device", "fuse"), "not an absolute path"),
        (("--host", "db"), "NAME:ADDRESS"),
        (("--host", "db:300.1.1.1"), "not an ip address"),
        (("--dns", "resolver"), "not an ip address"),
        (("--sysctl", "net.core.somaxconn"), "NAME=VALUE"),
        (("--security-opt", "apparmor=unconfined"), "no AppArmor"),
        (("--memory-swappiness", "101"), "0 to 100"),
        (("--device-read-bps", "/dev/a"), "a device and a rate"),
        (("--device-read-iops", "/dev/a:1m"), "whole number"),
        (("--isolation", "hyperv"), "Windows"),
        (("--oom-score-adj", "much"), "no whole number"),
    ],
)
def test_values_that_make_no_sense_are_explained(arguments: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(BadArgument, match=complaint):
        created(*arguments, "busybox")


def test_devices_are_read_in_all_their_spellings() -> None:
    assert container_text.parse_device("/dev/a:rw") == ("/dev/a", "/dev/a", "rw")
    assert container_text.parse_device("/dev/a:/dev/b") == ("/dev/a", "/dev/b", "rwm")


def test_mounts_of_every_kind_are_read_with_their_options() -> None:
    assert parse_mount("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave,bind-recursive=writable") == Mount(
        "bind", "/a", "/b", True, propagation="rslave", recursive="writable"
    )
    assert parse_mount("type=bind,src=/a,dst=/b,bind-create-src").create_source
    assert parse_mount(
        'src=v,dst=/b,volume-nocopy,volume-subpath=x/y,volume-label=a=b,"volume-label=c=d,e",volume-driver=local'
    ) == Mount(
        "volume", "v", "/b", no_copy=True, subpath="x/y", labels={"a": "b", "c": "d,e"}, driver="local"
    )
    assert parse_mount("type=image,source=busybox:1,target=/t,image-subpath=bin") == Mount(
        "image", "busybox:1", "/t", subpath="bin"
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("type=bind,src=/a,dst=/b,volume-nocopy", "cannot mix 'volume-\\*' options with mount type 'bind'"),
        ("src=a,dst=/b,bind-propagation=rslave", "cannot mix"),
        ("type=bind,src=/a,dst=/b,volume-label=a=b", "cannot mix"),
        ("type=bind,src=/a,dst=/b,bind-propagation=up", "invalid value for bind-propagation"),
        ("src=a,dst=/b,volume-opt=type=nfs", "no driver options"),
        ("type=cluster,src=a,dst=/b", "invalid mount type 'cluster'"),
    ],
)
def test_mounts_whose_options_do_not_fit_are_explained(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_mount(text)


def test_volumes_and_tmpfs_are_read_as_docker_run_spells_them() -> None:
    assert parse_volume("data:/var/lib:ro,nocopy") == Mount("volume", "data", "/var/lib", True, no_copy=True)
    assert parse_volume("/etc:/e:rslave") == Mount(
        "bind", "/etc", "/e", propagation="rslave", create_source=True
    )
    assert parse_volume("/anonymous") == Mount("volume", "", "/anonymous")
    assert parse_volume("./x:/x").source.startswith("/")
    assert parse_tmpfs("/run:size=1m,mode=700,noexec") == Mount(
        "tmpfs", "", "/run", tmpfs_size=1 << 20, tmpfs_mode=0o700, tmpfs_options=("noexec",)
    )
    for wrong in ("", "a:b:c:d", "v:/x:soft"):
        with pytest.raises(ValueError, match="invalid"):
            parse_volume(wrong)


@click.command("run", cls=Command, context_settings={"allow_interspersed_args": False})
@run_options
@click.argument("image")
def run(**given: Any) -> None:
    """As the command for single containers will be."""


def test_run_spells_the_same_things_as_docker_run() -> None:
    spec = new_spec("x", "replicated", "busybox", ())
    words = shlex.split(
        """
        -m 64m --cpus 0.5 --pids-limit 9 --add-host db:10.0.0.1 --group-add wheel -l a=b -h name
        --stop-timeout 3 --entrypoint '/bin/my sh' -v data:/d --tmpfs /t:size=1m --mount
        type=bind,src=/etc,dst=/e --memory-swappiness 5 -e A=1
        """
    )
    apply_run(spec, given(run, *words, "busybox"))
    template = codec.from_proto(ServiceSpec, spec).template
    got, limits = template.container, template.limits
    assert (limits.memory, limits.nano_cpus, limits.pids) == (64 << 20, 500_000_000, 9)
    assert (got.hosts, got.groups, got.labels, got.hostname) == (
        ("10.0.0.1 db",), ("wheel",), {"a": "b"}, "name",
    )  # fmt: skip
    assert (got.stop_grace, got.command, got.env) == (3.0, ("/bin/my sh",), ("A=1",))
    assert sorted((mount.kind, mount.target) for mount in got.mounts) == [
        ("bind", "/e"), ("tmpfs", "/t"), ("volume", "/d"),
    ]  # fmt: skip
    apply_run(spec, given(run, "--pids-limit", "-1", "busybox"))
    assert spec.template.limits.pids == 0
    with pytest.raises(ValueError, match="Duplicate mount point: /d"):
        apply_run(spec, given(run, "-v", "a:/d", "--tmpfs", "/d", "busybox"))


def test_inspect_shows_everything_by_docker_s_names() -> None:
    spec = created(*EVERYTHING, *AMOUNTS, "--mount", "type=image,src=i,dst=/i,image-subpath=x", "busybox")
    shown = views_container.container_spec(spec.template.container)
    assert (shown["Groups"], shown["Hosts"], shown["TTY"], shown["OpenStdin"]) == (
        ["wheel", "27"], ["10.0.0.9 db", "fd00::1 six"], True, True,
    )  # fmt: skip
    assert shown["DNSConfig"] == {
        "Nameservers": ["1.1.1.1"], "Search": ["a.example"], "Options": ["ndots:2"],
    }  # fmt: skip
    assert shown["Privileges"] == {"Seccomp": {"Mode": "unconfined"}, "NoNewPrivileges": True}
    assert shown["Ulimits"][0] == {"Name": "nofile", "Hard": 20, "Soft": 10}
    assert shown["Devices"][1] == {
        "PathOnHost": "/dev/sda", "PathInContainer": "/dev/x", "CgroupPermissions": "r",
    }  # fmt: skip
    assert shown["Mounts"] == [
        {"Type": "image", "Source": "i", "Target": "/i", "ImageOptions": {"Subpath": "x"}}
    ]
    amounts = views_container.resources(spec.template)
    assert (amounts["SwapBytes"], amounts["MemorySwappiness"]) == (128 << 20, 0)
    assert amounts["Limits"]["BlkioDeviceReadBps"] == [{"Path": "/dev/a", "Rate": 1 << 20}]
    assert json.dumps(shown)


def test_a_service_that_says_nothing_new_is_shown_as_before() -> None:
    spec = created("busybox")
    assert views_container.container_spec(spec.template.container) == {
        "Image": "busybox",
        "Init": False,
        "StopGracePeriod": 10_000_000_000,
        "DNSConfig": {},
        "Isolation": "default",
    }
    assert pretty_container(spec.template) == ["ContainerSpec:", " Image:\t\tbusybox", " Init:\t\tfalse"]
    assert pretty_resources(spec.template) == ["Resources:"]


def test_pretty_shows_ulimits_sysctls_and_amounts_as_docker_lays_them_out() -> None:
    spec = created(*EVERYTHING, *AMOUNTS, "busybox")
    lines = pretty_container(spec.template)
    at = lines.index("SysCtls:")
    assert lines[at : at + 5] == [
        "SysCtls:", " net.core.somaxconn: 99", "Ulimits:", " core: 0", " nofile: 10:20",
    ]  # fmt: skip
    assert "Devices:" in lines
    assert " /dev/sda:/dev/x:r" in lines
    amounts = pretty_resources(spec.template)
    assert amounts[:4] == ["Resources:", " Limits:", "  Memory:\t64MiB", "  Memory Swap:\t128MiB"]
    assert "  Memory Swappiness: 0" in amounts


def test_a_changed_mount_keeps_what_was_said_about_it() -> None:
    spec = created("--mount", "src=v,dst=/v,volume-label=a=b,volume-nocopy", "busybox")
    updated(spec, "--env-add", "A=1")
    assert container(spec).mounts == (MountSpec(source="v", target="/v", labels={"a": "b"}, no_copy=True),)
