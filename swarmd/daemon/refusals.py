"""What a daemon answers that cannot do what was asked for where it stands: in no swarm, locked, broken."""

from __future__ import annotations

from swarmd.api.forward import not_manager
from swarmd.model.errors import Refused, SwarmError, Unavailable
from swarmd.security.vault import LOCKED, Locked

ALREADY = (
    'This node is already part of a swarm. Use "swarmctl swarm leave" to leave this swarm '
    "and join another one."
)
STARTING = "this daemon is starting, and not yet part of its swarm again; try again in a moment"
BROKEN = "This node cannot take part in its swarm: {problem}. To give it up, use `swarm leave --force`."

LOCKED_LEAVE = (
    "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message."
)


def absence(*, locked: bool, problem: str, resumed: bool) -> SwarmError:
    """Why this daemon has no membership that could answer; ``resumed``: it has looked for one."""
    if locked:
        return Locked(LOCKED)
    if problem or not resumed:
        return Unavailable(problem or STARTING)
    return not_manager(in_swarm=False)


def staying(*, locked: bool, problem: str) -> Refused:
    """Why only ``--force`` gives up a membership that this daemon could not take up."""
    return Refused(LOCKED_LEAVE if locked else BROKEN.format(problem=problem.rstrip(".")))
