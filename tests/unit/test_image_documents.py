"""Configurations, manifests, --change, and what an archive holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swarmd.image.core.archive import Contents, Found, Member, compression_of, find_images, link_name
from swarmd.image.core.catalog import row_for
from swarmd.image.core.changes import apply_changes
from swarmd.image.core.config import Healthcheck, History, ImageConfig, read_config, write_config
from swarmd.image.core.manifest import chain_ids, read_manifest, sha256, write_manifest
from swarmd.model.errors import Invalid

LAYER = b"layer bytes"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def config(**more: Any) -> bytes:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [sha256(LAYER)]},
    }
    return json.dumps(document | more).encode()


def descriptor(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)} | more


class Archive:
    """An archive in memory: name → bytes."""

    def __init__(self, files: dict[str, bytes], links: dict[str, str] | None = None) -> None:
        self.by_digest = {sha256(data): data for data in files.values()}
        members = {name: Member(sha256(data), len(data), data[:6]) for name, data in files.items()}
        self.contents = Contents(members, links or {})

    def images(self, arch: str = "amd64") -> tuple[Found, ...]:
        return find_images(self.contents, lambda member: self.by_digest[member.digest], arch)


def saved(**more: Any) -> bytes:
    return json.dumps(
        [{"Config": "c.json", "RepoTags": ["nginx:1.12"], "Layers": ["l/layer.tar"]} | more]
    ).encode()


def layout(*manifests: dict[str, Any], **files: bytes) -> Archive:
    index = json.dumps({"schemaVersion": 2, "manifests": list(manifests)}).encode()
    blobs = {f"blobs/sha256/{sha256(data)[7:]}": data for data in files.values()}
    return Archive({"oci-layout": b"{}", "index.json": index} | blobs)


def oci_manifest(raw: bytes) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(raw, "c"),
            "layers": [descriptor(LAYER, "l")],
        }
    ).encode()


def test_a_configuration_with_nulls_and_nanoseconds_is_read() -> None:
    read = read_config(
        config(
            created="2018-04-09T16:59:42.123456789Z",
            config={
                "Env": ["A=b"],
                "Cmd": ["x"],
                "Entrypoint": None,
                "Labels": None,
                "WorkingDir": "/w",
                "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
                "StopSignal": "SIGQUIT",
                "OnBuild": None,
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9},
            },
        )
    )
    assert read.created == pytest.approx(1523293182.123456)
    assert read.run.env == ("A=b",)
    assert (read.run.cmd, read.run.entrypoint, read.run.labels) == (("x",), (), {})
    assert (read.run.workdir, read.run.stop_signal) == ("/w", "SIGQUIT")
    assert read.run.exposed_ports == ("443/tcp", "80/tcp")
    assert read.run.healthcheck is not None
    assert read.run.healthcheck.interval == 10**9


@pytest.mark.parametrize("bad", [b"{}", b"no", config(rootfs={"type": "layers", "diff_ids": ["../../etc"]})])
def test_a_configuration_that_is_none_is_refused(bad: bytes) -> None:
    with pytest.raises(Invalid, match="configuration cannot be read"):
        read_config(bad)


def test_what_is_written_is_read_back() -> None:
    run = ImageConfig(
        env=("A=1",),
        cmd=("a",),
        entrypoint=("e",),
        user="u",
        workdir="/w",
        stop_signal="INT",
        exposed_ports=("80/tcp",),
        labels={"k": "v"},
        volumes=("/data",),
    )
    history = (History(1.5, "RUN x", "me", "why"), History(2.0, "ENV A=1", empty_layer=True))
    raw = write_config(
        run, diff_ids=(sha256(b""),), created=1.5, arch="arm64", history=history, author="me", variant="v8"
    )
    read = read_config(raw)
    assert (read.run, read.diff_ids, read.created, read.platform) == (
        run,
        (sha256(b""),),
        1.5,
        "linux/arm64/v8",
    )
    assert (read.history, read.author) == (history, "me")
    with pytest.raises(Invalid, match="history tells of 2 layers, but it has 1"):
        write_config(run, diff_ids=(sha256(b""),), created=1.5, arch="arm64", history=history[:1] * 2)


def test_changes_are_applied_in_turn() -> None:
    run = apply_changes(
        ImageConfig(),
        (
            'CMD ["nginx", "-g"]',
            "entrypoint run me",
            "ENV A=1 B='x y'",
            "ENV A two words",
            "EXPOSE 80 53/udp 8000-8001",
            "WORKDIR /srv",
            "WORKDIR sub",
            "USER www-data",
            "STOPSIGNAL SIGQUIT",
            'LABEL k="v w" l=',
            "VOLUME /a /b",
            "ENV C=$B/z",
            "HEALTHCHECK --interval=5s CMD true",
        ),
    )
    assert run == ImageConfig(
        env=("A=two words", "B=x y", "C=x y/z"),
        healthcheck=Healthcheck(("CMD-SHELL", "true"), interval=5_000_000_000),
        cmd=("nginx", "-g"),
        entrypoint=("/bin/sh", "-c", "run me"),
        user="www-data",
        workdir="/srv/sub",
        stop_signal="SIGQUIT",
        exposed_ports=("53/udp", "80/tcp", "8000/tcp", "8001/tcp"),
        labels={"k": "v w", "l": ""},
        volumes=("/a", "/b"),
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("RUN rm", "'RUN' is not a valid change command"),
        ("CMD", "requires an argument"),
        ("EXPOSE 70000", "invalid containerPort"),
        ("ENV A", "two arguments"),
        ("LABEL 'open", "two arguments"),
        ("ENV A=1 B", 'find = in "B"'),
        ("CMD a\nRUN x", "a change of its own"),
        ("STOPSIGNAL BOGUS", "invalid signal: BOGUS"),
        ("HEALTHCHECK --interval=x CMD y", "invalid duration"),
    ],
)
def test_a_bad_change_is_named(change: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        apply_changes(ImageConfig(), (change,))


def test_chain_ids_depend_on_everything_below() -> None:
    one, two = sha256(b"1"), sha256(b"2")
    assert chain_ids((one, two)) == (one, sha256(f"{one} {two}".encode()))


def test_indexes_schema_1_and_path_like_digests_are_no_manifests() -> None:
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    with pytest.raises(Invalid, match="manifest cannot be read"):
        read_manifest(index)
    forged = oci_manifest(config()).replace(sha256(LAYER).encode(), b"sha256:../../../etc/passwd")
    with pytest.raises(Invalid, match="manifest cannot be read"):
        read_manifest(forged)
    with pytest.raises(Invalid, match="schema 1"):
        read_manifest(
            oci_manifest(config())
            .replace(b'"schemaVersion": 2', b'"schemaVersion": 1')
            .replace(OCI_MANIFEST.encode(), b"")
        )


def test_a_manifest_and_a_configuration_must_fit() -> None:
    raw = config()
    row = row_for(oci_manifest(raw), raw)
    assert (row.id, row.layers, row.diff_ids) == (sha256(raw), (sha256(LAYER),), (sha256(LAYER),))
    assert row.size == len(raw) + len(LAYER)
    with pytest.raises(Invalid, match="configuration is damaged"):
        row_for(oci_manifest(raw), config(author="else"))
    with pytest.raises(Invalid, match="manifest has 0 layers, its configuration 1"):
        row_for(write_manifest(raw, ()), raw)


def test_the_old_form_of_docker_save_is_understood_with_its_links() -> None:
    archive = Archive(
        {"manifest.json": saved(Layers=["new/layer.tar"]), "c.json": config(), "old/layer.tar": LAYER},
        {"new/layer.tar": link_name("new/layer.tar", "../old/layer.tar", symbolic=True)},
    )
    (image,) = archive.images()
    assert image.refs == ("nginx:1.12",)
    assert read_manifest(image.manifest).layers[0].digest == sha256(LAYER)
    assert archive.images() == (image,)


def test_links_that_go_round_or_out_lead_nowhere() -> None:
    assert link_name("a/b", "../../../../etc/passwd", symbolic=True) == "etc/passwd"
    archive = Archive(
        {"manifest.json": saved(), "c.json": config()}, {"l/layer.tar": "x", "x": "l/layer.tar"}
    )
    with pytest.raises(Invalid, match=r"lacks l/layer\.tar"):
        archive.images()


def test_a_layout_keeps_its_manifests_bytes_and_takes_names_from_either_index() -> None:
    raw = config()
    manifest = oci_manifest(raw)
    named = descriptor(
        manifest,
        OCI_MANIFEST,
        annotations={
            "io.containerd.image.name": "docker.io/library/web:2",
            "org.opencontainers.image.ref.name": "2",
        },
    )
    archive = layout(named, m=manifest, c=raw, layer=LAYER)
    assert archive.images() == (Found(manifest, ("web:2",)),)
    both = Archive(
        {
            "c.json": raw,
            "manifest.json": json.dumps(
                [{"Config": "c.json", "RepoTags": ["also:1"], "Layers": []}]
            ).encode(),
        }
    )
    archive.contents.files.update(both.contents.files)
    archive.by_digest.update(both.by_digest)
    assert archive.images() == (Found(manifest, ("web:2", "also:1")),)


def test_a_bare_tag_names_nothing() -> None:
    raw = config()
    manifest = oci_manifest(raw)
    entry = descriptor(manifest, OCI_MANIFEST, annotations={"org.opencontainers.image.ref.name": "2"})
    assert layout(entry, m=manifest, c=raw).images() == (Found(manifest, ()),)


def test_of_several_platforms_ours_is_taken_and_attestations_are_not() -> None:
    mine, other = config(architecture="arm64"), config()
    nested = json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [
                descriptor(b"att", OCI_MANIFEST, platform={"os": "unknown", "architecture": "unknown"}),
                descriptor(
                    oci_manifest(other), OCI_MANIFEST, platform={"os": "linux", "architecture": "amd64"}
                ),
                descriptor(
                    oci_manifest(mine), OCI_MANIFEST, platform={"os": "linux", "architecture": "arm64"}
                ),
            ],
        }
    ).encode()
    archive = layout(descriptor(nested, OCI_INDEX), n=nested, a=oci_manifest(other), b=oci_manifest(mine))
    assert [each.manifest for each in archive.images("arm64")] == [oci_manifest(mine)]
    with pytest.raises(Invalid, match="no image for linux/s390x"):
        archive.images("s390x")


def test_a_blob_under_a_wrong_name_is_refused() -> None:
    manifest = oci_manifest(config())
    archive = layout(descriptor(manifest, OCI_MANIFEST), m=manifest)
    archive.contents.files[f"blobs/sha256/{sha256(manifest)[7:]}"] = Member(sha256(b"x"), 1, b"x")
    with pytest.raises(Invalid, match="archive is damaged"):
        archive.images()


def test_what_is_no_image_archive_is_refused() -> None:
    with pytest.raises(Invalid, match="not an image archive"):
        Archive({"etc/passwd": b""}).images()


def test_compressions_are_told_by_their_first_bytes() -> None:
    found = [
        compression_of(start)
        for start in (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh91A", b"BZhx/a", b"")
    ]
    assert found == ["gzip", "zstd", "xz", "bzip2", "", ""]
