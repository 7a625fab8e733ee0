"""What the command line decides for containers: keys that leave, places of a copy, cells of statistics."""

from __future__ import annotations

import stat
from typing import Any

import pytest

from swarmd.cli.commands.container_copy import Place, Target, parse_place, target_of
from swarmd.cli.commands.container_list import container_rows, document, status_text
from swarmd.cli.commands.container_stats import usage_rows
from swarmd.cli.errors import CliError
from swarmd.cli.keys import Escape, parse_keys
from swarmd.rpc.v1 import containers_pb2 as pb

DIRECTORY, FILE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-@", b"\0"),
        ("a,b", b"ab"),
        ("ctrl-[", b"\x1b"),
        ("ctrl-_", b"\x1f"),
    ],
)
def test_keys_are_written_as_docker_writes_them(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["", "ctrl-", "ctrl-1", "ab", "a,,b", "é"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a character or ctrl-X"):
        parse_keys(text)


@pytest.mark.parametrize(
    ("typed", "sent", "left"),
    [
        ([b"abc"], b"abc", False),
        ([b"ab\x10\x11cd"], b"ab", True),
        ([b"ab\x10", b"\x11"], b"ab", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_the_sequence_leaves_and_its_parts_alone_are_typed(
    typed: list[bytes], sent: bytes, left: bool
) -> None:
    escape = Escape(b"\x10\x11")
    out, is_left = b"", False
    for data in typed:
        piece, is_left = escape.feed(data)
        out += piece
    assert (out, is_left) == (sent, left)


def test_without_keys_everything_is_typed() -> None:
    assert Escape(b"").feed(b"\x10\x11") == (b"\x10\x11", False)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("web.1:/etc", Place("web.1", "/etc")),
        ("web.1:", Place("web.1", "/")),
        ("./a:b", Place("", "./a:b")),
        ("/a:b", Place("", "/a:b")),
        ("dir/a:b", Place("", "dir/a:b")),
        ("file", Place("", "file")),
        ("-", Place("", "-")),
    ],
)
def test_a_place_has_a_container_or_is_here(text: str, place: Place) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize(
    ("name", "is_directory", "path", "there", "target"),
    [
        ("f", False, "/x", DIRECTORY, Target("/x")),
        ("f", False, "/x/", DIRECTORY, Target("/x/")),
        ("f", False, "/x/g", FILE, Target("/x", "g")),
        ("f", False, "/x/g", None, Target("/x", "g")),
        ("f", False, "/g", None, Target("/", "g")),
        ("f", False, "g", None, Target(".", "g")),
        ("d", True, "/x", DIRECTORY, Target("/x")),
        ("d", True, "/x/e", None, Target("/x", "e")),
        ("d", True, "/x/e/", None, Target("/x", "e")),
        (".", True, "/x", DIRECTORY, Target("/x")),
    ],
)
def test_a_copy_is_called_as_docker_calls_it(
    name: str, is_directory: bool, path: str, there: int | None, target: Target
) -> None:
    assert target_of(name, is_directory=is_directory, path=path, there=there, parent_exists=True) == target


@pytest.mark.parametrize(
    ("is_directory", "path", "there", "parent_exists", "words"),
    [
        (True, "/f", FILE, True, "cannot copy directory to a file"),
        (False, "/no/", None, True, "no such directory"),
        (False, "/no/f", None, False, "no such directory: /no"),
    ],
)
def test_a_copy_that_has_no_place_is_refused(
    is_directory: bool, path: str, there: int | None, parent_exists: bool, words: str
) -> None:
    with pytest.raises(CliError, match=words):
        target_of("n", is_directory=is_directory, path=path, there=there, parent_exists=parent_exists)


def test_usage_is_shown_in_dockers_cells() -> None:
    usage = pb.ContainerUsage(
        id="a" * 25, name=f"web.1.{'a' * 25}", cpu_percent=12.345, memory=1 << 20, memory_limit=1 << 30,
        pids=3, read_bytes=1000, written_bytes=2_000_000, received_bytes=10, sent_bytes=0,
    )  # fmt: skip
    (row,) = usage_rows([usage], truncate=True)
    assert row == {
        "ID": "a" * 12, "Container": "a" * 12, "Name": f"web.1.{'a' * 12}", "CPUPerc": "12.35%",
        "MemUsage": "1MiB / 1GiB", "MemPerc": "0.10%", "NetIO": "10B / 0B", "BlockIO": "1kB / 2MB",
        "PIDs": "3",
    }  # fmt: skip
    (gone,) = usage_rows([pb.ContainerUsage(id="b", name="b", problem="it has ended")], truncate=False)
    assert (gone["Name"], gone["CPUPerc"], gone["PIDs"]) == ("b", "--", "--")


def a_container(**fields: Any) -> pb.ContainerView:
    fields.setdefault("status", "running")
    return pb.ContainerView(
        id="a" * 25, name="box", image="busybox", command=["sh", "-c", "a long command line"],
        created_at=900.0, started_at=940.0, **fields,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "Up About a minute"),
        ({"health": "healthy"}, "Up About a minute (healthy)"),
        ({"status": "paused"}, "Up About a minute (Paused)"),
        ({"status": "exited", "exit_code": 3, "finished_at": 995.0}, "Exited (3) 5 seconds ago"),
        ({"status": "restarting", "exit_code": 1, "finished_at": 995.0}, "Restarting (1) 5 seconds ago"),
        ({"status": "created"}, "Created"),
    ],
)
def test_a_status_is_said_as_docker_says_it(fields: dict[str, Any], text: str) -> None:
    assert status_text(a_container(**fields), 1000.0) == text


def test_a_list_shows_dockers_cells() -> None:
    (row,) = container_rows([a_container()], 1000.0, truncate=True)
    assert (row["ID"], row["Image"], row["Names"]) == ("a" * 12, "busybox", "box")
    assert (row["Command"], row["RunningFor"]) == ('"sh -c a long comman…"', "About a minute ago")
    (whole,) = container_rows([a_container()], 1000.0, truncate=False)
    assert (whole["ID"], whole["Command"]) == ("a" * 25, '"sh -c a long command line"')


def test_inspect_reaches_into_dockers_names() -> None:
    shown = document(
        pb.GetContainerResponse(
            container=a_container(restarts=2, restart_policy="always"), tty=True, node="n1"
        )
    )
    assert shown["State"]["Status"] == "running"
    assert (shown["State"]["Running"], shown["State"]["FinishedAt"]) == (True, "0001-01-01T00:00:00Z")
    assert (shown["RestartCount"], shown["HostConfig"]["RestartPolicy"]["Name"]) == (2, "always")
    assert (shown["Config"]["Tty"], shown["Node"]["Hostname"]) == (True, "n1")
