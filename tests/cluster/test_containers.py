"""What a service says about its containers is what they find; volumes outlive what uses them."""

from __future__ import annotations

import json

import pytest

from tests.cluster.clusters import IMAGES
from tests.cluster.lab import Lab
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]

SHOW = """
echo "where=$WHERE"; echo "name=$(hostname)"; echo "open=$(ulimit -n)"; echo "groups=$(id -G)"
echo "backlog=$(cat /proc/sys/net/core/somaxconn)"; echo "score=$(cat /proc/self/oom_score_adj)"
echo "db=$(grep db /etc/hosts | tr '\\t' ' ')"; echo "dns=$(tr '\\n' ' ' </etc/resolv.conf)"
echo "tools=$(/tools/busybox echo mounted)"; touch /tools/x 2>/dev/null || echo "tools are read-only"
echo "filled=$(ls /kept | head -1)"; echo "bare=$(ls -A /bare)"; echo kept >/data/file; exec sleep 1000
"""
EVERYTHING = (
    "--constraint", "node.hostname==node2", "--label", "color=red", "--stop-grace-period", "0s",
    "--env", "WHERE={{.Node.Hostname}}/{{.Task.Slot}}/{{.Service.Labels.color}}",
    "--hostname", "{{.Service.Name}}-{{.Task.Slot}}", "--ulimit", "nofile=100:200", "--group", "27",
    "--user", "0", "--sysctl", "net.core.somaxconn=77", "--oom-score-adj", "300", "--host", "db:10.9.9.9",
    "--dns", "9.9.9.9", "--dns-search", ".", "--dns-option", "ndots:3",
    "--mount", "type=image,source=busybox:latest,target=/tools,image-subpath=bin",
    "--mount", "source={{.Service.Name}}-{{.Task.Slot}},target=/data,volume-label=kind=test",
    "--mount", "target=/kept", "--mount", "source=bare,target=/bare,volume-nocopy",
)  # fmt: skip


@pytest.fixture(autouse=True)
def busybox(lab: Lab) -> None:
    lab.ask("image", "load", "-q", "-i", str(IMAGES / "busybox.tar"))


def said(lab: Lab, service: str) -> dict[str, str]:
    """What the task printed, ``key=value`` by line."""
    out = lab.ask("service", "logs", "--raw", service)
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def volumes(lab: Lab, *words: str) -> list[str]:
    return lab.ask("volume", "ls", "-q", *words, node="node2").split()


def test_a_container_finds_what_its_service_says_and_its_volumes_are_kept_while_it_is_there(lab: Lab) -> None:
    lab.ask("service", "create", "-d", "--name", "told", *EVERYTHING, "busybox:latest", "sh", "-c", SHOW)
    lab.until_running("told", 1)
    found = eventually("it has said all", lambda: said(lab, "told"), lambda said: "bare" in said)
    assert {key: value.strip() for key, value in found.items()} == {
        "where": "node2/1/red", "name": "told-1", "open": "100", "groups": "0 27", "backlog": "77",
        "score": "300", "db": "10.9.9.9 db", "dns": "nameserver 9.9.9.9 options ndots:3", "tools": "mounted",
        "filled": "", "bare": "",
    }  # fmt: skip
    assert "tools are read-only" in lab.ask("service", "logs", "--raw", "told")

    named = ["bare", "told-1"]
    (nameless,) = set(volumes(lab)) - set(named)
    labels = lab.ask("volume", "inspect", "-f", "{{json .Labels}}", "told-1", node="node2")
    assert json.loads(labels) == {"kind": "test"}
    lab.until_another_daemon("node2", lab.kill_daemon("node2"))
    eventually("it answers", lambda: lab.on("node2", "info").code == 0)
    assert "volume is in use" in lab.refusal("volume", "rm", "told-1", node="node2")
    assert "Total reclaimed space: 0B" in lab.ask("volume", "prune", "--all", "--force", node="node2")
    # A daemon that was away for long enough has its task replaced: then there is a nameless one more.
    assert set(volumes(lab)) >= {nameless, *named}

    lab.ask("service", "rm", "told")
    eventually("its own volume is gone", lambda: volumes(lab), lambda names: names == named)
    lab.ask("service", "create", "-d", "--name", "told", "--constraint", "node.hostname==node2",
            "--mount", "source=told-1,target=/data", "busybox:latest", "cat", "/data/file")  # fmt: skip
    eventually("what was written is there", lambda: "kept" in lab.on("node2", "service", "logs", "told").out
               or "kept" in lab.on("node1", "service", "logs", "--raw", "told").out)  # fmt: skip
    lab.ask("service", "rm", "told")
    eventually("nothing uses them", lambda: volumes(lab, "-f", "dangling=true"), lambda names: names == named)
    assert lab.ask("volume", "rm", *named, node="node2").split() == named
    assert volumes(lab) == []


def test_what_cannot_be_is_refused_at_once_and_what_a_node_lacks_is_waited_for(lab: Lab) -> None:
    create = ("service", "create", "-d", "--name", "odd")
    for words, complaint in (
        (("--env", "A={{.Node.Nmae}}"), "no field Nmae"),
        (("--sysctl", "kernel.panic=1"), "not separate per container"),
        (("--mount", "target=/a,volume-driver=nfs"), "volume-driver"),
        (("--cap-add", "NET_ADMIM"), "no capability"),
        (("--memory-swap", "1g"), "limit-memory"),
    ):
        assert complaint in lab.refusal(*create, *words, "busybox:latest")
    lab.ask(*create, "--runtime", "warp", "busybox:latest", "sleep", "9")
    eventually(
        "it says what is missing",
        lambda: [task.error for task in lab.tasks("odd")],
        lambda errors: any("missing runtime warp on 3 nodes" in error for error in errors),
    )
    lab.ask("service", "update", "-d", "--runtime", "local", "--tty", "odd")
    lab.until_running("odd", 1)
