"""``swarmd-runtime`` behaves as crun does: every behaviour is asked of both."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.ocicli_rig import Bundle, Config, Tool, image

pytestmark = pytest.mark.root
SLEEP = "trap 'exit 9' TERM; while :; do sleep 0.1; done"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path / "bundle", image(tmp_path / "image"))


@pytest.fixture(params=["swarmd-runtime", "crun"])
def tool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tool]:
    yield from used(request.param, tmp_path)


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Tool]:
    yield from used("swarmd-runtime", tmp_path)


def used(name: str, tmp_path: Path) -> Iterator[Tool]:
    if shutil.which("crun") is None:
        pytest.skip("crun is missing: install it to compare with it")
    made = Tool(name, tmp_path / "state")
    yield made
    made.clean()
    assert left_groups() == []
    for top in Path("/sys/fs/cgroup").glob(f"*/ocicli-{os.getpid()}"):
        top.rmdir()


def left_groups() -> list[Path]:
    """Of the containers of this test; the directory above them may stay, as crun leaves it."""
    return [path for path in Path("/sys/fs/cgroup").glob(f"*/ocicli-{os.getpid()}/*") if path.is_dir()]


def until(condition: object, seconds: float = 60.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_a_container_is_created_then_started_then_stopped_then_gone(tool: Tool, bundle: Bundle) -> None:
    path = bundle.script(f"echo ran >/ran; {SLEEP}")
    tool("create", "--bundle", path, "--pid-file", f"{path}/pid", "one")
    state = tool.state("one")
    assert (state["id"], state["status"], state["bundle"]) == ("one", "created", path)
    assert state["pid"] == int((bundle.directory / "pid").read_text())
    assert not (bundle.rootfs / "ran").exists()
    tool("start", "one")
    until((bundle.rootfs / "ran").exists)
    assert tool.state("one")["status"] == "running"
    tool("kill", "one", "TERM")
    until(lambda: tool.state("one")["status"] == "stopped")
    assert tool.state("one")["pid"] == 0
    tool("delete", "one")
    assert tool("state", "one", check=False).returncode == 1
    assert tool("list", "-q").stdout.split() == []


def test_an_id_in_use_is_refused_and_its_container_unharmed(tool: Tool, bundle: Bundle) -> None:
    path = bundle.script(SLEEP)
    tool("create", "-b", path, "one")
    before = tool.state("one")
    failed = tool("create", "-b", path, "one", check=False)
    assert failed.returncode == 1
    assert "exist" in failed.stderr
    assert tool.state("one") == before


@pytest.mark.parametrize("fault", ["no bundle", "no json", "no rootfs", "no program", "bad mount"])
def test_what_cannot_be_made_leaves_nothing(tool: Tool, bundle: Bundle, fault: str) -> None:
    def change(config: Config) -> None:
        if fault == "no program":
            config["process"]["args"] = ["nosuch"]
        elif fault == "bad mount":
            config["mounts"].append(
                {"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}
            )

    path = bundle.write("true", change=change)
    if fault == "no bundle":
        path += "/nosuch"
    elif fault == "no json":
        (bundle.directory / "config.json").write_text("{")
    elif fault == "no rootfs":
        shutil.rmtree(bundle.rootfs)
    failed = tool("create", "-b", path, "one", check=False)
    assert failed.returncode == 1
    assert failed.stderr.strip()
    assert tool("list", "-q").stdout.split() == []
    assert left_groups() == []


def test_a_program_that_is_not_there_is_said_at_create_with_the_words_others_look_for(
    tool: Tool, bundle: Bundle
) -> None:
    failed = tool("create", "-b", bundle.write("nosuch"), "one", check=False)
    assert "not found in $PATH" in failed.stderr
    failed = tool("create", "-b", bundle.write("/no/such"), "one", check=False)
    assert "no such file or directory" in failed.stderr.lower()
    failed = tool("create", "-b", bundle.write("/etc/file"), "one", check=False)
    assert "permission denied" in failed.stderr.lower()


def test_a_container_is_started_once(tool: Tool, bundle: Bundle) -> None:
    tool("create", "-b", bundle.script(SLEEP), "one")
    tool("start", "one")
    assert tool("start", "one", check=False).returncode == 1
    assert tool.state("one")["status"] == "running"
    tool("kill", "one", "KILL")
    until(lambda: tool.state("one")["status"] == "stopped")
    assert tool("start", "one", check=False).returncode == 1


def test_only_a_stopped_container_is_deleted_without_force(tool: Tool, bundle: Bundle) -> None:
    tool("create", "-b", bundle.script(SLEEP), "one")
    tool("start", "one")
    assert tool("delete", "one", check=False).returncode == 1
    assert tool.state("one")["status"] == "running"
    pid = tool.state("one")["pid"]
    tool("delete", "--force", "one")
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert tool("delete", "one", check=False).returncode == 1
    assert tool("delete", "--force", "one").returncode == 0


def test_a_created_container_can_be_deleted(tool: Tool, bundle: Bundle) -> None:
    tool("create", "-b", bundle.script(SLEEP), "one")
    tool("delete", "one")
    assert left_groups() == []


@pytest.mark.parametrize("command", [["kill", "one", "KILL"], ["exec", "one", "true"], ["pause", "one"]])
def test_a_stopped_container_takes_no_orders(tool: Tool, bundle: Bundle, command: list[str]) -> None:
    tool("create", "-b", bundle.write("true"), "one")
    tool("start", "one")
    until(lambda: tool.state("one")["status"] == "stopped")
    assert tool(*command, check=False).returncode == 1


@pytest.mark.parametrize("command", ["state", "start", "kill", "delete", "pause", "resume", "ps"])
def test_a_container_that_is_not_there_is_an_error(tool: Tool, command: str) -> None:
    failed = tool(command, "nosuch", check=False)
    assert failed.returncode != 0
    assert "nosuch" in failed.stderr


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$; sleep 9", 137)])
def test_run_answers_with_the_code_of_the_program(tool: Tool, bundle: Bundle, script: str, code: int) -> None:
    def change(config: Config) -> None:  # as the first process of a pid namespace it could not kill itself
        config["linux"]["namespaces"] = [
            space for space in config["linux"]["namespaces"] if space["type"] != "pid"
        ]

    done = tool(
        "run", "-b", bundle.script(script, change if code > 128 else lambda _: None), "one", check=False
    )
    assert done.returncode == code
    assert tool("list", "-q").stdout.split() == []


def test_run_passes_output_and_input_through(tool: Tool, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("hello\n")
    with (tmp_path / "in").open() as given:
        done = tool("run", "-b", bundle.script("cat; echo wrong >&2"), "one", stdin=given)
    assert (done.stdout, done.stderr) == ("hello\n", "wrong\n")


def test_a_config_that_is_changed_after_create_has_no_effect(tool: Tool, bundle: Bundle) -> None:
    path = bundle.script("echo first >/said; sleep 100")
    tool("create", "-b", path, "one")
    bundle.script("echo second >/said; sleep 100")
    tool("start", "one")
    until(lambda: (bundle.rootfs / "said").exists() and (bundle.rootfs / "said").read_text())
    assert (bundle.rootfs / "said").read_text() == "first\n"


def test_another_config_file_can_be_named(tool: Tool, bundle: Bundle) -> None:
    path = bundle.script("echo other")
    (bundle.directory / "config.json").rename(bundle.directory / "other.json")
    assert tool("run", "-b", path, "-f", str(bundle.directory / "other.json"), "one").stdout == "other\n"


def test_hooks_run_in_their_order_and_read_the_state(tool: Tool, bundle: Bundle) -> None:
    log = bundle.directory / "hooks.log"
    hook = bundle.directory / "hook"
    hook.write_text(f'#!/bin/sh\necho "$1 $(cat | tr -d "\\n ")" >>{log}\n')
    hook.chmod(0o755)

    def change(config: Config) -> None:
        kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
        config["hooks"] = {kind: [{"path": str(hook), "args": ["hook", kind]}] for kind in kinds}

    path = bundle.script(SLEEP, change)
    tool("create", "-b", path, "one")
    pid = tool.state("one")["pid"]
    tool("start", "one")
    until(lambda: "poststart" in log.read_text())
    tool("delete", "-f", "one")
    lines = [line.partition(" ") for line in log.read_text().splitlines()]
    assert [kind for kind, _, _ in lines] == [
        "prestart", "createRuntime", "createContainer", "poststart", "poststop",
    ]  # fmt: skip
    states = {kind: json.loads(text) for kind, _, text in lines}
    assert all((state["id"], state["bundle"]) == ("one", path) for state in states.values())
    assert states["prestart"]["pid"] == states["poststart"]["pid"] == pid
    assert states["poststart"]["status"] == "running"
    assert states["poststop"]["status"] == "stopped"


def test_a_hook_in_the_container_runs_before_its_program(tool: Tool, bundle: Bundle) -> None:
    def change(config: Config) -> None:
        hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo hook >>/said"]}
        config["hooks"] = {"startContainer": [hook]}

    tool("run", "-b", bundle.script("echo program >>/said", change), "one")
    assert (bundle.rootfs / "said").read_text() == "hook\nprogram\n"


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_failing_hook_of_the_creation_leaves_nothing(tool: Tool, bundle: Bundle, kind: str) -> None:
    def change(config: Config) -> None:
        config["hooks"] = {kind: [{"path": "/bin/false"}]}

    assert tool("create", "-b", bundle.write("true", change=change), "one", check=False).returncode != 0
    assert tool("list", "-q").stdout.split() == []
    assert left_groups() == []


def test_a_failing_hook_of_the_end_hinders_nothing(ours: Tool, bundle: Bundle) -> None:
    def change(config: Config) -> None:
        config["hooks"] = {"poststop": [{"path": "/bin/false"}]}

    ours("create", "-b", bundle.write("true", change=change), "one")
    ours("start", "one")
    until(lambda: ours.state("one")["status"] == "stopped")
    ours("delete", "one")
    assert ours("list", "-q").stdout.split() == []


def test_a_hook_that_takes_too_long_is_ended(ours: Tool, bundle: Bundle) -> None:
    def change(config: Config) -> None:
        config["hooks"] = {"prestart": [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]}

    failed = ours("create", "-b", bundle.write("true", change=change), "one", check=False)
    assert failed.returncode == 1
    assert "longer than 1 s" in failed.stderr


def test_errors_are_in_the_log_as_json_too(tool: Tool, bundle: Bundle, tmp_path: Path) -> None:
    log = tmp_path / "log"
    failed = tool("--log", str(log), "--log-format", "json", "state", "nosuch", check=False)
    line = json.loads(log.read_text())
    assert line["level"] == "error"
    assert "nosuch" in line["msg"]
    assert line["time"].endswith("Z")
    assert line["msg"] in failed.stderr


def test_a_paused_container_stands_still_and_goes_on(tool: Tool, bundle: Bundle) -> None:
    counter = bundle.rootfs / "count"
    tool("create", "-b", bundle.script("while :; do echo x >>/count; sleep 0.02; done"), "one")
    tool("start", "one")
    until(lambda: counter.exists() and counter.stat().st_size > 2)
    tool("pause", "one")
    assert tool.state("one")["status"] == "paused"
    size = counter.stat().st_size
    time.sleep(0.2)
    assert counter.stat().st_size == size
    tool("resume", "one")
    until(lambda: counter.stat().st_size > size)
    assert tool.state("one")["status"] == "running"


def test_a_paused_container_is_deleted_by_force(ours: Tool, bundle: Bundle) -> None:
    ours("create", "-b", bundle.script(SLEEP), "one")
    ours("start", "one")
    ours("pause", "one")
    ours("delete", "-f", "one")
    assert left_groups() == []


def test_limits_are_set_at_create_and_changed_by_update(tool: Tool, bundle: Bundle) -> None:
    def change(config: Config) -> None:
        config["linux"]["resources"] |= {
            "memory": {"limit": 64 << 20}, "pids": {"limit": 77}, "cpu": {"shares": 512},
        }  # fmt: skip

    tool("create", "-b", bundle.script(SLEEP, change), "one")
    group = f"ocicli-{os.getpid()}/box"
    memory = Path(f"/sys/fs/cgroup/memory/{group}/memory.limit_in_bytes")
    if not memory.exists():
        pytest.skip("the files of cgroup v1 are looked at, and this machine has none")
    assert memory.read_text() == f"{64 << 20}\n"
    assert Path(f"/sys/fs/cgroup/pids/{group}/pids.max").read_text() == "77\n"
    assert Path(f"/sys/fs/cgroup/cpu/{group}/cpu.shares").read_text() == "512\n"
    (bundle.directory / "new.json").write_text(json.dumps({"memory": {"limit": 80 << 20}}))
    tool("update", "-r", str(bundle.directory / "new.json"), "one")
    assert memory.read_text() == f"{80 << 20}\n"
    tool("update", "--memory", str(48 << 20), "--pids-limit", "55", "one")
    assert memory.read_text() == f"{48 << 20}\n"
    assert Path(f"/sys/fs/cgroup/pids/{group}/pids.max").read_text() == "55\n"


def test_devices_that_are_denied_cannot_be_opened(tool: Tool, bundle: Bundle) -> None:
    def change(config: Config) -> None:
        for kind in ("bounding", "effective", "permitted"):
            config["process"]["capabilities"][kind] = ["CAP_MKNOD", "CAP_DAC_OVERRIDE"]

    script = "mknod /k c 1 11 && head -c 1 /k; echo $?; head -c 1 /dev/zero >/dev/null; echo $?"
    assert tool("run", "-b", bundle.script(script, change), "one").stdout == "1\n0\n"


def test_a_process_file_says_what_exec_runs(tool: Tool, bundle: Bundle) -> None:
    tool("create", "-b", bundle.script(SLEEP), "one")
    tool("start", "one")
    process = {
        "terminal": False, "cwd": "/etc", "args": ["sh", "-c", "id -u; id -g; pwd; echo $A; exit 3"],
        "env": ["PATH=/bin", "A=b"], "user": {"uid": 5, "gid": 6},
    }  # fmt: skip
    (bundle.directory / "process.json").write_text(json.dumps(process))
    done = tool("exec", "--process", str(bundle.directory / "process.json"), "one", check=False)
    assert done.returncode == 3
    assert done.stdout.split() == ["5", "6", "/etc", "b"]


def test_exec_takes_the_container_s_settings_and_what_it_is_told(tool: Tool, bundle: Bundle) -> None:
    tool("create", "-b", bundle.script(SLEEP, lambda config: config["process"]["env"].append("A=1")), "one")
    tool("start", "one")
    said = tool(
        "exec", "-e", "B=2", "--cwd", "/etc", "-u", "7:8", "one", "/bin/sh", "-c", "echo $B $PWD; /bin/id -u"
    )
    assert said.stdout.split() == ["2", "/etc", "7"]
    seen = tool("exec", "one", "sh", "-c", "echo $$; hostname; cat /proc/1/cmdline | tr '\\0' ' '")
    assert "sh -c trap" in seen.stdout
    assert seen.stdout.splitlines()[1] == "swarmd"


def test_exec_says_which_program_is_not_there(tool: Tool, bundle: Bundle) -> None:
    tool("create", "-b", bundle.script(SLEEP), "one")
    tool("start", "one")
    failed = tool("exec", "one", "nosuch", check=False)
    assert failed.returncode not in (0, 127)
    assert "not found in $PATH" in failed.stderr


def test_a_detached_exec_runs_on_and_tells_its_pid(tool: Tool, bundle: Bundle) -> None:
    tool("create", "-b", bundle.script(SLEEP), "one")
    tool("start", "one")
    pid_file = bundle.directory / "exec.pid"
    tool("exec", "-d", "--pid-file", str(pid_file), "one", "sleep", "100")
    pid = int(pid_file.read_text())
    until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00100\x00")
    assert pid in map(int, tool("ps", "one").stdout.split()[1:])
    tool("delete", "-f", "one")
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_descriptors_are_kept_when_asked_for_and_no_others(
    tool: Tool, bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("kept")
    kept, stray = os.open(tmp_path / "kept", os.O_RDONLY), os.open("/", os.O_RDONLY)

    def place() -> None:
        os.dup2(kept, 3)
        os.dup2(stray, 7)

    path = bundle.script("cat <&3; echo; ls /proc/self/fd | tr '\\n' ' '")
    done = tool("run", "-b", path, "--preserve-fds", "1", "one", pass_fds=(3, 7), preexec_fn=place)
    os.close(kept)
    os.close(stray)
    content, descriptors = done.stdout.splitlines()
    assert content == "kept"
    assert "7" not in descriptors.split()


def test_a_console_socket_gets_the_terminal(tool: Tool, bundle: Bundle, tmp_path: Path) -> None:
    def change(config: Config) -> None:
        config["process"]["terminal"] = True
        config["process"]["consoleSize"] = {"height": 11, "width": 22}

    path = bundle.script("tty; test -c /dev/console && echo console; stty size; read x; echo got $x", change)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "console"))
        listener.listen(1)
        tool("create", "-b", path, "--console-socket", str(tmp_path / "console"), "one")
        line, _ = listener.accept()
        with line:
            _, (master,), _, _ = socket.recv_fds(line, 100, 1)
    tool("start", "one")
    os.write(master, b"word\n")
    said = b""
    while b"got word" not in said:
        said += os.read(master, 4096)  # fails when the program ends without saying so
    os.close(master)
    assert b"/dev/pts/0" in said
    assert b"console" in said
    assert b"11 22" in said


def test_a_terminal_without_a_console_socket_is_refused(tool: Tool, bundle: Bundle) -> None:
    def change(config: Config) -> None:
        config["process"]["terminal"] = True

    failed = tool("create", "-b", bundle.write("true", change=change), "one", check=False)
    assert failed.returncode == 1
    assert "console-socket" in failed.stderr


def test_a_create_that_is_killed_can_be_cleared_away(ours: Tool, bundle: Bundle) -> None:
    def change(config: Config) -> None:
        config["hooks"] = {"prestart": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]}

    path = bundle.write("true", change=change)
    making = subprocess.Popen([*ours.argv, "create", "-b", path, "one"], stderr=subprocess.DEVNULL)
    until(lambda: ours("state", "one", check=False).returncode == 0)
    until(lambda: pids_below(making.pid))
    child = pids_below(making.pid)[0]
    making.send_signal(signal.SIGKILL)
    making.wait()
    ours("delete", "-f", "one")
    until(lambda: not Path(f"/proc/{child}").exists())
    assert left_groups() == []


def pids_below(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_all_processes_get_a_signal_when_asked(ours: Tool, bundle: Bundle) -> None:
    ours("create", "-b", bundle.script("sleep 1000 & sleep 1000 & wait"), "one")
    ours("start", "one")
    until(lambda: len(ours("ps", "-f", "json", "one").stdout.split()) >= 5)
    ours("kill", "--all", "one", "KILL")
    until(lambda: ours.state("one")["status"] == "stopped")


def test_a_descriptor_of_the_host_is_not_left_to_the_program(ours: Tool, bundle: Bundle) -> None:
    """The control is crun before its fixes: here the proof is the list itself."""
    done = ours("run", "-b", bundle.script("ls /proc/self/fd | tr '\\n' ' '"), "one")
    assert done.stdout.split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads
