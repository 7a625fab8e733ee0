"""Rows printed as a table, as JSON lines, as ids, or by a template.  Pure.

A row is a dict of the names templates may use; ``Layout`` says which of them the usual table shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from swarmd.cli.table import layout, layout_lines

Row = dict[str, str]


class Layout(NamedTuple):
    """``columns``: keys of the table in order; ``headers``: the heading of every key."""

    columns: tuple[str, ...]
    headers: dict[str, str]
    identity: str = "ID"


def listing(form: Layout, rows: Sequence[Row], template: str | None, quiet: bool = False) -> list[str]:
    """The lines to print.  ``template`` None: the usual table.  Raises TemplateError for a bad template."""
    from swarmd.kit.go_values import go_json
    from swarmd.kit.template import compile_template, unescape

    template = unescape(template or "table")
    if quiet and template == "table":
        return [row[form.identity] for row in rows]
    if template == "table":
        cells = [[row[key] for key in form.columns] for row in rows]
        return layout([[form.headers[key] for key in form.columns], *cells])
    if template == "json":
        return [go_json(dict(sorted(row.items()))) for row in rows]
    if template.startswith("table "):
        fill = compile_template(template.removeprefix("table ").strip())
        return layout_lines([fill(form.headers), *(fill(row) for row in rows)])
    fill = compile_template(template)
    return [fill(row) for row in rows]
