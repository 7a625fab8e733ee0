"""The console entry point: a short start and a short end, for most commands are over in a moment.

What takes time here is not what a command does but what Python does for it: modules that libraries load and
we never use, looking for garbage while all is new, and taking everything down again one by one.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_RARELY_NEEDED = frozenset({"google.protobuf.internal.python_message"})
"""Protobuf's messages where it has no C library; with it, they are imported and not used."""

_GARBAGE = 50_000


class Later:
    """Modules that are loaded when something of them is asked for, not when they are imported."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in self._names else None
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def main() -> None:
    """Run this process's command line, and end the process."""
    gc.set_threshold(_GARBAGE)
    sys.meta_path.insert(0, Later(_RARELY_NEEDED))
    from swarmd.cli.main import run

    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = code or 1
    os._exit(code)  # the kernel takes back in a moment what Python would take apart in ten


if __name__ == "__main__":
    main()
