"""Which names volumes may have: Docker's rule, in Docker's words.

Docker wants two characters at least, 0.1.0 did not: one is enough for a volume that a service names.
"""

from __future__ import annotations

import re

from swarmd.model.errors import Invalid

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")


def check(name: str) -> None:
    """Raises Invalid for a name that is none."""
    if not NAME.fullmatch(name):
        raise Invalid(
            f'invalid volume name "{name[:300]}": includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )
