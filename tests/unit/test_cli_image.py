"""``swarmctl image`` and ``system df``: Docker's flags, tables and words, as its own client printed them."""

# ruff: noqa: E501 - recorded tables are as wide as they are

from __future__ import annotations

import functools
import io
import json
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest

from swarmd.cli.rows_image import go_match
from swarmd.rpc.v1 import build_pb2, containers_pb2, images_pb2, node_pb2
from tests.unit.test_cli_fake import Cli, FakeDaemon, Refusal, command_line, fake_daemon

DAY = 86400.0
BUSYBOX, MADE, BARE = (f"sha256:{letter * 64}" for letter in "bma")
MISSING = Refusal("No such image: nosuch:latest", "not_found", grpc.StatusCode.NOT_FOUND)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    yield from fake_daemon(tmp_path, monkeypatch)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setattr("swarmd.cli.session.now", lambda: 3000 * DAY)
    return command_line(capsys)


def images() -> list[node_pb2.Image]:
    return [
        node_pb2.Image(
            id=BUSYBOX, digest="sha256:b0", refs=["busybox:latest", "reg.example:5000/a/b:1"], size=1_986_855,
            created_at=80 * DAY, users=["box"], labels={"kind": "base"},
            digests=["busybox@sha256:b0", "reg.example:5000/a/b@sha256:b0"],
        ),
        node_pb2.Image(
            id=MADE, digest="sha256:f0", refs=["made:1"], size=1_987_031, created_at=2999 * DAY,
            digests=["made@sha256:f0"],
        ),
        node_pb2.Image(id=BARE, digest="sha256:a0", size=7, created_at=2000 * DAY),
    ]  # fmt: skip


@pytest.fixture
def listed(daemon: FakeDaemon) -> FakeDaemon:
    daemon.answers["ListImages"] = node_pb2.ListImagesResponse(images=images())
    return daemon


def test_images_are_listed_as_docker_lists_them_the_newest_first(listed: FakeDaemon, cli: Cli) -> None:
    assert cli("images")[1].splitlines() == [
        "REPOSITORY             TAG       IMAGE ID       CREATED        SIZE",
        "made                   1         mmmmmmmmmmmm   24 hours ago   1.99MB",
        "<none>                 <none>    aaaaaaaaaaaa   2 years ago    7B",
        "busybox                latest    bbbbbbbbbbbb   8 years ago    1.99MB",
        "reg.example:5000/a/b   1         bbbbbbbbbbbb   8 years ago    1.99MB",
    ]
    assert cli("image", "ls", "-q")[1].split() == ["m" * 12, "a" * 12, "b" * 12]
    assert cli("image", "list", "--no-trunc", "-q")[1].split() == [MADE, BARE, BUSYBOX]


def test_digests_are_a_column_and_a_row_each(listed: FakeDaemon, cli: Cli) -> None:
    both = node_pb2.Image(
        id=MADE, refs=["made:1", "pinned@sha256:e0"],
        digests=["made@sha256:f0", "made@sha256:f1", "pinned@sha256:e0"],
    )  # fmt: skip
    listed.answers["ListImages"] = node_pb2.ListImagesResponse(images=[both])
    assert cli("images", "--digests")[1].splitlines() == [
        "REPOSITORY   TAG       DIGEST      IMAGE ID       CREATED   SIZE",
        "made         1         sha256:f0   mmmmmmmmmmmm   N/A       0B",
        "made         1         sha256:f1   mmmmmmmmmmmm   N/A       0B",
        "pinned       <none>    sha256:e0   mmmmmmmmmmmm   N/A       0B",
    ]
    plain = cli("images", "--format", "{{.Repository}} {{.Tag}}")[1]
    assert plain.splitlines() == ["made 1", "pinned <none>"]
    with_digest = cli("images", "--format", "{{.Repository}} {{.Digest}}")[1]
    assert with_digest.splitlines() == ["made sha256:f0", "made sha256:f1", "pinned sha256:e0"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["-f", "reference=busy*"], ["busybox:latest"]),
        (["-f", "reference=*/*/b"], ["reg.example:5000/a/b:1"]),
        (["reg.example:5000/a/b"], ["reg.example:5000/a/b:1"]),
        (["made:1"], ["made:1"]),
        (["made:2"], []),
        (["-f", "dangling=true"], ["<none>:<none>"]),
        (["-f", "dangling=false", "-f", "label=kind"], ["busybox:latest", "reg.example:5000/a/b:1"]),
        (["-f", "label=kind=other"], []),
        (["-f", "before=made:1", "-f", "since=busybox"], ["<none>:<none>"]),
        (["-f", "until=48h", "-f", "dangling=false"], ["busybox:latest", "reg.example:5000/a/b:1"]),
    ],
)
def test_filters_choose_images_and_their_names(
    listed: FakeDaemon, cli: Cli, words: list[str], found: list[str]
) -> None:
    by_name = {"made:1": images()[1], "busybox": images()[0]}
    listed.answers["GetImage"] = lambda request: node_pb2.GetImageResponse(image=by_name[request.ref])
    assert cli("images", *words, "--format", "{{.Repository}}:{{.Tag}}")[1].split() == found


def test_filters_that_make_no_sense_are_refused(listed: FakeDaemon, cli: Cli) -> None:
    listed.answers["GetImage"] = MISSING
    assert "known are" in cli("images", "-f", "bogus=1")[2]
    assert "write true or false" in cli("images", "-f", "dangling=perhaps")[2]
    assert "no point in time" in cli("images", "-f", "until=soon")[2]
    assert cli("images", "-f", "before=nosuch")[2] == (
        "Error response from daemon: No such image: nosuch:latest\n"
    )


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("busy*", "busybox", True),
        ("*", "a/b", False),
        ("*/*", "a/b", True),
        ("b?x", "b/x", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("a.c", "abc", False),
        (r"a\*", "a*", True),
        (r"a\*", "ab", False),
        ("[a", "a", False),
        ("[]a]", "a", False),
        (r"[\]a]x", "]x", True),
        ("[.]x", "ax", False),
    ],
)
def test_patterns_are_go_s(pattern: str, text: str, matches: bool) -> None:
    assert go_match(pattern, text) is matches


def test_inspect_has_docker_s_fields(daemon: FakeDaemon, cli: Cli) -> None:
    config = {
        "architecture": "arm64", "variant": "v8", "os": "linux", "author": "Ann",
        "created": "2018-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]},
        "history": [{"created_by": "x", "comment": "a message"}],
    }  # fmt: skip
    daemon.answers["GetImage"] = node_pb2.GetImageResponse(
        image=images()[0], config_json=json.dumps(config).encode(), manifest_json=b'{"mediaType":"m"}'
    )
    (found,) = json.loads(cli("image", "inspect", "busybox")[1])
    assert found == {
        "Id": BUSYBOX,
        "RepoTags": ["busybox:latest", "reg.example:5000/a/b:1"],
        "RepoDigests": ["busybox@sha256:b0", "reg.example:5000/a/b@sha256:b0"],
        "Parent": "", "Comment": "a message", "Created": "2018-01-01T00:00:00Z", "DockerVersion": "",
        "Author": "Ann",
        "Config": {
            "User": "", "Env": None, "Cmd": ["sh"], "Volumes": None, "WorkingDir": "", "Entrypoint": None,
            "OnBuild": None, "Labels": {"a": "b"},
        },
        "Architecture": "arm64", "Variant": "v8", "Os": "linux", "Size": 1_986_855,
        "GraphDriver": {"Name": "overlay", "Data": None},
        "RootFS": {"Type": "layers", "Layers": ["sha256:1"]},
        "Descriptor": {"mediaType": "m", "digest": "sha256:b0", "size": 17},
        "History": [{"created_by": "x", "comment": "a message"}],
    }  # fmt: skip
    assert cli("image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", "busybox")[1] == "linux/arm64\n"


def history() -> images_pb2.GetHistoryResponse:
    command = "sh -c echo hi >/new; rm /bin/vi; mkdir /d; echo x >>/etc/passwd"
    return images_pb2.GetHistoryResponse(
        entries=[
            images_pb2.HistoryEntry(
                id=MADE, created_at=3000 * DAY, created_by=command, size=176, comment="a message"
            ),
            images_pb2.HistoryEntry(created_at=0, created_by='CMD\t["sh"]'),
            images_pb2.HistoryEntry(
                created_at=80 * DAY, created_by="deploy/lab/build_images.py", size=1_986_855
            ),
        ]
    )


def test_history_is_docker_s_table(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["GetHistory"] = history()
    assert cli("history", "made:1")[1].splitlines() == [
        "IMAGE          CREATED                  CREATED BY                                      SIZE      COMMENT",
        "mmmmmmmmmmmm   Less than a second ago   sh -c echo hi >/new; rm /bin/vi; mkdir /d; e…   176B      a message",
        '<missing>      N/A                      CMD ["sh"]                                      0B        ',
        "<missing>      8 years ago              deploy/lab/build_images.py                      1.99MB    ",
    ]
    assert cli("history", "--human=false", "--no-trunc", "made:1")[1].splitlines()[-1].split() == [
        "<missing>", "1970-03-22T00:00:00Z", "deploy/lab/build_images.py", "1986855",
    ]  # fmt: skip
    assert cli("image", "history", "-q", "made:1")[1].split() == ["m" * 12, "<missing>", "<missing>"]


def test_rm_takes_several_and_force_does_not_mind_those_that_are_not_there(
    daemon: FakeDaemon, cli: Cli
) -> None:
    gone = node_pb2.RemoveImageResponse(untagged=["made:1"], deleted=[MADE])
    daemon.answers["RemoveImage"] = lambda request: gone if request.ref == "made:1" else MISSING
    code, out, err = cli("rmi", "made:1", "nosuch")
    assert (code, out) == (1, f"Untagged: made:1\nDeleted: {MADE}\n")
    assert err == "Error response from daemon: No such image: nosuch:latest\n"
    assert cli("image", "rm", "-f", "nosuch") == (0, "", err)


def test_prune_asks_first_in_docker_s_words(
    daemon: FakeDaemon, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answers["PruneImages"] = images_pb2.PruneImagesResponse(
        untagged=["a:1"], deleted=[BARE], reclaimed=1_986_855
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, out, _ = cli("image", "prune")
    assert (code, out) == (
        1, "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] "
    )  # fmt: skip
    assert daemon.asked("PruneImages") == []
    assert cli("image", "prune", "-af", "--filter", "until=24h", "--filter", "label!=keep") == (
        0, f"Deleted Images:\nuntagged: a:1\ndeleted: {BARE}\n\nTotal reclaimed space: 1.987MB\n", "",
    )  # fmt: skip
    (request,) = daemon.asked("PruneImages")
    assert request == images_pb2.PruneImagesRequest(all=True, until=2999 * DAY, without=["keep"])


def test_save_writes_a_file_that_is_whole_or_not_there(daemon: FakeDaemon, cli: Cli, tmp_path: Path) -> None:
    daemon.answers["SaveImages"] = lambda request: iter(
        [images_pb2.SaveImagesResponse(data=data) for data in (b"a ", b"tar")]
    )
    target = tmp_path / "out.tar"
    assert cli("save", "-o", str(target), "made:1", "busybox") == (0, "", "")
    assert target.read_bytes() == b"a tar"
    assert list(daemon.asked("SaveImages")[0].refs) == ["made:1", "busybox"]
    daemon.answers["SaveImages"] = MISSING
    target.unlink()
    code, _, err = cli("image", "save", "--output", str(target), "nosuch")
    assert (code, err) == (1, "Error response from daemon: No such image: nosuch:latest\n")
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []
    assert "invalid output path" in cli("save", "-o", str(tmp_path / "no/out.tar"), "made:1")[2]


def test_save_refuses_a_terminal(daemon: FakeDaemon, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert cli("save", "made:1") == (
        1, "", "cowardly refusing to save to a terminal. Use the -o flag or redirect\n"
    )  # fmt: skip


def test_an_import_says_where_it_came_from_unless_told_otherwise(
    daemon: FakeDaemon, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "root.tar").write_bytes(b"tar")
    daemon.answers["ImportImage"] = node_pb2.ImportImageResponse(id=MADE)
    path = str(tmp_path / "root.tar")
    assert cli("import", path, "made:1") == (0, f"{MADE}\n", "")
    cli("import", "-m", "by hand", "--platform", "linux/arm64", path)
    (first, _), (second, _) = daemon.asked("ImportImage")
    assert (first.ref, first.message) == ("made:1", f"Imported from {path}")
    assert (second.ref, second.message, second.platform) == ("", "by hand", "linux/arm64")


def test_an_import_fetches_a_page(
    daemon: FakeDaemon, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "root.tar").write_bytes(b"tar")
    daemon.answers["ImportImage"] = node_pb2.ImportImageResponse(id=MADE)
    page = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), page) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            assert cli("import", f"{url}/root.tar", "made:1")[1] == f"{MADE}\n"
            code, _, err = cli("import", f"{url}/none.tar")
        finally:
            server.shutdown()
            serving.join()
    ((first, second),) = daemon.asked("ImportImage")
    assert (first.message, second.data) == (f"Imported from {url}/root.tar", b"tar")
    assert (code, err.splitlines()[-1]) == (1, f"cannot download {url}/none.tar: File not found")


def test_commit_names_the_image_and_says_what_is_changed(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["Commit"] = containers_pb2.CommitResponse(id=MADE, node="n1")
    words = ("-a", "Ann", "-m", "a message", "-c", "ENV X=1", "-c", "CMD sh", "--pause=false")
    assert cli("commit", *words, "web.1", "made:1") == (0, f"{MADE}\n", "")
    cli("commit", "box")
    first, second = daemon.asked("Commit")
    assert first == containers_pb2.CommitRequest(
        ref="web.1", image="made:1", author="Ann", message="a message", changes=["ENV X=1", "CMD sh"]
    )
    assert second == containers_pb2.CommitRequest(ref="box", pause=True)


def usage() -> images_pb2.GetUsageResponse:
    busybox, made, _ = images()
    box = containers_pb2.ContainerView(
        id="c" * 25, name="box", image="busybox", command=["sh"], created_at=3000 * DAY, status="exited",
        finished_at=3000 * DAY,
    )  # fmt: skip
    return images_pb2.GetUsageResponse(
        images=[
            images_pb2.ImageUsage(image=made, size=1_987_031, shared=1_986_855),
            images_pb2.ImageUsage(image=busybox, size=1_986_855, shared=1_986_855),
        ],
        images_size=1_987_031,
        images_reclaimable=176,
        containers=[images_pb2.ContainerDiskUsage(container=box, size=176, volumes=1)],
        volumes=[node_pb2.Volume(name="data", size=2, users=["c" * 25])],
        cache=[
            images_pb2.CacheUsage(id="k" * 25, kind="regular", size=4000, count=2, used_at=2999 * DAY),
            images_pb2.CacheUsage(id="s" * 25, kind="regular", size=9000, shared=True),
        ],
    )


def test_system_df_counts_what_is_shared_once(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["GetUsage"] = images_pb2.GetUsageResponse()
    assert cli("system", "df")[1].splitlines()[1:] == [
        "Images          0         0         0B        0B",
        "Containers      0         0         0B        0B",
        "Local Volumes   0         0         0B        0B",
        "Build Cache     0         0         0B        0B",
    ]
    daemon.answers["GetUsage"] = usage()
    assert cli("system", "df")[1].splitlines() == [
        "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE",
        "Images          2         1         1.987MB   176B (0%)",
        "Containers      1         0         176B      176B (100%)",
        "Local Volumes   1         1         2B        0B (0%)",
        "Build Cache     2         0         4kB       4kB",
    ]
    assert cli("system", "df", "--format", "{{.Type}}={{.Size}}")[1].splitlines()[0] == "Images=1.987MB"


def test_system_df_in_detail(daemon: FakeDaemon, cli: Cli) -> None:
    daemon.answers["GetUsage"] = usage()
    assert cli("system", "df", "-v")[1].splitlines() == [
        "Images space usage:",
        "",
        "REPOSITORY   TAG       IMAGE ID       CREATED        SIZE      SHARED SIZE   UNIQUE SIZE   CONTAINERS",
        "made         1         mmmmmmmmmmmm   24 hours ago   1.99MB    1.99MB        176B          0",
        "busybox      latest    bbbbbbbbbbbb   8 years ago    1.99MB    1.99MB        0B            1",
        "",
        "Containers space usage:",
        "",
        "CONTAINER ID   IMAGE     COMMAND   LOCAL VOLUMES   SIZE      CREATED                  STATUS                              NAMES",
        'cccccccccccc   busybox   "sh"      1               176B      Less than a second ago   Exited (0) Less than a second ago   box',
        "",
        "Local Volumes space usage:",
        "",
        "VOLUME NAME   LINKS     SIZE",
        "data          1         2B",
        "",
        "Build cache usage: 4kB",
        "",
        "CACHE ID       CACHE TYPE   SIZE      CREATED   LAST USED      USAGE     SHARED",
        "kkkkkkkkkkkk   regular      4kB                 24 hours ago   2         false",
        "ssssssssssss   regular      9kB                                0         true",
    ]
    found = json.loads(cli("system", "df", "-v", "--format", "json")[1])
    assert [len(found[name]) for name in ("Images", "Containers", "Volumes", "BuildCache")] == [2, 1, 1, 2]
    assert found["Images"][0]["UniqueSize"] == "176B"


def test_system_prune_says_what_goes_and_sums_up(
    daemon: FakeDaemon, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answers["PruneContainers"] = images_pb2.PruneContainersResponse(deleted=["c1"], reclaimed=100)
    daemon.answers["PruneImages"] = images_pb2.PruneImagesResponse(deleted=[BARE], reclaimed=20)
    daemon.answers["PruneVolumes"] = node_pb2.PruneVolumesResponse(deleted=["v"], reclaimed=3)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    code, out, _ = cli("system", "prune", "-a", "--volumes", "--filter", "label=x")
    assert (code, daemon.asked("PruneContainers")) == (1, [])
    assert out.splitlines() == [
        "WARNING! This will remove:",
        "  - all stopped containers",
        "  - all anonymous volumes not used by at least one container",
        "  - all images without at least one container associated to them",
        "",
        "  Items to be pruned will be filtered with:",
        "  - label=x",
        "",
        "Are you sure you want to continue? [y/N] ",
    ]
    daemon.answers["PruneCache"] = build_pb2.PruneCacheResponse(deleted=["k"], reclaimed=4)
    assert cli("system", "prune", "-f", "--volumes")[1] == (
        "Deleted Containers:\nc1\n\nDeleted Volumes:\nv\n\n"
        f"Deleted Images:\ndeleted: {BARE}\n\nDeleted build cache objects:\nk\n\nTotal reclaimed space: 127B\n"
    )
    cli("system", "prune", "-f", "-a")
    cli("system", "prune", "-f", "-a", "--filter", "until=24h")
    cli("system", "prune", "-f", "-a", "--filter", "label=x")
    assert [(request.before / DAY, request.all) for request in daemon.asked("PruneCache")] == [
        (2993, False), (2993, True), (2999, False),
    ]  # fmt: skip
    assert daemon.asked("PruneImages")[0] == images_pb2.PruneImagesRequest()
    assert (
        "not supported with '--volumes'"
        in cli("system", "prune", "-f", "--volumes", "--filter", "until=1h")[2]
    )


def test_ps_shows_sizes_when_asked(daemon: FakeDaemon, cli: Cli) -> None:
    box = containers_pb2.ContainerView(
        id="c" * 25, name="box", image="busybox", status="running", size=176, image_size=1_986_855
    )
    daemon.answers["ListContainers"] = containers_pb2.ListContainersResponse(containers=[box])
    assert cli("ps", "-s")[1].splitlines()[1].endswith("box       176B (virtual 1.99MB)")
    assert daemon.asked("ListContainers")[-1].size
    cli("ps")
    assert not daemon.asked("ListContainers")[-1].size
