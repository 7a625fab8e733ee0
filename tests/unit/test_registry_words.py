"""The pure parts of the way to registries: names, challenges, tokens, headers, refusals, documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swarmd.image.registry.core import auth, documents, errors, headers, names
from swarmd.image.registry.core.auth import Credential, Tokens
from swarmd.image.registry.core.challenge import Challenge, challenges, chosen
from swarmd.image.registry.core.documents import Entry, Wanted
from swarmd.image.registry.core.names import Settings
from swarmd.model.errors import Denied, Invalid, NotFound, Unavailable
from swarmd.model.image_ref import parse
from tests.unit.registry_shelf import image

HUB = "auth.docker.io"


@pytest.mark.parametrize(
    ("host", "listed", "expected"),
    [
        ("localhost:5000", (), True),
        ("127.0.0.9:80", (), True),
        ("[::1]:5000", (), True),
        ("registry.example.com", (), False),
        ("registry.example.com:443", ("registry.example.com",), True),
        ("10.1.2.3:5000", ("10.1.0.0/16",), True),
        ("10.2.2.3:5000", ("10.1.0.0/16",), False),
        ("localhost.example.com", (), False),
    ],
)
def test_only_loopback_and_listed_hosts_may_do_without_a_good_certificate(
    host: str, listed: tuple[str, ...], expected: bool
) -> None:
    assert names.is_insecure(host, listed) is expected


def test_mirrors_come_before_the_host_and_are_told_for_whom_they_stand() -> None:
    settings = Settings(mirrors={"docker.io": ("localhost:5000", "https://mirror.example.com/cache")})
    found = names.places(parse("nginx"), settings)
    urls = [place.url(place.ways[0], "manifests/latest") for place in found]
    assert urls == [
        "https://localhost:5000/v2/library/nginx/manifests/latest?ns=docker.io",
        "https://mirror.example.com/v2/cache/library/nginx/manifests/latest?ns=docker.io",
        "https://registry-1.docker.io/v2/library/nginx/manifests/latest",
    ]


def test_a_mirror_that_is_no_address_is_refused_with_its_name() -> None:
    with pytest.raises(Invalid, match="ftp://x"):
        names.places(parse("nginx"), Settings(mirrors={"docker.io": ("ftp://x",)}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Bearer realm="https://a/t",service="s",scope="repository:a:pull,push"',
         [("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a:pull,push"})]),
        ('Basic realm="x, y", Bearer realm="z"', [("basic", {"realm": "x, y"}), ("bearer", {"realm": "z"})]),
        (r'basic REALM="a \"b\""', [("basic", {"realm": 'a "b"'})]),
        ("Negotiate, Basic realm=plain", [("negotiate", {}), ("basic", {"realm": "plain"})]),
        ("", []),
        ('="', []),
    ],
)  # fmt: skip
def test_a_challenge_is_read_as_it_was_meant(text: str, expected: list[Any]) -> None:
    assert [(each.scheme, each.values) for each in challenges([text])] == expected


def test_a_token_is_asked_for_before_a_password_is_sent() -> None:
    found = chosen(challenges(['Basic realm="x"', 'Bearer realm="https://t"']))
    assert found is not None
    assert found.scheme == "bearer"
    assert chosen(challenges(["Bearer service=x", "Digest a=b"])) is None


def test_a_token_request_says_who_for_what_and_keeps_commas() -> None:
    challenge = Challenge("bearer", {"realm": f"https://{HUB}/token", "service": "registry"})
    scopes = frozenset({"repository:a/b:pull,push", "repository:c:pull"})
    request = auth.token_request(challenge, scopes, Credential("anna", "secret"))
    assert request.url == (
        f"https://{HUB}/token?service=registry&scope=repository:a/b:pull,push&scope=repository:c:pull&account=anna"
    )
    assert request.authorization.startswith("Basic ")


def test_an_identity_token_is_posted_and_never_part_of_an_address() -> None:
    challenge = Challenge("bearer", {"realm": f"https://{HUB}/token", "service": "registry"})
    request = auth.token_request(challenge, frozenset({"repository:a:pull"}), Credential(identity_token="it"))
    assert request.url == f"https://{HUB}/token"
    assert request.body is not None
    assert b"grant_type=refresh_token" in request.body
    assert b"refresh_token=it" in request.body


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "/token", "gopher://x"])
def test_a_token_server_must_have_an_address(realm: str) -> None:
    with pytest.raises(Invalid):
        auth.token_request(Challenge("bearer", {"realm": realm}), frozenset(), None)


def test_a_password_never_leaves_a_secure_registry_for_a_plain_token_server() -> None:
    challenge = Challenge("bearer", {"realm": "http://elsewhere/token"})
    request = auth.token_request(challenge, frozenset(), Credential("anna", "secret"))
    with pytest.raises(Denied, match="elsewhere"):
        auth.may_tell(request, secure=True, insecure_host=False)
    auth.may_tell(request, secure=True, insecure_host=True)
    auth.may_tell(auth.token_request(challenge, frozenset(), None), secure=True, insecure_host=False)


def test_a_token_is_good_for_what_it_was_asked_for_until_it_ends() -> None:
    tokens, wide = Tokens(), frozenset({"repository:a:pull,push"})
    tokens.add(auth.read_token(b'{"token":"t1","expires_in":300}', wide, now=0.0, monotonic=100.0))
    assert tokens.find(["repository:a:pull"], 101.0) is not None
    assert tokens.find(["repository:b:pull"], 101.0) is None
    assert tokens.find(["repository:a:pull"], 100.0 + 300.0 - auth.MARGIN + 1) is None


def test_a_token_lives_for_a_minute_at_least_whatever_clocks_say() -> None:
    raw = b'{"access_token":"t","expires_in":1,"issued_at":"2001-01-01T00:00:00.123456789Z"}'
    token = auth.read_token(raw, frozenset(), now=2e9, monotonic=0.0)
    assert token.text == "t"
    assert token.until > 20.0


@pytest.mark.parametrize("raw", [b"{}", b"[]", b"no", b'{"token":"a\\r\\nHost: x"}'])
def test_what_is_no_token_is_not_used(raw: bytes) -> None:
    with pytest.raises(Invalid):
        auth.read_token(raw, frozenset(), now=0.0, monotonic=0.0)


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        (['</v2/a/tags/list?n=1&last=b>; rel="next"'], "https://r/v2/a/tags/list?n=1&last=b"),
        (["<x>; rel=prev, <y?last=1>; rel=next"], "https://r/v2/a/tags/y?last=1"),
        (['<x>; title="next"'], ""),
        ([], ""),
    ],
)
def test_the_next_page_is_found_in_links(links: list[str], expected: str) -> None:
    assert headers.next_page(links, "https://r/v2/a/tags/list") == expected


def test_ranges_say_how_much_of_an_upload_arrived() -> None:
    assert [headers.received(text) for text in ("0-9", "bytes=0-9", "0-0", "", "5-9")] == [10, 10, 0, 0, 0]
    assert headers.begins_at("bytes 5-9/10") == 5
    assert headers.begins_at("bytes 5-9/*") == 5
    assert headers.begins_at("nonsense") is None


def test_a_wait_is_read_as_seconds_or_as_a_date() -> None:
    assert headers.seconds_until("7", 0.0) == 7.0
    assert headers.seconds_until("Thu, 01 Jan 1970 00:01:40 GMT", 90.0) == 10.0
    assert headers.seconds_until("soon", 0.0) is None


def test_warnings_and_allowances_are_told_in_words() -> None:
    assert headers.warnings(['299 - "your \\"quota\\" is low"', '110 - "stale"']) == ('your "quota" is low',)
    assert headers.quota("100;w=21600", "7;w=21600") == "7 of 100 pulls in 6 h left"
    assert headers.quota("", "7") == ""


def _body(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def test_refusals_are_said_as_docker_says_them() -> None:
    missing = errors.manifest_failure(
        404, _body("MANIFEST_UNKNOWN", "manifest unknown"), "localhost:5000/a:1"
    )
    assert isinstance(missing, NotFound)
    assert str(missing) == "manifest for localhost:5000/a:1 not found: manifest unknown: manifest unknown"
    denied = errors.manifest_failure(403, _body("DENIED", "no"), "a/b:1")
    assert isinstance(denied, Denied)
    assert str(denied).startswith("pull access denied for a/b, repository does not exist or may require")
    busy = errors.failure(429, b"", more="0 of 100 pulls in 6 h left")
    assert isinstance(busy, Unavailable)
    assert str(busy) == "toomanyrequests: too many requests (0 of 100 pulls in 6 h left)"
    assert "418" in str(errors.failure(418, b"<html>"))


OCI, LIST = documents.OCI_MANIFEST, documents.DOCKER_LIST


@pytest.mark.parametrize(
    ("document", "content_type", "said"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, "application/x.manifest.v1+json", "schema 1"),
        ({"schemaVersion": 2, "manifests": [], "layers": []}, OCI, "or both"),
        ({"schemaVersion": 2}, OCI, "neither"),
        ({"schemaVersion": 2, "manifests": []}, OCI, "is none"),
        ({"schemaVersion": 2, "mediaType": LIST, "layers": [], "config": {}}, OCI, "is none"),
        ({"schemaVersion": 2, "mediaType": OCI, "layers": []}, documents.DOCKER_MANIFEST, "registry says"),
    ],
)  # fmt: skip
def test_a_document_that_is_two_things_at_once_is_refused(
    document: dict[str, Any], content_type: str, said: str
) -> None:
    with pytest.raises(Invalid, match=said):
        documents.read_document(json.dumps(document).encode(), content_type)


def test_a_document_is_what_its_digest_says_or_refused() -> None:
    raw, _ = image(b"layer")
    digest = documents.digest_of(raw)
    assert documents.read_document(raw, OCI, expected=digest).digest == digest
    assert documents.read_document(raw, OCI, told=documents.digest_of(raw, "sha512")).digest.startswith(
        "sha512:"
    )
    with pytest.raises(Invalid, match="not what was asked for"):
        documents.read_document(raw, OCI, expected=documents.digest_of(b"x"))
    with pytest.raises(Invalid, match="not known"):
        documents.read_document(raw, OCI, told="md5:00")


def _entry(arch: str, variant: str = "", system: str = "linux", **more: Any) -> dict[str, Any]:
    platform = {"architecture": arch, "os": system, **({"variant": variant} if variant else {})}
    name = f"{system}-{arch}-{variant}"
    return {"mediaType": OCI, "digest": name, "size": 1, "platform": platform, **more}


ENTRIES = documents.read_entries(
    json.dumps(
        {
            "manifests": [
                _entry("unknown", system="unknown"),
                _entry("amd64", system="windows"),
                _entry("amd64"),
                _entry("arm", "v6"),
                _entry("arm", "v7"),
                _entry("arm64", "v8"),
            ]
        }
    ).encode()
)


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("", "linux-amd64-"),
        ("linux/arm64", "linux-arm64-v8"),
        ("arm64/v8", "linux-arm64-v8"),
        ("linux/arm/v7", "linux-arm-v7"),
        ("linux/arm/v8", "linux-arm-v7"),
        ("linux/arm/v6", "linux-arm-v6"),
        ("linux/arm/v5", None),
        ("windows/amd64", "windows-amd64-"),
        ("linux/riscv64", None),
    ],
)
def test_the_manifest_of_the_platform_is_chosen(text: str, digest: str | None) -> None:
    wanted = documents.read_wanted(text, Wanted())
    if digest is None:
        with pytest.raises(NotFound, match="no matching manifest for"):
            documents.choose(ENTRIES, wanted)
    else:
        assert documents.choose(ENTRIES, wanted).digest == digest


def test_an_attestation_is_never_taken_for_the_image() -> None:
    about = {"vnd.docker.reference.type": "attestation-manifest"}
    with pytest.raises(NotFound):
        documents.choose((Entry("sha256:a", 1, annotations=about),), Wanted())


@pytest.mark.parametrize("text", ["linux/", "a/b/c/d", "linux/am d"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        documents.read_wanted(text, Wanted())


def test_an_image_can_be_said_in_dockers_words_unless_it_is_zstd() -> None:
    raw, _ = image(b"layer")
    other = documents.as_docker(raw)
    assert other is not None
    assert documents.media_type_of(other) == documents.DOCKER_MANIFEST
    assert json.loads(other)["layers"][0]["mediaType"].endswith("rootfs.diff.tar.gzip")
    assert documents.as_docker(raw.replace(b"tar+gzip", b"tar+zstd")) is None
