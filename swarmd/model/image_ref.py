"""Image references: ``[domain/]path[:tag][@digest]``, read and written as Docker does.

Pure.  A reference is kept in its full form (``docker.io/library/nginx``); :meth:`ImageRef.familiar`
gives the form people write.
"""

from __future__ import annotations

import re

import msgspec

from swarmd.model.errors import Invalid

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_MAX_NAME = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}", re.ASCII)
_HEX_ID = re.compile(r"[a-f0-9]{64}", re.ASCII)


class ImageRef(msgspec.Struct, frozen=True):
    """One reference.  ``name`` is complete; ``tag`` or ``digest`` is empty when not given."""

    name: str
    tag: str = ""
    digest: str = ""

    def familiar_name(self) -> str:
        """The repository as people write it: ``nginx``, ``user/app``, ``reg:5000/a/b``."""
        domain, _, path = self.name.partition("/")
        if domain != DEFAULT_DOMAIN:
            return self.name
        short = path.removeprefix(_OFFICIAL)
        return path if "/" in short else short

    def familiar(self) -> str:
        """The reference as people write it, with its tag and digest."""
        return self.familiar_name() + self._suffix()

    def pinned(self, digest: str) -> ImageRef:
        """The same reference, fixed to the manifest ``digest``."""
        return ImageRef(self.name, self.tag, digest)

    def __str__(self) -> str:
        return self.name + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> ImageRef:
    """Read a reference; the tag is ``latest`` when neither tag nor digest is given.

    Raises :class:`Invalid` with Docker's words (``invalid reference format``).
    """
    if _HEX_ID.fullmatch(text):
        raise Invalid(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings; "
            f"name the image, or write sha256:{text[:12]}... for an id"
        )
    rest, at, digest = text.partition("@")
    name, tag = _split_tag(rest)
    name = _complete(name)
    path = name.partition("/")[2]
    if path != path.lower():
        raise Invalid(f"invalid reference format: repository name ({path}) must be lowercase")
    well_formed = (
        _NAME.fullmatch(name) is not None
        and (tag is None or _TAG.fullmatch(tag) is not None)
        and (not at or _DIGEST.fullmatch(digest) is not None)
    )
    if not well_formed:
        raise Invalid("invalid reference format")
    if len(name) > _MAX_NAME:
        raise Invalid(f"repository name must not be more than {_MAX_NAME} characters")
    return ImageRef(name, tag or ("" if at else DEFAULT_TAG), digest)


def is_digest(text: str) -> bool:
    """Whether ``text`` is a complete ``sha256:<64 hex digits>``."""
    return _DIGEST.fullmatch(text) is not None


def _split_tag(text: str) -> tuple[str, str | None]:
    """The name and what follows its last colon, unless that colon is a port's."""
    head, colon, tail = text.rpartition(":")
    if not colon or "/" in tail:
        return text, None
    return head, tail


def _complete(name: str) -> str:
    """``name`` with its domain, and ``library/`` where Docker Hub adds it."""
    first, slash, rest = name.partition("/")
    has_domain = bool(slash) and (
        "." in first or ":" in first or first == "localhost" or first != first.lower()
    )
    domain, path = (first, rest) if has_domain else (DEFAULT_DOMAIN, name)
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and path and "/" not in path:
        path = _OFFICIAL + path
    return f"{domain}/{path}"
