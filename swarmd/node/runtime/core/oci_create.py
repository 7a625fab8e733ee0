"""What the plan of ``swarmd-runtime create`` has beyond that of the daemon: an early look for the program,
since ``create`` has somebody to tell."""

from __future__ import annotations

from swarmd.node.runtime.core.oci import Spec
from swarmd.node.runtime.core.oci_exec import look_up
from swarmd.node.runtime.core.plan import Step


def completed(spec: Spec, steps: list[Step]) -> list[Step]:
    """``steps`` with one more, just before the child waits to be started."""
    if spec.process is None:
        return steps
    ready = [step[0] for step in steps].index("ready")
    return [*steps[:ready], look_up(spec.process), *steps[ready:]]
