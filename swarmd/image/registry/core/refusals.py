"""How the registry says no: a status, one of the codes of the distribution specification, and a sentence."""

from __future__ import annotations

import msgspec

from swarmd.model.errors import Conflict, Denied, Invalid, NotFound, Refused, SwarmError, Unavailable

Headers = tuple[tuple[str, str], ...]

STATUS = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DENIED": 403,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 400,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "SIZE_INVALID": 400,
    "TOOMANYREQUESTS": 429,
    "UNAUTHORIZED": 401,
    "UNAVAILABLE": 503,
    "UNKNOWN": 500,
    "UNSUPPORTED": 405,
}

_KINDS: tuple[tuple[type[SwarmError], str], ...] = (
    (Unavailable, "UNAVAILABLE"),
    (NotFound, "NAME_UNKNOWN"),
    (Denied, "DENIED"),
    (Refused, "DENIED"),
    (Conflict, "UNSUPPORTED"),
    (Invalid, "MANIFEST_INVALID"),
)


class Refusal(Exception):
    """A request that is answered with an error.  ``status``: 0 for the one that belongs to ``code``."""

    def __init__(
        self, code: str, message: str, *, status: int = 0, headers: Headers = (), detail: object = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or STATUS[code]
        self.headers = headers
        self.detail = detail

    def body(self) -> bytes:
        """The document that goes with it."""
        error = {"code": self.code, "message": self.message, "detail": self.detail}
        return msgspec.json.encode({"errors": [error]})


def refusal_for(error: SwarmError) -> Refusal:
    """What a client is told of an error of ours."""
    for kind, code in _KINDS:
        if isinstance(error, kind):
            return Refusal(code, str(error))
    return Refusal("UNAVAILABLE" if error.kind == "not_manager" else "UNKNOWN", str(error))
