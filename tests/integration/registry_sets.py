"""Sets of manifests and blobs, such as the conformance suite of the OCI distribution specification pushes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import msgspec

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
EXAMPLE = "application/vnd.example.oci.conformance"


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


class Set(msgspec.Struct):
    """``manifests`` in the order they are pushed in; ``tags`` lead to some of them."""

    blobs: list[bytes]
    manifests: list[bytes]
    tags: dict[str, bytes] = {}
    algorithm: str = "sha256"
    by_parameter: bool = False


def described(data: bytes, kind: str, algorithm: str = "sha256", **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest_of(data, algorithm), "size": len(data), **more}


def written(**fields: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, **fields}).encode()


def an_image(
    layers: int = 2,
    config: bytes = b"",
    kind: str = CONFIG,
    layer_kind: str = LAYER,
    algorithm: str = "sha256",
    **more: Any,
) -> Set:
    config = (
        config or json.dumps({"architecture": "amd64", "os": "linux", "mark": os.urandom(8).hex()}).encode()
    )
    contents = [os.urandom(256) for _ in range(layers)]
    raw = written(
        mediaType=MANIFEST,
        config=described(config, kind, algorithm),
        layers=[described(each, layer_kind, algorithm) for each in contents],
        **more,
    )
    return Set([config, *contents], [raw], {}, algorithm)


def an_index(images: list[Set], algorithm: str = "sha256", **more: Any) -> Set:
    tops = [each.manifests[-1] for each in images]
    entries = [described(top, json.loads(top)["mediaType"], algorithm) for top in tops]
    for entry, architecture in zip(entries, ("amd64", "arm64"), strict=False):
        entry["platform"] = {"os": "linux", "architecture": architecture}
    raw = written(mediaType=INDEX, manifests=entries, **more)
    blobs = [blob for each in images for blob in each.blobs]
    return Set(blobs, [raw_ for each in images for raw_ in each.manifests] + [raw], {}, algorithm)


def tagged(made: Set, *tags: str) -> Set:
    made.tags |= dict.fromkeys(tags, made.manifests[-1])
    return made


def an_artifact(**more: Any) -> Set:
    more.setdefault("artifactType", EXAMPLE)
    return an_image(1, b"{}", EMPTY, EXAMPLE, **more)


def with_subject() -> Set:
    image = an_image()
    about = described(image.manifests[0], MANIFEST)
    notes = {"org.opencontainers.conformance": "hello"}
    parts = [
        image, an_image(subject=about), an_artifact(subject=about, annotations=notes),
        an_artifact(subject=about, artifactType=EXAMPLE + ".2", annotations=notes),
        an_index([an_artifact()], subject=about, artifactType=EXAMPLE + ".list"),
    ]  # fmt: skip
    made = Set(
        [blob for each in parts for blob in each.blobs], [raw for each in parts for raw in each.manifests]
    )
    made.tags = {"image": image.manifests[0], "artifact": parts[2].manifests[0]}
    return made


def elsewhere() -> Set:
    image = an_image(1)
    document = json.loads(image.manifests[0])
    for kind in ("nondistributable.v1.tar+gzip", "nondistributable.v1.tar"):
        entry = described(
            os.urandom(99), f"application/vnd.oci.image.layer.{kind}", urls=["https://example.com/x"]
        )
        document["layers"].insert(0, entry)
    return tagged(Set(image.blobs, [json.dumps(document).encode()]), "elsewhere")


def with_parameters(algorithm: str) -> Set:
    made = an_index([an_image(algorithm=algorithm), an_image(algorithm=algorithm)], algorithm)
    made.tags = {f"parameter-{number}": raw for number, raw in enumerate(made.manifests)}
    made.tags["parameter"] = made.manifests[-1]
    made.by_parameter = True
    return made


def missing_subject() -> Set:
    return tagged(an_artifact(subject=described(b"missing", MANIFEST)), "tagged")


SETS: dict[str, Callable[[], Set]] = {
    "image": lambda: tagged(an_image(), "image"),
    "large manifest": lambda: tagged(
        an_image(annotations={f"large-{number}": "A" * 10_000 for number in range(390)}), "large"
    ),
    "index": lambda: tagged(an_index([an_image(), an_image()]), "index"),
    "nested index": lambda: tagged(
        an_index([an_index([an_image(), an_image()]), an_index([an_image()])]), "nested"
    ),
    "empty index": lambda: tagged(an_index([]), "index"),
    "artifact": lambda: tagged(an_artifact(), "artifact"),
    "artifact index": lambda: tagged(an_index([an_artifact(), an_artifact()], artifactType=EXAMPLE), "list"),
    "subjects": with_subject,
    "missing subject": missing_subject,
    "data field": lambda: tagged(an_image(1, b"{}", org_example={"data": "e30="}), "data"),
    "layers elsewhere": elsewhere,
    "fields of one's own": lambda: tagged(
        an_index([an_image(orgExampleOwn=[1, {"a": None}])], own="x"), "own"
    ),
    "no layers": lambda: tagged(an_image(0), "none"),
    "sha512": lambda: an_index([an_image(algorithm="sha512"), an_image(algorithm="sha512")], "sha512"),
    "tag parameters": lambda: with_parameters("sha256"),
    "tag parameters, sha512": lambda: with_parameters("sha512"),
}
