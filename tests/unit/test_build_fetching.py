"""What ADD fetches from elsewhere stays where it was fetched to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.image.build.core.graph import Copy, Origin
from swarmd.model.errors import Invalid, Unavailable
from swarmd.node.building.fetching import Fetcher, Limits


def _repository(path: Path, outside: Path) -> str:
    """One with a directory, and a link to a directory outside of it."""
    (path / "app" / "src").mkdir(parents=True)
    (path / "app" / "src" / "main.py").write_text("print()\n")
    (path / "way").symlink_to(outside)
    who = ["-c", "user.name=Someone", "-c", "user.email=someone@example.org"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], [*who, "commit", "-q", "-m", "All"]):
        subprocess.run(["git", "-C", str(path), *command], check=True, timeout=60)
    return f"file://{path}"


def test_a_directory_of_a_git_repository_is_not_looked_for_behind_its_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "keys").mkdir(parents=True)
    (outside / "keys" / "id").write_text("secret")
    url = _repository(tmp_path / "origin", outside)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    fetcher = Fetcher(scratch)

    with pytest.raises(Invalid, match="has no directory 'way/keys'"):
        asyncio.run(fetcher.get(Origin(where="git", ref=f"{url}#main:way/keys"), Copy()))
    assert (outside / "keys" / "id").read_text() == "secret"

    tree, _ = asyncio.run(fetcher.get(Origin(where="git", ref=f"{url}#main:/app/src/"), Copy()))
    assert list(tree.names("")) == ["main.py"]


@pytest.mark.parametrize("checksum", ["sha256:", "sha256", "crc:12", "sha256:" + "0" * 64])
def test_a_checksum_that_says_nothing_or_something_else_is_not_passed_over(
    tmp_path: Path, checksum: str
) -> None:
    (tmp_path / "file").write_text("content")
    with pytest.raises(Invalid, match=r"invalid checksum|digest mismatch"):
        asyncio.run(
            Fetcher(tmp_path).get(
                Origin(where="url", ref=f"file://{tmp_path}/file"), Copy(destination="/", checksum=checksum)
            )
        )


def test_the_checksum_of_a_git_repository_is_that_of_its_commit(tmp_path: Path) -> None:
    url = _repository(tmp_path / "origin", tmp_path)
    command = ["git", "-C", str(tmp_path / "origin"), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    for number, checksum in enumerate((commit, commit[:12])):
        scratch = tmp_path / f"scratch{number}"
        scratch.mkdir()
        tree, _ = asyncio.run(Fetcher(scratch).get(Origin(where="git", ref=url), Copy(checksum=checksum)))
        assert "app" in tree.names("")
    for number, checksum in enumerate(("0" * 40, commit[:3])):
        scratch = tmp_path / f"refused{number}"
        scratch.mkdir()
        with pytest.raises(Invalid, match="expected checksum to match"):
            asyncio.run(Fetcher(scratch).get(Origin(where="git", ref=url), Copy(checksum=checksum)))


@contextlib.contextmanager
def answering(data: bytes, *, slowly: bool = False) -> Iterator[str]:
    """A server that says ``data`` to whoever asks, and then hangs up, or goes on bit by bit (``slowly``)."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # nobody came
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(data)
            while slowly and not over.wait(0.02):
                connection.sendall(b"x")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/file"
    finally:
        over.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(30)
        listener.close()


def fetched(url: str, scratch: Path, limits: Limits) -> int:
    """Bytes of what ADD brings."""
    step = Copy(destination="/")
    tree, _ = asyncio.run(Fetcher(scratch, limits).get(Origin(where="url", ref=url), step))
    item = tree.look("file")
    assert item is not None
    return item.size


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_file_that_is_longer_than_it_may_be_is_refused(tmp_path: Path) -> None:
    with answering(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 11) as url, pytest.raises(Invalid, match="10 bytes"):
        fetched(url, tmp_path, Limits(most=10))


def test_a_file_that_takes_longer_than_it_may_is_given_up(tmp_path: Path) -> None:
    answer = b"HTTP/1.0 200 OK\r\nContent-Length: 1000000\r\n\r\nx"
    with answering(answer, slowly=True) as url, pytest.raises(Unavailable, match=r"0\.2 seconds"):
        fetched(url, tmp_path, Limits(seconds=0.2))


def test_a_file_that_ends_too_early_is_no_file(tmp_path: Path) -> None:
    answer = b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nx"
    with answering(answer) as url, pytest.raises(Unavailable, match="1 of 100 bytes"):
        fetched(url, tmp_path, Limits())


def test_a_file_within_its_limits_comes(tmp_path: Path) -> None:
    with answering(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 10) as url:
        assert fetched(url, tmp_path, Limits(most=10)) == 10
