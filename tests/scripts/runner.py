"""Replays a conversation: commands above a line of dashes, below it what the swarm does then.

    service web replicas=2
    ----
    t1 web.1 v1 n1 running

A command is carried out, then everything settles without time passing; the answer lists each task that
changed (id, name, version, node, state, and what it shall be if that is something else), the update's state
if that changed, and when the swarm wakes next, in seconds since the start.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from swarmd.model.objects import Task, UpdateStatus
from swarmd.model.spec import RestartPolicy, UpdateConfig
from swarmd.model.states import Availability, NodeState, TaskState
from tests.scripts.sim import START, Sim, a_service

DASHES = "----"


def replay(script: str) -> str:
    """The script with the answers that the swarm really gives."""
    stage = Stage()
    out: list[str] = []
    for block in script.strip().split("\n\n"):
        lines = block.splitlines()
        commands = lines[: lines.index(DASHES)] if DASHES in lines else lines
        out.append("\n".join(commands))
        spoken = [line for line in commands if line and not line.startswith("#")]
        if spoken:
            out[-1] += f"\n{DASHES}\n" + "\n".join(stage.answer(spoken))
    return "\n\n".join(text.rstrip() for text in out) + "\n"


def scripts() -> list[Path]:
    """All scripts there are."""
    return sorted(Path(__file__).parent.rglob("*.txt"))


class Stage:
    """A simulated swarm that understands commands."""

    def __init__(self) -> None:
        self.sim = Sim()
        self._told: dict[str, str] = {}
        self._update: dict[str, str] = {}
        self._specs: dict[str, dict[str, str]] = {}

    def answer(self, lines: list[str]) -> list[str]:
        """Carry out commands; what changed."""
        for line in lines:
            verb, *words = line.split()
            command: Callable[[list[str]], None] = getattr(self, f"do_{verb}")
            command(words)
        self.sim.settle()
        return [*self._changes(), *self._wake()]

    def do_nodes(self, words: list[str]) -> None:
        for word in words:
            self.sim.add_node(word)

    def do_broken(self, words: list[str]) -> None:
        """Images that no node can get."""
        self.sim.broken.update(words)

    def do_service(self, words: list[str]) -> None:
        """NAME key=value...: create it, or update what it is."""
        name, *pairs = words
        is_new = name not in self._specs
        options = self._specs.setdefault(name, {})
        options.update(dict(pair.split("=", 1) for pair in pairs))
        spec = a_service(
            name,
            image=options.get("image", "v1"),
            mode=options.get("mode", "replicated"),
            replicas=int(options.get("replicas", "1")),
            restart=RestartPolicy(max_attempts=int(options.get("max-attempts", "0"))),
            update=UpdateConfig(
                parallelism=int(options.get("parallelism", "1")),
                delay=float(options.get("delay", "0")),
                order=options.get("order", "stop-first"),
                failure_action=options.get("on-failure", "pause"),
                max_failure_ratio=float(options.get("ratio", "0")),
            ),
        )
        if is_new:
            self.sim.create(spec)
        else:
            self.sim.update(name, spec)

    def do_fail(self, words: list[str]) -> None:
        for word in words:
            self.sim.fail(word)

    def do_node(self, words: list[str]) -> None:
        """NAME STATE or NAME AVAILABILITY."""
        name, what = words
        if what in set(NodeState):
            self.sim.set_node(name, NodeState(what))
        else:
            self.sim.set_availability(name, Availability(what))

    def do_leader(self, words: list[str]) -> None:
        """Another manager leads from now on."""
        self.sim.change_leader()

    def do_advance(self, words: list[str]) -> None:
        self.sim.advance(float(words[0]))

    def _changes(self) -> list[str]:
        now = {task.id: _line(task) for name in self._specs for task in self.sim.tasks(name)}
        lines = [line for task_id, line in now.items() if self._told.get(task_id) != line]
        lines += [f"{task_id} deleted" for task_id in self._told if task_id not in now]
        self._told = now
        for name in self._specs:
            text = _progress(self.sim.service(name).update_status)
            if text != self._update.get(name, ""):
                lines.append(f"{name} {text or 'no update'}")
            self._update[name] = text
        return lines or ["nothing changes"]

    def _wake(self) -> list[str]:
        when = self.sim.next_wake()
        return [] if when is None else [f"wake at {when - START:g}"]


def _line(task: Task) -> str:
    words = [task.id, task.name, f"v{task.spec_version}", task.node_id or "-", task.state.name.lower()]
    if task.desired_state != task.state:
        words.append(f"-> {TaskState(task.desired_state).name.lower()}")
    if task.status.error and task.state == TaskState.PENDING:
        words.append(f"({task.status.error})")
    return " ".join(words)


def _progress(status: UpdateStatus | None) -> str:
    return "" if status is None else f"{status.state.value}: {status.message}"
