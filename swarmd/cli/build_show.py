"""How a build is shown while it goes on: line by line, redrawn on a terminal, as JSON, or not at all.

The lines are those of BuildKit's plain progress, which tools read: ``#5 [2/4] RUN make``, ``#5 0.123 text``,
``#5 CACHED``, ``#5 DONE 0.3s``.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import IO, Protocol

from swarmd.rpc.v1 import build_pb2 as pb

_RULE = "-" * 6
_LAST = 10
"""Lines of output that are shown of a step that failed."""

_REDRAW = 0.1


class Show(Protocol):
    """Told every event."""

    def event(self, event: pb.BuildResponse) -> None: ...

    def note(self, name: str, lines: list[str], seconds: float) -> None:
        """Something the command line did itself."""
        ...

    def close(self) -> None: ...


class Quiet:
    """Nothing."""

    def event(self, event: pb.BuildResponse) -> None:
        return

    def note(self, name: str, lines: list[str], seconds: float) -> None:
        return

    def close(self) -> None:
        return


class Steps:
    """What is known of the steps, and the last lines of each."""

    def __init__(self) -> None:
        self.vertices: dict[int, pb.BuildVertex] = {}
        self.tails: dict[int, list[str]] = {}
        self._rest: dict[int, bytes] = {}

    def see(self, event: pb.BuildResponse) -> list[str]:
        """Take note; the whole lines of output that the event brings."""
        kind = event.WhichOneof("body")
        if kind == "vertex":
            self.vertices[event.vertex.number] = event.vertex
            return self._ended(event.vertex.number) if event.vertex.completed else []
        if kind != "output":
            return []
        output = event.output
        data = self._rest.pop(output.vertex, b"") + output.data
        *whole, rest = data.split(b"\n")
        if rest:
            self._rest[output.vertex] = rest
        started = self.vertices[output.vertex].started
        return self._kept(output.vertex, [_timed(output.at - started, line) for line in whole])

    def _ended(self, number: int) -> list[str]:
        rest = self._rest.pop(number, b"")
        one = self.vertices[number]
        return self._kept(number, [_timed(one.completed - one.started, rest)]) if rest else []

    def _kept(self, number: int, lines: list[str]) -> list[str]:
        self.tails[number] = (self.tails.get(number, []) + lines)[-_LAST:]
        return lines


class Plain:
    """Line by line."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._steps = Steps()
        self._numbers: dict[int, int] = {}
        self._count = 0
        self._at: int | None = None

    def event(self, event: pb.BuildResponse) -> None:
        """Show what is new."""
        lines = self._steps.see(event)
        kind = event.WhichOneof("body")
        if kind == "vertex" and event.vertex.started:
            self._vertex(event.vertex, lines)
        elif kind == "output" and lines:
            self._turn_to(event.output.vertex)
            self._lines(event.output.vertex, lines)

    def note(self, name: str, lines: list[str], seconds: float) -> None:
        """As a step of its own."""
        self._leave()
        self._count += 1
        shown = [name, *lines, f"DONE {seconds:.1f}s"]
        self._write("".join(f"#{self._count} {line}\n" for line in shown) + "\n")

    def close(self) -> None:
        """There is nothing to take back."""

    def _vertex(self, vertex: pb.BuildVertex, lines: list[str]) -> None:
        self._turn_to(vertex.number)
        self._lines(vertex.number, lines)
        if not vertex.completed:
            return
        number = self._numbers[vertex.number]
        if vertex.error:
            self._write(f"#{number} ERROR: {vertex.error}\n\n")
        elif vertex.cached:
            self._write(f"#{number} CACHED\n\n")
        else:
            self._write(f"#{number} DONE {vertex.completed - vertex.started:.1f}s\n\n")
        self._at = None

    def _turn_to(self, vertex: int) -> None:
        if self._at == vertex:
            return
        self._leave()
        self._at = vertex
        if vertex not in self._numbers:
            self._count += 1
            self._numbers[vertex] = self._count
        self._write(f"#{self._numbers[vertex]} {self._steps.vertices[vertex].name}\n")

    def _leave(self) -> None:
        if self._at is not None:
            self._write(f"#{self._numbers[self._at]} ...\n\n")
        self._at = None

    def _lines(self, vertex: int, lines: list[str]) -> None:
        for line in lines:
            self._write(f"#{self._numbers[vertex]} {line}\n")


class Raw:
    """A line of JSON for each event, in the shapes of BuildKit's status."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def event(self, event: pb.BuildResponse) -> None:
        """One line."""
        import json

        kind = event.WhichOneof("body")
        told: dict[str, object] = {}
        if kind == "vertex":
            one = event.vertex
            told["vertexes"] = [
                {"digest": str(one.number), "name": one.name, "started": one.started or None,
                 "completed": one.completed or None, "cached": one.cached, "error": one.error}
            ]  # fmt: skip
        elif kind == "output":
            data = base64.b64encode(event.output.data).decode()
            told["logs"] = [
                {"vertex": str(event.output.vertex), "stream": event.output.stream, "data": data,
                 "timestamp": event.output.at}
            ]  # fmt: skip
        elif kind == "warning":
            told["warnings"] = [{"short": event.warning.message, "rule": event.warning.rule,
                                 "line": event.warning.line}]  # fmt: skip
        if told:
            self._write(json.dumps(told) + "\n")

    def note(self, name: str, lines: list[str], seconds: float) -> None:
        """No event of the daemon."""

    def close(self) -> None:
        """There is nothing to take back."""


class Terminal:
    """Redrawn: a line for each step that began, and the last output of what runs."""

    def __init__(self, file: IO[str], width: int, height: int) -> None:
        self._file = file
        self._width = width
        self._height = height
        self._steps = Steps()
        self._begun = self._drawn_at = time.monotonic()
        self._drawn = 0

    def event(self, event: pb.BuildResponse) -> None:
        """Draw again, but not too often."""
        self._steps.see(event)
        if time.monotonic() - self._drawn_at >= _REDRAW:
            self._draw()

    def note(self, name: str, lines: list[str], seconds: float) -> None:
        """Not worth a line here."""

    def close(self) -> None:
        """As it is in the end."""
        self._draw()

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        lines = self._text()[-max(3, self._height - 1) :]
        back = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._file.write(back + "".join(f"\x1b[2K{line[: self._width - 1]}\n" for line in lines) + "\x1b[J")
        self._file.flush()
        self._drawn = len(lines)

    def _text(self) -> list[str]:
        every = list(self._steps.vertices.values())
        done = sum(1 for one in every if one.completed)
        seconds = time.monotonic() - self._begun
        lines = [f"[+] Building {seconds:.1f}s ({done}/{len(every)})"]
        for one in every:
            if not one.started:
                continue
            mark = "ERROR " if one.error else "CACHED " if one.cached else ""
            took = f"{(one.completed or one.started) - one.started:.1f}s" if one.completed else ""
            lines.append(f" => {mark}{one.name}".ljust(self._width - 9)[: self._width - 9] + took.rjust(7))
            if not one.completed:
                lines += [f" => => # {line}" for line in self._steps.tails.get(one.number, [])[-3:]]
        return lines


def failure_text(failure: pb.BuildFailure, steps: Steps) -> str:
    """Why a build ended: the step's last output, the lines of the Dockerfile, the reason."""
    parts = []
    vertex = steps.vertices.get(failure.vertex)
    if vertex is not None:
        parts += [_RULE, f" > {vertex.name}:", *steps.tails.get(failure.vertex, []), _RULE]
    if failure.excerpt:
        parts.append(failure.excerpt)
    parts.append(f"ERROR: failed to solve: {failure.message}")
    return "\n".join(parts)


def _timed(seconds: float, line: bytes) -> str:
    text = line.rsplit(b"\r", 1)[-1] if b"\r" in line.rstrip(b"\r") else line.rstrip(b"\r")
    return f"{max(0.0, seconds):.3f} {text.decode(errors='replace')}"
