"""The file of users of the registry."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from swarmd.daemon.main import main
from swarmd.image.registry.access import Local, hashed, is_right, read_users
from swarmd.image.registry.exchange import Reply, Request
from swarmd.model.errors import Invalid

SALT = bytes(16)


def test_a_password_is_known_by_its_hash_only() -> None:
    stored = hashed("secret", SALT)
    assert "secret" not in stored
    user = read_users(f"ann:{stored}\n", "users")["ann"]
    assert is_right(user, "secret")
    assert not is_right(user, "Secret")
    assert hashed("secret", b"x" * 16) != stored


def test_comments_and_rights() -> None:
    stored = hashed("x", SALT)
    users = read_users(f"# all of us\n\nann:{stored}\nbob:{stored}:pull\n", "users")
    assert {name: user.may_push for name, user in users.items()} == {"ann": True, "bob": False}


@pytest.mark.parametrize(
    "line", ["ann", "ann:", ":x", "ann:secret", "ann:scrypt$zz$00", "ann:scrypt$00$00:push", "ann:$apr1$x$y"]
)
def test_a_line_that_cannot_be_used_is_named(line: str) -> None:
    with pytest.raises(Invalid, match="users, line 2"):
        read_users(f"# x\n{line}\n", "users")


async def answered(request: Request) -> Reply:
    return Reply(200)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:5000", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:5000", 200),
        ("[::1]:5000", 200),
        ("evil.example.com:5000", 403),
        ("localhost.evil.example.com", 403),
        ("", 403),
    ],
)
async def test_on_loopback_only_those_who_call_it_so_are_answered(host: str, status: int) -> None:
    headers = {"host": host} if host else {}
    reply = await Local(answered)(Request(method="GET", path="/v2/", headers=headers))
    assert reply.status == status


@pytest.mark.parametrize("flags", [[], ["--pull-only"]])
def test_the_daemon_prints_the_line_for_a_user(flags: list[str]) -> None:
    done = CliRunner().invoke(main, ["registry-user", "ann", "--password-stdin", *flags], input="secret\n")
    assert done.exit_code == 0, done.output
    user = read_users(done.output, "users")["ann"]
    assert is_right(user, "secret")
    assert user.may_push is not bool(flags)


@pytest.mark.parametrize("name", ["a:b", "a b", "#a", ""])
def test_a_name_that_would_break_the_file_is_refused(name: str) -> None:
    done = CliRunner().invoke(main, ["registry-user", name, "--password-stdin"], input="secret\n")
    assert done.exit_code != 0
