"""Values as Go prints them, and the functions that templates call on them.  Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any


def go_text(value: Any) -> str:
    """A value as Go prints it: ``true``, ``[a b]``, ``map[k:v]``, ``<no value>``."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(go_text(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def go_json(value: Any, indent: int | None = None) -> str:
    """JSON with Go's separators."""
    separators = (",", ":") if indent is None else None
    return json.dumps(value, indent=indent, separators=separators, ensure_ascii=False)


def _printf(form: str, *values: Any) -> str:
    shown = (value if isinstance(value, (int, float)) else go_text(value) for value in values)
    return re.sub(r"%(-?\d*\.?\d*)v", r"%\1s", form).replace("%q", '"%s"') % tuple(shown)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, "") if isinstance(value, dict) else value[key]
    return value


def _and(*values: Any) -> Any:
    return next((value for value in values if not value), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if value), values[-1])


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": go_json,
    "upper": lambda text: go_text(text).upper(),
    "lower": lambda text: go_text(text).lower(),
    "title": lambda text: go_text(text).title(),
    "join": lambda items, separator: separator.join(go_text(item) for item in items),
    "split": lambda text, separator: text.split(separator),
    "len": len,
    "index": _index,
    "print": lambda *values: "".join(go_text(value) for value in values),
    "println": lambda *values: " ".join(go_text(value) for value in values) + "\n",
    "printf": _printf,
    "eq": lambda first, *others: first in others,
    "ne": lambda first, second: first != second,
    "not": lambda value: not value,
    "and": _and,
    "or": _or,
}
