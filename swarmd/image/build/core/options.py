"""What a build is asked for beside its Dockerfile."""

from __future__ import annotations

import re

import msgspec

from swarmd.model.errors import Invalid


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """``target`` is a stage's name or number, empty: the last.  Platforms are as ``linux/arm/v7``.

    ``build_platform`` is this machine's (empty: the same).  ``labels`` are added to the result.  ``ignore``
    holds the lines of the .dockerignore, for warnings only.
    """

    target: str = ""
    build_args: dict[str, str] = {}
    labels: dict[str, str] = {}
    platform: str = "linux/amd64"
    build_platform: str = ""
    ignore: tuple[str, ...] = ()

    def epoch(self) -> float | None:
        """SOURCE_DATE_EPOCH in seconds since 1970: no time in the image is later.  Raises Invalid."""
        text = self.build_args.get("SOURCE_DATE_EPOCH", "")
        if not text:
            return None
        if not re.fullmatch(r"\d{1,12}", text):
            raise Invalid(f"SOURCE_DATE_EPOCH is a number of seconds, not {text!r}")
        return float(text)
