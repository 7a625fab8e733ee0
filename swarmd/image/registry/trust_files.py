"""Certificates for registries, from a directory as Docker's ``certs.d``: ``<host:port>/ca.crt`` and so on."""

from __future__ import annotations

import ssl
from pathlib import Path

from swarmd.image.registry.core.names import Way
from swarmd.model.errors import Invalid


class TrustFiles:
    """Reads what belongs to a host when it is spoken to; a file that changed counts from then on."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory) if directory else None
        self._made: dict[tuple[str, bool, tuple[tuple[str, int], ...]], ssl.SSLContext] = {}

    def context(self, host: str, way: Way) -> ssl.SSLContext:
        """Raises Invalid for a file that is no certificate or key."""
        files = self._files(host)
        key = (host, way.verify, tuple((str(path), path.stat().st_mtime_ns) for path in files))
        if key not in self._made:
            self._made = {known: made for known, made in self._made.items() if known[:2] != key[:2]}
            self._made[key] = _context(files, way)
        return self._made[key]

    def _files(self, host: str) -> list[Path]:
        if self._directory is None or "/" in host or host.startswith("."):
            return []
        try:
            return sorted(
                path
                for path in (self._directory / host).iterdir()
                if path.suffix in (".crt", ".cert", ".key") and path.is_file()
            )
        except OSError:
            return []


def _context(files: list[Path], way: Way) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not way.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in files:
        try:
            if path.suffix == ".crt":
                context.load_verify_locations(path)
            elif path.suffix == ".cert":
                key = path.with_suffix(".key")
                if key not in files:
                    raise Invalid(f"{path} has no key: {key.name} is missing beside it")
                context.load_cert_chain(path, key)
        except (OSError, ssl.SSLError) as error:
            raise Invalid(f"{path} cannot be used: {error}") from error
    return context
