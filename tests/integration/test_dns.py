"""Service discovery asked by the programs that ask: dig, the C library, busybox; over real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from swarmd.model.errors import NotFound
from swarmd.node.agent.core.etc_files import embedded_resolv_conf
from swarmd.node.dns import redirect
from swarmd.node.dns.core.budget import PER_SLICE, SLICE_SECONDS
from swarmd.node.network.port import Endpoint, NetworkState, NetworkView, ServiceView
from tests.integration.dns_bed import (
    SERVER,
    SILENT,
    Bed,
    Guest,
    dns_bed,
    guest,
    held_of,
    with_resolv_conf,
)
from tests.integration.network_bed import eventually
from tests.unit.dns_rig import ask, read, reply

pytestmark = pytest.mark.root

HERE = ("127.0.0.11", 53)
MINE = (("n1", ("10.0.5.11", "fd00:5::11")),)
TASKS = tuple(
    Endpoint(
        f"{n:025}", f"web.{n}.{n:025}", "s1", n, "node1", "n1", (f"10.0.5.{10 + n}", f"fd00:5::{10 + n:x}")
    )
    for n in range(1, 101)
)
STATE = NetworkState(
    version=1,
    nodes=(),
    ports=(),
    networks=(
        NetworkView("n1", "front", ("10.0.5.0/24", "fd00:5::/64")),
        NetworkView("n2", "back", ("10.0.6.0/24",), internal=True),
    ),
    services=(
        ServiceView("s1", "web", "n1", ("10.0.5.2", "fd00:5::2"), ("www",)),
        ServiceView("s2", "store", "n2", ("10.0.6.2",)),
    ),
    endpoints=TASKS,
)


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with dns_bed() as made:
        made.update(STATE)
        yield made


@pytest.fixture(scope="module")
def box(bed: Bed) -> Iterator[Guest]:
    """A container in the network ``front``."""
    with guest() as made:
        bed.do(bed.resolver.open("t1", made.pid, MINE, ("me",)))
        yield made
        bed.do(bed.resolver.close("t1"))


def say(*records: tuple[str, int, str], **more: int) -> Callable[[bytes], bytes]:
    return lambda question: reply(question, *records, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_names_are_answered_by_both_transports(box: Guest, transport: str) -> None:
    assert box.dig(transport, "web") == ["10.0.5.2"]
    assert box.dig(transport, "WWW.front.", "AAAA") == ["fd00:5::2"]
    assert box.dig(transport, "7.web") == ["10.0.5.17"]
    assert box.dig(transport, "me") == ["10.0.5.11"]
    assert box.dig(transport, "-x", "10.0.5.12") == [f"web.2.{2:025}.front."]
    assert box.dig(transport, "-x", "fd00:5::2") == ["web.front."]


def test_what_does_not_fit_comes_by_tcp_by_itself(box: Guest) -> None:
    everyone = sorted(task.addresses[0] for task in TASKS)
    assert box.dig("+bufsize=512", "tasks.web") == everyone
    cut = box.dig("+bufsize=512", "+ignore", "tasks.web")
    assert 20 < len(cut) < 40
    assert set(cut) < set(everyone)


def test_edns_is_answered_in_kind(box: Guest) -> None:
    assert "EDNS: version: 0" in box.run("dig", "@127.0.0.11", "web")
    assert "EDNS" not in box.run("dig", "@127.0.0.11", "+noedns", "web")
    assert "status: BADVERS" in box.run("dig", "@127.0.0.11", "+edns=5", "+noednsneg", "web")


def test_the_c_library_and_busybox_find_names(box: Guest, tmp_path: Path) -> None:
    text = embedded_resolv_conf("nameserver 192.0.2.1\nsearch example.org\n")
    seen = with_resolv_conf(tmp_path, text, "getent", "ahostsv4", "web")
    assert box.run(*seen).split()[:2] == ["10.0.5.2", "STREAM"]
    everyone = box.run(*with_resolv_conf(tmp_path, text, "getent", "ahostsv4", "tasks.web"))
    assert everyone.count("STREAM") == len(TASKS)
    backwards = box.run(*with_resolv_conf(tmp_path, text, "getent", "hosts", "10.0.5.12"))
    assert f"web.2.{2:025}.front" in backwards
    assert "10.0.5.2" in box.run("busybox", "nslookup", "web", "127.0.0.11")


def test_other_names_are_asked_of_the_nodes_servers_even_where_only_the_node_reaches_them(
    bed: Bed, box: Guest
) -> None:
    bed.outside.script["example.com"] = say(("A", 60, "192.0.2.7"))
    before = bed.resolver.forwarded.counts().get(("answered",), 0)
    assert box.dig("example.com") == ["192.0.2.7"]
    assert "status: NXDOMAIN" in box.run("dig", "@127.0.0.11", "nobody.example")
    assert bed.resolver.forwarded.counts()["answered",] == before + 2


def test_a_reply_is_remembered(bed: Bed, box: Guest) -> None:
    bed.outside.script["once.example"] = say(("A", 60, "192.0.2.8"))
    assert box.dig("once.example") == box.dig("OnCe.example") == ["192.0.2.8"]
    assert [name for _, name in bed.outside.asked].count("once.example") == 1


def test_names_of_networks_are_never_asked_outside(bed: Bed, box: Guest) -> None:
    assert box.dig("web", "MX") == []
    assert box.dig("10.5.0.10.in-addr.arpa", "PTR") == []
    assert not {"web", "10.5.0.10.in-addr.arpa"} & {name for _, name in bed.outside.asked}


def test_a_long_reply_comes_by_tcp_from_outside_too(bed: Bed, box: Guest) -> None:
    many = [f"192.0.2.{n}" for n in range(60)]
    bed.outside.script["many.example"] = say(*[("A", 60, address) for address in many])
    assert box.dig("many.example") == sorted(many)
    assert ("tcp", "many.example") in bed.outside.asked


def test_the_next_server_is_asked_when_one_is_silent_and_that_one_comes_last_from_then_on(bed: Bed) -> None:
    for name in ("late.example", "later.example"):
        bed.outside.script[name] = say(("A", 60, "192.0.2.9"))
    with guest() as made, bed.other_settings(f"nameserver {SILENT}\nnameserver {SERVER}\n"):
        bed.do(bed.resolver.open("t2", made.pid, MINE))
        assert made.dig("late.example") == ["192.0.2.9"]
        assert bed.ignored == ["late.example"]
        assert made.dig("later.example") == ["192.0.2.9"]
        assert bed.ignored == ["late.example"]
        bed.do(bed.resolver.close("t2"))


def test_a_server_that_is_not_there_or_of_no_use_is_passed_over(bed: Bed) -> None:
    bed.outside.script["next.example"] = say(("A", 60, "192.0.2.9"))
    bed.outside.script["broken.example"] = say(code=2)
    with guest() as made, bed.other_settings(f"nameserver 127.0.0.99\nnameserver {SERVER}\n"):
        bed.do(bed.resolver.open("t2", made.pid, MINE))
        assert made.dig("next.example") == ["192.0.2.9"]
        assert "status: SERVFAIL" in made.run("dig", "@127.0.0.11", "broken.example")
        assert made.dig("web") == ["10.0.5.2"]
        bed.do(bed.resolver.close("t2"))


def test_a_container_without_a_way_out_asks_nobody_outside(bed: Bed) -> None:
    bed.outside.script["leak.example"] = say(("A", 60, "192.0.2.10"))
    with guest() as made:
        bed.do(bed.resolver.open("t3", made.pid, (("n2", ("10.0.6.11",)),)))
        assert made.dig("store") == ["10.0.6.2"]
        assert made.dig("web") == made.dig("web.front") == []
        assert "status: NXDOMAIN" in made.run("dig", "@127.0.0.11", "leak.example")
        bed.do(bed.resolver.close("t3"))
    assert "leak.example" not in {name for _, name in bed.outside.asked}


def test_name_servers_of_its_own_are_asked_from_inside_the_container(bed: Bed) -> None:
    with guest() as made:

        def serve() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 53))
            return sock

        server = made.inside(serve)

        def answer() -> None:
            question, client = server.recvfrom(1500)
            server.sendto(reply(question, ("A", 60, "192.0.2.11")), client)

        thread = threading.Thread(target=answer)
        thread.start()
        bed.do(bed.resolver.open("t4", made.pid, MINE, (), ("127.0.0.1",)))
        assert made.dig("own.example") == ["192.0.2.11"]
        thread.join()
        bed.do(bed.resolver.close("t4"))
        server.close()
    assert "own.example" not in {name for _, name in bed.outside.asked}


def test_a_server_in_the_container_may_take_port_53(box: Guest) -> None:
    def serve() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("0.0.0.0", 53))
            tcp.bind(("0.0.0.0", 53))

    box.inside(serve)


def test_where_there_are_no_rules_port_53_itself_is_taken(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(udp: int, tcp: int) -> None:
        raise OSError(93, "no nftables")

    monkeypatch.setattr(redirect, "install", refuse)
    with guest() as made:
        bed.do(bed.resolver.open("t5", made.pid, MINE))
        assert made.dig("web") == made.dig("+tcp", "web") == ["10.0.5.2"]
        assert made.run("nft", "list", "ruleset") == ""
        bed.do(bed.resolver.close("t5"))


def test_rules_that_a_program_in_the_container_removed_are_missed_and_made_again(bed: Bed) -> None:
    with guest() as made:
        bed.do(bed.resolver.open("t10", made.pid, MINE))
        assert bed.do(bed.resolver.audit()) == ()
        for harm in ("flush ruleset", "flush table ip swarmd_names"):
            made.run("nft", *harm.split())
            assert made.dig("+timeout=1", "web") != ["10.0.5.2"]
            (sentence,) = bed.do(bed.resolver.audit())
            assert "container t10 removed" in sentence
            assert made.dig("web") == made.dig("+tcp", "web") == ["10.0.5.2"]
        assert bed.do(bed.resolver.audit()) == ()
        bed.do(bed.resolver.close("t10"))


def test_no_connection_of_the_container_is_tracked_for_it(box: Guest) -> None:
    box.dig("web")
    assert "0 flow entries" in box.run("conntrack", "-L")


def test_the_answers_follow_the_snapshots(bed: Bed, box: Guest) -> None:
    moved = replace(STATE.services[0], addresses=("10.0.5.3",))
    bed.update(replace(STATE, services=(moved,), endpoints=TASKS[:2]))
    try:
        assert box.dig("web") == ["10.0.5.3"]
        assert box.dig("tasks.web") == ["10.0.5.11", "10.0.5.12"]
        assert box.dig("7.web") == []
    finally:
        bed.update(STATE)


def test_a_connection_takes_many_questions_at_once(bed: Bed, box: Guest) -> None:
    bed.outside.script["pipe.example"] = say(("A", 60, "192.0.2.12"))
    names = [("pipe.example" if n % 50 == 7 else "web") for n in range(600)]

    def talk() -> dict[int, list[str]]:
        with socket.create_connection(HERE, timeout=60) as sock:
            questions = [ask(name, ident=n) for n, name in enumerate(names)]
            sock.sendall(b"".join(len(each).to_bytes(2, "big") + each for each in questions))
            sock.shutdown(socket.SHUT_WR)
            with sock.makefile("rb") as stream:
                data = stream.read()
        found: dict[int, list[str]] = {}
        while data:
            size = int.from_bytes(data[:2], "big")
            one, data = read(data[2 : 2 + size]), data[2 + size :]
            found[one.id] = one.values
        return found

    expected = {"web": ["10.0.5.2"], "pipe.example": ["192.0.2.12"]}
    assert box.inside(talk) == {n: expected[name] for n, name in enumerate(names)}


def test_a_connection_that_asks_for_more_than_its_share_waits_and_is_answered(bed: Bed) -> None:
    count = 2 * PER_SLICE + 100
    question = ask("web")

    def talk() -> tuple[int, float]:
        begin = time.monotonic()
        with socket.create_connection(HERE, timeout=60) as sock:
            sender = threading.Thread(
                target=sock.sendall, args=[(len(question).to_bytes(2) + question) * count]
            )
            sender.start()
            with sock.makefile("rb") as stream:
                answers = sum(bool(stream.read(int.from_bytes(stream.read(2)))) for _ in range(count))
            sender.join()
        return answers, time.monotonic() - begin

    with guest() as made:
        bed.do(bed.resolver.open("t11", made.pid, MINE))
        answers, seconds = made.inside(talk)
        bed.do(bed.resolver.close("t11"))
    assert answers == count
    assert seconds > SLICE_SECONDS


def test_a_frame_too_long_ends_the_connection(box: Guest) -> None:
    def talk() -> bytes:
        with socket.create_connection(HERE, timeout=60) as sock:
            sock.sendall(b"\xff\xff" + bytes(100))
            try:
                return sock.recv(100)
            except ConnectionResetError:
                return b""

    assert box.inside(talk) == b""


def test_connections_of_one_container_are_bounded_and_give_way_again(bed: Bed) -> None:
    def fill() -> list[bool]:
        made = [socket.create_connection(HERE, timeout=60) for _ in range(40)]
        served = []
        for sock in made:
            question = ask("web")
            try:
                sock.sendall(len(question).to_bytes(2, "big") + question)
                served.append(bool(sock.recv(512)))
            except (ConnectionResetError, BrokenPipeError):
                served.append(False)
        for sock in made:
            sock.close()
        return served

    with guest() as made:
        bed.do(bed.resolver.open("t9", made.pid, MINE))
        assert made.inside(fill).count(True) == 32
        eventually(lambda: made.dig("+tcp", "web") == ["10.0.5.2"], "there is room for a connection again")
        bed.do(bed.resolver.close("t9"))


def test_a_container_that_floods_keeps_nobody_else_waiting(bed: Bed, box: Guest) -> None:
    with guest() as other:
        bed.do(bed.resolver.open("t6", other.pid, MINE))

        def flood() -> int:
            question, sent = ask("web"), 0
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(HERE)
                while not enough.is_set():
                    sock.send(question)
                    sent += 1
            return sent

        enough = threading.Event()
        flooding = threading.Thread(target=lambda: sent.append(other.inside(flood)))
        sent: list[int] = []
        flooding.start()
        try:
            for _ in range(10):
                assert box.dig("web") == ["10.0.5.2"]
        finally:
            enough.set()
            flooding.join()
        assert sent[0] > PER_SLICE
        eventually(lambda: other.dig("web") == ["10.0.5.2"], "the flooder is answered again")
        bed.do(bed.resolver.close("t6"))


def test_garbage_is_survived(box: Guest) -> None:
    def throw() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for size in range(200):
                sock.sendto(bytes((size * 7 + n * 31) & 0x7F for n in range(size)), HERE)

    box.inside(throw)
    assert box.dig("web") == ["10.0.5.2"]


def test_open_again_changes_what_is_seen_and_close_gives_everything_back(bed: Bed) -> None:
    with guest() as made:
        bed.do(bed.resolver.open("t7", made.pid, MINE))
        assert held_of(made.pid) == 2
        bed.do(bed.resolver.open("t7", made.pid, MINE, ("later",)))
        assert held_of(made.pid) == 2
        assert made.dig("later") == ["10.0.5.11"]
        bed.do(bed.resolver.close("t7"))
        eventually(lambda: held_of(made.pid) == 0, "the sockets are closed")
        bed.do(bed.resolver.open("t7", made.pid, MINE))
        assert made.dig("web") == ["10.0.5.2"]
        bed.do(bed.resolver.open("t7", made.pid, ()))
        eventually(lambda: held_of(made.pid) == 0, "without networks there is nothing to answer")


def test_a_container_that_has_ended_is_not_found(bed: Bed) -> None:
    with guest() as made:
        pid = made.pid
    with pytest.raises(NotFound, match="is not there any more"):
        bed.do(bed.resolver.open("t8", pid, MINE))


def test_nothing_went_wrong_unseen(bed: Bed) -> None:
    assert bed.reports == []
