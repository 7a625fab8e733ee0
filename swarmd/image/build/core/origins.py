"""What ``--from`` and ``from=`` name: a stage by name or number, or an image.  Pure."""

from __future__ import annotations

from swarmd.image.build.core.graph import Origin
from swarmd.image.build.core.lines import failed
from swarmd.image.build.core.outline import Outline, checked_ref
from swarmd.image.build.core.words import expand
from swarmd.model.errors import Invalid


class Origins:
    """Looks names up in the stages of one Dockerfile."""

    def __init__(self, sketch: Outline) -> None:
        self._sketch = sketch

    def of(self, name: str, line: int) -> Origin:
        """Raises Invalid for a stage that is not there and for what is no image's name."""
        if not name:
            return Origin()
        if _has_variables(name):
            raise failed(
                line,
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from "
                "global scope as a workaround",
            )
        stage = self._sketch.named(name)
        if stage is None and name.isdecimal():
            if int(name) >= len(self._sketch.sections):
                raise failed(line, f"invalid stage index {int(name)}")
            stage = int(name)
        if stage is not None:
            return Origin(where="stage", stage=stage)
        return Origin(where="image", ref=checked_ref(name, line))


def _has_variables(name: str) -> bool:
    try:
        return expand(name, {}).text != name
    except Invalid:
        return True
