"""The words, documents and decisions of ``swarmd-runtime``, without a kernel."""

from __future__ import annotations

import json

import pytest

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import oci_groups, oci_state
from swarmd.node.runtime.core.cgroups import Cgroups
from swarmd.node.runtime.core.facts import HostFacts
from swarmd.node.runtime.core.oci import Capabilities, ConsoleSize, Process, User, decode
from swarmd.node.runtime.core.oci_documents import example, features
from swarmd.node.runtime.core.oci_exec import Asked, changed, compile_exec
from swarmd.node.runtime.core.oci_limits import resources_of
from swarmd.node.runtime.core.oci_state import Record, Seen
from swarmd.node.runtime.ocicli import grammar

PROCESS = Process(
    cwd="/work", args=("sleep", "1"), env=("A=1",), capabilities=Capabilities(bounding=("CAP_KILL",))
)


def said(*words: str) -> grammar.Words:
    return grammar.parse(list(words))[2]


def record(**fields: object) -> Record:
    plain: dict[str, object] = {
        "id": "one", "bundle": "/b", "rootfs": "/b/rootfs", "created": "2026-01-02T03:04:05.678901Z",
        "owner": "root", "pid": 42,
    }  # fmt: skip
    return Record(**{**plain, **fields})  # type: ignore[arg-type]


def test_podman_words_for_create_are_understood() -> None:
    before, command, words = grammar.parse([
        "--root", "/r", "--log-format=json", "create", "--bundle", "/b", "--pid-file", "/p",
        "--no-new-keyring", "-f", "other.json", "one",
    ])  # fmt: skip
    assert command is not None
    assert command.name == "create"
    assert (before.text("root"), before.text("log-format")) == ("/r", "json")
    assert (words.text("bundle"), words.text("pid-file"), words.text("config")) == ("/b", "/p", "other.json")
    assert words.has("no-new-keyring")
    assert words.operands == ("one",)


def test_options_may_stand_behind_the_container() -> None:
    assert said("kill", "one", "KILL", "--all").has("all")
    assert said("kill", "one", "KILL", "--all").operands == ("one", "KILL")


def test_words_after_the_container_of_exec_belong_to_its_program() -> None:
    words = said("exec", "-t", "-e", "A=1", "--env=B=2", "one", "ls", "-l", "--all")
    assert words.operands == ("one", "ls", "-l", "--all")
    assert words.texts("env") == ("A=1", "B=2")
    assert words.text("tty") == ""


def test_short_flags_may_stand_together_and_before_a_value() -> None:
    words = said("exec", "-tdu1:2", "one")
    assert words.has("tty")
    assert words.has("detach")
    assert words.text("user") == "1:2"


def test_a_value_may_be_left_out_where_the_grammar_says_so() -> None:
    assert said("exec", "--tty=false", "one").text("tty") == "false"
    assert said("exec", "--tty", "one").operands == ("one",)


@pytest.mark.parametrize(
    "words",
    [
        ["nosuch"], ["create"], ["create", "a", "b"], ["create", "--nosuch", "a"], ["create", "-z", "a"],
        ["create", "a", "--bundle"], ["--nosuch", "list"], ["list", "--quiet=yes"], ["kill", "a", "b", "c"],
    ],
)  # fmt: skip
def test_words_outside_of_the_grammar_are_refused(words: list[str]) -> None:
    with pytest.raises(Invalid):
        grammar.parse(words)


def test_help_needs_no_container() -> None:
    assert said("create", "--help").has("help")
    assert "--pid-file=VALUE" in grammar.usage(grammar.COMMANDS["create"])
    assert "  features" in grammar.usage(None)


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (Seen(making=True), "creating"),
        (Seen(), "stopped"),
        (Seen(waiting=True), "stopped"),
        (Seen(alive=True, waiting=True), "created"),
        (Seen(alive=True), "running"),
        (Seen(alive=True, frozen=True), "paused"),
    ],
)
def test_the_status_follows_from_what_is_seen(seen: Seen, status: str) -> None:
    assert oci_state.status(seen) == status


def test_the_state_has_what_the_specification_wants_and_no_pid_of_a_stopped_container() -> None:
    running = json.loads(oci_state.state(record(annotations={"a": "b"}), "running"))
    assert running["ociVersion"] == "1.0.2"
    assert (running["id"], running["status"], running["pid"], running["bundle"]) == (
        "one",
        "running",
        42,
        "/b",
    )
    assert running["annotations"] == {"a": "b"}
    assert json.loads(oci_state.state(record(), "stopped"))["pid"] == 0


def test_the_table_is_as_wide_as_what_is_in_it() -> None:
    lines = oci_state.table([(record(id="a-rather-long-name"), "running")]).splitlines()
    assert lines[0].index("PID") == lines[1].index("42")
    assert json.loads(oci_state.listing([(record(), "stopped")]))[0]["pid"] == 0


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "x" * 300, "a\0b"])
def test_an_id_that_is_no_plain_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        oci_state.check_id(name)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("", "/one"),
        ("/a/b", "/a/b"),
        ("a/b/", "/a/b"),
        ("system.slice:libpod:one", "/system.slice/libpod-one.scope"),
        ("user-1000-app.slice:crun:x", "/user.slice/user-1000.slice/user-1000-app.slice/crun-x.scope"),
        (":crun:x", "/crun-x.scope"),
        ("-.slice::x", "/x.scope"),
        ("machine.slice:p:inner.slice", "/machine.slice/inner.slice"),
    ],
)
def test_a_cgroups_path_is_below_the_hierarchies(given: str, path: str) -> None:
    assert oci_groups.path_of(given, "one") == path


@pytest.mark.parametrize("given", ["../a", "/a/../../b", "/", "a/.."])
def test_a_cgroups_path_that_leads_out_is_refused(given: str) -> None:
    with pytest.raises(Invalid):
        oci_groups.path_of(given, "one")


def test_groups_are_below_the_mounts_and_not_below_our_own_group() -> None:
    mountinfo = (
        "25 1 0:22 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "26 1 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    top = oci_groups.roots(mountinfo, "4:memory:/ours\n0::/ours/too\n")
    assert top == Cgroups({"memory": "/sys/fs/cgroup/memory"}, "/sys/fs/cgroup/unified", ("memory",))
    placed = oci_groups.place(top, "/a/b")
    assert placed.paths() == ("/sys/fs/cgroup/unified/a/b", "/sys/fs/cgroup/memory/a/b")


def test_the_example_is_a_config_we_run() -> None:
    for rootless in (False, True):
        spec = decode(json.dumps(example(rootless=rootless, uid=1000, gid=1000)).encode())
        assert spec.process is not None
        assert spec.process.args == ("sh",)
        assert (spec.namespace("user") is not None) is rootless


def test_features_name_what_there_is() -> None:
    known = features(("ro", "rbind"))
    assert known["mountOptions"] == ["ro", "rbind"]
    assert "CAP_SYS_ADMIN" in known["linux"]["capabilities"]
    assert known["ociVersionMin"] == "1.0.0"


def test_limits_of_update_become_resources() -> None:
    wanted = resources_of({"memory": "8388608", "cpu-share": "512", "cpuset-cpus": "0-1", "pids-limit": "9"})
    assert wanted.memory is not None
    assert wanted.memory.limit == 8388608
    assert wanted.cpu is not None
    assert (wanted.cpu.shares, wanted.cpu.cpus) == (512, "0-1")
    assert wanted.pids is not None
    assert wanted.pids.limit == 9
    assert wanted.block_io is None
    assert resources_of({}).memory is None


def test_a_limit_that_is_no_number_is_refused() -> None:
    with pytest.raises(Invalid, match="--memory"):
        resources_of({"memory": "many"})


def test_exec_takes_the_container_s_process_and_what_was_asked() -> None:
    asked = Asked(args=("ls",), env=("B=2",), user="5:6", caps=("net_raw",), tty=True, no_new_privs=True)
    process = changed(PROCESS, asked)
    assert process.args == ("ls",)
    assert process.env == ("A=1", "B=2")
    assert process.cwd == "/work"
    assert process.user == User(uid=5, gid=6)
    assert process.capabilities is not None
    assert process.capabilities.bounding == ("CAP_KILL", "CAP_NET_RAW")
    assert process.terminal
    assert process.no_new_privileges


@pytest.mark.parametrize(
    "asked", [Asked(args=()), Asked(args=("a",), cwd="b"), Asked(args=("a",), user="web")]
)
def test_exec_refuses_what_cannot_be(asked: Asked) -> None:
    with pytest.raises(Invalid):
        changed(PROCESS, asked)


def test_exec_enters_the_container_before_anything_of_it_is_looked_at() -> None:
    process = changed(PROCESS, Asked(args=("ls",), tty=True))
    steps = compile_exec(process, HostFacts(), None, filter_flags=0, procs=("/p",), flags=7, remapped=False)
    names = [step[0] for step in steps]
    assert steps[0] == ("enter_container", ["/p"], 7, False)
    assert names.index("terminal") < names.index("look_up") < names.index("ready") < names.index("bounding")
    assert names[-1] == "exec"
    assert ("terminal", 24, 80) in steps


def test_a_terminal_has_the_size_that_the_process_names() -> None:
    process = Process(cwd="/", args=("a",), terminal=True, console_size=ConsoleSize(height=10, width=20))
    steps = compile_exec(process, HostFacts(), None, filter_flags=0, procs=(), flags=0, remapped=False)
    assert ("terminal", 10, 20) in steps
