"""Plans as text that can be kept and read: what is not said has its default.

``python -m tests.unit.dockerfile_text`` writes the expected texts anew; read what changed before keeping it.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from swarmd.image.build.core.graph import Base, Plan
from swarmd.image.build.core.parse import parse
from swarmd.image.build.core.plan import Options, bases, plan
from swarmd.image.core.config import ImageConfig
from swarmd.model.errors import Invalid

DATA = Path(__file__).parents[1] / "data" / "dockerfile"
IMAGE = ImageConfig(env=("PATH=/usr/bin:/bin", "LANG=C.UTF-8"), cmd=("sh",))
NOTHING: tuple[object, ...] = ((), "", {})
OPTIONS = Options(build_args={"VERSION": "2.0", "HTTP_PROXY": "http://proxy:1"}, ignore=("*.log",))


def cases() -> list[tuple[Path, Path]]:
    """Each Dockerfile with the file of what is expected of it."""
    corpus = [(path, DATA / "corpus-plans" / path.name) for path in sorted((DATA / "corpus").iterdir())]
    real = [(path / "Dockerfile", path / "plan") for path in sorted((DATA / "real").iterdir())]
    return corpus + real


def text_of(dockerfile: bytes) -> str:
    """The plan of a Dockerfile, or why there is none."""
    try:
        found = parse(dockerfile)
        images = {base: _config(base) for base in bases(found, OPTIONS)}
        return _plan(plan(found, OPTIONS, images))
    except Invalid as error:
        return f"{error}\n"


def _config(base: Base) -> ImageConfig:
    onbuild = ("COPY package.json /app/", "RUN install $LANG") if "onbuild" in base.ref else ()
    return msgspec.structs.replace(IMAGE, onbuild=onbuild)


def _plan(made: Plan) -> str:
    lines: list[str] = []
    for stage in made.stages:
        lines.append(f"stage {stage.index} {stage.name}: {_shown(stage.base)} (line {stage.line})")
        for step in stage.steps:
            lines.append(f"  {step.line}-{step.last_line} {json.dumps(step.created_by, ensure_ascii=False)}")
            if step.operation is not None:
                lines.append(f"      {_shown(step.operation)}")
        end = stage.steps[-1].config if stage.steps else stage.config
        lines.append(f"  = {_shown(end)}" + (f" author={stage.author}" if stage.author else ""))
    lines.append(f"target {made.target}")
    lines += [f"{found.rule} in line {found.line}: {found.message}" for found in made.warnings]
    return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    if isinstance(value, msgspec.Struct):
        blank = {field.name: field.default for field in msgspec.structs.fields(value)}
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        said = (
            f"{name}={_shown(item)}"
            for name, item in fields.items()
            if item != blank[name] and item not in NOTHING
        )
        return f"{type(value).__name__}({' '.join(said)})"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    if isinstance(value, bytes):
        return json.dumps(value.decode(), ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    for source, expected in cases():
        expected.parent.mkdir(exist_ok=True)
        expected.write_text(text_of(source.read_bytes()))
