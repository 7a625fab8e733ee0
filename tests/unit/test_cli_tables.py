"""Tables and --pretty texts against what docker 28.2.2 printed (blanks at line ends aside)."""

# ruff: noqa: E501 - recorded tables are as wide as they are

from __future__ import annotations

from typing import Any

from swarmd.cli import pretty
from swarmd.cli.listing import Layout, Row, listing
from swarmd.cli.rows import NODES, SERVICES, TASKS, node_rows, service_rows, task_rows
from swarmd.cli.rows_image import IMAGES, image_rows
from swarmd.model.spec import ContainerSpec, MountSpec, PortSpec, ServiceSpec, TaskTemplate
from swarmd.rpc.codec import to_proto
from swarmd.rpc.v1 import control_pb2, node_pb2, types_pb2

NOW = 1_795_451_500.0
READY, RUNNING, SHUTDOWN, REJECTED, PENDING = 384, 512, 640, 768, 64


def task(
    identity: str, slot: int, image: str, node: str, state: int, age: float,
    *, desired: int = RUNNING, error: str = "", created: float = 0.0, name: str = "nginx1",
) -> control_pb2.TaskView:  # fmt: skip
    status = types_pb2.TaskStatus(state=state, at=NOW - age, error=error)
    return control_pb2.TaskView(
        task=types_pb2.Task(
            id=identity, service_name=name, service_id="srv", slot=slot, node_id=f"id-{node}" if node else "",
            desired_state=desired, status=status, created_at=created or NOW - age,
        ),
        image=image,
        node_hostname=node,
    )  # fmt: skip


def table(form: Layout, rows: list[Row]) -> list[str]:
    return [line.rstrip() for line in listing(form, rows, None)]


def nginx(**changes: Any) -> types_pb2.ServiceSpec:
    mount = MountSpec(
        kind="bind", source="/etc/hostname", target="/usr/share/nginx/html/index.html", readonly=True
    )
    container = ContainerSpec(image="nginx:1.12", mounts=(mount,))
    fields: dict[str, Any] = {
        "name": "nginx1",
        "replicas": 5,
        "ports": (PortSpec(target=80, published=80),),
    } | changes
    spec: types_pb2.ServiceSpec = to_proto(ServiceSpec(template=TaskTemplate(container=container), **fields))
    return spec


def nginx_view(**status: Any) -> control_pb2.ServiceView:
    service = types_pb2.Service(id="ef2f1c2fr1jcpaco5p648lhou", spec=nginx())
    service.ports.extend(service.spec.ports)
    if status:
        service.update_status.MergeFrom(types_pb2.UpdateStatus(**status))
    return control_pb2.ServiceView(service=service, running=1, desired=5)


def test_service_ls() -> None:
    assert table(SERVICES, service_rows([nginx_view()])) == [
        "ID             NAME      MODE         REPLICAS   IMAGE        PORTS",
        "ef2f1c2fr1jc   nginx1    replicated   1/5        nginx:1.12   *:80->80/tcp",
    ]


def test_service_ps_marks_history_and_puts_the_newest_first() -> None:
    views = [
        task(
            "y03vrj3zu3dqxxxxxxxxxxxxx",
            5,
            "nginx:1.12",
            "n3",
            SHUTDOWN,
            0.4,
            desired=SHUTDOWN,
            created=NOW - 18,
        ),
        task("tverkgx27jrqxxxxxxxxxxxxx", 1, "nginx:1.12", "n1", RUNNING, 27),
        task("q3ywovah0iraxxxxxxxxxxxxx", 5, "nginx:1.13", "n2", 448, 0.2),
        task("kwyvejw2qq7pxxxxxxxxxxxxx", 2, "nginx:1.12", "n1", RUNNING, 18),
    ]
    assert table(TASKS, task_rows(views, NOW)) == [
        "ID             NAME           IMAGE        NODE      DESIRED STATE   CURRENT STATE                     ERROR     PORTS",
        "tverkgx27jrq   nginx1.1       nginx:1.12   n1        Running         Running 27 seconds ago",
        "kwyvejw2qq7p   nginx1.2       nginx:1.12   n1        Running         Running 18 seconds ago",
        "q3ywovah0ira   nginx1.5       nginx:1.13   n2        Running         Starting less than a second ago",
        "y03vrj3zu3dq    \\_ nginx1.5   nginx:1.12   n3        Shutdown        Shutdown less than a second ago",
    ]  # fmt: skip


def test_service_ps_shows_errors_quoted() -> None:
    error = "No such image: nosuchimage:9"
    views = [
        task("61dfdj99edy9rkqe21yb8uucb", 1, "nosuchimage:9", "n3", REJECTED, 0.1, desired=READY, error=error, name="bad"),
        task("h65jr36nfgm9yjqn1s9fojwyo", 1, "nosuchimage:9", "n3", REJECTED, 5, desired=SHUTDOWN, error=error, name="bad"),
    ]  # fmt: skip
    assert table(TASKS, task_rows(views, NOW, truncate=False)) == [
        'ID                          NAME        IMAGE           NODE      DESIRED STATE   CURRENT STATE                     ERROR                            PORTS',
        '61dfdj99edy9rkqe21yb8uucb   bad.1       nosuchimage:9   n3        Ready           Rejected less than a second ago   "No such image: nosuchimage:9"',
        'h65jr36nfgm9yjqn1s9fojwyo    \\_ bad.1   nosuchimage:9   n3        Shutdown        Rejected 5 seconds ago            "No such image: nosuchimage:9"',
    ]  # fmt: skip


def test_service_ps_of_a_task_without_node_and_of_a_host_port() -> None:
    waiting = "no suitable node (host-mode port already in use on 3 nodes)"
    placed = task("l53vmixbidpz5y31g03tus2a1", 1, "nginx:1.12", "n2", RUNNING, 5, name="h1")
    placed.ports.add(protocol="tcp", target=80, published=8080, mode="host")
    views = [
        placed,
        task("763y4fgp60ljgrhu5b17jmymr", 4, "nginx:1.12", "", PENDING, 6, error=waiting, name="h1"),
    ]
    lines = table(TASKS, task_rows(views, NOW, truncate=False))
    assert lines[1:] == [
        "l53vmixbidpz5y31g03tus2a1   h1.1      nginx:1.12   n2        Running         Running 5 seconds ago                                                                   *:8080->80/tcp",
        '763y4fgp60ljgrhu5b17jmymr   h1.4      nginx:1.12             Running         Pending 6 seconds ago   "no suitable node (host-mode port already in use on 3 nodes)"',
    ]  # fmt: skip


def test_a_global_task_is_named_after_its_node_and_a_removed_node_by_its_id() -> None:
    view = task("ugtx2lozh48eaaaaaaaaaaaaa", 0, "busybox", "n1", 832, 70, desired=SHUTDOWN, name="glob")
    view.node_hostname = ""
    row = task_rows([view], NOW)[0]
    assert (row["Name"], row["Node"], row["CurrentState"]) == (
        "glob.id-n1",
        "id-n1",
        "Orphaned about a minute ago",
    )


def test_names_are_not_resolved_when_not_wanted() -> None:
    row = task_rows([task("t1", 2, "busybox", "n1", RUNNING, 3)], NOW, resolve=False)[0]
    assert (row["Name"], row["Node"]) == ("srv.2", "id-n1")


def node_view(identity: str, hostname: str, availability: str, manager: str = "") -> control_pb2.NodeView:
    return control_pb2.NodeView(
        node=types_pb2.Node(
            id=identity,
            created_at=1795451442.97542216,
            spec=types_pb2.NodeSpec(role="manager", availability=availability),
            description=types_pb2.NodeDescription(
                hostname=hostname, engine_version="28.2.2", os="linux", arch="x86_64", nano_cpus=2 * 10**9,
                memory=25276000000,
            ),
            status=types_pb2.NodeStatus(state="ready", address="192.168.77.11"),
            raft_address="192.168.77.11:2377",
        ),
        manager_status=manager,
        root_ca=b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    )  # fmt: skip


def test_node_ls_marks_the_answering_node() -> None:
    views = [
        node_view("sf0k475gg7q4tcjmlvnmgeo3m", "n2", "drain"),
        node_view("cik8i1ye88sc6audh2puec6ye", "n1", "active", "Leader"),
    ]
    assert table(NODES, node_rows(views, "cik8i1ye88sc6audh2puec6ye")) == [
        "ID                            HOSTNAME   STATUS    AVAILABILITY   MANAGER STATUS   ENGINE VERSION",
        "cik8i1ye88sc6audh2puec6ye *   n1         Ready     Active         Leader           28.2.2",
        "sf0k475gg7q4tcjmlvnmgeo3m     n2         Ready     Drain                           28.2.2",
    ]


def test_image_ls() -> None:
    image = node_pb2.Image(
        id="sha256:" + "ab" * 32, refs=["busybox:latest"], created_at=NOW - 120, size=4261550
    )
    assert table(IMAGES, image_rows([image, node_pb2.Image(id="sha256:cd", size=1)], NOW)) == [
        "REPOSITORY   TAG       IMAGE ID       CREATED         SIZE",
        "busybox      latest    abababababab   2 minutes ago   4.26MB",
        "<none>       <none>    cd             N/A             1B",
    ]


SERVICE_PRETTY = """
ID:\t\tef2f1c2fr1jcpaco5p648lhou
Name:\t\tnginx1
Service Mode:\tReplicated
 Replicas:\t5
Placement:
UpdateConfig:
 Parallelism:\t1
 On failure:\tpause
 Monitoring Period: 5s
 Max failure ratio: 0
 Update order:      stop-first
RollbackConfig:
 Parallelism:\t1
 On failure:\tpause
 Monitoring Period: 5s
 Max failure ratio: 0
 Rollback order:    stop-first
ContainerSpec:
 Image:\t\tnginx:1.12
 Init:\t\tfalse
Mounts:
 Target:\t/usr/share/nginx/html/index.html
  Source:\t/etc/hostname
  ReadOnly:\ttrue
  Type:\t\tbind
Resources:
Endpoint Mode:\tvip
Ports:
 PublishedPort = 80
  Protocol = tcp
  TargetPort = 80
  PublishMode = ingress
"""


def test_service_inspect_pretty() -> None:
    assert "\n".join(pretty.service(nginx_view(), NOW)) == SERVICE_PRETTY


def test_service_inspect_pretty_tells_of_an_update() -> None:
    view = nginx_view(state="updating", started_at=NOW - 4, message="update in progress")
    lines = pretty.service(view, NOW)
    assert lines[5:9] == [
        "UpdateStatus:",
        " State:\t\tupdating",
        " Started:\t4 seconds ago",
        " Message:\tupdate in progress",
    ]


def test_node_inspect_pretty() -> None:
    view = node_view("cik8i1ye88sc6audh2puec6ye", "n1", "active", "Leader")
    assert pretty.node(view) == [
        "ID:\t\t\tcik8i1ye88sc6audh2puec6ye",
        "Hostname:              \tn1",
        "Joined at:             \t2026-11-23 16:30:42.975422 +0000 utc",
        "Status:",
        " State:\t\t\tReady",
        " Availability:         \tActive",
        " Address:\t\t192.168.77.11",
        "Manager Status:",
        " Address:\t\t192.168.77.11:2377",
        " Raft Status:\t\tReachable",
        " Leader:\t\tYes",
        "Platform:",
        " Operating System:\tlinux",
        " Architecture:\t\tx86_64",
        "Resources:",
        " CPUs:\t\t\t2",
        " Memory:\t\t23.54GiB",
        "Engine Version:\t\t28.2.2",
        "TLS Info:",
        " TrustRoot:",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    ]
