"""Small files that a command sends along."""

from __future__ import annotations

from pathlib import Path

from swarmd.cli.errors import CliError

MOST = 1 << 20


def read_pem(path: str) -> bytes:
    """The content of a file of certificates or keys; empty without a path.  Raises CliError."""
    if not path:
        return b""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MOST + 1)
    except OSError as error:
        raise CliError(f"open {path}: {error.strerror}") from error
    if not data.strip() or len(data) > MOST:
        raise CliError(f"{path} holds no certificate or key in PEM")
    return data
