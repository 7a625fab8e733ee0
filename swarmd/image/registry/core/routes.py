"""Which end of the distribution API a path means, and whether its names are well formed.  Pure."""

from __future__ import annotations

import enum
import re
from urllib.parse import unquote

import msgspec

from swarmd.image.registry.core.refusals import Refusal

MAX_NAME = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})", re.ASCII)
_UPLOAD = re.compile(r"[a-z0-9]{1,64}", re.ASCII)
_PATH = re.compile(
    r"/v2/(?P<name>.+)/(?:"
    r"(?P<tags>tags/list)|manifests/(?P<manifest>[^/]*)|blobs/uploads/?|blobs/uploads/(?P<upload>[^/]+)"
    r"|blobs/(?P<blob>[^/]*)|referrers/(?P<referrers>[^/]*))",
    re.DOTALL,
)

ALGORITHMS = ("sha256", "sha512")


class End(enum.Enum):
    """One kind of address in the API."""

    BASE = "base"
    CATALOG = "catalog"
    TAGS = "tags"
    MANIFEST = "manifest"
    BLOB = "blob"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    REFERRERS = "referrers"


METHODS = {
    End.BASE: ("GET", "HEAD"),
    End.CATALOG: ("GET",),
    End.TAGS: ("GET",),
    End.MANIFEST: ("GET", "HEAD", "PUT", "DELETE"),
    End.BLOB: ("GET", "HEAD", "DELETE"),
    End.UPLOADS: ("POST",),
    End.UPLOAD: ("GET", "PATCH", "PUT", "DELETE"),
    End.REFERRERS: ("GET",),
}


class Route(msgspec.Struct, frozen=True):
    """``name``: the repository; ``reference``: tag, digest or upload, as the end has it."""

    end: End
    name: str = ""
    reference: str = ""


def route(method: str, raw_path: str) -> Route:
    """The end that ``raw_path`` (as sent, percent-encoded) means.

    Raises :class:`Refusal` for what is no address of a registry, and for names that are not allowed.
    """
    path = unquote(raw_path)
    if path in ("/v2", "/v2/"):
        found = Route(End.BASE)
    elif path == "/v2/_catalog":
        found = Route(End.CATALOG)
    else:
        found = _in_repository(path)
    if method not in METHODS[found.end]:
        allowed = ", ".join(METHODS[found.end])
        raise Refusal(
            "UNSUPPORTED", f"{method} is not supported here: use {allowed}", headers=(("Allow", allowed),)
        )
    return found


def _in_repository(path: str) -> Route:
    match = _PATH.fullmatch(path)
    if match is None:
        raise Refusal("UNSUPPORTED", "there is nothing at this address: the API begins at /v2/", status=404)
    name = checked_name(match["name"])
    if match["tags"]:
        return Route(End.TAGS, name)
    for end, group in ((End.MANIFEST, "manifest"), (End.UPLOAD, "upload"), (End.REFERRERS, "referrers")):
        if match[group] is not None:
            return Route(end, name, _checked_reference(end, match[group]))
    if match["blob"] is not None:
        return Route(End.BLOB, name, checked_digest(match["blob"]))
    return Route(End.UPLOADS, name)


def _checked_reference(end: End, reference: str) -> str:
    if end is End.UPLOAD:
        if not _UPLOAD.fullmatch(reference):
            raise Refusal("BLOB_UPLOAD_UNKNOWN", "there is no such upload")
        return reference
    if end is End.REFERRERS or ":" in reference:
        return checked_digest(reference)
    return checked_tag(reference)


def checked_name(name: str) -> str:
    """A repository's name; raises :class:`Refusal`."""
    if len(name) > MAX_NAME:
        raise Refusal("NAME_INVALID", f"a repository's name has at most {MAX_NAME} characters")
    if not _NAME.fullmatch(name):
        raise Refusal(
            "NAME_INVALID",
            "this is no repository's name: use lowercase letters, digits, and . _ - between them, parts "
            "separated by /",
            detail=name[:MAX_NAME],
        )
    return name


def checked_tag(tag: str) -> str:
    """A tag; raises :class:`Refusal`."""
    if not _TAG.fullmatch(tag):
        raise Refusal(
            "MANIFEST_INVALID",
            "this is neither a tag (letters, digits, . _ -, at most 128) nor a digest",
            detail=tag[:128],
        )
    return tag


def checked_digest(digest: str) -> str:
    """A digest; raises :class:`Refusal`."""
    if not _DIGEST.fullmatch(digest):
        raise Refusal(
            "DIGEST_INVALID",
            "this is no digest: sha256: and 64, or sha512: and 128 lowercase hexadecimal digits",
            detail=digest[:160],
        )
    return digest


def is_digest(text: str) -> bool:
    """Whether a reference is a digest, not a tag."""
    return ":" in text


def checked_algorithm(name: str) -> str:
    """Of ``digest-algorithm=``; raises :class:`Refusal`."""
    if name not in ALGORITHMS:
        raise Refusal("UNSUPPORTED", f"digests are {' or '.join(ALGORITHMS)}", status=400, detail=name[:32])
    return name
