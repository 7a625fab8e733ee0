"""Debian's docker-registry as the other side: passwords, tokens, TLS; skopeo checks what came there."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import gzip
import json
import os
import threading
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

from swarmd.image.registry.client import RegistryClient
from swarmd.image.registry.core.auth import Credential
from swarmd.image.registry.core.names import Settings
from swarmd.image.registry.hints import Hints
from swarmd.image.store import ImageStore
from swarmd.kit.clock import SystemClock
from swarmd.model.errors import Denied, Unavailable
from tests.integration.image_rig import archive, entry, opened, pack
from tests.unit.proxied import free_port

pytestmark = pytest.mark.root

ANNA = Credential("anna", "secret")
# bcrypt of "secret", the only kind that docker-registry reads
HTPASSWD = "anna:$2b$04$AOOmebsdbzqHWOGs.lzXJuyNDMY8R10AvsM4Qedft747m9CX83GR.\n"
LIMIT = 60.0


class Debian:
    """One docker-registry on a port of its own."""

    def __init__(self, work: Path, **settings: Any) -> None:
        self.work = work
        self.settings = settings
        self.port = 0

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    @contextlib.asynccontextmanager
    async def running(self, tls: dict[str, str] | None = None) -> AsyncIterator[Debian]:
        self.port = free_port()
        http: dict[str, Any] = {"addr": f"127.0.0.1:{self.port}"}
        if tls:
            http["tls"] = tls
        settings = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.work / "storage")}},
            "http": http,
            **self.settings,
        }
        config = self.work / "config.yml"
        config.write_text(json.dumps(settings))  # JSON is YAML
        process = await asyncio.create_subprocess_exec(
            "docker-registry", "serve", str(config), stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await listening(self.port)
            yield self
        finally:
            process.terminate()
            await process.wait()


async def listening(port: int) -> None:
    async with asyncio.timeout(LIMIT):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)


class Side:
    """A node's store and client."""

    def __init__(self, store: ImageStore, root: Path, settings: Settings, who: Credential | None) -> None:
        self.store, self.said = store, list[str]()
        self.who = who
        hints = Hints(root / "hints.json")
        self.client = RegistryClient(store, settings, SystemClock(), who=self._who, hints=hints)

    async def _who(self, host: str) -> Credential | None:
        return self.who

    def listen(self, item: str, state: str, current: int = 0, total: int = 0) -> None:
        if not total:
            self.said.append(f"{item}: {state}" if item else state)

    def count(self, state: str) -> int:
        return sum(line.endswith(state) for line in self.said)


@contextlib.asynccontextmanager
async def side(
    root: Path, *, settings: Settings | None = None, who: Credential | None = ANNA
) -> AsyncIterator[Side]:
    root.mkdir()
    made = Side(await opened(root / "images"), root, settings or Settings(), who)
    try:
        yield made
    finally:
        await made.client.close()


async def skopeo(*words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "skopeo", "--insecure-policy", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(LIMIT):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def layer(name: str, size: int) -> bytes:
    return pack(entry(name, os.urandom(size)))


async def load(store: ImageStore, name: str, *layers: bytes) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield archive(name, *layers, squeeze=lambda data: gzip.compress(data, 1, mtime=0))

    await store.load(pieces())


@pytest.fixture
async def passwords(tmp_path: Path) -> AsyncIterator[Debian]:
    work = tmp_path / "registry"
    work.mkdir()
    (work / "htpasswd").write_text(HTPASSWD)
    made = Debian(work, auth={"htpasswd": {"realm": "here", "path": str(work / "htpasswd")}})
    async with made.running():
        yield made


async def test_what_is_pushed_is_what_skopeo_reads_and_what_skopeo_writes_is_pulled(
    passwords: Debian, tmp_path: Path
) -> None:
    name = f"{passwords.host}/team/app"
    creds = ("--tls-verify=false", "--creds", "anna:secret")
    async with side(tmp_path / "a") as here, side(tmp_path / "b") as there:
        await load(here.store, f"{name}:1", layer("one", 300_000), layer("two", 10))
        digest = await here.client.push(f"{name}:1", progress=here.listen)
        seen = json.loads(await skopeo("inspect", *creds, f"docker://{name}:1"))
        assert (seen["Digest"], len(seen["Layers"])) == (digest, 2)
        copy = ("copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--src-creds", "anna:secret")
        copied = (*copy, "--dest-creds", "anna:secret", "--format", "v2s2")
        await skopeo(*copied, f"docker://{name}:1", f"docker://{name}:docker")
        info = await there.client.pull(f"{name}:docker", progress=there.listen)
        assert info.id == here.store.resolve(f"{name}:1").id
        assert there.count(": Pull complete") == 2
        assert sorted(await there.client.tags(name)) == ["1", "docker"]
        assert (await there.client.resolve(f"{name}:1")).digest == digest


async def test_who_may_not_is_told_so(passwords: Debian, tmp_path: Path) -> None:
    name = f"{passwords.host}/app:1"
    async with side(tmp_path / "a", who=None) as stranger, side(tmp_path / "b") as anna:
        await load(stranger.store, name, layer("one", 10))
        with pytest.raises(Denied, match="unauthorized"):
            await stranger.client.push(name)
        with pytest.raises(Denied, match="unauthorized"):
            await stranger.client.check(passwords.host, Credential("anna", "wrong"))
        assert await anna.client.check(passwords.host, ANNA) == ""


class Counting:
    """A way to a port that counts what goes there."""

    def __init__(self, port: int) -> None:
        self.target, self.port, self.sent = port, 0, 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Counting]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)

        async def pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, count: bool) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    self.sent += len(data) * count
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pour(reader, back, count=True), pour(there, writer, count=False))


async def test_a_second_push_with_one_new_layer_moves_only_that_layer(
    passwords: Debian, tmp_path: Path
) -> None:
    base, small = layer("base", 4_000_000), 50_000
    async with Counting(passwords.port).running() as way, side(tmp_path / "a") as here:
        name = f"localhost:{way.port}/app"
        await load(here.store, f"{name}:1", base, layer("app", small))
        await here.client.push(f"{name}:1")
        first, way.sent = way.sent, 0
        await load(here.store, f"{name}:2", base, layer("app", small))
        await here.client.push(f"{name}:2", progress=here.listen)
        assert first > 4_000_000
        assert small < way.sent < small + 30_000, "the layer, its configuration, the manifest, some headers"
        assert here.count(": Layer already exists") == 1
        way.sent = 0
        await load(here.store, f"localhost:{way.port}/other:1", base)
        await here.client.push(f"localhost:{way.port}/other:1", progress=here.listen)
        assert way.sent < 30_000
        assert here.count(": Mounted from app") == 1


# -- tokens ----------------------------------------------------------------------------------------


class Issuer:
    """A token server: signs what Debian's registry believes, for anna only, of the scopes she asks for."""

    def __init__(self, directory: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = certificate(self.key, "issuer")
        (directory / "issuer.crt").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        self.asked: list[list[str]] = []

    def token(self, scopes: list[str]) -> str:
        chain = base64.b64encode(self.certificate.public_bytes(serialization.Encoding.DER)).decode()
        access = []
        for scope in scopes:
            kind, rest = scope.split(":", 1)
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {"iss": "tests", "sub": "anna", "aud": "there", "exp": now + 300, "nbf": now - 60,
                  "iat": now, "jti": "1", "access": access}  # fmt: skip
        parts = [_part({"typ": "JWT", "alg": "ES256", "x5c": [chain]}), _part(claims)]
        r, s = utils.decode_dss_signature(self.key.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256())))
        return ".".join((*parts, _plain(r.to_bytes(32, "big") + s.to_bytes(32, "big"))))

    @contextlib.contextmanager
    def running(self) -> Iterator[int]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                scopes = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("scope", [])
                issuer.asked.append(scopes)
                good = self.headers.get("Authorization") == ANNA.basic()
                body = json.dumps({"token": issuer.token(scopes)} if good else {"details": "who are you"})
                self.send_response(200 if good else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def _part(data: dict[str, Any]) -> str:
    return _plain(json.dumps(data).encode())


def _plain(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def certificate(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


async def test_tokens_are_fetched_for_what_is_done_and_a_mount_asks_for_both_repositories(
    tmp_path: Path,
) -> None:
    work = tmp_path / "registry"
    work.mkdir()
    issuer = Issuer(work)
    with issuer.running() as port:
        token = {
            "realm": f"http://127.0.0.1:{port}/token", "service": "there", "issuer": "tests",
            "rootcertbundle": str(work / "issuer.crt"),
        }  # fmt: skip
        async with Debian(work, auth={"token": token}).running() as there, side(tmp_path / "a") as here:
            name = f"{there.host}/team/base:1"
            shared = layer("one", 100_000)
            await load(here.store, name, shared)
            await here.client.push(name)
            assert issuer.asked == [["repository:team/base:pull,push"]]
            other = f"{there.host}/team/app:1"
            await load(here.store, other, shared)
            await here.client.push(other, progress=here.listen)
            assert here.count(": Mounted from team/base") == 1
            async with side(tmp_path / "b") as second, side(tmp_path / "c", who=None) as stranger:
                await second.client.pull(other)
                assert issuer.asked[-1] == ["repository:team/app:pull"]
                with pytest.raises(Denied, match="who are you"):
                    await stranger.client.pull(other)


# -- TLS -------------------------------------------------------------------------------------------


async def test_a_certificate_is_good_when_its_root_is_in_the_hosts_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "registry"
    work.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    (work / "crt").write_bytes(certificate(key, "registry.test").public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (work / "key").write_bytes(private)
    tls = {"certificate": str(work / "crt"), "key": str(work / "key")}
    with resolving("registry.test"):
        async with Debian(work).running(tls) as there:
            host = f"registry.test:{there.port}"
            settings = Settings(ca=str(tmp_path / "certs"))
            async with side(tmp_path / "a", settings=settings) as here:
                await load(here.store, f"{host}/app:1", layer("one", 10))
                with pytest.raises(Unavailable, match="cannot be trusted"):
                    await here.client.push(f"{host}/app:1")
                (tmp_path / "certs" / host).mkdir(parents=True)
                (tmp_path / "certs" / host / "ca.crt").write_bytes((work / "crt").read_bytes())
                await here.client.push(f"{host}/app:1")
            lax = Settings(insecure=(host,))
            async with side(tmp_path / "b", settings=lax) as there_too:
                await there_too.client.pull(f"{host}/app:1")


@contextlib.contextmanager
def resolving(name: str) -> Iterator[None]:
    """The name leads to this machine, in this process."""
    import socket

    known = socket.getaddrinfo

    def lookup(host: Any, *rest: Any, **more: Any) -> Any:
        return known("127.0.0.1" if host == name else host, *rest, **more)

    socket.getaddrinfo = lookup
    try:
        yield
    finally:
        socket.getaddrinfo = known
