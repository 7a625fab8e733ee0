"""What this node shows to others that carry its encrypted networks."""

from __future__ import annotations

from pathlib import Path

from swarmd.node.network.core.papers import Papers
from swarmd.security.identity import Credentials


def papers(credentials: Credentials, run: Path) -> Papers:
    """``run``: the run directory, where the key may lie for a moment."""
    return Papers(
        cluster_id=credentials.identity.cluster_id,
        key=credentials.key,
        certificate=credentials.certificate,
        root=credentials.root,
        scratch=str(run),
    )
