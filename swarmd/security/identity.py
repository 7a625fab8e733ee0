"""A node's key, certificate and root on disk, and the TLS settings made from them.

The three files change together: written to a new directory, which replaces the old by rename.
"""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import msgspec

from swarmd.model.errors import Invalid, SwarmError, Unavailable
from swarmd.model.states import Role
from swarmd.security import ca, roots
from swarmd.security.durable import sync_directory
from swarmd.security.sealing import PLAIN, Sealer, key_id_of

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which the ssl module has no name for."""


class Credentials(msgspec.Struct, frozen=True):
    """PEM of a node's key, its certificate (others of its chain may follow) and the roots it trusts."""

    key: bytes
    certificate: bytes
    root: bytes

    @property
    def identity(self) -> ca.Identity:
        return ca.identity_of(self.certificate)


_KEY_PLACE = b"node.key"


class IdentityStore:
    """``<data dir>/identity``: mode 0700, replaced whole; the key is sealed."""

    def __init__(self, directory: Path, sealer: Sealer = PLAIN) -> None:
        self._directory = directory
        self._sealer = sealer

    def exists(self) -> bool:
        """Whether a certificate is here, readable or not."""
        return any((self._directory.with_suffix(suffix) / "node.crt").exists() for suffix in ("", ".old"))

    def load(self) -> Credentials | None:
        """What is on disk, or None before the node joined a swarm.  Raises Invalid when it is damaged."""
        previous = self._directory.with_suffix(".old")
        if not self._directory.exists() and previous.exists():
            previous.rename(self._directory)  # a crash between the two renames of save()
        if not (self._directory / "node.crt").exists():
            return None
        try:
            credentials = Credentials(
                key=self._sealer.open(_KEY_PLACE, (self._directory / "node.key").read_bytes()),
                certificate=(self._directory / "node.crt").read_bytes(),
                root=(self._directory / "ca.crt").read_bytes(),
            )
            _check(credentials)
        except (FileNotFoundError, SwarmError) as error:
            raise Invalid(
                f"{self._directory} is damaged ({error}): restore it from a backup, "
                "or remove the data directory and join again"
            ) from error
        return credentials

    def save(self, credentials: Credentials) -> None:
        """Write durably; a crash leaves the old or the new, never a mixture.  Raises Unavailable."""
        try:
            self._save(credentials)
        except OSError as error:
            raise Unavailable(f"{self._directory} cannot be written: {error.strerror}") from error

    def _save(self, credentials: Credentials) -> None:
        fresh, previous = self._directory.with_suffix(".new"), self._directory.with_suffix(".old")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        for name, data in (
            ("node.key", self._sealer.seal(_KEY_PLACE, credentials.key)),
            ("ca.crt", credentials.root),
            ("node.crt", credentials.certificate),
        ):
            _write(fresh / name, data)
        shutil.rmtree(previous, ignore_errors=True)
        if self._directory.exists():
            self._directory.rename(previous)
        fresh.rename(self._directory)
        sync_directory(self._directory.parent)
        shutil.rmtree(previous, ignore_errors=True)

    def key_used(self) -> int:
        """The id of the data key that sealed the key here.  Raises OSError."""
        return key_id_of((self._directory / "node.key").read_bytes())

    def remove(self) -> None:
        """The node left its swarm.  Raises OSError when the disk does not take it."""
        for suffix in (".new", ".old", ""):
            directory = self._directory.with_suffix(suffix)
            if directory.exists():
                shutil.rmtree(directory)


def server_context(credentials: Credentials, scratch: Path) -> ssl.SSLContext:
    """The cluster port: TLS 1.3, a client certificate is optional here (a joiner has none yet).

    The dates of a manager's certificate are looked at after the handshake (``daemon.lanes``)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # every connection shows its certificate anew
    context.verify_flags = context.verify_flags | _NO_CHECK_TIME
    _load(context, credentials, scratch)
    return context


def client_context(credentials: Credentials, scratch: Path) -> ssl.SSLContext:
    """To another manager: both sides show certificates of one root; the name checked is the caller's choice.

    The dates of the certificate are looked at after the handshake (``daemon.lanes``)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags = context.verify_flags | _NO_CHECK_TIME
    _load(context, credentials, scratch)
    return context


def link_contexts(credentials: Credentials, scratch: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server, client) of a link between any two nodes: both show certificates that are good today."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (server, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        _load(context, credentials, scratch)
    server.num_tickets = 0  # every connection shows its certificate anew
    return server, client


class Contexts:
    """The contexts of a node's present certificate, made once for each certificate.

    Making one reads files and parses keys: strangers who connect must not cost that much.
    """

    def __init__(self, current: Callable[[], Credentials], scratch: Path) -> None:
        self._current = current
        self._scratch = scratch
        self._made_from: Credentials | None = None
        self._made: tuple[ssl.SSLContext, ssl.SSLContext]

    def server(self) -> ssl.SSLContext:
        """See :func:`server_context`."""
        return self._of_now()[0]

    def client(self) -> ssl.SSLContext:
        """See :func:`client_context`."""
        return self._of_now()[1]

    def _of_now(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        now = self._current()
        if now is not self._made_from:
            self._made = server_context(now, self._scratch), client_context(now, self._scratch)
            self._made_from = now
        return self._made


def joiner_context(root_pem: bytes | None) -> ssl.SSLContext:
    """Before one has a certificate.  Without a root nothing is verified: only to ask for that root,
    which is then held against the token's digest."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if root_pem is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=root_pem.decode())
    return context


def grpc_server_credentials(current: Callable[[], Credentials]) -> grpc.ServerCredentials:
    """Mutual TLS for the node port; asked for at every handshake, so a new certificate needs no restart."""
    shown = current()

    def changed() -> Any:
        # gRPC replaces what its handshakes stand on by what it is given here, while others of its threads
        # may be in the middle of one: that ended the process now and then.  None: it stays as it is.
        nonlocal shown
        now = current()
        if now is shown:
            return None
        shown = now
        return _server_configuration(now)

    return grpc.dynamic_ssl_server_credentials(
        _server_configuration(shown), changed, require_client_authentication=True
    )


def _server_configuration(credentials: Credentials) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(credentials.key, credentials.certificate)], root_certificates=credentials.root
    )


def grpc_channel_credentials(current: Credentials) -> grpc.ChannelCredentials:
    """Mutual TLS towards the node port of another node."""
    return grpc.ssl_channel_credentials(
        root_certificates=current.root, private_key=current.key, certificate_chain=current.certificate
    )


def is_manager(credentials: Credentials) -> bool:
    return credentials.identity.role is Role.MANAGER


def _load(context: ssl.SSLContext, credentials: Credentials, scratch: Path) -> None:
    context.load_verify_locations(cadata=credentials.root.decode())
    # The ssl module reads keys from files only; the file lives in the run directory for a moment.
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    bundle = scratch / f"tls.{os.getpid()}.pem"
    descriptor = os.open(bundle, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(credentials.certificate + credentials.key)
        context.load_cert_chain(bundle)
    finally:
        bundle.unlink(missing_ok=True)


def _check(credentials: Credentials) -> None:
    if not ca.is_key_of(credentials.key, credentials.certificate):
        raise Invalid("node.key is not the key of node.crt")
    if not roots.leads_to(credentials.certificate, credentials.root):
        raise Invalid("node.crt is not signed by ca.crt")


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
