"""TCP connections in the user-space proxy: every byte, both ends' ends, and backends that do not answer."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket
import struct
from collections.abc import AsyncIterator, Iterator

import pytest

from swarmd.node.mesh import tcp
from swarmd.node.mesh.core.choice import Peer
from swarmd.node.mesh.link import End, Link
from swarmd.node.mesh.proxy import Proxy
from swarmd.node.network.port import Backend
from tests.unit.proxied import (
    HERE,
    ask,
    backend,
    connected,
    free_port,
    on_both_loops,
    published,
    says,
    until,
    update,
)

LIMIT = 60.0


@contextlib.contextmanager
def silence() -> Iterator[int]:
    """A port that answers no call: its queue is full, so the kernel drops what comes."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((HERE, 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex((HERE, port))
        yield port


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(tcp, "_RETRY_SECONDS", 0.05)


@on_both_loops
async def test_all_bytes_arrive_in_order_both_ways_at_once(proxy: Proxy) -> None:
    dice = random.Random(7)
    there, back = dice.randbytes(6_000_000), dice.randbytes(5_000_000)
    heard = bytearray()

    async def say(writer: asyncio.StreamWriter, data: bytes) -> None:
        at = 0
        while at < len(data):
            size = dice.choice([1, 100, 5000, 300_000])
            writer.write(data[at : at + size])
            await writer.drain()
            at += size
        writer.write_eof()

    async def hear(reader: asyncio.StreamReader, into: bytearray) -> None:
        while piece := await reader.read(dice.choice([10, 1000, 200_000])):
            into.extend(piece)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.gather(hear(reader, heard), say(writer, back))

    async with backend(serve) as one, asyncio.timeout(LIMIT):
        port = free_port()
        await update(proxy, [published(port, one)])
        reader, writer = await asyncio.open_connection(HERE, port)
        answer = bytearray()
        await asyncio.gather(say(writer, there), hear(reader, answer))
        writer.close()
        await until(lambda: len(heard) == len(there))
    assert heard == there
    assert answer == back


@on_both_loops
async def test_a_backend_may_speak_first_and_end_first(proxy: Proxy) -> None:
    heard = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome")
        writer.write_eof()
        heard.set_result(await reader.read())

    async with backend(serve) as one, asyncio.timeout(LIMIT):
        port = free_port()
        await update(proxy, [published(port, one)])
        reader, writer = await asyncio.open_connection(HERE, port)
        assert await reader.read() == b"welcome"
        writer.write(b"thanks")
        writer.write_eof()
        assert await heard == b"thanks"
        writer.close()


@on_both_loops
async def test_a_client_that_says_nothing_but_its_end_is_answered(proxy: Proxy) -> None:
    async with backend(says("a")) as one, asyncio.timeout(LIMIT):
        port = free_port()
        await update(proxy, [published(port, one)])
        assert await ask(port, b"") == "a 0"


@on_both_loops
async def test_nothing_is_left_of_connections_that_have_ended(proxy: Proxy) -> None:
    async with backend(says("a")) as one, asyncio.timeout(LIMIT):
        port = free_port()
        await update(proxy, [published(port, one)])
        await asyncio.gather(*(ask(port, b"x" * size) for size in range(0, 40_000, 400)))
        await until(lambda: not proxy.relay.links)
        assert len(proxy.relay._doors) == 1
        assert not proxy.relay._ends
        assert not proxy.relay._waiting


@pytest.mark.usefixtures("hurry")
@on_both_loops
async def test_a_backend_that_does_not_answer_is_left_for_the_next_with_all_that_wassaid(
    proxy: Proxy,
) -> None:
    async with backend(says("a")) as one, asyncio.timeout(LIMIT):
        port = free_port()
        with silence() as deaf:
            await update(proxy, [published(port, deaf, one)])
            for data in (b"hello", b"", b"x" * 1_000_000):
                assert [await ask(port, data) for _ in range(2)] == [f"a {len(data)}"] * 2


@pytest.mark.usefixtures("hurry")
@on_both_loops
async def test_a_backend_that_is_there_gets_all_the_time_a_silent_client_takes(proxy: Proxy) -> None:
    async with backend(says("a")) as one, asyncio.timeout(LIMIT):
        port = free_port()
        await update(proxy, [published(port, one)])
        reader, writer = await asyncio.open_connection(HERE, port)
        await until(lambda: proxy.relay.links and not proxy.relay._waiting)  # until the time has passed
        writer.write(b"at last")
        writer.write_eof()
        assert await reader.read() == b"a 7"
        writer.close()


@pytest.mark.usefixtures("hurry")
@on_both_loops
async def test_when_no_backend_answers_the_client_is_reset(proxy: Proxy) -> None:
    port = free_port()
    with silence() as deaf:
        await update(proxy, [published(port, deaf)])
        with pytest.raises(ConnectionResetError):
            await ask(port)


@on_both_loops
async def test_a_client_waiting_for_a_node_that_dies_gets_another_one(proxy: Proxy) -> None:
    async with backend(says("a")) as one, asyncio.timeout(LIMIT):
        port = free_port()
        with silence() as deaf:
            await update(proxy, [published(port, deaf, one)])
            asking = [asyncio.ensure_future(ask(port)) for _ in range(2)]  # one of them at the deaf one
            await until(lambda: proxy.relay._waiting)
            proxy.drop({f"n{deaf}"})
            assert await asyncio.gather(*asking) == ["a 5", "a 5"]


@on_both_loops
async def test_a_reset_at_one_end_is_a_reset_at_the_other(proxy: Proxy) -> None:
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"!")
        try:
            heard.set_result(f"end after {await reader.read()!r}")
        except ConnectionResetError:
            heard.set_result("reset")

    async with backend(serve) as one, asyncio.timeout(LIMIT):
        port = free_port()
        await update(proxy, [published(port, one)])
        sock = await connected(HERE, port, None)
        assert await asyncio.get_running_loop().sock_recv(sock, 1) == b"!"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        assert await heard == "reset"


@on_both_loops
async def test_what_ends_with_a_reset_looks_whole_to_nobody(proxy: Proxy) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as listener:
        listener.bind((HERE, 0))
        listener.listen()
        listener.setblocking(False)
        port = free_port()
        await update(proxy, [published(port, listener.getsockname()[1])])
        async with asyncio.timeout(LIMIT):
            reader, writer = await asyncio.open_connection(HERE, port)
            writer.write(b"?")
            there, _ = await loop.sock_accept(listener)
            assert await loop.sock_recv(there, 9) == b"?"
            # Without the loop's turn in between, so that the proxy hears of both at once.
            there.send(b"half of the answ")
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            there.close()
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            await until(lambda: not proxy.relay.links)


@on_both_loops
async def test_clients_above_the_limit_are_reset_and_later_ones_are_served(proxy: Proxy) -> None:
    proxy.relay._most = 3
    async with backend(says("a")) as one, asyncio.timeout(LIMIT):
        port = free_port()
        await update(proxy, [published(port, one)])
        held = [await connected(HERE, port, None) for _ in range(3)]
        with pytest.raises(ConnectionResetError):
            await ask(port)
        for sock in held:
            sock.close()
        await until(lambda: not proxy.relay.links)
        assert await ask(port) == "a 5"


@pytest.mark.usefixtures("hurry")
@on_both_loops
async def test_clients_wait_while_there_are_no_descriptors(proxy: Proxy) -> None:
    refused = 0

    def without(sock: socket.socket) -> None:
        nonlocal refused
        refused += 1
        raise OSError(errno.EMFILE, "Too many open files")

    async with backend(says("a")) as one, asyncio.timeout(LIMIT):
        port = free_port()
        await update(proxy, [published(port, one)])
        with pytest.MonkeyPatch.context() as poor:
            poor.setattr(socket.socket, "_accept", without, raising=False)
            began = asyncio.get_running_loop().time()
            asking = asyncio.ensure_future(ask(port))
            await until(lambda: refused == 3)
            assert asyncio.get_running_loop().time() - began >= 2 * tcp._RETRY_SECONDS
        assert await asking == "a 5"


class Broken(Exception):
    """What nobody has thought of."""


@contextlib.contextmanager
def heard_of(proxy: Proxy) -> Iterator[list[BaseException]]:
    """What the proxy reports."""
    errors: list[BaseException] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proxy.relay, "_report", lambda _, error: errors.append(error))
        yield errors


@contextlib.asynccontextmanager
async def clients(proxy: Proxy, several: int) -> AsyncIterator[tuple[list[socket.socket], list[Link]]]:
    """Connected to an echo by way of the proxy, in the order in which they came."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(100):
                writer.write(data)

    loop = asyncio.get_running_loop()
    async with backend(serve) as one, asyncio.timeout(LIMIT):
        port = free_port()
        await update(proxy, [published(port, one)])
        socks: list[socket.socket] = []
        links: list[Link] = []
        for _ in range(several):
            sock = await connected(HERE, port, None)
            await loop.sock_sendall(sock, b"?")
            assert await loop.sock_recv(sock, 9) == b"?"
            socks.append(sock)
            links += set(proxy.relay.links) - set(links)
        yield socks, links
        for sock in socks:
            sock.close()
        await until(lambda: not proxy.relay.links)


@on_both_loops
async def test_a_connection_that_fails_unexpectedly_ends_and_the_others_told_with_it_go_on(
    proxy: Proxy,
) -> None:
    loop = asyncio.get_running_loop()
    ready = End.ready

    def perhaps(end: End, mask: int) -> None:
        if end.link is links[0]:
            raise Broken
        ready(end, mask)

    async with clients(proxy, 3) as (socks, links):
        with heard_of(proxy) as errors, pytest.MonkeyPatch.context() as patch:
            patch.setattr(End, "ready", perhaps)
            for sock in socks:
                sock.send(b"!")  # without the loop's turn in between, so that the proxy hears of all at once
            for sock in socks[1:]:
                assert await loop.sock_recv(sock, 9) == b"!"
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(socks[0], 9)
        assert [type(error) for error in errors] == [Broken]
        assert set(proxy.relay.links) == set(links[1:])
        assert set(proxy.relay._ends.values()) == {
            end for link in links[1:] for end in (link.front, link.front.other)
        }


@on_both_loops
async def test_a_client_whose_coming_fails_unexpectedly_is_reset_and_the_next_is_served(proxy: Proxy) -> None:
    def connect(link: Link, *, speaks: bool) -> None:
        patch.undo()
        raise Broken

    async with backend(says("a")) as one, asyncio.timeout(LIMIT):
        port = free_port()
        await update(proxy, [published(port, one)])
        with heard_of(proxy) as errors, pytest.MonkeyPatch.context() as patch:
            patch.setattr(Link, "_connect", connect)
            with pytest.raises(ConnectionResetError):
                await ask(port)
            assert await ask(port) == "a 5"
        assert [type(error) for error in errors] == [Broken]


@on_both_loops
async def test_a_client_for_whom_nobody_can_be_chosen_is_reset(proxy: Proxy) -> None:
    def choose(client: Peer) -> tuple[Backend, ...]:
        raise Broken

    async with backend(says("a")) as one, asyncio.timeout(LIMIT):
        port = free_port()
        await update(proxy, [published(port, one)])
        with heard_of(proxy) as errors, pytest.MonkeyPatch.context() as patch:
            (served,) = proxy._ports.values()
            patch.setattr(served.turn, "choose", choose)
            with pytest.raises(ConnectionResetError):
                await ask(port)
        assert [type(error) for error in errors] == [Broken]
        assert await ask(port) == "a 5"


@on_both_loops
async def test_of_a_dead_nodes_connections_one_that_fails_leaves_none_of_the_others(proxy: Proxy) -> None:
    loop = asyncio.get_running_loop()
    lost = Link.lost

    def perhaps(link: Link) -> None:
        if link is links[0]:
            raise Broken
        lost(link)

    async with clients(proxy, 3) as (socks, links):
        with heard_of(proxy) as errors, pytest.MonkeyPatch.context() as patch:
            patch.setattr(Link, "lost", perhaps)
            backend = links[0].backend
            assert backend is not None
            proxy.drop({backend.node_id})
        assert [type(error) for error in errors] == [Broken]
        assert proxy.resets == 3
        for sock in socks:
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(sock, 9)
