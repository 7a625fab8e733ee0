"""Writes the reference part of docs/cli.md from the command line itself; ``--check`` only compares.

Everything below the marker is generated: each command with its usage, its one sentence and its flags.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from swarmd.cli.main import root

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
MARKER = "<!-- Generated from here on: make docs -->\n"


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Every command below ``command`` that is no group, in the order of their names."""
    if not isinstance(command, click.Group):
        yield command, context
        return
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        if child is not None and not child.hidden:
            yield from commands(child, click.Context(child, info_name=name, parent=context))


def section(command: click.Command, context: click.Context) -> list[str]:
    """One command as Markdown."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = " ".join((command.help or "").split())
    lines = [f"### {context.command_path}", "", text, "", f"    {usage}", ""]
    records = [
        record
        for param in command.get_params(context)
        if isinstance(param, click.Option)
        and "--help" not in param.opts
        and (record := param.get_help_record(context))
    ]
    if records:
        lines += ["| flag | what it does |", "|---|---|"]
        lines += [f"| `{cell(flags)}` | {cell(words)} |" for flags, words in records]
        lines.append("")
    return lines


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def reference() -> str:
    """The generated part of the page."""
    top = click.Context(root, info_name="swarmctl")
    lines: list[str] = []
    heading = ""
    for command, context in commands(root, top):
        first = context.command_path.split()[1]
        if first != heading:
            heading = first
            lines += [f"## {first}", ""]
        lines += section(command, context)
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """0 when the page is as it should be, 1 when ``--check`` found it stale."""
    page = PAGE.read_text()
    written, marker, _ = page.partition(MARKER)
    if not marker:
        sys.stderr.write(f"{PAGE} has no line {MARKER.strip()!r}: put it where the reference begins.\n")
        return 1
    wanted = f"{written}{MARKER}\n{reference()}"
    if wanted == page:
        return 0
    if "--check" in sys.argv[1:]:
        sys.stderr.write(f'{PAGE.name} does not show the flags there are: run "make docs".\n')
        return 1
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
