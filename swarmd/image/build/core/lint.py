"""Rules of style.  Pure."""

from __future__ import annotations

from swarmd.image.build.core.graph import Warned
from swarmd.image.build.core.options import Options
from swarmd.image.build.core.outline import Outline
from swarmd.image.build.core.parse import Dockerfile


def lint(dockerfile: Dockerfile, sketch: Outline, options: Options) -> tuple[Warned, ...]:
    return ()
