"""Writes the table of all metrics, from their catalogue, into docs/metrics.md; ``--check`` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from swarmd.telemetry.catalogue import PARTS
from swarmd.telemetry.metrics import Metric

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
BEGIN, END = "<!-- Generated from here on: make docs -->\n", "<!-- Generated up to here -->\n"


def table() -> str:
    """Every metric, by who tells it, as Markdown."""
    lines = []
    for who, metrics in PARTS:
        lines += [f"### Of {who}", "", "| metric | kind | labels | what |", "|---|---|---|---|"]
        lines += [_row(metric) for metric in metrics]
        lines.append("")
    return "\n".join(lines)


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |"


def main() -> int:
    """0 when the page is as it should be, 1 when ``--check`` found it stale."""
    page = PAGE.read_text()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.stderr.write(f"{PAGE} lacks the lines {BEGIN.strip()!r} and {END.strip()!r} around the table.\n")
        return 1
    wanted = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    if wanted == page:
        return 0
    if "--check" in sys.argv[1:]:
        sys.stderr.write(f'{PAGE.name} does not show the metrics there are: run "make docs".\n')
        return 1
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
