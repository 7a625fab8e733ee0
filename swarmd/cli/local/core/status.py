"""What is said about a cluster: the state of each node in one word, and the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from swarmd.cli.local.core.plan import Cluster, Node

State = Literal["running", "paused", "cut", "stopped", "killed"]


class Seen(msgspec.Struct, frozen=True):
    """What this machine shows of a node: whether its pid 1 lives, whether it is frozen."""

    alive: bool
    frozen: bool


def state_of(node: Node, seen: Seen) -> State:
    """One word; a frozen node is called paused even when its cable is cut too."""
    if not seen.alive:
        return "stopped" if node.ended == "stopped" else "killed"
    if seen.frozen:
        return "paused"
    return "cut" if node.cut else "running"


def table(rows: Iterable[Sequence[str]]) -> str:
    """Left-aligned columns, three blanks apart; the first row is the heading."""
    cells = [tuple(row) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def summary(cluster: Cluster, states: Sequence[State]) -> str:
    """``3 running`` or ``2 running, 1 killed``; says when ``up`` did not get to its end."""
    counts = Counter(states)
    text = ", ".join(f"{count} {state}" for state, count in sorted(counts.items(), key=lambda item: -item[1]))
    return text if cluster.complete else f"{text} (not complete)"


def cluster_table(rows: Iterable[tuple[Cluster, Sequence[State]]]) -> str:
    """One line per cluster."""
    lines = [(c.name, str(len(c.nodes)), summary(c, states), c.subnet) for c, states in rows]
    return table([("NAME", "NODES", "STATUS", "SUBNET"), *lines])


def node_table(cluster: Cluster, states: Sequence[State]) -> str:
    """One line per node; a node that does not run has no pid."""
    lines = []
    for node, state in zip(cluster.nodes, states, strict=True):
        alive = state in ("running", "paused", "cut")
        pid = str(node.process.pid) if alive and node.process else "-"
        lines.append((node.name, node.address, state, pid, cluster.context(node)))
    return table([("NAME", "ADDRESS", "STATE", "PID", "CONTEXT"), *lines])


def next_steps(cluster: Cluster) -> str:
    """What to try after ``up``."""
    first = cluster.nodes[0]
    context = cluster.context(first)
    name = "" if cluster.name == "local" else f" --name {cluster.name}"
    last = cluster.nodes[-1].name
    return "\n".join(
        (
            f'The first manager is the context "{context}". Try:',
            "",
            f"    swarmctl --context {context} node ls",
            f"    swarmctl --context {context} service create --name web --publish 80:80 IMAGE",
            f"    curl http://{first.address}:80",
            f"    swarmctl local exec{name} {first.name} -- ip address",
            f"    swarmctl local kill{name} {last}",
            f"    swarmctl local start{name} {last}",
            f"    swarmctl local down{name}",
        )
    )
