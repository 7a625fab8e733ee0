"""``--change`` of import and commit: Dockerfile instructions applied to a configuration.  Pure."""

from __future__ import annotations

from swarmd.image.build.core.instructions import understand
from swarmd.image.build.core.options import Options
from swarmd.image.build.core.outline import outline
from swarmd.image.build.core.parse import Instruction, parse
from swarmd.image.build.core.stage import StageBuilder
from swarmd.image.build.core.state import StageState
from swarmd.image.core.config import ImageConfig
from swarmd.model.errors import Invalid

_KNOWN = (
    "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME",
    "WORKDIR",
)  # fmt: skip
_PLACE = "dockerfile parse error on line 1: "


def apply_changes(config: ImageConfig, changes: tuple[str, ...]) -> ImageConfig:
    """``config`` after each instruction in turn, as in a build; raises :class:`Invalid` for a bad one."""
    state = StageState(config)
    builder = StageBuilder(outline(parse(b"FROM scratch"), Options()), 0, Options(), state)
    for change in changes:
        word, _, rest = change.strip().partition(" ")
        if word.upper() not in _KNOWN:
            raise Invalid(f"{word!r} is not a valid change command; use one of {', '.join(_KNOWN)}")
        if not rest.strip():
            raise Invalid(f"change {change!r}: {word.upper()} requires an argument")
        try:
            builder.steps([(said, understand(said)) for said in _one(change)])
        except Invalid as error:
            raise Invalid(f"change {change!r}: {str(error).removeprefix(_PLACE)}") from None
    return state.config


def _one(change: str) -> tuple[Instruction, ...]:
    found = parse(change.encode()).instructions
    if len(found) != 1:
        raise Invalid("give each instruction in a change of its own")
    return found
