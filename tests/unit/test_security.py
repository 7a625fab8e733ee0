"""Certificates say who one is; tokens say which swarm and which role."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.model.errors import Denied, Invalid
from swarmd.model.states import Role
from swarmd.security import ca, roots, tokens
from swarmd.security.identity import Credentials, IdentityStore

NOW = 1_800_000_000.0


def issue(role: Role = Role.WORKER) -> tuple[Credentials, bytes]:
    root, root_key = ca.new_root(NOW)
    key = ca.new_key()
    identity = ca.Identity("node1", role, "cluster1")
    cert = ca.sign(ca.new_request(key), identity, root_pem=root, root_key_pem=root_key, now=NOW, life=7200)
    return Credentials(key=key, certificate=cert, root=root), root_key


def test_a_certificate_names_node_role_and_cluster() -> None:
    credentials, _ = issue(Role.MANAGER)
    assert credentials.identity == ca.Identity("node1", Role.MANAGER, "cluster1")
    assert ca.validity(credentials.certificate) == (NOW - 3600, NOW + 7200)


def test_another_swarms_root_did_not_sign_it() -> None:
    credentials, _ = issue()
    other, _ = ca.new_root(NOW)
    assert roots.leads_to(credentials.certificate, credentials.root)
    assert not roots.leads_to(credentials.certificate, other)


def test_a_certificate_that_is_no_nodes_is_denied() -> None:
    root, _ = ca.new_root(NOW)
    with pytest.raises(Denied):
        ca.identity_of(root)


@pytest.mark.parametrize("garbage", [b"", b"hello", b"-----BEGIN CERTIFICATE REQUEST-----\nxx\n"])
def test_a_request_that_cannot_be_read_is_refused(garbage: bytes) -> None:
    root, key = ca.new_root(NOW)
    with pytest.raises(Invalid):
        ca.sign(garbage, ca.Identity("n", Role.WORKER, "c"), root_pem=root, root_key_pem=key, now=NOW, life=1)


def test_a_token_carries_digest_and_secret_and_comes_back() -> None:
    root, _ = ca.new_root(NOW)
    text = tokens.make_token(root, "a" * 25)
    parsed = tokens.parse_token(text)
    assert text.startswith("SWMTKN-1-")
    assert parsed == tokens.TokenText(tokens.ca_digest(root), "a" * 25)


@pytest.mark.parametrize(
    "text", ["", "notatoken", "SWMTKN-1-abc-def", "SWMTKN-2-" + "a" * 50 + "-" + "b" * 25]
)
def test_what_is_no_token_is_called_invalid(text: str) -> None:
    with pytest.raises(Invalid, match="invalid join token"):
        tokens.parse_token(text)


def test_an_empty_secret_opens_nothing() -> None:
    assert not tokens.same_secret("", "")
    assert tokens.same_secret("abc", "abc")


def test_identity_survives_a_crash_between_the_renames(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path / "identity")
    assert store.load() is None
    credentials, _ = issue()
    store.save(credentials)
    (tmp_path / "identity").rename(tmp_path / "identity.old")
    assert store.load() == credentials
    assert (tmp_path / "identity" / "node.key").stat().st_mode & 0o777 == 0o600
