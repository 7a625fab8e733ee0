"""Waiting for a service to converge: polls the daemon and draws the progress."""

from __future__ import annotations

import shutil
import sys
from threading import Event
from typing import TYPE_CHECKING

import click

from swarmd.cli.errors import CliError
from swarmd.cli.progress import Convergence, Line, Redraw, Step, pipe_text, tty_text

if TYPE_CHECKING:
    from swarmd.cli.client import Client

POLL_SECONDS = 0.2


def wait_converged(client: Client, service_id: str, label: str, quiet: bool, stale: float = 0.0) -> None:
    """Show the progress of a service until it has converged; ``label`` is what lines call it.

    ``stale``: when the update known before this change had started (0 = none).  Raises CliError when the
    update or rollback is paused.  Ctrl-C ends the waiting, not the work.
    """
    from swarmd.kit.clock import SystemClock

    clock = SystemClock()
    course = Convergence(label, stale)
    screen = Screen(quiet)
    try:
        while True:
            step = _look(client, service_id, course, clock.monotonic())
            screen.show(step.lines)
            if step.failure:
                raise CliError(step.failure)
            if step.done:
                return
            Event().wait(POLL_SECONDS)
    except KeyboardInterrupt:
        if not course.converged:
            click.echo("Operation continuing in background.")
            click.echo(f"Use `swarmctl service ps {label}` to check progress.")


def _look(client: Client, service_id: str, course: Convergence, now: float) -> Step:
    from swarmd.rpc.v1 import control_pb2

    service = client.control.GetService(control_pb2.GetServiceRequest(ref=service_id)).service.service
    tasks = client.control.ListTasks(control_pb2.ListTasksRequest(service_id=service_id)).tasks
    nodes = client.control.ListNodes(control_pb2.ListNodesRequest()).nodes
    active = {view.node.id for view in nodes if view.node.status.state != "down"}
    return course.step(service, tasks, active, now)


class Screen:
    """Standard output: redrawn in place on a terminal, a plain line for every change elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._redraw = Redraw() if sys.stdout.isatty() else None
        self._shown: dict[str, str] = {}

    def show(self, lines: list[Line]) -> None:
        """Lines that are as they were shown are left out."""
        for line in lines:
            text = tty_text(line, shutil.get_terminal_size().columns) if self._redraw else pipe_text(line)
            if self._quiet or text is None or self._shown.get(line.key) == text:
                continue
            self._shown[line.key] = text
            sys.stdout.write(self._redraw.draw(line.key, text) if self._redraw else f"{text}\n")
        sys.stdout.flush()
