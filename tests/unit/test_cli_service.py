"""swarmctl service against a daemon with canned answers: requests sent, text printed, exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from swarmd.rpc.v1 import control_pb2, types_pb2
from tests.unit.test_cli_fake import NODE_ID, Cli, FakeDaemon, Refusal, command_line, fake_daemon, node

RUNNING = 512
SERVICE_ID = "ef2f1c2fr1jcpaco5p648lhou"


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    yield from fake_daemon(tmp_path, monkeypatch)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(capsys)


def service(mode: str = "replicated", replicas: int = 1, **status: Any) -> control_pb2.ServiceView:
    it = types_pb2.Service(id=SERVICE_ID, version=28, created_at=1795451479.667514)
    it.spec.MergeFrom(types_pb2.ServiceSpec(name="nginx1", mode=mode, replicas=replicas))
    it.spec.template.container.image = "nginx:1.12"
    it.spec.template.container.stop_grace = 10
    it.spec.update.monitor = 0.001
    it.spec.ports.add(protocol="tcp", target=80, published=80, mode="ingress")
    if status:
        it.update_status.MergeFrom(types_pb2.UpdateStatus(**status))
    return control_pb2.ServiceView(service=it, running=1, desired=replicas)


def tasks(*states: int) -> control_pb2.ListTasksResponse:
    views = [
        control_pb2.TaskView(
            task=types_pb2.Task(
                id=f"task{slot}", service_name="nginx1", slot=slot, node_id=NODE_ID, desired_state=RUNNING,
                status=types_pb2.TaskStatus(state=state),
            ),
            image="nginx:1.12", node_hostname="n1", up_to_date=True,
        )
        for slot, state in enumerate(states, 1)
    ]  # fmt: skip
    return control_pb2.ListTasksResponse(tasks=views)


def converging(daemon: FakeDaemon, view: control_pb2.ServiceView, *states: int) -> None:
    daemon.answers["GetService"] = control_pb2.GetServiceResponse(service=view)
    daemon.answers["ListNodes"] = control_pb2.ListNodesResponse(nodes=[node()])
    daemon.answers["ListTasks"] = tasks(*states)


def test_service_create_detached_prints_the_id_and_warns_on_stderr(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["CreateService"] = control_pb2.CreateServiceResponse(id=SERVICE_ID, warnings=["careful"])
    arguments = ("--detach=true", "--name", "nginx1", "--publish", "80:80", "nginx:1.12")
    assert cli("service", "create", *arguments) == (0, f"{SERVICE_ID}\n", "careful\n")
    (request,) = daemon.asked("CreateService")
    assert (request.spec.name, request.spec.replicas, request.resolve_image) == ("nginx1", 1, True)
    assert request.spec.ports[0] == types_pb2.PortSpec(
        protocol="tcp", target=80, published=80, mode="ingress"
    )


def test_service_create_waits_until_it_has_converged(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["CreateService"] = control_pb2.CreateServiceResponse(id=SERVICE_ID)
    converging(daemon, service(), RUNNING)
    code, out, _ = cli("service", "create", "nginx:1.12")
    assert (code, [line.rstrip() for line in out.splitlines()]) == (
        0,
        [
            SERVICE_ID,
            "overall progress: 0 out of 1 tasks",
            "1/1:",
            "overall progress: 1 out of 1 tasks",
            "verify: Waiting 1 seconds to verify that tasks are stable...",
            f"verify: Service {SERVICE_ID} converged",
        ],
    )
    assert "_" in daemon.asked("CreateService")[0].spec.name


def test_service_update_changes_what_was_read_and_fails_when_it_is_paused(
    daemon: FakeDaemon, cli: Cli
) -> None:
    converging(daemon, service(), RUNNING)

    def accept(_: object) -> control_pb2.UpdateServiceResponse:
        paused = service(state="paused", started_at=9.0, message="update paused due to failure of task x")
        daemon.answers["GetService"] = control_pb2.GetServiceResponse(service=paused)
        return control_pb2.UpdateServiceResponse(warnings=["careful"])

    daemon.answers["UpdateService"] = accept
    code, out, err = cli("service", "update", "--image", "nosuch:1", "nginx1")
    assert (code, out) == (1, "nginx1\n")
    assert err == "careful\nservice update paused: update paused due to failure of task x\n"
    (request,) = daemon.asked("UpdateService")
    assert (request.ref, request.version, request.resolve_image) == (SERVICE_ID, 28, True)
    assert request.spec.template.container.image == "nosuch:1"
    assert request.spec.ports[0].published == 80


def test_service_update_out_of_sequence_says_what_to_do(daemon: FakeDaemon, cli: Cli) -> None:
    converging(daemon, service())
    daemon.answers["UpdateService"] = Refusal("update out of sequence", "out_of_sequence")
    code, _, err = cli("service", "update", "--replicas", "2", "-d", "nginx1")
    assert code == 1
    assert "update out of sequence" in err
    assert "run the command again" in err


def test_service_update_rollback_stands_alone(daemon: FakeDaemon, cli: Cli) -> None:
    converging(daemon, service())
    daemon.answers["RollbackService"] = control_pb2.RollbackServiceResponse()
    assert cli("service", "update", "--rollback", "--force", "nginx1")[2] == (
        "other flags may not be combined with --rollback\n"
    )
    assert cli("service", "update", "--rollback", "-d", "nginx1") == (0, "nginx1\n", "")
    assert cli("service", "rollback", "-d", "nginx1") == (0, "nginx1\n", "")
    assert len(daemon.asked("RollbackService")) == 2


def test_service_scale_goes_on_after_a_failure(daemon: FakeDaemon, cli: Cli) -> None:
    def get(request: control_pb2.GetServiceRequest) -> Any:
        if request.ref == "nosuch":
            return Refusal("service nosuch not found", "not_found", grpc.StatusCode.NOT_FOUND)
        view = service("global") if request.ref == "glob" else service()
        return control_pb2.GetServiceResponse(service=view)

    daemon.answers["GetService"] = get
    daemon.answers["UpdateService"] = control_pb2.UpdateServiceResponse()
    assert cli("service", "scale", "-d", "nosuch=2", "glob=2", "nginx1=4") == (
        1,
        "nginx1 scaled to 4\n",
        "nosuch: Error response from daemon: service nosuch not found\n"
        "glob: scale can only be used with replicated mode\n",
    )
    assert daemon.asked("UpdateService")[0].spec.replicas == 4


def test_service_ls_ps_and_inspect(daemon: FakeDaemon, cli: Cli) -> None:
    converging(daemon, service(), RUNNING)
    daemon.answers["ListServices"] = control_pb2.ListServicesResponse(services=[service()])
    assert cli("service", "ls", "--filter", "name=ngi", "-q")[1] == "ef2f1c2fr1jc\n"
    assert cli("service", "ls", "--filter", "mode=global", "-q")[1] == ""
    assert cli("service", "ls", "--format", "{{.Name}} {{.Replicas}}")[1] == "nginx1 1/1\n"
    assert cli("service", "ps", "--format", "{{.Name}} {{.Node}}", "nginx1")[1] == "nginx1.1 n1\n"
    assert cli("service", "ps", "--filter", "desired-state=shutdown", "-q", "nginx1")[1] == ""
    assert cli("service", "inspect", "nginx1", "--format", "{{json .Endpoint}}")[1] == (
        '{"Spec":{"Mode":"vip","Ports":[{"Protocol":"tcp","TargetPort":80,"PublishedPort":80,'
        '"PublishMode":"ingress"}]}}\n'
    )
    (shown,) = json.loads(cli("service", "inspect", "nginx1")[1])
    assert (shown["CreatedAt"], shown["Version"]) == ("2026-11-23T16:31:19.667514Z", {"Index": 28})
    assert shown["Spec"]["TaskTemplate"]["ContainerSpec"] == {
        "Image": "nginx:1.12",
        "Init": False,
        "StopGracePeriod": 10000000000,
        "DNSConfig": {},
        "Isolation": "default",
    }
    assert shown["Spec"]["Mode"] == {"Replicated": {"Replicas": 1}}


def test_a_missing_service_is_told_in_each_command_s_own_words(daemon: FakeDaemon, cli: Cli) -> None:
    missing = Refusal("service nosuch not found", "not_found", grpc.StatusCode.NOT_FOUND)
    daemon.answers |= {"GetService": missing, "RemoveService": missing, "Logs": missing}
    assert cli("service", "ps", "nosuch") == (1, "", "no such service: nosuch\n")
    assert cli("service", "inspect", "nosuch") == (1, "[]\n", "Error: no such service: nosuch\n")
    refused = "Error response from daemon: service nosuch not found\n"
    assert cli("service", "update", "--replicas", "3", "nosuch") == (1, "", refused)
    assert cli("service", "rm", "nosuch") == (1, "", refused)
    assert cli("service", "logs", "nosuch") == (1, "", "no such task or service: nosuch\n")


def test_service_logs_say_which_task_a_line_is_of(daemon: FakeDaemon, cli: Cli) -> None:
    entry: dict[str, Any] = {
        "task_id": "tverkgx27jrqny5byp99rz3xj",
        "task_name": "nginx1.1",
        "node_hostname": "n1",
        "node_id": "id1",
    }
    daemon.answers["Logs"] = lambda _: iter(
        [
            control_pb2.LogsResponse(line=b"hello\n", at=1795451479.0, **entry),
            control_pb2.LogsResponse(line=b"oops", stderr=True, **entry),
            control_pb2.LogsResponse(warning="node n3 is down"),
        ]
    )
    assert cli("service", "logs", "--tail", "2", "nginx1") == (
        0,
        "nginx1.1.tverkgx27jrq@n1    | hello\n",
        "nginx1.1.tverkgx27jrq@n1    | oops\nwarning: incomplete log stream. node n3 is down\n",
    )
    assert daemon.asked("Logs")[0].tail == 2
    assert cli("service", "logs", "--raw", "-t", "x")[1] == "2026-11-23T16:31:19Z hello\n"
    assert cli("service", "logs", "--no-task-ids", "--no-resolve", "x")[1] == "nginx1.1@id1    | hello\n"
    assert daemon.asked("Logs")[1].tail == -1


def everything(terminal: int) -> bytes:
    """What is left to read of a terminal nobody has open any more."""
    text = b""
    with open(terminal, "rb", buffering=0) as file, contextlib.suppress(OSError):
        while data := file.read(4096):
            text += data
    return text


def test_ctrl_c_while_waiting_leaves_the_work_to_the_swarm(daemon: FakeDaemon) -> None:
    daemon.answers["UpdateService"] = control_pb2.UpdateServiceResponse()
    converging(daemon, service(), 64)
    terminal, inside = os.openpty()
    command = [sys.executable, "-m", "swarmd.cli.main", "service", "scale", "nginx1=1"]
    # Whoever runs the tests in the background may have them ignore the signal, which children inherit.
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside)
    signal.signal(signal.SIGINT, previous)
    with process:
        os.close(inside)
        shown = b""
        while b"1/1: pending" not in shown:
            shown += os.read(terminal, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    rest = everything(terminal)
    assert b"\x1b[1A\x1b[2K\r1/1:   \r\x1b[1B" in shown
    assert b"\x1b[1A\x1b[2K\r1/1: pending   \r\x1b[1B" in shown + rest
    assert rest.endswith(
        b"Operation continuing in background.\r\nUse `swarmctl service ps nginx1` to check progress.\r\n"
    )
