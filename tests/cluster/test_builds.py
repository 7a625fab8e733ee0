"""Images that a node builds: what its users see, and that the whole swarm can run them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.clusters import IMAGES
from tests.cluster.lab import Lab

pytestmark = [pytest.mark.root, pytest.mark.cluster]

DOCKERFILE = """FROM busybox:latest AS builder
RUN --mount=type=secret,id=token test "$(wc -c </run/secrets/token)" = 7 && echo built >/out
FROM busybox:latest
COPY app.txt /app.txt
COPY --from=builder /out /out
RUN hostname && sleep 0.1
CMD ["sh", "-c", "cat /app.txt /out; sleep 1000"]
"""


def test_what_a_worker_builds_runs_on_every_node(lab: Lab, tmp_path: Path) -> None:
    lab.ask("image", "load", "-q", "-i", str(IMAGES / "busybox.tar"), node="node1")
    (tmp_path / "token").write_text("hunter2")
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "app.txt").write_text("first\n")
    words = ("build", "--progress", "plain", "--secret", f"id=token,src={tmp_path / 'token'}", "-t", "made:1")

    built = lab.on("node3", *words, str(context))
    assert built.code == 0, built.err
    assert "[builder 2/2] RUN" in built.err
    assert "hunter2" not in built.err + lab.ask("history", "--no-trunc", "made:1", node="node3")
    again = lab.on("node3", *words, str(context))
    assert again.err.count(" CACHED\n") == 6, again.err
    listed = lab.ask("builder", "ls", node="node3")
    assert "COPY app.txt /app.txt" in listed

    assert lab.ask("run", "--rm", "made:1", "cat", "/app.txt", node="node1") == "first"
    lab.create("made", "--replicas", "3", image="made:1")
    tasks = lab.until_running("made", 3)
    assert {task.node for task in tasks} == {"node1", "node2", "node3"}
    for task in tasks:
        assert lab.ask("exec", task.name, "cat", "/app.txt", "/out") == "first\nbuilt"

    (context / "Dockerfile").write_text("FROM made:1\nRUN cat /app.txt\nRUN echo last words; exit 7\n")
    failed = lab.on("node2", "build", "--progress", "plain", str(context))
    assert failed.code == 1
    assert " first\n" in failed.err
    assert "   3 | >>> RUN echo last words; exit 7" in failed.err
    assert "last words\n------\n" in failed.err
    reason = 'process "/bin/sh -c echo last words; exit 7" did not complete successfully: exit code: 7'
    assert failed.err.rstrip().endswith(f"ERROR: failed to solve: {reason}")
    assert lab.ask("builder", "prune", "-af", node="node3").startswith("Deleted build cache objects:")
