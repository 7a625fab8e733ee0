"""The swarm's registry over real connections: bodies in every form, clients that misbehave, passwords."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import ipaddress
import os
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from swarmd.image.registry.access import Guarded, hashed
from swarmd.image.registry.http_server import HttpServer
from swarmd.model.errors import Unavailable
from tests.integration.registry_conformance import Suite
from tests.unit.registry_rig import Rig, image_manifest, sha256

LIMIT = 60.0


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """HTTP by hand, so that it can be wrong."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, head: str, body: bytes = b"") -> None:
        lines = "\r\n".join(line.strip() for line in head.strip().splitlines())
        self.writer.write(lines.encode() + b"\r\n\r\n" + body)
        await self.writer.drain()

    async def answer(self, *, has_body: bool = True) -> Answer:
        async with asyncio.timeout(LIMIT):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = {
                key.lower(): value for key, _, value in (line.partition(": ") for line in head[1:] if line)
            }
            length = int(headers.get("content-length", 0)) if has_body else 0
            return Answer(int(head[0].split()[1]), headers, await self.reader.readexactly(length))

    async def ask(self, head: str, body: bytes = b"") -> Answer:
        await self.send(head, body)
        return await self.answer(has_body=not head.strip().startswith("HEAD"))

    async def begin(self, repository: str = "app") -> str:
        return (await self.ask(f"POST /v2/{repository}/blobs/uploads/ HTTP/1.1\nHost: x")).headers["location"]

    def cut(self) -> None:
        self.writer.transport.abort()


class Bench:
    def __init__(self, rig: Rig, port: int) -> None:
        self.rig, self.port = rig, port
        self._open: list[Client] = []

    async def client(self, context: ssl.SSLContext | None = None) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        self._open.append(Client(reader, writer))
        return self._open[-1]

    def close(self) -> None:
        for client in self._open:
            client.cut()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    rig = Rig(tmp_path / "content")
    server = HttpServer(rig.registry.handle)
    bench = Bench(rig, await server.open("127.0.0.1", 0))
    yield bench
    bench.close()
    await server.close()


async def until(what: Any) -> None:
    """Wait until ``what()`` is true, for as long as a slow machine may take."""
    async with asyncio.timeout(LIMIT):
        while not what():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_a_blob_of_many_batches_goes_in_and_out_unchanged(bench: Bench) -> None:
    data = os.urandom((3 << 20) + 12345)
    digest = sha256(data)
    client = await bench.client()
    location = await client.begin()
    answer = await client.ask(
        f"PUT {location}?digest={digest} HTTP/1.1\nHost: x\nContent-Length: {len(data)}", data
    )
    assert answer.status == 201
    got = await client.ask(f"GET /v2/app/blobs/{digest} HTTP/1.1\nHost: x")
    assert (got.status, got.body == data) == (200, True)
    part = await client.ask(f"GET /v2/app/blobs/{digest} HTTP/1.1\nHost: x\nRange: bytes=1048570-2097160")
    assert (part.status, part.body == data[1048570:2097161]) == (206, True)


async def test_a_streamed_body_without_a_length(bench: Bench) -> None:
    client = await bench.client()
    location = await client.begin()
    chunks = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    answer = await client.ask(f"PATCH {location} HTTP/1.1\nHost: x\nTransfer-Encoding: chunked", chunks)
    assert (answer.status, answer.headers["range"]) == (202, "0-10")
    answer = await client.ask(
        f"PUT {location}?digest={sha256(b'hello world')} HTTP/1.1\nHost: x\nContent-Length: 0"
    )
    assert answer.status == 201


async def test_a_compressed_request_is_kept_as_it_came(bench: Bench) -> None:
    data = bytes.fromhex("1f8b08000000000000030300000000000000 0000".replace(" ", ""))
    client = await bench.client()
    answer = await client.ask(
        f"POST /v2/app/blobs/uploads/?digest={sha256(data)} HTTP/1.1\nHost: x\nContent-Encoding: gzip\n"
        f"Content-Length: {len(data)}",
        data,
    )
    assert answer.status == 201


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on(bench: Bench) -> None:
    client = await bench.client()
    await client.send(
        f"POST /v2/app/blobs/uploads/?digest={sha256(b'hello')} HTTP/1.1\nHost: x\nContent-Length: 5\n"
        "Expect: 100-continue"
    )
    assert (await client.answer()).status == 100
    client.writer.write(b"hello")
    assert (await client.answer()).status == 201


async def test_a_client_that_asks_before_it_sends_is_refused_before_it_sends(bench: Bench) -> None:
    client = await bench.client()
    answer = await client.ask(
        "PUT /v2/app/manifests/1 HTTP/1.1\nHost: x\nContent-Length: 9999999\nExpect: 100-continue"
    )
    assert answer.status == 413


async def test_a_head_says_how_long_the_body_would_be(bench: Bench) -> None:
    for blob in (b"{}", b"layer"):
        await bench.rig.push_blob("app", blob)
    raw = image_manifest(b"{}", b"layer")
    await bench.rig.ask("PUT", "/v2/app/manifests/1", raw)
    client = await bench.client()
    head = await client.ask("HEAD /v2/app/manifests/1 HTTP/1.1\nHost: x")
    assert (head.status, head.headers["content-length"]) == (200, str(len(raw)))
    head = await client.ask(f"HEAD /v2/app/blobs/{sha256(b'layer')} HTTP/1.1\nHost: x")
    assert (head.status, head.headers["content-length"]) == (200, "5")
    got = await client.ask("GET /v2/app/manifests/1 HTTP/1.1\nHost: x")
    assert (got.status, got.body) == (200, raw)


@pytest.mark.parametrize("form", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_an_upload_that_is_cut_off_leaves_nothing_visible_and_goes_on(bench: Bench, form: str) -> None:
    data = b"x" * 100
    client = await bench.client()
    location = await client.begin()
    sent = b"1e\r\n" + data[:30] + b"\r\n" if "chunked" in form else data[:30]
    await client.send(f"PATCH {location} HTTP/1.1\nHost: x\n{form}", sent)
    upload = await bench.rig.uploads.find("app", location.rpartition("/")[2])
    await until(lambda: upload.is_busy)
    client.cut()
    await until(lambda: not upload.is_busy)
    assert bench.rig.content.blobs() == set()
    other = await bench.client()
    status = await other.ask(f"GET {location} HTTP/1.1\nHost: x")
    there = upload.offset
    assert (status.status, status.headers["range"]) == (204, f"0-{max(0, there - 1)}")
    answer = await other.ask(
        f"PUT {location}?digest={sha256(data)} HTTP/1.1\nHost: x\nContent-Length: {100 - there}", data[there:]
    )
    assert answer.status == 201


async def test_a_put_that_is_cut_off_stores_nothing(bench: Bench) -> None:
    client = await bench.client()
    location = await client.begin()
    digest = sha256(b"x" * 30)
    await client.send(f"PUT {location}?digest={digest} HTTP/1.1\nHost: x\nContent-Length: 100", b"x" * 30)
    upload = await bench.rig.uploads.find("app", location.rpartition("/")[2])
    await until(lambda: upload.is_busy)
    client.cut()
    await until(lambda: not upload.is_busy)
    assert bench.rig.content.blobs() == set()
    other = await bench.client()
    assert (await other.ask(f"HEAD /v2/app/blobs/{digest} HTTP/1.1\nHost: x")).status == 404


async def test_a_manifest_that_is_cut_off_is_not_kept(bench: Bench) -> None:
    client = await bench.client()
    await client.send(
        "PUT /v2/app/manifests/1 HTTP/1.1\nHost: x\nContent-Length: 500", b'{"schemaVersion": 2}'
    )
    client.cut()
    other = await bench.client()
    assert (await other.ask("GET /v2/app/manifests/1 HTTP/1.1\nHost: x")).status == 404
    assert await bench.rig.names.repositories() == []


async def test_a_reader_that_goes_away_does_not_disturb_the_others(bench: Bench) -> None:
    data = os.urandom(8 << 20)
    digest = await bench.rig.push_blob("app", data)
    gone = await bench.client()
    await gone.send(f"GET /v2/app/blobs/{digest} HTTP/1.1\nHost: x")
    await gone.reader.readexactly(1000)
    gone.cut()
    stays = await bench.client()
    got = await stays.ask(f"GET /v2/app/blobs/{digest} HTTP/1.1\nHost: x")
    assert hashlib.sha256(got.body).hexdigest() == digest.partition(":")[2]


async def test_nonsense_is_answered_and_the_server_lives(bench: Bench) -> None:
    for nonsense in (b"\x00\xff" * 100 + b"\r\n\r\n", b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n"):
        client = await bench.client()
        client.writer.write(nonsense)
        assert (await client.answer()).status == 400
    client = await bench.client()
    assert (await client.ask("GET /v2/ HTTP/1.1\nHost: x")).status == 200


async def test_an_address_that_is_taken_is_said(bench: Bench) -> None:
    other = HttpServer(bench.rig.registry.handle)
    with pytest.raises(Unavailable, match=f"127.0.0.1:{bench.port}"):
        await other.open("127.0.0.1", bench.port)
    await other.close()


# TLS and passwords


def certificate(directory: Path) -> tuple[Path, Path]:
    """One for localhost that signs itself, and its key."""
    key, cert = directory / "key.pem", directory / "cert.pem"
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert, key


async def test_outside_only_users_with_their_password_get_in_and_only_some_may_push(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    users = tmp_path / "users"
    users.write_text(f"# who\nann:{hashed('secret', b'a' * 16)}\nbob:{hashed('word', b'b' * 16)}:pull\n")
    rig = Rig(tmp_path / "content")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = HttpServer(Guarded(rig.registry.handle, users))
    bench = Bench(rig, await server.open("127.0.0.1", 0, context))
    trusting = ssl.create_default_context(cafile=str(cert))
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(server.close)
        stack.callback(bench.close)
        client = await bench.client(trusting)

        async def status(method: str, user: str, path: str = "/v2/") -> Answer:
            login = base64.b64encode(user.encode()).decode()
            header = f"\nAuthorization: Basic {login}" if user else ""
            return await client.ask(f"{method} {path} HTTP/1.1\nHost: x\nContent-Length: 0{header}")

        stranger = await status("GET", "")
        assert (stranger.status, stranger.headers["www-authenticate"]) == (
            401,
            'Basic realm="swarm registry"',
        )
        for wrong in ("ann:word", "ann:", "eve:secret", ":"):
            assert (await status("GET", wrong)).status == 401
        assert (await status("GET", "ann:secret")).status == 200
        assert (await status("GET", "bob:word")).status == 200
        uploads = "/v2/app/blobs/uploads/"
        assert (await status("POST", "ann:secret", uploads)).status == 202
        assert (await status("POST", "bob:word", uploads)).status == 403
        users.write_text(f"bob:{hashed('word', b'b' * 16)}\n")
        assert (await status("GET", "ann:secret")).status == 401
        assert (await status("POST", "bob:word", uploads)).status == 202
        users.write_text("nonsense\n")
        assert (await status("GET", "bob:word")).status == 200


async def test_everything_the_conformance_suite_asks(bench: Bench) -> None:
    suite = Suite(f"http://127.0.0.1:{bench.port}", "run")
    assert await asyncio.to_thread(suite.run) > 1000
