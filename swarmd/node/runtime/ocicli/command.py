"""The entry of ``swarmd-runtime``: whoever calls a runtime calls it often, so its start is kept short."""

from __future__ import annotations

import contextlib
import sys


def run() -> None:
    """As a console script."""
    # msgspec would take from it what typing has too since 3.11: a quarter of its import.
    sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]
    from swarmd.node.runtime.ocicli.main import main

    code = main()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    run()
