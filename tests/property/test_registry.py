"""Whatever a client sends to the registry: it is understood, or refused with a sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmd.image.registry.core.pushed import read_pushed
from swarmd.image.registry.core.ranges import check_piece, wanted
from swarmd.image.registry.core.refusals import STATUS, Refusal
from swarmd.image.registry.core.routes import METHODS, route

pieces = st.sampled_from(
    [
        *(
            "/",
            "v2",
            "..",
            ".",
            "app",
            "A",
            "%2e",
            "%2F",
            "%00",
            "blobs",
            "uploads",
            "manifests",
            "tags/list",
        ),
        *("sha256:", "referrers", "_catalog", "a" * 64, "0" * 64, "latest", "?", "ü", "\n"),
    ]
)
paths = st.one_of(st.text(), st.lists(pieces, max_size=12).map(lambda parts: "/v2/" + "/".join(parts)))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(
    [
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "subject",
        "digest",
        "annotations",
        "blobs",
    ]
)
documents = st.dictionaries(
    fields, json_values | st.dictionaries(fields, json_values, max_size=3), max_size=6
)


Known = TypeVar("Known")
CALM = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def understood(act: Callable[[], Known]) -> Known | Refusal:
    """What ``act`` answers, or how it is refused."""
    try:
        return act()
    except Refusal as refusal:
        return refusal


def is_answer(refusal: Refusal) -> bool:
    return refusal.code in STATUS and 400 <= refusal.status < 600 and bool(json.loads(refusal.body()))


@given(st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"]), paths)
@CALM
def test_an_address_leads_to_an_end_or_nowhere(method: str, path: str) -> None:
    found = understood(lambda: route(method, path))
    if isinstance(found, Refusal):
        assert is_answer(found)
        return
    assert method in METHODS[found.end]
    assert re.fullmatch(r"(?:[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/|$))*", found.name)
    assert not re.search(r"[/\s\0]", found.reference)


@given(st.text() | st.from_regex(r"bytes=[0-9]{0,5}-[0-9]{0,5}", fullmatch=True), st.integers(0, 10_000))
@CALM
def test_a_range_is_a_part_of_the_blob(header: str, size: int) -> None:
    part = understood(lambda: wanted(header, size))
    if isinstance(part, Refusal):
        assert part.status == 416
    elif part is not None:
        assert part.size > 0
        assert 0 <= part.offset < part.offset + part.size <= size


@given(
    st.text() | st.from_regex(r"[0-9]{1,4}-[0-9]{1,4}", fullmatch=True),
    st.none() | st.integers(0, 10_000),
    st.integers(0, 10_000),
)
@CALM
def test_a_piece_is_taken_only_behind_what_is_there(piece: str, length: int | None, offset: int) -> None:
    refusal = understood(lambda: check_piece(piece, length, offset, ()))
    if isinstance(refusal, Refusal):
        assert refusal.status in (400, 416)
    elif piece:
        first = re.search(r"\d+", piece)
        assert first is not None
        assert int(first[0]) == offset


@given(st.binary(max_size=64) | documents.map(lambda value: json.dumps(value).encode()), st.text(max_size=40))
@CALM
def test_a_manifest_is_read_or_refused(data: bytes, content_type: str) -> None:
    pushed = understood(lambda: read_pushed(data, content_type, "latest"))
    if isinstance(pushed, Refusal):
        assert is_answer(pushed)
        return
    assert pushed.stored.data == data
    digest = re.compile(r"sha(256:[a-f0-9]{64}|512:[a-f0-9]{128})")
    assert all(digest.fullmatch(each) for each in pushed.stored.blobs)
