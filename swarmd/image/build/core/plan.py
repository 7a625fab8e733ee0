"""From a Dockerfile to the steps that build its target.  Pure.

    bases()  which images have to be there          plan()  stages and steps, with every word expanded

Only stages that the target needs are planned: those it begins with, copies from or mounts.
"""

from __future__ import annotations

from collections.abc import Mapping

from swarmd.image.build.core.graph import Base, BuildMount, Copy, Origin, Plan, Run, Stage, Warned
from swarmd.image.build.core.lint import apply_settings, copies_of_ignored, lint
from swarmd.image.build.core.meaning import Copy as CopySaid
from swarmd.image.build.core.meaning import Run as RunSaid
from swarmd.image.build.core.options import Options
from swarmd.image.build.core.origins import Origins
from swarmd.image.build.core.outline import Outline, Section, outline
from swarmd.image.build.core.parse import Dockerfile
from swarmd.image.build.core.scope import PATH, as_mapping, with_env
from swarmd.image.build.core.stage import StageBuilder
from swarmd.image.build.core.state import StageState
from swarmd.image.core.config import ImageConfig
from swarmd.model.errors import Invalid
from swarmd.model.replace import replace

__all__ = ["Options", "bases", "plan"]


def bases(dockerfile: Dockerfile, options: Options) -> tuple[Base, ...]:
    """The images that the target's stages begin with (their configurations are what :func:`plan` takes), then
    those that files are copied from; each once.  Triggers of the images may name more: the plan tells.

    Raises Invalid and NotFound as :func:`plan` does.
    """
    sketch = outline(dockerfile, options)
    needed = _needed(sketch, sketch.target(options.target))
    begin = [sketch.sections[index].base for index in needed]
    files = [
        Base(where="image", ref=origin.ref)
        for index in needed
        for origin in _origins(sketch, sketch.sections[index])
        if origin.where == "image"
    ]
    return tuple(dict.fromkeys(base for base in (*begin, *files) if base.where == "image"))


def plan(dockerfile: Dockerfile, options: Options, images: Mapping[Base, ImageConfig]) -> Plan:
    """What to do for the target.  ``images`` has the configuration of every image a stage begins with.

    Raises Invalid, with the line, for whatever is wrong, and NotFound for a target that is none.
    """
    sketch = outline(dockerfile, options)
    target = sketch.target(options.target)
    planner = _Planner(sketch, options, images)
    planner.stage(target)
    stages = [planner.done[index] for index in sorted(planner.done)]
    warnings = [
        *lint(dockerfile, sketch),
        *planner.warnings,
        *copies_of_ignored(stages, options.ignore),
    ]
    return Plan(
        stages=tuple(_labelled(stage, options) if stage.index == target else stage for stage in stages),
        target=target,
        warnings=apply_settings(dockerfile.directives.get("check", ""), warnings),
    )


def _needed(sketch: Outline, target: int) -> tuple[int, ...]:
    """Stages in the order they are asked for, the target first."""
    found: dict[int, None] = {}
    waiting = [target]
    while waiting:
        index = waiting.pop()
        if index in found:
            continue
        found[index] = None
        section = sketch.sections[index]
        if section.base.where == "stage":
            waiting.append(section.base.stage)
        waiting += [origin.stage for origin in _origins(sketch, section) if origin.where == "stage"]
    return tuple(sorted(found))


def _origins(sketch: Outline, section: Section) -> list[Origin]:
    origins = Origins(sketch, section.index)
    found: list[Origin] = []
    for said, means in section.body:
        if isinstance(means, CopySaid) and means.source:
            found.append(origins.of(means.source, said.first))
        elif isinstance(means, RunSaid):
            named = [mount.get("from") for mount in means.mounts]
            found += [origins.of(name, said.first) for name in named if name]
    return found


class _Planner:
    """Plans a stage after those it needs."""

    def __init__(self, sketch: Outline, options: Options, images: Mapping[Base, ImageConfig]) -> None:
        self._sketch, self._options, self._images = sketch, options, images
        self._ends: dict[int, StageState] = {}
        self.done: dict[int, Stage] = {}
        self.warnings: list[Warned] = []

    def stage(self, index: int) -> StageState:
        """Plan that stage, if it is not planned yet; what holds at its end."""
        if index not in self._ends:
            self._ends[index] = self._planned(self._sketch.sections[index])
        return self._ends[index]

    def _planned(self, section: Section) -> StageState:
        state = self._start(section)
        begin = state.config
        builder = StageBuilder(self._sketch, section.index, self._options, state)
        triggers, state.config = begin.onbuild, replace(begin, onbuild=())
        start = state.config
        steps = builder.triggered(triggers, section)
        steps += builder.steps(section.body)
        for step in steps:
            self._follow(step.operation)
        self.warnings += builder.warnings
        self.done[section.index] = Stage(
            index=section.index,
            name=section.means.name,
            line=section.said.first,
            text=section.said.line.text.strip(),
            base=section.base,
            config=start,
            steps=tuple(steps),
            author=state.author,
        )
        return state

    def _start(self, section: Section) -> StageState:
        base = section.base
        if base.where == "stage":
            return self.stage(base.stage).child()
        config = ImageConfig(workdir="/")
        if base.where == "image":
            found = self._images.get(base)
            if found is None:
                raise Invalid(f"the configuration of {base.ref} is not known; it has to be resolved first")
            config = found
        if "PATH" not in as_mapping(config.env):
            config = replace(config, env=with_env(config.env, "PATH", PATH))
        return StageState(config=config)

    def _follow(self, operation: object) -> None:
        origins: list[Origin] = []
        if isinstance(operation, Copy):
            origins = [operation.origin]
        elif isinstance(operation, Run):
            origins = [mount.origin for mount in operation.mounts if _has_origin(mount)]
        for origin in origins:
            if origin.where == "stage":
                self.stage(origin.stage)


def _has_origin(mount: BuildMount) -> bool:
    return mount.kind in ("bind", "cache")


def _labelled(stage: Stage, options: Options) -> Stage:
    """The target with the labels of the command line: they are part of its last configuration."""
    if not options.labels:
        return stage
    if not stage.steps:
        return replace(stage, config=_with_labels(stage.config, options.labels))
    *before, last = stage.steps
    return replace(stage, steps=(*before, replace(last, config=_with_labels(last.config, options.labels))))


def _with_labels(config: ImageConfig, labels: dict[str, str]) -> ImageConfig:
    return replace(config, labels={**config.labels, **labels})
