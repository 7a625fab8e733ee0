"""What cosign and others have to read: payloads, key files, the manifest that holds signatures."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from swarmd.image.core.manifest import sha256
from swarmd.image.trust.core import artifact, simple_signing
from swarmd.image.trust.core.artifact import Signature
from swarmd.model.errors import Denied, Invalid
from swarmd.security import secretbox, signing, verifying

DIGEST = "sha256:" + "ab" * 32


def test_the_payload_is_cosigns_byte_for_byte() -> None:
    assert simple_signing.write_payload("reg.example.com/app", DIGEST) == (
        b'{"critical":{"identity":{"docker-reference":"reg.example.com/app"},"image":{"docker-manifest-digest":"'
        + DIGEST.encode()
        + b'"},"type":"cosign container image signature"},"optional":null}'
    )
    told = simple_signing.write_payload("reg.example.com/app", DIGEST, {"z": "<b>&", "a": "1"})
    assert told.endswith(b'"optional":{"a":"1","z":"\\u003cb\\u003e\\u0026"}}')
    assert json.loads(told)["optional"] == {"a": "1", "z": "<b>&"}


def test_docker_hubs_old_name_in_a_payload_is_docker_hub() -> None:
    payload = simple_signing.write_payload("index.docker.io/library/app", DIGEST)
    assert simple_signing.read_payload(payload) == simple_signing.Claim("docker.io/library/app", DIGEST)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"critical":{}}',
        simple_signing.write_payload("app", DIGEST).replace(b"sha256:", b"sha1:"),
        simple_signing.write_payload("app", DIGEST).replace(b"cosign container", b"some other"),
        simple_signing.write_payload("NOT/a name", DIGEST),
        simple_signing.write_payload("app", DIGEST, {"long": "x" * (64 << 10)}),
    ],
)
def test_what_is_no_payload_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid):
        simple_signing.read_payload(raw)


def test_secretbox_is_nacls() -> None:
    # The example that NaCl's authors publish with the cipher.
    key = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
    nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
    data = bytes.fromhex(
        "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c6129"
        "6cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde"
        "048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705"
    )
    box = secretbox.seal(data, key, nonce)
    assert box.hex().startswith("f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce")
    assert box.hex().endswith("973f622a43d14a6599b1f654cb45a74e355a5")
    assert secretbox.unseal(box, key, nonce) == data
    for forged in (box[:-1] + bytes([box[-1] ^ 1]), box[:10], b"", b"\0" * len(box)):
        with pytest.raises(Denied):
            secretbox.unseal(forged, key, nonce)


@pytest.mark.parametrize("kind", signing.KINDS)
def test_a_key_file_is_opened_by_its_password_only(kind: str) -> None:
    key = signing.generate(kind)
    sealed = signing.seal(key, b"hunter2")
    assert signing.needs_password(sealed)
    document = json.loads(base64.b64decode("".join(sealed.decode().splitlines()[1:-1])))
    assert list(document) == ["kdf", "cipher", "ciphertext"]
    assert document["kdf"]["params"] == {"N": 65536, "r": 8, "p": 1}
    assert signing.public_pem(signing.unseal(sealed, b"hunter2")) == signing.public_pem(key)
    older = sealed.replace(b"SIGSTORE", b"COSIGN")
    assert signing.public_pem(signing.unseal(older, b"hunter2")) == signing.public_pem(key)
    with pytest.raises(Denied):
        signing.unseal(sealed, b"hunter3")


@pytest.mark.parametrize("kind", signing.KINDS)
def test_a_signature_is_of_one_key_and_one_text(kind: str) -> None:
    key, other = signing.generate(kind), signing.generate(kind)
    signature = signing.sign(key, b"text")
    public = verifying.public_key(signing.public_pem(key))
    assert verifying.is_signed_by(public, b"text", signature)
    assert not verifying.is_signed_by(public, b"text.", signature)
    assert not verifying.is_signed_by(public, b"text", b"")
    assert not verifying.is_signed_by(verifying.public_key(signing.public_pem(other)), b"text", signature)


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_public_key_is_refused(pem: bytes) -> None:
    with pytest.raises(Invalid):
        verifying.public_key(pem)


def test_a_manifest_of_signatures_is_evidence_alone() -> None:
    ones = tuple(
        Signature(simple_signing.write_payload("app", DIGEST, {"n": str(n)}), bytes([n]) * 70, b"cert", b"")
        for n in range(3)
    )
    written = artifact.write(DIGEST, 7, "application/vnd.oci.image.manifest.v1+json", ones)
    assert written.digest == sha256(written.data)
    assert artifact.wanted(written.data) == ()
    assert artifact.read(written.data, {}.get) == ones
    document = json.loads(written.data)
    assert document["subject"]["digest"] == DIGEST
    assert document["config"]["digest"] == sha256(written.blobs[0])
    config = json.loads(written.blobs[0])
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in document["layers"]]
    assert artifact.tag_of(DIGEST) == "sha256-" + "ab" * 32 + ".sig"


def test_what_cosign_pushed_is_read_with_its_blobs() -> None:
    payload = simple_signing.write_payload("app", DIGEST)
    digest = f"sha256:{hashlib.sha256(payload).hexdigest()}"
    layer = {
        "mediaType": artifact.LAYER,
        "size": len(payload),
        "digest": digest,
        "annotations": {artifact.SIGNATURE: base64.b64encode(b"sig").decode()},
    }
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": DIGEST}
    data = json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode()
    assert artifact.wanted(data) == (digest,)
    assert artifact.read(data, {digest: payload}.get) == (Signature(payload, b"sig"),)
    assert artifact.read(data, {digest: payload + b" "}.get) == (), "another content"
    assert artifact.read(data, {}.get) == ()
    with pytest.raises(Invalid):
        artifact.read(b"{}", {}.get)
