"""An image of a registry that wants a password: a worker pulls it when the swarm logs in, and not before."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.console import SWARMCTL
from tests.cluster.lab import Lab
from tests.cluster.waiting import eventually
from tests.integration.test_registry_debian import HTPASSWD

pytestmark = [pytest.mark.root, pytest.mark.cluster]

PORT = 15999
HOST = f"localhost:{PORT}"


@contextlib.contextmanager
def registry(lab: Lab, node: str, directory: Path) -> Iterator[None]:
    """Debian's registry on the node's loopback, over a directory that those of other nodes share."""
    (directory / "htpasswd").write_text(HTPASSWD)
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
        "http": {"addr": f"127.0.0.1:{PORT}"},
        "auth": {"htpasswd": {"realm": "here", "path": str(directory / "htpasswd")}},
    }
    config = directory / f"{node}.yml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    with subprocess.Popen(
        [SWARMCTL, "local", "exec", "--name", lab.name, node, "--", "docker-registry", "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=lab.environment,
    ):
        try:
            probe = ("curl", "-s", "-o", "/dev/null", f"http://{HOST}/v2/")
            eventually("the registry listens", lambda: lab.inside(node, *probe).code == 0)
            yield
        finally:
            # nsenter passes no signal on to what it started.
            for pid in lab.processes(node, f"docker-registry serve {config}"):
                lab.inside(node, "kill", pid)


def test_a_worker_pulls_a_private_image_when_the_swarm_logs_in(lab: Lab, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with registry(lab, "node1", tmp_path), registry(lab, "node2", tmp_path):
        lab.ask("image", "tag", "nginx:1.13", f"{HOST}/app:1")
        assert "unauthorized" in lab.refusal("push", f"{HOST}/app:1")
        lab.ask("login", "-u", "anna", "--password-stdin", HOST, stdin=b"secret\n")
        digest = lab.ask("push", f"{HOST}/app:1").split("digest: ")[1].split()[0]
        lab.ask("logout", HOST)
        lab.ask("image", "rm", f"{HOST}/app:1")
        where = ("--constraint", "node.hostname==node2", "--restart-delay", "1s")
        lab.ask("service", "create", "--detach", "--name", "private", *where, f"{HOST}/app:1")
        eventually(
            "it says why it does not run",
            lambda: [task.error for task in lab.tasks("private")],
            lambda errors: any("unauthorized" in error for error in errors),
        )
        assert "unauthorized" in lab.refusal("login", "--swarm", "-u", "anna", "-p", "wrong", HOST)
        lab.ask("login", "--swarm", "-u", "anna", "--password-stdin", HOST, stdin=b"secret\n")
        assert {task.node for task in lab.until_running("private", 1)} == {"node2"}
        lab.ask("service", "create", "--detach", "--name", "pinned", *where, f"{HOST}/app:1")
        shown = ("service", "inspect", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Image}}", "pinned")
        assert lab.ask(*shown) == f"{HOST}/app:1@{digest}"
        listed = lab.ask("registry", "credential", "ls").splitlines()[1].split()
        assert listed[:2] == [HOST, "anna"]
        lab.ask("registry", "credential", "rm", HOST)
