"""A local cluster as its user handles it: every command in a process of its own, with what it says.

Nothing here knows the product from inside; what a test finds out, a user could have found out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.cluster.waiting import eventually

SWARMCTL = str(Path(sys.executable).parent / "swarmctl")
COMMAND_SECONDS = 120.0
PASSING = (
    "does not have a leader",
    "try again in a moment",
    "look and try again",
    "look before trying again",
)
"""What is said while managers elect a leader, begin, or change: users ask again then."""

PASSING_SECONDS = 60.0


class Done(NamedTuple):
    """How a command ended: exit code, what it printed, what it complained about."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Console:
    """The commands of one local cluster, and its life."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.root = root
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("SWARM")},
            "SWARMD_LOCAL_ROOT": str(root / "nodes"),
            "SWARMCTL_CONFIG": str(root / "config"),
            "COLUMNS": "200",
        }
        (root / "nodes").mkdir(parents=True, exist_ok=True)
        self.addresses: dict[str, str] = {}
        self._pids: dict[str, str] = {}
        self._disturbed = False

    # -- commands --------------------------------------------------------------------------------

    def run(self, *words: str, stdin: bytes = b"", seconds: float = COMMAND_SECONDS) -> Done:
        """``swarmctl WORDS`` as it ends, well or not."""
        done = subprocess.run(
            [SWARMCTL, *words], input=stdin, capture_output=True, env=self.environment, timeout=seconds
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def on(self, node: str, *words: str, stdin: bytes = b"") -> Done:
        """A command answered by ``node``, as it ends."""
        return self.run("--context", f"{self.name}-{node}", *words, stdin=stdin)

    def in_the_end(self, node: str, *words: str, stdin: bytes = b"") -> Done:
        """A command as it ends when there is a leader: on a busy machine one is lost now and then."""
        return eventually(
            f"{node} has a leader for: swarmctl {' '.join(words)}",
            lambda: self.on(node, *words, stdin=stdin),
            lambda done: done.code == 0 or not any(text in done.err for text in PASSING),
            seconds=PASSING_SECONDS,
        )

    def ask(self, *words: str, node: str = "node1", stdin: bytes = b"") -> str:
        """What a command that must succeed in the end prints."""
        done = self.in_the_end(node, *words, stdin=stdin)
        assert done.code == 0, f"{node}: swarmctl {' '.join(words)}: {done}"
        return done.out.rstrip("\n")

    def refusal(self, *words: str, node: str = "node1", code: int = 1, leaderless: bool = False) -> str:
        """The sentence of a command that must fail with that exit code, and without a traceback.

        ``leaderless``: that there is no leader is one, too.
        """
        done = self.on(node, *words) if leaderless else self.in_the_end(node, *words)
        assert done.code == code, f"{node}: swarmctl {' '.join(words)}: {done}"
        assert "Traceback" not in done.err
        assert done.err.strip(), "it failed without a word"
        return done.err

    def local(self, verb: str, *words: str) -> Done:
        """``swarmctl local VERB`` on this cluster; it must succeed."""
        done = self.run("local", verb, "--name", self.name, *words)
        assert done.code == 0, f"local {verb} {' '.join(words)}: {done}"
        self._disturbed = self._disturbed or verb in ("stop", "kill", "pause", "cut")
        if verb in ("up", "start", "stop", "kill"):
            self._look_around()
        return done

    def start_all(self, *nodes: str) -> None:
        """``local start`` of all of them at once, so that their daemons come up side by side."""
        with ThreadPoolExecutor(len(nodes)) as pool:
            for done in pool.map(lambda node: self.run("local", "start", "--name", self.name, node), nodes):
                assert done.code == 0, f"local start: {done}"
        self._look_around()

    def repair(self) -> None:
        """Mend every cable, start every node: whatever a test left as it should not be."""
        if not self._disturbed:
            return
        states = self._look_around()
        for node, state in states.items():
            if state == "paused":
                self.local("unpause", node)
        off = [node for node, state in states.items() if state in ("stopped", "killed")]
        if off:
            self.start_all(*off)
        for node, state in self._look_around().items():
            if state == "cut":
                self.local("heal", node)
        self._disturbed = False

    def _look_around(self) -> dict[str, str]:
        """Learn addresses and first processes of the nodes; answers the state of each."""
        states = {}
        self._pids.clear()
        for line in self.run("local", "ls", "--name", self.name).lines:
            words = line.split()
            if words and words[-1].startswith(f"{self.name}-node"):
                states[words[0]], self.addresses[words[0]] = words[2], words[1]
                if words[3].isdigit():
                    self._pids[words[0]] = words[3]
        return states

    def inside(self, node: str, *command: str) -> Done:
        """A command in the node's namespaces, as it ends (``local exec`` does the same, more slowly)."""
        if node not in self._pids:
            return Done(1, "", f"{node} is off")
        done = subprocess.run(
            ["nsenter", "-t", self._pids[node], "-m", "-u", "-i", "-n", "-p", "-C", "--", *command],
            capture_output=True,
            timeout=COMMAND_SECONDS,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    @contextmanager
    def going(self, node: str, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on beside the test; ended when the block ends."""
        with subprocess.Popen(
            [SWARMCTL, "--context", f"{self.name}-{node}", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    # -- life ------------------------------------------------------------------------------------

    def up(self, *, nodes: int, managers: int, images: list[Path]) -> None:
        """Start it; its first node gets the images."""
        self.local("up", "--nodes", str(nodes), "--managers", str(managers))
        assert len(self.addresses) == nodes
        for image in images:
            self.ask("image", "load", "-q", "-i", str(image))

    def down(self) -> None:
        """Remove it, whatever state it is in."""
        done = self.run("local", "down", "--name", self.name)
        assert done.code == 0, f"local down: {done}"

    @property
    def nodes(self) -> list[str]:
        return list(self.addresses)

    def directory(self, node: str) -> Path:
        """Where the node keeps its things."""
        return self.root / "nodes" / self.name / node

    def log_tails(self, lines: int = 15) -> str:
        """The last lines of each node's logs."""
        parts = []
        for node in self.nodes:
            for log in sorted((self.directory(node) / "log").glob("*.log")):
                text = log.read_text(errors="replace").splitlines()[-lines:]
                parts.append("\n".join((f"--- {node} {log.name}", *text)))
        return "\n".join(parts)
