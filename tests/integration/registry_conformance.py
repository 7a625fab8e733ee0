"""What the conformance suite of the OCI distribution specification asks of a registry, asked by us.

The same calls with the same kinds of data: every way to upload, with SHA-256 and SHA-512; ranges; every kind
of manifest, pushed by digest, tag and tag parameter; lists, referrers, deletion in the suite's order.  It
covers what the suite asks in its modes 1.0, 1.1 and dev; a registry that declines an option fails here.

    python -m tests.integration.registry_conformance http://localhost:5000
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urljoin

import msgspec

from tests.integration.registry_sets import INDEX, MANIFEST, SETS, Set, an_image, digest_of

BYTES = "application/octet-stream"
PARTS = (("500-1499", 500, 1500), ("500-", 500, 2048), ("-500", 1548, 2048), ("2000-5000", 2000, 2048))


class Answer(msgspec.Struct):
    status: int
    headers: Any
    body: bytes
    url: str

    def location(self) -> str:
        return urljoin(self.url, self.headers["Location"])


class Failed(AssertionError):
    """One thing that is not as it must be."""


class _AsIs(urllib.request.HTTPErrorProcessor):
    def http_response(self, request: Any, response: Any) -> Any:
        return response


class Conversation:
    """Calls to one registry; every check counts."""

    def __init__(self, base: str) -> None:
        self.base, self.checks = base, 0
        self._opener = urllib.request.build_opener(_AsIs, urllib.request.ProxyHandler({}))

    def ask(
        self, method: str, url: str, body: bytes | None = None, expect: tuple[int, ...] = (), **headers: str
    ) -> Answer:
        url = urljoin(self.base, url)
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        named.setdefault("Content-Type", BYTES)
        request = urllib.request.Request(url, body, named, method=method)
        with self._opener.open(request, timeout=60) as response:
            answer = Answer(response.status, response.headers, response.read(), url)
        self.check(
            not expect or answer.status in expect, f"{method} {url}: {answer.status} {answer.body!r:.300}"
        )
        return answer

    def check(self, is_so: bool, what: str) -> None:
        self.checks += 1
        if not is_so:
            raise Failed(what)


def with_query(url: str, **query: str) -> str:
    joint = "&" if "?" in url else "?"
    return url + joint + "&".join(f"{key}={value}" for key, value in query.items())


class Suite:
    """``repo`` and ``other``: repositories that are empty."""

    def __init__(self, base: str, mark: str) -> None:
        self.talk = Conversation(base)
        self.repo, self.other = f"conformance/{mark}-one", f"conformance/{mark}-two"

    def run(self) -> int:
        """The number of checks; raises :class:`Failed`."""
        ask, check = self.talk.ask, self.talk.check
        ask("GET", "/v2/", expect=(200,))
        ask("GET", f"/v2/{self.repo}/tags/list", expect=(200, 404))
        found = json.loads(ask("GET", f"/v2/{self.repo}/referrers/{digest_of(b'x')}", expect=(200,)).body)
        check((found["mediaType"], found["schemaVersion"]) == (INDEX, 2), "an empty list of referrers")
        for algorithm in ("sha256", "sha512"):
            self.blobs(algorithm)
            self.ranges(algorithm)
        for name, make in SETS.items():
            self.data(name, make())
        self.errors()
        return self.talk.checks

    # blobs

    def blobs(self, algorithm: str) -> None:
        for way in WAYS:
            data = os.urandom(3067 if "pieces" in way.__name__ else 512)
            digest = digest_of(data, algorithm)
            self.there(self.repo, digest, None)
            location = way(self, data, digest)
            self.talk.check(self.talk.ask("GET", location).body == data, f"{way.__name__}: its location")
            self.there(self.repo, digest, data)
            self.gone(self.repo, digest)
        for data in (b"", b"{}"):
            digest = digest_of(data, algorithm)
            single(self, data, digest)
            self.there(self.repo, digest, data)
            self.gone(self.repo, digest)
        for way in (single, post_and_put, stream, in_pieces, in_pieces_to_the_end):
            data = os.urandom(3067)
            try:
                way(self, data + b"oh no", digest_of(data, algorithm))
            except Failed as failed:
                self.talk.check("DIGEST_INVALID" in str(failed), f"{way.__name__}: a wrong digest: {failed}")
            else:
                raise Failed(f"{way.__name__}: a wrong digest was taken")
        self.mounts(algorithm)
        location = self.begin()
        self.talk.ask("DELETE", location, expect=(204,))
        self.talk.ask("GET", location, expect=(404,))

    def mounts(self, algorithm: str) -> None:
        for source in (f"&from={self.other}", ""):
            data = os.urandom(512)
            digest = digest_of(data, algorithm)
            single(self, data, digest, repo=self.other)
            answer = self.talk.ask(
                "POST", f"/v2/{self.repo}/blobs/uploads/?mount={digest}{source}", b"", expect=(201,)
            )
            self.talk.check(answer.headers["Docker-Content-Digest"] == digest, "the digest of a mount")
            self.talk.check(self.talk.ask("GET", answer.location()).body == data, "the location of a mount")
            self.there(self.repo, digest, data)
            self.gone(self.repo, digest)
            self.gone(self.other, digest)
        data = os.urandom(512)
        digest = digest_of(data, algorithm)
        target = f"/v2/{self.repo}/blobs/uploads/?mount={digest}&from={self.other}"
        location = self.talk.ask("POST", target, b"", expect=(202,)).location()
        self.talk.ask("PUT", with_query(location, digest=digest), data, expect=(201,))
        self.gone(self.repo, digest)

    def begin(self, repo: str = "") -> str:
        return self.talk.ask("POST", f"/v2/{repo or self.repo}/blobs/uploads/", b"", expect=(202,)).location()

    def there(self, repo: str, digest: str, data: bytes | None) -> None:
        """A blob is there with that content; None: it is not."""
        path, status = f"/v2/{repo}/blobs/{digest}", 404 if data is None else 200
        head, got = (
            self.talk.ask("HEAD", path, expect=(status,)),
            self.talk.ask("GET", path, expect=(status,)),
        )
        if data is not None:
            for answer in (head, got):
                self.talk.check(answer.headers["Content-Length"] == str(len(data)), f"the length of {digest}")
                self.talk.check(answer.headers["Docker-Content-Digest"] == digest, f"the digest of {digest}")
            self.talk.check((head.body, got.body) == (b"", data), f"the content of {digest}")

    def gone(self, repo: str, digest: str) -> None:
        self.talk.ask("DELETE", f"/v2/{repo}/blobs/{digest}", expect=(202, 404))
        self.talk.ask("HEAD", f"/v2/{repo}/blobs/{digest}", expect=(404,))

    def ranges(self, algorithm: str) -> None:
        data = os.urandom(2048)
        digest = digest_of(data, algorithm)
        single(self, data, digest)
        path = f"/v2/{self.repo}/blobs/{digest}"
        for asked, first, end in PARTS:
            got = self.talk.ask("GET", path, expect=(206,), Range=f"bytes={asked}")
            shown = f"bytes {first}-{end - 1}/2048"
            self.talk.check((got.body, got.headers["Content-Range"]) == (data[first:end], shown), asked)
            self.talk.check(got.headers["Content-Length"] == str(end - first), asked)
        for asked in ("500-0", "5000-10000"):
            self.talk.ask("GET", path, expect=(416,), Range=f"bytes={asked}")
        self.gone(self.repo, digest)

    # manifests

    def data(self, name: str, pushed: Set) -> None:
        """Push, list, look, pull, referrers, delete: as the suite does with each of its sets."""
        for data in pushed.blobs:
            single(self, data, digest_of(data, pushed.algorithm))
        for raw in pushed.manifests:
            self.push(raw, digest_of(raw, pushed.algorithm), pushed)
        if not pushed.by_parameter:
            for tag, raw in pushed.tags.items():
                self.push(raw, tag, pushed)
        self.look(name, pushed)
        self.referrers(name, pushed)
        for tag in pushed.tags:
            self.talk.ask("DELETE", f"/v2/{self.repo}/manifests/{tag}", expect=(202,))
            self.talk.ask("HEAD", f"/v2/{self.repo}/manifests/{tag}", expect=(404,))
        for raw in reversed(pushed.manifests):
            path = f"/v2/{self.repo}/manifests/{digest_of(raw, pushed.algorithm)}"
            self.talk.ask("DELETE", path, expect=(202,))
            self.talk.ask("HEAD", path, expect=(404,))
        for data in pushed.blobs:
            self.gone(self.repo, digest_of(data, pushed.algorithm))

    def push(self, raw: bytes, reference: str, pushed: Set) -> None:
        document, path = json.loads(raw), f"/v2/{self.repo}/manifests/{reference}"
        tags = [tag for tag, each in pushed.tags.items() if each == raw and pushed.by_parameter]
        target = path + ("?" + "&".join(f"tag={tag}" for tag in tags) if tags else "")
        kind = document["mediaType"]
        answer = self.talk.ask("PUT", target, raw, expect=(201,), Content_Type=kind)
        if "subject" in document:
            subject = document["subject"]["digest"]
            self.talk.check(answer.headers["OCI-Subject"] == subject, "OCI-Subject")
        if tags:
            self.talk.check(sorted(answer.headers.get_all("OCI-Tag")) == sorted(tags), f"OCI-Tag {tags}")
        got = self.talk.ask("GET", answer.location(), expect=(200,), Accept=f"{INDEX}, {MANIFEST}")
        self.talk.check((got.body, got.headers["Content-Type"]) == (raw, kind), "the manifest's location")

    def look(self, name: str, pushed: Set) -> None:
        listed = json.loads(self.talk.ask("GET", f"/v2/{self.repo}/tags/list", expect=(200,)).body)["tags"]
        self.talk.check(
            set(pushed.tags) <= set(listed) and listed == sorted(listed), f"{name}: tags {listed}"
        )
        for end in range(1, len(listed)):
            rest = self.talk.ask("GET", f"/v2/{self.repo}/tags/list?last={listed[end - 1]}", expect=(200,))
            self.talk.check(json.loads(rest.body)["tags"] == listed[end:], f"{name}: tags after a tag")
        known = {digest_of(raw, pushed.algorithm): raw for raw in pushed.manifests}
        for reference, raw in (known | pushed.tags).items():
            path = f"/v2/{self.repo}/manifests/{reference}"
            head, got = self.talk.ask("HEAD", path, expect=(200,)), self.talk.ask("GET", path, expect=(200,))
            for answer in (head, got):
                shown = {
                    key: answer.headers[key]
                    for key in ("Content-Length", "Docker-Content-Digest", "Content-Type")
                }
                wanted = (str(len(raw)), digest_of(raw, pushed.algorithm), json.loads(raw)["mediaType"])
                self.talk.check(tuple(shown.values()) == wanted, f"{name}: {shown}")
            self.talk.check((head.body, got.body) == (b"", raw), f"{name}: the manifest {reference}")
        for data in pushed.blobs:
            self.there(self.repo, digest_of(data, pushed.algorithm), data)

    def referrers(self, name: str, pushed: Set) -> None:
        about: dict[str, list[dict[str, Any]]] = {}
        for raw in pushed.manifests:
            document = json.loads(raw)
            if "subject" not in document:
                continue
            kind = document.get("artifactType") or document.get("config", {}).get("mediaType", "")
            found = {"mediaType": document["mediaType"], "digest": digest_of(raw), "size": len(raw)}
            found |= {"artifactType": kind} | {
                key: document[key] for key in ("annotations",) if key in document
            }
            about.setdefault(document["subject"]["digest"], []).append(found)
        for subject, wanted in about.items():
            path = f"/v2/{self.repo}/referrers/{subject}"
            answer = self.talk.ask("GET", path, expect=(200,))
            got = json.loads(answer.body)
            self.talk.check(answer.headers["Content-Type"] == got["mediaType"] == INDEX, f"{name}: an index")
            self.talk.check(_sorted(got["manifests"]) == _sorted(wanted), f"{name}: referrers {got}")
            for kind in {each["artifactType"] for each in wanted}:
                answer = self.talk.ask("GET", f"{path}?{urlencode({'artifactType': kind})}", expect=(200,))
                self.talk.check("artifactType" in answer.headers["OCI-Filters-Applied"], f"{name}: filter")
                only = [each for each in wanted if each["artifactType"] == kind]
                self.talk.check(
                    _sorted(json.loads(answer.body)["manifests"]) == _sorted(only), f"{name}: {kind}"
                )

    def errors(self) -> None:
        ask = self.talk.ask
        ask("GET", f"/v2/{self.repo}/manifests/{digest_of(os.urandom(9))}", expect=(404,))
        ask("GET", f"/v2/{self.repo}/manifests/missing-{os.urandom(9).hex()}", expect=(404,))
        pushed = an_image()
        for data in pushed.blobs:
            single(self, data, digest_of(data))
        raw = pushed.manifests[0]
        bad = f"/v2/{self.repo}/manifests/sha256:baddigeststring"
        ask("PUT", bad, raw, expect=(400,), Content_Type=MANIFEST)
        ask("GET", bad, expect=(400, 404))
        path = f"/v2/{self.repo}/manifests/{digest_of(raw)}"
        ask("PUT", path, raw + b"  ", expect=(400,), Content_Type=MANIFEST)
        for data in pushed.blobs:
            self.gone(self.repo, digest_of(data))


def _sorted(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(entries, key=lambda each: str(each["digest"]))


# ways to upload; each answers the location of the blob


def single(suite: Suite, data: bytes, digest: str, repo: str = "") -> str:
    target = f"/v2/{repo or suite.repo}/blobs/uploads/?digest={digest}"
    return _stored(suite, suite.talk.ask("POST", target, data, expect=(201,)), digest)


def post_and_put(suite: Suite, data: bytes, digest: str) -> str:
    target = with_query(suite.begin(), digest=digest)
    return _stored(suite, suite.talk.ask("PUT", target, data, expect=(201,)), digest)


def stream(suite: Suite, data: bytes, digest: str) -> str:
    location = suite.talk.ask("PATCH", suite.begin(), data, expect=(202,)).location()
    target = with_query(location, digest=digest)
    return _stored(suite, suite.talk.ask("PUT", target, b"", expect=(201,)), digest)


def in_pieces(suite: Suite, data: bytes, digest: str) -> str:
    return _pieces(suite, data, digest, last_by_put=False, out_of_order=False)


def in_pieces_to_the_end(suite: Suite, data: bytes, digest: str) -> str:
    return _pieces(suite, data, digest, last_by_put=True, out_of_order=False)


def in_pieces_out_of_order(suite: Suite, data: bytes, digest: str) -> str:
    return _pieces(suite, data, digest, last_by_put=False, out_of_order=True)


def in_pieces_out_of_order_to_the_end(suite: Suite, data: bytes, digest: str) -> str:
    return _pieces(suite, data, digest, last_by_put=True, out_of_order=True)


def _pieces(suite: Suite, data: bytes, digest: str, *, last_by_put: bool, out_of_order: bool) -> str:
    location, size = suite.begin(), 1024
    ask = suite.talk.ask
    for first in range(0, len(data), size):
        last = min(first + size, len(data)) - 1
        if out_of_order:
            wrong = first + size if first + size < len(data) else 0
            ends = min(wrong + size, len(data))
            put = last_by_put and ends == len(data)
            where = with_query(location, digest=digest) if put else location
            piece = f"{wrong}-{ends - 1}"
            ask("PUT" if put else "PATCH", where, data[wrong:ends], expect=(416,), Content_Range=piece)
            status = ask("GET", location, expect=(204,))
            suite.talk.check(
                status.headers["Range"] == f"0-{max(0, first - 1)}", "what of an upload is there"
            )
            location = status.location()
        if last_by_put and last == len(data) - 1:
            target = with_query(location, digest=digest)
            answer = ask("PUT", target, data[first:], expect=(201,), Content_Range=f"{first}-{last}")
            return _stored(suite, answer, digest)
        answer = ask(
            "PATCH", location, data[first : last + 1], expect=(202,), Content_Range=f"{first}-{last}"
        )
        suite.talk.check(answer.headers["Range"] == f"0-{last}", "what of an upload is there")
        location = answer.location()
    return _stored(suite, ask("PUT", with_query(location, digest=digest), b"", expect=(201,)), digest)


def _stored(suite: Suite, answer: Answer, digest: str) -> str:
    suite.talk.check(answer.headers["Docker-Content-Digest"] == digest, "the digest of an upload")
    return answer.location()


WAYS: tuple[Callable[[Suite, bytes, str], str], ...] = (
    single, post_and_put, stream, in_pieces, in_pieces_to_the_end, in_pieces_out_of_order,
    in_pieces_out_of_order_to_the_end,
)  # fmt: skip


if __name__ == "__main__":
    print(f"{Suite(sys.argv[1], os.urandom(4).hex()).run()} checks, all as they must be")
