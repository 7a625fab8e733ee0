"""Manifests as nodes tell each other of them."""

from __future__ import annotations

import pytest

from swarmd.image.registry.messages import from_message, to_message
from swarmd.image.registry.port import Stored
from swarmd.model.errors import Invalid
from tests.unit.registry_rig import MANIFEST, sha256, sha512

RAW = b'{"schemaVersion": 2}'


@pytest.mark.parametrize("digest", [sha256(RAW), sha512(RAW)])
@pytest.mark.parametrize("data", [RAW, b""])  # a large one is a blob
def test_a_manifest_arrives_as_it_was(digest: str, data: bytes) -> None:
    stored = Stored(
        digest=digest, media_type=MANIFEST, data=data, blobs=("sha256:b",), annotations={"a": "b"}
    )
    assert from_message(to_message(stored)) == stored


@pytest.mark.parametrize("digest", [sha256(b"another"), "md5:" + "0" * 32, "", "no-such:1"])
def test_a_manifest_under_the_digest_of_another_is_refused(digest: str) -> None:
    message = to_message(Stored(digest=digest, media_type=MANIFEST, data=RAW))
    with pytest.raises(Invalid, match="is not what was sent"):
        from_message(message)
