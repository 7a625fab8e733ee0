"""Flags of service create and update: how they are read, refused and merged into a spec."""

from __future__ import annotations

from typing import Any

import click
import pytest

from swarmd.cli import service_edit as edit
from swarmd.cli import spec_text
from swarmd.cli.commands.service_create import create, new_spec
from swarmd.cli.commands.service_update import change, update
from swarmd.cli.grammar import Command, Switch, spell_switches, switch
from swarmd.cli.mount_text import Mount, parse_mount
from swarmd.cli.service_flags import apply_create
from swarmd.rpc.v1 import types_pb2


def given(command: click.Command, *arguments: str) -> dict[str, Any]:
    return dict(command.make_context(command.name, list(arguments)).params)


def created(*arguments: str) -> types_pb2.ServiceSpec:
    values = given(create, *arguments)
    spec = new_spec(values["name"], values["mode"], values["image"], values["command"])
    apply_create(spec, values)
    return spec


def updated(spec: types_pb2.ServiceSpec, *arguments: str) -> types_pb2.ServiceSpec:
    change(spec, given(update, *arguments, "web"))
    return spec


def test_a_plain_service_has_docker_s_defaults() -> None:
    spec = created("--name", "web", "nginx:1.12")
    assert (spec.name, spec.mode, spec.replicas) == ("web", "replicated", 1)
    assert (spec.template.restart.condition, spec.template.restart.delay) == ("any", 5.0)
    assert (spec.update.monitor, spec.update.order, spec.template.container.stop_grace) == (
        5.0,
        "stop-first",
        10.0,
    )


def test_what_follows_the_image_belongs_to_the_container() -> None:
    spec = created("-p", "80:80", "busybox", "sh", "-c", "x", "--detach=true", "--replicas", "3")
    assert list(spec.template.container.args) == ["sh", "-c", "x", "--detach=true", "--replicas", "3"]
    assert spec.replicas == 1


def test_every_kind_of_flag_reaches_its_field() -> None:
    spec = created(
        "--replicas=3", "--replicas-max-per-node", "2", "--limit-cpu", "0.5", "--limit-memory", "512m",
        "--limit-pids", "9", "--reserve-memory", "1g", "--restart-delay", "1m30s",
        "--update-parallelism", "2",
        "--rollback-order", "start-first", "--update-max-failure-ratio", "0.25", "-w", "/w", "-u", "me:us",
        "--hostname", "h", "--entrypoint", "/bin/sh -c 'a b'", "--init", "--read-only=true",
        "--no-new-privileges", "--stop-signal", "SIGINT", "--stop-grace-period", "2s", "-l", "a=b", "-l", "c",
        "--container-label", "d=e=f", "-e", "A=1", "-e", "A=2", "--constraint", "node.role==worker",
        "--cap-add", "net_admin", "--cap-drop", "ALL", "busybox",
    )  # fmt: skip
    container, template = spec.template.container, spec.template
    assert (spec.replicas, template.placement.max_replicas, list(template.placement.constraints)) == (
        3, 2, ["node.role==worker"],
    )  # fmt: skip
    assert (template.limits.nano_cpus, template.limits.memory, template.limits.pids) == (
        500_000_000,
        512 << 20,
        9,
    )
    assert (template.reservations.memory, template.restart.delay) == (1 << 30, 90.0)
    assert (spec.update.parallelism, spec.rollback.order, spec.update.max_failure_ratio) == (
        2,
        "start-first",
        0.25,
    )
    assert (container.workdir, container.user, container.hostname) == ("/w", "me:us", "h")
    assert list(container.command) == ["/bin/sh", "-c", "a b"]
    assert (container.init, container.read_only, container.no_new_privileges) == (True, True, True)
    assert (container.stop_signal, container.stop_grace) == ("SIGINT", 2.0)
    assert (dict(spec.labels), dict(container.labels)) == ({"a": "b", "c": ""}, {"d": "e=f"})
    assert (list(container.env), list(container.cap_add), list(container.cap_drop)) == (
        ["A=2"], ["CAP_NET_ADMIN"], ["ALL"],
    )  # fmt: skip


def test_replicas_of_a_global_service_are_refused() -> None:
    with pytest.raises(ValueError, match="replicas can only be used with replicated mode"):
        created("--mode", "global", "--replicas", "2", "busybox")


def test_mounts_are_read() -> None:
    lab = "source=/etc/hostname,target=/usr/share/nginx/html/index.html,type=bind,ro"
    assert parse_mount(lab) == Mount(
        "bind", "/etc/hostname", "/usr/share/nginx/html/index.html", True, 0, 0o1777
    )
    assert parse_mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700") == Mount(
        "tmpfs", "", "/t", False, 1 << 20, 0o700
    )
    assert parse_mount("type=bind,src=./x,dst=/x").source.startswith("/")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("source=x", "target is required"),
        ("type=npipe,target=/x", "invalid mount type"),
        ("target=/x,volume-colour=y", "unexpected key 'volume-colour'"),
        ("target=/x,tmpfs-size=1", "cannot mix"),
        ("target=/x,readonly=maybe", "invalid value for readonly"),
    ],
)
def test_mounts_that_make_no_sense_are_explained(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_mount(text)


def test_a_variable_alone_takes_its_value_from_here() -> None:
    assert spec_text.parse_env(["A=1", "HOME", "GONE"], {"HOME": "/me"}) == ["A=1", "HOME=/me"]


def test_env_files_have_comments() -> None:
    assert spec_text.env_file_lines("# no\nA=1\n\n  B=x y\n") == ["A=1", "B=x y"]
    with pytest.raises(ValueError, match="contains whitespaces"):
        spec_text.env_file_lines("A B=1")


def test_update_changes_only_what_was_given() -> None:
    spec = created("--name", "web", "--replicas", "3", "-e", "A=1", "-p", "80:80", "nginx:1.12", "arg")
    before = spec.SerializeToString(deterministic=True)
    assert updated(spec).SerializeToString(deterministic=True) == before
    updated(spec, "--image", "nginx:1.13", "--update-delay", "2s", "--args", "a 'b c'", "--force")
    assert (spec.template.container.image, spec.update.delay, spec.replicas) == ("nginx:1.13", 2.0, 3)
    assert (list(spec.template.container.args), spec.template.force_update) == (["a", "b c"], 1)
    assert list(spec.template.container.env) == ["A=1"]


def test_zero_and_false_count_as_given() -> None:
    spec = created("--replicas", "3", "--init", "--limit-memory", "1g", "busybox")
    updated(spec, "--replicas", "0", "--init=false", "--limit-memory", "0")
    assert (spec.replicas, spec.template.container.init, spec.template.limits.memory) == (0, False, 0)


def test_env_is_merged_by_name() -> None:
    spec = created("-e", "A=1", "-e", "B=2", "-e", "C=3", "busybox")
    updated(spec, "--env-rm", "A", "--env-add", "B=9", "--env-add", "D=4")
    assert list(spec.template.container.env) == ["B=9", "C=3", "D=4"]


def test_mount_rm_goes_by_target_and_an_added_one_replaces() -> None:
    spec = created("--mount", "source=a,target=/a", "--mount", "source=b,target=/b", "busybox")
    updated(
        spec, "--mount-rm", "/a", "--mount-add", "source=c,target=/b", "--mount-add", "source=d,target=/d"
    )
    assert [(mount.source, mount.target) for mount in spec.template.container.mounts] == [
        ("c", "/b"),
        ("d", "/d"),
    ]
    with pytest.raises(ValueError, match="duplicate mount target: /x"):
        updated(spec, "--mount-add", "source=c,target=/x", "--mount-add", "source=d,target=/x")


def test_constraints_go_by_text_whatever_the_blanks() -> None:
    spec = created("--constraint", "node.role == manager", "--constraint", "node.labels.a!=b", "busybox")
    updated(spec, "--constraint-rm", "node.role==manager", "--constraint-add", "node.labels.a != b")
    assert list(spec.template.placement.constraints) == ["node.labels.a!=b"]


def test_labels_go_by_key() -> None:
    spec = created("-l", "a=1", "-l", "b=2", "--container-label", "c=3", "busybox")
    updated(
        spec,
        "--label-rm",
        "a",
        "--label-add",
        "b=5",
        "--container-label-rm",
        "c",
        "--container-label-add",
        "d",
    )
    assert (dict(spec.labels), dict(spec.template.container.labels)) == ({"b": "5"}, {"d": ""})


def test_adding_a_capability_takes_it_out_of_the_dropped() -> None:
    spec = created("--cap-drop", "NET_RAW", "--cap-add", "SYS_TIME", "busybox")
    updated(spec, "--cap-add", "net_raw", "--cap-drop", "CAP_SYS_TIME")
    container = spec.template.container
    assert (list(container.cap_add), list(container.cap_drop)) == (["CAP_NET_RAW"], ["CAP_SYS_TIME"])


def test_a_path_can_be_read_back() -> None:
    spec = created("--limit-pids", "5", "busybox")
    assert edit.get_path(spec, "template.limits.pids") == 5


@click.command("x", cls=Command, context_settings={"allow_interspersed_args": False})
@switch("-d", "--detach", text="")
@click.option("-n", "--name")
@click.argument("rest", nargs=-1)
def sample(detach: bool | None, name: str | None, rest: tuple[str, ...]) -> None:
    """A command to try switches on."""


@pytest.mark.parametrize(
    ("arguments", "detach", "name", "rest"),
    [
        ([], None, None, ()),
        (["--detach=false"], False, None, ()),
        (["--detach=TRUE", "a"], True, None, ("a",)),
        (["-dn", "--detach=false", "--detach=0"], False, "--detach=false", ()),
        (["--name", "--detach=false", "a"], None, "--detach=false", ("a",)),
        (["-d", "--", "--detach=false"], True, None, ("--detach=false",)),
        (["a", "--detach=false"], None, None, ("a", "--detach=false")),
    ],
)
def test_switches_take_a_truth_value_after_an_equals_sign(
    arguments: list[str], detach: bool | None, name: str | None, rest: tuple[str, ...]
) -> None:
    assert given(sample, *arguments) == {"detach": detach, "name": name, "rest": rest}


def test_the_opposite_of_a_switch_is_not_shown_in_help() -> None:
    text = sample.get_help(sample.make_context("x", []))
    assert "-d, --detach" in text
    assert "--no-detach" not in text
    assert spell_switches({}, ["--other=false"], True) == ["--other=false"]


def test_short_flags_are_looked_up_by_their_long_names() -> None:
    """Click compares an unknown long flag, and ``-t`` looks like one, with all others first."""
    tag, quiet = click.Option(["-t", "--tag"]), Switch(["-q", "--quiet"])
    known = {"-t": tag, "--tag": tag, "-q": quiet, "--quiet": quiet}
    assert spell_switches(known, ["-t", "-q", "-q", "."], True) == ["--tag", "-q", "--quiet", "."]
    assert spell_switches(known, ["-qt", "x", "-tx", "--tag", "y"], True) == ["-qt", "x", "-tx", "--tag", "y"]
    assert spell_switches(known, ["-t"], True) == ["-t"], "what is missing is missing for -t"
    assert spell_switches(known, ["x", "-q"], False) == ["x", "-q"]
