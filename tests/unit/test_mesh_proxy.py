"""Published ports in the user-space proxy: who answers, who may connect, who holds the port."""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from functools import partial
from typing import cast

import pytest

from swarmd.node.mesh.proxy import Proxy
from swarmd.node.network.port import Transport
from tests.unit.proxied import (
    HERE,
    ask,
    backend,
    connected,
    free_port,
    on_both_loops,
    published,
    says,
    update,
)


@on_both_loops
async def test_backends_take_turns_and_half_close_passes_both_ways(proxy: Proxy) -> None:
    async with backend(says("a")) as a, backend(says("b")) as b:
        port = free_port()
        assert not await update(proxy, [published(port, a, b)])
        assert sorted([await ask(port) for _ in range(4)]) == ["a 5", "a 5", "b 5", "b 5"]


@on_both_loops
async def test_a_backend_that_refuses_is_skipped(proxy: Proxy) -> None:
    async with backend(says("a")) as a:
        port = free_port()
        await update(proxy, [published(port, free_port(), a)])
        assert [await ask(port) for _ in range(4)] == ["a 5"] * 4


@on_both_loops
async def test_when_every_backend_refuses_the_client_is_reset(proxy: Proxy) -> None:
    port = free_port()
    await update(proxy, [published(port, free_port())])
    with pytest.raises(ConnectionResetError):
        await ask(port)


@on_both_loops
async def test_clients_of_both_families_are_served_by_one_socket(proxy: Proxy) -> None:
    async with backend(says("a")) as a:
        port = free_port()
        await update(proxy, [published(port, a)])
        assert [await ask(port, host=host) for host in (HERE, "::1")] == ["a 5", "a 5"]
        assert proxy.served() == {("tcp", port, ""): 2}


@on_both_loops
async def test_a_sticky_client_keeps_its_backend_and_others_have_other_ones(proxy: Proxy) -> None:
    async with backend(says("a")) as a, backend(says("b")) as b, backend(says("c")) as c:
        port = free_port()
        await update(proxy, [published(port, a, b, c, sticky=True)])
        found = {
            source: {await ask(port, source=source) for _ in range(2)}
            for source in (f"127.0.0.{number}" for number in range(2, 62))
        }
        assert all(len(answers) == 1 for answers in found.values())
        assert len(set.union(*found.values())) == 3


@on_both_loops
async def test_a_client_that_is_not_allowed_is_reset(proxy: Proxy) -> None:
    async with backend(says("a")) as a:
        port = free_port()
        await update(proxy, [published(port, a, allow=("127.0.0.2/32",))])
        assert await ask(port, source="127.0.0.2") == "a 5"
        for host in (HERE, "::1"):
            with pytest.raises(ConnectionResetError):
                await ask(port, host=host)
        await update(proxy, [published(port, a, allow=("::1/128",))])
        assert await ask(port, host="::1") == "a 5"


@on_both_loops
async def test_a_port_on_one_address_leaves_the_others_free(proxy: Proxy) -> None:
    async with backend(says("a")) as a, backend(says("b")) as b:
        port = free_port()
        ports = [published(port, a, host_ip="127.0.0.2"), published(port, b, host_ip="127.0.0.3")]
        assert not await update(proxy, ports)
        assert [await ask(port, host=host) for host in ("127.0.0.2", "127.0.0.3")] == ["a 5", "b 5"]
        socket.create_server(("127.0.0.4", port)).close()
        with pytest.raises(ConnectionRefusedError):
            await ask(port)


@on_both_loops
async def test_a_backend_that_wants_it_hears_of_the_client_first(proxy: Proxy) -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.write(b"ok")

    async with backend(serve) as a:
        port = free_port()
        await update(proxy, [published(port, a, source="proxy-protocol")])
        assert await ask(port, source="127.0.0.9") == "ok"
    (data,) = heard
    assert data[:16] == b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
    assert data[16:24] == bytes([127, 0, 0, 9, 127, 0, 0, 1])
    assert data[26:] == port.to_bytes(2, "big") + b"hello"


@on_both_loops
async def test_a_slow_reader_slows_the_sender_and_gets_every_byte(proxy: Proxy) -> None:
    size = 32 << 20
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        chunk = b"x" * 65536
        while sent < size:
            writer.write(chunk)
            await writer.drain()
            sent += len(chunk)

    async with backend(flood) as a:
        port = free_port()
        await update(proxy, [published(port, a)])
        reader, writer = await asyncio.open_connection(HERE, port, limit=4096)
        got = len(await reader.readexactly(1000))
        stalled = -1
        while stalled != sent:  # until nothing moves any more
            stalled = sent
            await asyncio.sleep(0.3)
        assert sent < size
        while chunk := await reader.read(1 << 20):
            got += len(chunk)
        writer.close()
        assert got == size


@on_both_loops
async def test_connections_whose_other_end_vanished_do_not_stay_for_ever(proxy: Proxy) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await reader.read()

    async with backend(hold) as one:
        port = free_port()
        await update(proxy, [published(port, one)])
        with await connected(HERE, port, None) as sock:
            assert await asyncio.get_running_loop().sock_recv(sock, 5) == b"hello"
            (link,) = proxy.relay.links
            for end in (link.front, link.front.other):
                assert end.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert end.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


@on_both_loops
async def test_a_port_without_backends_refuses_and_one_with_backends_again_answers(proxy: Proxy) -> None:
    async with backend(says("a")) as a:
        port = free_port()
        for _ in range(2):
            await update(proxy, [published(port)])
            with pytest.raises(ConnectionRefusedError):
                await ask(port)
            await update(proxy, [published(port, a)])
            assert await ask(port) == "a 5"


@on_both_loops
async def test_a_port_that_could_not_be_served_for_want_of_descriptors_is_tried_again(proxy: Proxy) -> None:
    def without() -> select.epoll:
        raise OSError(errno.EMFILE, "Too many open files")

    async with backend(says("one")) as one:
        port = free_port()
        with pytest.MonkeyPatch.context() as poor:
            poor.setattr(select, "epoll", without)
            with pytest.raises(OSError, match="Too many open files"):
                await update(proxy, [published(port, one)])
        await update(proxy, [published(port, one)])
        assert await ask(port) == "one 5"


@on_both_loops
async def test_nobody_else_can_bind_a_published_port_until_it_is_given_back(proxy: Proxy) -> None:
    port = free_port()
    for backends in ((), (1,), ()):
        await update(proxy, [published(port, *backends)])
        with pytest.raises(OSError, match="in use") as caught:
            socket.create_server(("", port))
        assert caught.value.errno == errno.EADDRINUSE
    await update(proxy, [])
    socket.create_server(("", port)).close()


@on_both_loops
async def test_a_port_of_another_program_is_reported_and_served_once_it_is_free(proxy: Proxy) -> None:
    protocols: tuple[Transport, ...] = ("tcp", "udp")
    for protocol in protocols:
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, kind) as other:
            port = free_port(kind)
            other.bind(("", port))
            if protocol == "tcp":
                other.listen()
            assert await update(proxy, [published(port, 1, protocol=protocol)]) == {(protocol, port, "")}
            assert proxy.taken() == (f"port {port}/{protocol} is taken on this node by another process",)
        assert not await update(proxy, [published(port, 1, protocol=protocol)])
        assert proxy.taken() == ()


@on_both_loops
async def test_connections_to_a_dropped_node_are_reset(proxy: Proxy) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"!")
        await reader.read()

    async with backend(silent) as a:
        port = free_port()
        await update(proxy, [published(port, a)])
        reader, writer = await asyncio.open_connection(HERE, port)
        assert await reader.readexactly(1) == b"!"
        proxy.drop({f"n{a}"})
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


class Echo(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self.name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        cast(asyncio.DatagramTransport, self.transport).sendto(f"{self.name} {data.decode()}".encode(), addr)


@on_both_loops
async def test_a_udp_client_keeps_its_backend_until_that_one_leaves(proxy: Proxy) -> None:
    loop = asyncio.get_running_loop()
    made = [await loop.create_datagram_endpoint(partial(Echo, n), local_addr=(HERE, 0)) for n in "ab"]
    ports = {
        name: transport.get_extra_info("sockname")[1] for name, (transport, _) in zip("ab", made, strict=True)
    }
    port = free_port(socket.SOCK_DGRAM)
    await update(proxy, [published(port, *ports.values(), protocol="udp")])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect((HERE, port))

        async def exchange(word: str) -> list[str]:
            await loop.sock_sendall(client, word.encode())
            async with asyncio.timeout(60):
                return (await loop.sock_recv(client, 100)).decode().split()

        first, word = await exchange("1")
        assert word == "1"
        assert [await exchange(w) for w in "234"] == [[first, w] for w in "234"]
        stays = "b" if first == "a" else "a"
        await update(proxy, [published(port, ports[stays], protocol="udp")])
        assert await exchange("5") == [stays, "5"]
    for transport, _ in made:
        transport.close()
