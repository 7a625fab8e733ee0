"""Builds on a real store and the real runtime."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.image.build.work import Failed
from swarmd.kit.supervise import Nursery
from swarmd.model.errors import NotFound
from tests.integration.build_rig import BuildRig, Watched, building, make_files, tar_of

pytestmark = pytest.mark.root


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[BuildRig]:
    async with building(tmp_path) as made:
        yield made


FLOW = """
FROM busybox
WORKDIR /srv
COPY app.py .
COPY lib lib/
RUN cat app.py && echo made > made.txt
ENV X=1
CMD ["sh", "-c", "cat made.txt"]
"""


async def test_a_build_makes_a_layer_of_each_step_and_knows_them_again(rig: BuildRig, tmp_path: Path) -> None:
    context = make_files(tmp_path / "context", {"app.py": "1\n", "lib/a.txt": "a", "lib/b.txt": "b"})
    watch, again, changed = Watched(), Watched(), Watched()
    built = await rig.build(FLOW, context, watch, tags=("app:1",))
    assert built.info.refs == ("app:1",)
    assert watch.said() == "1\n"
    layers = await rig.layers("app:1")
    assert layers == [[], ["srv/app.py"], ["srv/lib/a.txt", "srv/lib/b.txt"], ["srv/made.txt"]]
    config = rig.store.config("app:1")
    assert (config.workdir, config.cmd) == ("/srv", ("sh", "-c", "cat made.txt"))
    assert "X=1" in config.env
    assert (await rig.build(FLOW, context, again, tags=("app:1",))).info == built.info
    assert again.cached() == [True] * 4
    assert rig.sent == []
    make_files(context, {"lib/b.txt": "other"})
    await rig.build(FLOW, context, changed, tags=("app:1",))
    assert changed.cached() == [True, True, False, False]
    assert rig.sent == ["lib/b.txt"]


async def test_what_stands_last_is_all_that_a_change_of_it_makes_again(rig: BuildRig, tmp_path: Path) -> None:
    """The Flask application of the introductions, with a pip that only writes a file."""
    context = make_files(
        tmp_path / "context", {"app.py": "Hello", "pip": ("#!/bin/sh\necho $* > /packages\n", 0o755)}
    )
    await rig.build("FROM busybox\nCOPY pip /bin/\n", context, tags=("python:3.11-slim",))
    install, copy = "RUN pip install flask\n", "COPY app.py /app.py\n"
    last = f'FROM python:3.11-slim\n{install}CMD ["python", "app.py"]\n{copy}'
    first = f'FROM python:3.11-slim\n{copy}{install}CMD ["python", "app.py"]\n'
    blobs = []
    for text in ("Hello", "Good morning"):
        make_files(context, {"app.py": text})
        await rig.build(last, context, tags=("app",))
        blobs.append(json.loads(rig.store.manifest("app"))["layers"])
    assert blobs[0][:-1] == blobs[1][:-1]
    assert blobs[0][-1] != blobs[1][-1]
    await rig.build(first, context)
    make_files(context, {"app.py": "Good evening"})
    watch = Watched()
    await rig.build(first, context, watch)
    assert watch.cached() == [False, False]


async def test_the_same_input_gives_the_same_image(rig: BuildRig, tmp_path: Path) -> None:
    context = make_files(tmp_path / "context", {"a.txt": "a"})
    text = "FROM busybox\nCOPY a.txt /d/\nRUN echo x > /made && mkdir /e\n"
    epoch = {"build_args": {"SOURCE_DATE_EPOCH": "1000"}}
    first = await rig.build(text, context, fresh_all=True, **epoch)
    (context / "a.txt").touch()
    second = await rig.build(text, context, fresh_all=True, **epoch)
    assert first.info.digest == second.info.digest


async def test_what_copy_makes_looks_as_it_says(rig: BuildRig, tmp_path: Path) -> None:
    context = make_files(
        tmp_path / "context",
        {
            "run.sh": ("#!/bin/sh\n", 0o755),
            "d/in.txt": "in",
            "d/to@": "in.txt",
            "plain": "p",
            "tree/inner/x": "x",
        },
    )
    (context / "d").chmod(0o750)
    (context / "tree/inner").chmod(0o710)
    await rig.build(
        """
FROM busybox
RUN mkdir /real && ln -s /real /way && mkdir -m 700 /old
COPY run.sh /opt/deep/
COPY --chown=web --chmod=600 plain /owned
COPY --chown=1234:5 plain /numbers
COPY d /way/
COPY d/in.txt /old
COPY --link d /linked/
COPY tree /nested
COPY <<one.txt <<"two.txt" /here/
first
one.txt
second $X
two.txt
""",
        context,
        tags=("files",),
    )
    async with rig.shown("files") as top:
        assert (top / "opt/deep/run.sh").stat().st_mode & 0o7777 == 0o755
        owned = (top / "owned").stat()
        assert (owned.st_uid, owned.st_gid, owned.st_mode & 0o7777) == (1000, 1000, 0o600)
        numbers = (top / "numbers").stat()
        assert (numbers.st_uid, numbers.st_gid) == (1234, 5)
        assert (top / "real/in.txt").read_text() == "in"
        assert (top / "way").is_symlink()
        assert (top / "real/to").readlink() == Path("in.txt")
        assert (top / "old/in.txt").read_text() == "in"
        assert (top / "old").stat().st_mode & 0o7777 == 0o700
        assert (top / "linked/in.txt").read_text() == "in"
        assert (top / "linked").stat().st_mode & 0o7777 == 0o755
        assert (top / "nested/inner").stat().st_mode & 0o7777 == 0o710
        assert (top / "here/one.txt").read_text() == "first\n"
        assert (top / "here/two.txt").read_text() == "second $X\n"


async def test_files_come_from_other_stages_and_only_needed_stages_are_built(rig: BuildRig) -> None:
    watch = Watched()
    await rig.build(
        """
FROM busybox AS builder
RUN mkdir -p /out/bin && echo tool > /out/bin/tool
RUN ln /out/bin/tool /out/bin/same && chmod 4755 /out/bin/tool
FROM busybox AS unneeded
RUN false
FROM scratch
COPY --from=builder /out/ /
COPY --from=busybox /bin/busybox /bin/
""",
        None,
        watch,
        tags=("tool",),
    )
    assert not any("unneeded" in name for name in watch.names)
    async with rig.shown("tool") as top:
        tool, same = (top / "bin/tool").stat(), (top / "bin/same").stat()
        assert (tool.st_ino, tool.st_mode & 0o7777) == (same.st_ino, 0o4755)
        assert sorted(os.listdir(top)) == ["bin"]


async def test_add_unpacks_archives_and_copy_does_not(rig: BuildRig, tmp_path: Path) -> None:
    context = make_files(tmp_path / "context", {"in/a.txt": "a", "in/b/c.txt": "c"})
    (context / "all.tar").write_bytes(tar_of(context / "in"))
    for name in ("gz", "bz2", "xz"):
        with tarfile.open(context / f"all.tar.{name}", f"w:{name}") as tar:  # type: ignore[call-overload]
            tar.add(context / "in", arcname=".")
    names = ("all.tar", "all.tar.gz", "all.tar.bz2", "all.tar.xz")
    lines = [f"ADD {name} /{number}/" for number, name in enumerate(names)]
    await rig.build("\n".join(["FROM scratch", *lines, "COPY all.tar /kept/"]), context, tags=("added",))
    async with rig.shown("added") as top:
        for number in range(len(names)):
            assert (top / f"{number}/b/c.txt").read_text() == "c"
        assert (top / "kept/all.tar").is_file()


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Last-Modified", "Thu, 01 Jan 2015 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(b"a page")

    def log_message(self, *args: object) -> None:
        return


async def test_add_fetches_a_page_and_checks_it(rig: BuildRig) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/some/page.html"
    right = hashlib.sha256(b"a page").hexdigest()
    try:
        text = f"FROM scratch\nADD --checksum=sha256:{right} {url} /srv/\n"
        await rig.build(text, tags=("page",))
        watch = Watched()
        await rig.build(text, None, watch)
        with pytest.raises(Failed, match="digest mismatch"):
            await rig.build(f"FROM scratch\nADD --checksum=sha256:{'0' * 64} {url} /srv/\n")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert watch.cached() == [True]
    async with rig.shown("page") as top:
        page = top / "srv/page.html"
        assert (page.read_text(), page.stat().st_mode & 0o7777) == ("a page", 0o600)
        assert page.stat().st_mtime == 1420070400


async def test_an_archive_that_leads_out_of_itself_is_refused(rig: BuildRig, tmp_path: Path) -> None:
    context = make_files(tmp_path / "context", {"x": "x"})
    with tarfile.open(context / "bad.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../../outside"), io.BytesIO(b""))
    with pytest.raises(Failed, match="leads out of its directory"):
        await rig.build("FROM scratch\nADD bad.tar /\n", context)


async def test_mounts_are_there_and_leave_nothing(rig: BuildRig, tmp_path: Path) -> None:
    context = make_files(tmp_path / "context", {"pkg/wheel.txt": "wheel\n"})
    watch = Watched()
    text = """
FROM busybox AS tools
RUN echo tool > /tool
FROM busybox
RUN --mount=type=secret,id=token cat /run/secrets/token
RUN --mount=type=secret,id=token,env=TOKEN echo "env $TOKEN"
RUN --mount=type=bind,source=pkg,target=/pkg cat /pkg/wheel.txt
RUN --mount=type=bind,from=tools,target=/tools cat /tools/tool
RUN --mount=type=cache,target=/cache echo more >> /cache/log && wc -c < /cache/log
RUN --mount=type=tmpfs,target=/scratch touch /scratch/x
RUN <<EOF
echo one
echo two
EOF
"""
    secrets = {"token": b"s3cret"}
    await rig.build(text, context, watch, tags=("mounted",), secrets=secrets)
    said = watch.said()
    for line in ("s3cret", "env s3cret", "wheel", "tool", "one\ntwo"):
        assert line in said
    assert await rig.layers("mounted") == []
    known = Watched()
    await rig.build(text, context, known, secrets={"token": b"other"})
    assert known.cached() == [True] * 8
    again = Watched()
    await rig.build(text, context, again, secrets=secrets, fresh_all=True)
    assert "10\n" in again.said()
    kept = [path for path in (rig.base / "data").rglob("*") if path.is_file() and path.name != "build.db-wal"]
    assert [path for path in kept if b"s3cret" in path.read_bytes()] == []
    assert list((rig.base / "run" / "build").iterdir()) == []


async def test_a_failed_command_says_how_it_ended(rig: BuildRig) -> None:
    watch = Watched()
    with pytest.raises(Failed) as caught:
        await rig.build("FROM busybox\nENV A=1\nRUN echo last words && exit 7\n", None, watch)
    words = 'process "/bin/sh -c echo last words && exit 7" did not complete successfully: exit code: 7'
    assert str(caught.value) == words
    assert caught.value.step.line == 3
    assert watch.said() == "last words\n"
    assert rig.runtime.list() == []
    assert list((rig.base / "data/build/work").iterdir()) == []


async def test_files_of_the_node_are_not_in_the_layer(rig: BuildRig) -> None:
    watch = Watched()
    text = "FROM scratch\nCOPY --from=busybox /bin /bin\nRUN cat /etc/resolv.conf && echo x > /made\n"
    await rig.build(text, None, watch, tags=("bare",))
    assert "nameserver 192.0.2.1" in watch.said()
    async with rig.shown("bare") as top:
        assert sorted(os.listdir(top)) == ["bin", "made"]


async def test_who_goes_away_ends_his_build(rig: BuildRig) -> None:
    begun = asyncio.Event()

    class Waiting(Watched):
        def output(self, vertex: int, stream: int, data: bytes) -> None:
            begun.set()

    nursery = Nursery(lambda name, error: None)
    nursery.start("build", rig.build("FROM busybox\nRUN echo here && sleep 1000\n", None, Waiting()))
    async with asyncio.timeout(60):
        await begun.wait()
        await nursery.close()
    assert rig.runtime.list() == []
    assert list((rig.base / "data/build/work").iterdir()) == []


async def test_a_cache_goes_to_another_node(rig: BuildRig, tmp_path: Path) -> None:
    text = "FROM busybox\nRUN echo x > /made\nRUN cat /made > /second\n"
    built = await rig.build(text)
    pieces = [piece async for piece in rig.builder.export_cache()]
    other = tmp_path / "other"
    other.mkdir()
    async with building(other) as there:

        async def data() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        assert await there.builder.import_cache(data()) == 2
        watch = Watched()
        await there.store.load(rig.store.save("busybox"))
        assert (await there.build(text, None, watch, tags=("same",))).info.id == built.info.id
        assert watch.cached() == [True, True]
        more = text + "RUN cat /made /second > /third\n"
        await there.build(more, tags=("more",))
        async with there.shown("more") as top:
            assert (top / "third").read_text() == "x\nx\n"


async def test_pruning_forgets_and_frees(rig: BuildRig) -> None:
    await rig.build("FROM busybox\nRUN echo x > /made\n")
    assert (await rig.builder.usage()).layers > 0
    pruned = await rig.builder.prune(before=0.0, keep=-1, everything=True)
    assert len(pruned.keys) == 1
    watch = Watched()
    await rig.build("FROM busybox\nRUN echo x > /made\n", None, watch)
    assert watch.cached() == [False]


async def test_what_is_pruned_during_a_build_is_not_taken_from_it(rig: BuildRig) -> None:
    first = "FROM busybox\nRUN echo x > /made\n"
    await rig.build(first, tags=("first",))
    await rig.store.remove("first", in_use=lambda digest: (), force=True)
    begun = asyncio.Event()

    class Beginning(Watched):
        def output(self, vertex: int, stream: int, data: bytes) -> None:
            super().output(vertex, stream, data)
            begun.set()

    waiting = "echo begun; while [ ! -e /c/go ]; do sleep 0.05; done; cat /made"
    watch = Beginning()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        text = f"{first}RUN --mount=type=cache,target=/c {waiting}\nRUN cat /made > /again\n"
        group.create_task(rig.build(text, None, watch, tags=("second",)))
        await begun.wait()
        await rig.builder.prune(before=0.0, keep=-1, everything=True)
        await rig.store.gc(lambda digest: (), everything=True)
        [mount] = (rig.base / "data" / "build" / "mounts").iterdir()
        (mount / "go").touch()
    assert watch.said() == "begun\nx\n"
    async with rig.shown("second") as top:
        assert (top / "again").read_text() == "x\n"


async def test_an_image_that_is_not_here_is_named(rig: BuildRig) -> None:
    with pytest.raises(NotFound, match="nosuch"):
        await rig.build("FROM nosuch\nRUN true\n")


async def test_a_file_that_changed_while_it_was_sent_is_refused(rig: BuildRig, tmp_path: Path) -> None:
    context = make_files(tmp_path / "context", {"a.txt": "as it was told"})

    class Changing(Watched):
        def started(self, vertex: int) -> None:
            (context / "a.txt").write_text("something else")

    with pytest.raises(Failed, match="changed while it was sent"):
        await rig.build("FROM scratch\nCOPY a.txt /\n", context, Changing())
