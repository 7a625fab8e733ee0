"""What the parts of the metrics page are read from."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from swarmd.daemon.config import Config
from swarmd.daemon.member import Member
from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.node.containers.local import LocalContainers
from swarmd.node.network.port import NetworkPort
from swarmd.telemetry.tally import Tally


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """``member`` and ``network``: this node's, while it is in a swarm.  ``calls``: those that
    ended, by (name, outcome)."""

    config: Config
    clock: Clock
    containers: LocalContainers
    images: ImageStore
    member: Callable[[], Member | None]
    network: Callable[[], NetworkPort | None]
    calls: Tally
