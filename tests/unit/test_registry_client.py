"""Pulls from a registry that does what the test tells it, over real HTTP on loopback."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.image.registry.core import documents
from swarmd.image.registry.core.auth import Credential
from swarmd.image.registry.core.documents import digest_of
from swarmd.image.registry.core.names import Settings
from swarmd.model.errors import Denied, Invalid, NotFound, Unavailable
from tests.unit.registry_bench import LAYER, Bench, benched, blob_asked
from tests.unit.registry_shelf import LeapingClock, descriptor
from tests.unit.scripted_registry import Answer, Asked, Holding, registry

ANNA = Credential("anna", "secret")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with benched(Holding(), tmp_path) as made:
        yield made


# -- what is to be ---------------------------------------------------------------------------------


async def test_a_pull_brings_manifest_and_blobs_and_says_so_as_docker_does(bench: Bench) -> None:
    manifest = bench.publish(LAYER, b"second")
    assert await bench.pull() == digest_of(manifest)
    assert bench.said[0] == "1: Pulling from app"
    assert bench.said[-2:] == [
        f"Digest: {digest_of(manifest)}",
        f"Status: Downloaded newer image for {bench.name('app:1')}",
    ]
    assert sum(line.endswith(": Pull complete") for line in bench.said) == 2
    bench.said.clear()
    await bench.pull()
    assert bench.said[-1].startswith("Status: Image is up to date")
    assert sum(line.endswith(": Already exists") for line in bench.said) == 2


async def test_the_platforms_manifest_is_taken_out_of_an_index_which_is_kept(bench: Bench) -> None:
    ours = bench.publish(b"amd64 layer", tag="none")
    other = bench.publish(b"arm64 layer", tag="none", arch="arm64")
    entries = [
        descriptor(raw, documents.OCI_MANIFEST, platform={"os": "linux", "architecture": arch})
        for raw, arch in ((other, "arm64"), (ours, "amd64"))
    ]
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    bench.holding.manifests["multi"] = (documents.OCI_INDEX, index)
    assert await bench.pull("app:multi", platform="linux/amd64") == digest_of(ours)
    assert bench.shelf.indexes == [index]
    assert bench.said[-2] == f"Digest: {digest_of(index)}"
    assert await bench.pull("app:multi", platform="linux/arm64") == digest_of(other)
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x"):
        await bench.pull("app:multi", platform="linux/s390x")


async def test_a_single_image_of_another_platform_is_not_taken_for_the_one_asked_for(bench: Bench) -> None:
    bench.publish(LAYER, arch="arm64")
    with pytest.raises(NotFound, match="does not match the specified platform"):
        await bench.pull(platform="linux/amd64")


async def test_a_mirror_that_fails_is_passed_over_and_one_that_answers_is_enough(bench: Bench) -> None:
    manifest = bench.publish(LAYER)
    bench.settings = Settings(mirrors={"docker.io": ("127.0.0.1:1", bench.there.host)})
    client = bench.new_client()
    info = await client.pull("docker.io/library/app:1", progress=bench.listen)
    await client.close()
    assert info.digest == digest_of(manifest)
    assert any(line.startswith("Mirror 127.0.0.1:1 is passed over") for line in bench.said)
    assert "ns=docker.io" in bench.there.seen("GET")[-1]


async def test_a_broken_download_goes_on_where_it_was(bench: Bench) -> None:
    bench.publish(LAYER)
    cuts = iter([100, 900])

    def cut(asked: Asked) -> Answer | None:
        whole = bench.holding(asked)
        if not blob_asked(asked) or len(whole.body) < 1000 or (at := next(cuts, None)) is None:
            return None
        return whole._replace(body=whole.body[:at], length=len(whole.body), cut=True)

    bench.misbehave(cut)
    await bench.pull()
    ranges = [one.headers.get("range", "") for one in bench.there.asked if blob_asked(one)]
    assert [one.partition("-")[0] for one in ranges if one] == ["bytes=100", "bytes=1000"]
    assert {one.headers["if-range"] for one in bench.there.asked if "range" in one.headers} == {'"it"'}


async def test_a_download_goes_on_after_a_restart(bench: Bench) -> None:
    bench.publish(LAYER)

    def cut(asked: Asked) -> Answer | None:
        whole = bench.holding(asked)
        if not blob_asked(asked) or len(whole.body) < 1000:
            return None
        if "range" in asked.headers:
            return Answer(503, b"", cut=True)
        return whole._replace(body=whole.body[:700], length=len(whole.body), cut=True)

    bench.misbehave(cut)
    with pytest.raises(Unavailable):
        await bench.pull()
    bench.there.behave, bench.there.asked = bench.holding, []
    await bench.client.close()
    bench.client = bench.new_client()
    await bench.pull()
    assert any(one.headers.get("range", "").startswith("bytes=700-") for one in bench.there.asked)


# -- who asks --------------------------------------------------------------------------------------


def basic(asked: Asked) -> Answer | None:
    wanted = "Basic " + base64.b64encode(b"anna:secret").decode()
    if asked.headers.get("authorization") == wanted:
        return None
    return Answer(401, b"", {"WWW-Authenticate": 'Basic realm="here"'})


async def test_a_password_is_sent_when_it_is_asked_for_and_not_before(bench: Bench) -> None:
    bench.publish(LAYER)
    bench.misbehave(basic)
    with pytest.raises(Denied, match="authentication required"):
        await bench.pull()
    bench.credential = ANNA
    await bench.pull()
    assert "authorization" not in bench.there.asked[0].headers
    bench.credential = Credential("anna", "wrong")
    with pytest.raises(Denied):
        await bench.pull("app:2")


class TokenServer:
    """Gives numbered tokens for the scopes that are asked for, and lets in who has one that fits."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.asked: list[Asked] = []
        self.widen = ""

    def __call__(self, asked: Asked) -> Answer | None:
        if asked.path.startswith("/token"):
            self.asked.append(asked)
            return Answer(200, json.dumps({"token": f"t{len(self.asked)}", "expires_in": 300}).encode())
        shown = asked.headers.get("authorization", "")
        if shown.startswith("Bearer t") and (not self.widen or shown != "Bearer t1"):
            return None
        realm = f'realm="http://{self.bench.there.host}/token",service="here"'
        scope = self.widen or "repository:app:pull"
        return Answer(401, b"", {"WWW-Authenticate": f'Bearer {realm},scope="{scope}"'})


async def test_one_token_serves_a_whole_pull(bench: Bench) -> None:
    bench.publish(LAYER, b"second", b"third")
    server = TokenServer(bench)
    bench.misbehave(server)
    bench.credential = ANNA
    await bench.pull()
    assert len(server.asked) == 1
    assert "scope=repository:app:pull" in server.asked[0].path
    assert "account=anna" in server.asked[0].path
    assert server.asked[0].headers["authorization"].startswith("Basic ")


async def test_a_second_refusal_with_a_wider_scope_fetches_a_wider_token(bench: Bench) -> None:
    bench.publish(LAYER)
    server = TokenServer(bench)
    bench.misbehave(server)
    server.widen = "repository:app:pull repository:base:pull"
    await bench.pull()
    assert "repository:base:pull" in server.asked[-1].path


async def test_a_registry_that_takes_no_token_of_its_own_is_given_up(bench: Bench) -> None:
    server = TokenServer(bench)
    bench.misbehave(lambda asked: server(asked._replace(headers={})))
    with pytest.raises(Denied):
        await bench.pull()
    assert len(server.asked) <= 3


async def test_nobody_elsewhere_is_told_who_asks(bench: Bench) -> None:
    bench.publish(LAYER)
    bench.credential = ANNA
    async with registry(bench.holding) as elsewhere:

        def redirect(asked: Asked) -> Answer | None:
            if blob_asked(asked):
                return basic(asked) or Answer(307, b"", {"Location": f"http://{elsewhere.host}{asked.path}"})
            return basic(asked)

        bench.misbehave(redirect)
        await bench.pull()
        assert elsewhere.asked
        assert all("authorization" not in one.headers for one in elsewhere.asked)


async def test_a_log_in_is_checked_and_keeps_the_token_it_is_given(bench: Bench) -> None:
    bench.misbehave(basic)
    assert await bench.client.check(bench.there.host, ANNA) == ""
    with pytest.raises(Denied):
        await bench.client.check(bench.there.host, Credential("anna", "no"))

    def tokens(asked: Asked) -> Answer | None:
        if asked.path.startswith("/token"):
            assert "offline_token=true" in asked.path
            return Answer(200, b'{"token":"t","refresh_token":"lasting"}')
        realm = f'Bearer realm="http://{bench.there.host}/token"'
        return None if "authorization" in asked.headers else Answer(401, b"", {"WWW-Authenticate": realm})

    bench.misbehave(tokens)
    assert await bench.client.check(bench.there.host, ANNA) == "lasting"


# -- registries that are busy, or hostile ----------------------------------------------------------


async def test_a_busy_registry_is_asked_again_when_it_says(bench: Bench) -> None:
    bench.publish(LAYER)
    answers = iter([Answer(429, b"", {"Retry-After": "7"}), Answer(503, b"")])
    bench.misbehave(lambda asked: next(answers, None))
    start = bench.clock.monotonic()
    await bench.pull()
    assert 7.0 <= bench.clock.monotonic() - start < 20.0


async def test_a_registry_that_stays_busy_is_told_with_what_is_left(bench: Bench) -> None:
    quota = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600", "Retry-After": "3600"}
    bench.misbehave(lambda asked: Answer(429, b"", quota))
    with pytest.raises(Unavailable, match=r"0 of 100 pulls in 6 h left; try again in 3600 s"):
        await bench.pull()
    assert len(bench.there.asked) == 1, "an hour is for the user to wait"


async def test_a_warning_is_shown_once(bench: Bench) -> None:
    bench.publish(LAYER, b"second")

    def warn(asked: Asked) -> Answer:
        answer = bench.holding(asked)
        return answer._replace(headers={**answer.headers, "Warning": '299 - "going away"'})

    bench.misbehave(warn)
    await bench.pull()
    assert bench.said.count("Warning: going away") == 1


@pytest.mark.parametrize("field", ["manifest", "blob"])
async def test_an_answer_without_end_is_cut(bench: Bench, field: str) -> None:
    bench.publish(LAYER)

    def endless(asked: Asked) -> Answer | None:
        if ("/manifests/" in asked.path) != (field == "manifest"):
            return None
        return Answer(200, b"x" * 100_000, endless=True)

    bench.misbehave(endless)
    with pytest.raises(Invalid, match=r"more than|bytes or more"):
        await bench.pull()
    assert not list(bench.shelf.content.root.glob("ingest-*"))


async def test_a_blob_that_says_to_be_longer_than_it_may_is_not_read(bench: Bench) -> None:
    bench.publish(LAYER)
    bench.misbehave(lambda asked: Answer(200, b"", length=1 << 40) if blob_asked(asked) else None)
    with pytest.raises(Invalid, match="manifest says"):
        await bench.pull()


async def test_wrong_content_is_thrown_away_three_times_and_then_told(bench: Bench) -> None:
    bench.publish(LAYER)

    def forge(asked: Asked) -> Answer | None:
        if not blob_asked(asked):
            return None
        return Answer(200, bytes(len(bench.holding(asked).body)))

    bench.misbehave(forge)
    with pytest.raises(Invalid, match="sha256:"):
        await bench.pull()
    assert len([one for one in bench.there.asked if blob_asked(one)]) == 3
    assert bench.shelf.names == {}


async def test_a_server_that_ignores_ranges_is_read_from_its_start(bench: Bench) -> None:
    bench.publish(LAYER)
    first = iter([700])

    def ignore(asked: Asked) -> Answer | None:
        whole = bench.holding(asked._replace(headers={}))
        if not blob_asked(asked) or len(whole.body) < 1000:
            return None
        at = next(first, None)
        return whole if at is None else whole._replace(body=whole.body[:at], length=len(whole.body), cut=True)

    bench.misbehave(ignore)
    await bench.pull()


async def test_a_manifest_under_a_digest_must_be_that_one(bench: Bench) -> None:
    manifest = bench.publish(LAYER)
    bench.holding.manifests[digest_of(b"other")] = (documents.OCI_MANIFEST, manifest)
    with pytest.raises(Invalid, match="not what was asked for"):
        await bench.pull(f"app@{digest_of(b'other')}")


async def test_redirects_in_a_circle_end(bench: Bench) -> None:
    bench.misbehave(lambda asked: Answer(302, b"", {"Location": asked.path}))
    with pytest.raises(Invalid, match="redirects again and again"):
        await bench.pull()


async def test_a_host_that_is_not_there_is_told_at_once(bench: Bench) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 cannot be reached"):
        await bench.client.pull("127.0.0.1:1/app:1")
    assert bench.clock.monotonic() == LeapingClock().monotonic()


async def test_tags_are_read_from_all_pages_and_referrers_also_from_a_tag(bench: Bench) -> None:
    def pages(asked: Asked) -> Answer | None:
        if asked.path == "/v2/app/tags/list":
            link = {"Link": '</v2/app/tags/list?last=b>; rel="next"'}
            return Answer(200, b'{"name":"app","tags":["a","b"]}', link)
        if asked.path.startswith("/v2/app/tags/list?"):
            return Answer(200, b'{"name":"app","tags":["c"]}')
        return None

    bench.misbehave(pages)
    assert await bench.client.tags(bench.name("app")) == ["a", "b", "c"]
    subject = digest_of(b"subject")
    assert await bench.client.referrers(bench.name("app"), subject) == []
    entry = {**descriptor(b"sig", documents.OCI_MANIFEST), "artifactType": "application/x"}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    bench.holding.manifests[subject.replace(":", "-")] = (documents.OCI_INDEX, index)
    found = await bench.client.referrers(bench.name("app"), subject, "application/x")
    assert [one.digest for one in found] == [digest_of(b"sig")]
    assert await bench.client.referrers(bench.name("app"), subject, "application/y") == []
