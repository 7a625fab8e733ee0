"""What the router says by itself, in plain words.  It repeats nothing of a request."""

from __future__ import annotations

REASONS = {
    400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    414: "URI Too Long", 431: "Request Header Fields Too Large", 501: "Not Implemented",
    502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip

NO_ROUTE = "No service of this swarm answers to this host name and path."
NO_TASK = "The service for this host name and path has no running task now. Try again in a moment."
NOT_REACHED = "None of the service's tasks could be reached."
BROKEN = "The service's task ended the connection before it had answered."
NOT_HTTP = "The service's task answered with something that is not HTTP."
TOO_SLOW = "The service's task did not answer in time."


def page(status: int, text: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body."""
    body = f"{status} {REASONS.get(status, 'Error')}\n{text}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        (b"content-length", b"%d" % len(body)),
    ]
    return headers, body
