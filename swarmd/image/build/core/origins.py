"""What ``--from`` and ``from=`` name: a stage by name or number, or an image.  Pure."""

from __future__ import annotations

from swarmd.image.build.core.graph import Origin
from swarmd.image.build.core.lines import failed
from swarmd.image.build.core.outline import Outline, checked_ref
from swarmd.image.build.core.words import expand
from swarmd.model.errors import Invalid


class Origins:
    """Looks names up in the stages of one Dockerfile, for the stage of that index."""

    def __init__(self, sketch: Outline, index: int) -> None:
        self._sketch, self._index = sketch, index

    def of(self, name: str, line: int) -> Origin:
        """Raises Invalid for a stage that is not there or comes later, and for what is no image's name."""
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
            self._check(stage, line)
            return Origin(where="stage", stage=stage)
        return Origin(where="image", ref=checked_ref(name, line))

    def _check(self, stage: int, line: int) -> None:
        if stage < self._index:
            return
        name = self._sketch.label(stage)
        if stage == self._index:
            raise failed(line, f"circular dependency detected on stage: {name}")
        here = self._sketch.label(self._index)
        raise failed(
            line, f'cannot copy from stage "{name}", it needs to be defined before current stage "{here}"'
        )


def _has_variables(name: str) -> bool:
    try:
        return expand(name, {}).text != name
    except Invalid:
        return True
