"""What a Dockerfile says, seen in the image that is built of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.build_rig import BuildRig, Watched, building, make_files

pytestmark = pytest.mark.root

WORDS = """
ARG BASE=busy
FROM ${BASE}box AS tools
ARG GREETING="hello  world"
ENV GREETING_ENV=$GREETING NAME=first
ENV NAME=second BOTH=${NAME:-none}-${MISSING:-unset}
WORKDIR /out
RUN echo "$GREETING|$GREETING_ENV|$NAME|$BOTH|$HTTP_PROXY" > words
RUN <<EOF
echo one > script
echo two >> script
EOF
RUN cat <<A > expanded && cat <<'B' > kept
from $NAME
A
from $NAME
B
COPY --chmod=0700 <<-x.sh <<'plain' ./d/
	#!/bin/sh
	echo $NAME \\$NAME
x.sh
$NAME
plain
RUN <<run.sh
#!/bin/sh
echo "$0" > shebang
run.sh
SHELL ["/bin/sh", "-ec"]
RUN echo $- > flags
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[BuildRig]:
    async with building(tmp_path) as made:
        yield made


async def test_words_and_heredocs_arrive_as_they_were_meant(rig: BuildRig) -> None:
    await rig.build(WORDS, tags=("words",), build_args={"HTTP_PROXY": "http://proxy:1"})
    async with rig.shown("words") as root:
        out = root / "out"
        assert (out / "words").read_text() == "hello  world|hello  world|second|first-unset|http://proxy:1\n"
        assert (out / "script").read_text() == "one\ntwo\n"
        assert (out / "expanded").read_text() == "from second\n"
        assert (out / "kept").read_text() == "from $NAME\n"
        assert (out / "d/x.sh").read_text() == "#!/bin/sh\necho second $NAME\n"
        assert (out / "d/plain").read_text() == "$NAME\n"
        assert (out / "d/x.sh").stat().st_mode & 0o777 == 0o700
        assert (out / "shebang").read_text() == "/dev/pipes/run.sh\n"
        assert "e" in (out / "flags").read_text()
    said = rig.store.config("words")
    assert "NAME=second" in said.env
    assert not [line for line in said.env if "PROXY" in line or line.startswith("GREETING=")]


async def test_a_proxy_changes_no_key(rig: BuildRig) -> None:
    text = "FROM busybox\nRUN echo built > /x\n"
    first = await rig.build(text, build_args={"HTTP_PROXY": "http://one:1"})
    again = Watched()
    assert (await rig.build(text, None, again, build_args={"HTTP_PROXY": "http://two:2"})).info == first.info
    assert again.cached() == [True]


async def test_what_an_image_holds_back_is_done_by_who_builds_on_it(rig: BuildRig, tmp_path: Path) -> None:
    context = make_files(tmp_path / "context", {"app.txt": "mine\n"})
    base = "FROM busybox\nWORKDIR /app\nONBUILD COPY . .\nONBUILD RUN cat app.txt > seen\nONBUILD ENV A=1\n"
    await rig.build(base, tags=("base:onbuild",))
    assert rig.store.config("base:onbuild").onbuild == ("COPY . .", "RUN cat app.txt > seen", "ENV A=1")
    await rig.build('FROM base:onbuild\nCMD ["x"]\n', context, tags=("app",))
    said = rig.store.config("app")
    assert said.onbuild == ()
    assert (said.cmd, said.workdir) == (("x",), "/app")
    assert "A=1" in said.env
    async with rig.shown("app") as root:
        assert (root / "app/seen").read_text() == "mine\n"
