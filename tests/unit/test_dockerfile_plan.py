"""What a Dockerfile asks to be done: scopes, stages, configurations, operations, history."""

from __future__ import annotations

import pytest

from swarmd.image.build.core.graph import Base, Copy, Inline, MakeDirectory, Origin, Plan, Run, Stage
from swarmd.image.build.core.parse import parse
from swarmd.image.build.core.plan import Options, bases, plan
from swarmd.image.build.core.platform import normal_platform
from swarmd.image.build.core.scope import PATH
from swarmd.image.core.config import Healthcheck, ImageConfig
from swarmd.model.errors import Invalid, NotFound

PYTHON = ImageConfig(env=("PATH=/bin", "LANG=C"), cmd=("python3",), workdir="")


def planned(text: str, options: Options | None = None, config: ImageConfig = PYTHON) -> Plan:
    options = options or Options()
    dockerfile = parse(text.encode())
    return plan(dockerfile, options, dict.fromkeys(bases(dockerfile, options), config))


def last(text: str, options: Options | None = None, config: ImageConfig = PYTHON) -> Stage:
    return planned(text, options, config).stages[-1]


def ending(text: str, options: Options | None = None, config: ImageConfig = PYTHON) -> ImageConfig:
    stage = last(text, options, config)
    return stage.steps[-1].config if stage.steps else stage.config


def run_of(text: str, options: Options | None = None, config: ImageConfig = PYTHON) -> Run:
    found = last(text, options, config).steps[-1].operation
    assert isinstance(found, Run)
    return found


def copy_of(text: str, options: Options | None = None) -> Copy:
    found = last(text, options).steps[-1].operation
    assert isinstance(found, Copy)
    return found


def history(text: str, options: Options | None = None) -> list[str]:
    return [step.created_by for step in last(text, options).steps]


def refused(text: str, options: Options | None = None) -> str:
    with pytest.raises(Invalid) as caught:
        planned(text, options)
    return str(caught.value)


# Stages and what they begin with.


def test_only_what_the_target_needs_is_planned_and_fetched() -> None:
    text = (
        "FROM one AS a\nFROM two AS b\nFROM three AS unused\nFROM a AS c\nCOPY --from=b /x /\n"
        "RUN --mount=type=bind,from=four,target=/m true\nFROM five\n"
    )
    dockerfile, options = parse(text.encode()), Options(target="C")
    assert [base.ref for base in bases(dockerfile, options)] == ["one", "two", "four"]
    assert [stage.index for stage in planned(text, options).stages] == [0, 1, 3]
    assert planned(text, options).target == 3
    assert [stage.index for stage in planned(text).stages] == [4]


def test_a_target_is_named_or_numbered() -> None:
    text = "FROM a AS one\nFROM b AS two\n"
    assert planned(text, Options(target="0")).target == 0
    assert planned(text, Options(target="ONE")).target == 0
    with pytest.raises(NotFound, match=r'target stage "on" could not be found \(did you mean one\?\)'):
        planned(text, Options(target="on"))
    with pytest.raises(NotFound, match='target stage "2" could not be found'):
        planned(text, Options(target="2"))


def test_a_name_means_an_earlier_stage_before_it_means_an_image() -> None:
    stages = planned("FROM x AS busybox\nFROM busybox AS y\nFROM Busybox\nCOPY --from=y a b\n").stages
    assert [stage.base for stage in stages] == [
        Base(where="image", ref="x"),
        Base(where="stage", stage=0),
        Base(where="stage", stage=0),
    ]


def test_files_come_from_stages_by_number_or_from_images() -> None:
    assert copy_of("FROM a\nFROM b\nCOPY --from=0 /x /y\n").origin == Origin(where="stage", stage=0)
    assert copy_of("FROM a\nCOPY --from=alpine:3 /x /y\n").origin == Origin(where="image", ref="alpine:3")
    assert "invalid stage index 7" in refused("FROM a\nCOPY --from=7 x y\n")
    assert "variable expansion is not supported for --from" in refused("FROM a\nCOPY --from=$x x y\n")


def test_files_come_from_stages_before_this_one() -> None:
    text = "FROM a AS one\nCOPY --from=two /x /\nFROM b AS two\nCOPY --from=one /x /\n"
    assert refused(text) == (
        'dockerfile parse error on line 2: cannot copy from stage "two", it needs to be defined before '
        'current stage "one"'
    )
    assert "circular dependency detected on stage: one" in refused("FROM a AS one\nCOPY --from=0 x y\n")


def test_scratch_has_a_path_and_nothing_else() -> None:
    stage = last("FROM scratch\n")
    assert stage.base == Base(where="scratch")
    assert stage.config == ImageConfig(env=(f"PATH={PATH}",), workdir="/")


def test_an_image_is_asked_for_its_platform() -> None:
    dockerfile = parse(b"FROM --platform=$BUILDPLATFORM a AS x\nFROM b\nCOPY --from=x a b\n")
    options = Options(platform="linux/arm/v7", build_platform="linux/amd64")
    assert [base.platform for base in bases(dockerfile, options)] == ["linux/amd64", ""]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("linux/amd64", "linux/amd64"),
        ("arm64", "linux/arm64"),
        ("AArch64", "linux/arm64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("armhf", "linux/arm/v7"),
        ("i686", "linux/386"),
        ("linux", "linux/mips64le"),
        ("linux/amd64/v3", "linux/amd64/v3"),
    ],
)
def test_a_platform_is_read_as_people_write_it(written: str, meant: str) -> None:
    assert normal_platform(written, "linux/mips64le") == meant


def test_what_is_no_platform_is_refused() -> None:
    assert "failed to parse platform" in refused("FROM --platform=a/b/c/d x\n")
    with pytest.raises(Invalid, match="is no platform; write it as linux/amd64 or linux/arm/v7"):
        planned("FROM x\n", Options(platform="linux/"))


# Arguments and environment.


@pytest.mark.parametrize(
    ("text", "given", "env"),
    [
        ("ARG A=1\nFROM x\nRUN a", {}, ()),
        ("ARG A=1\nFROM x\nARG A\nRUN a", {}, ("A=1",)),
        ("ARG A=1\nFROM x\nARG A=2\nRUN a", {}, ("A=2",)),
        ("ARG A=1\nFROM x\nARG A=2\nRUN a", {"A": "3"}, ("A=3",)),
        ("FROM x\nARG A\nRUN a", {}, ()),
        ("FROM x\nARG A\nRUN a", {"A": ""}, ("A=",)),
        ("FROM x\nARG A=1\nARG A\nRUN a", {}, ("A=1",)),
        ("FROM x\nARG A=1 B=$A-b\nRUN a", {}, ("A=1", "B=1-b")),
        ("FROM x\nARG A=1\nARG B=$A-b\nRUN a", {}, ("A=1", "B=1-b")),
        ("FROM x\nENV A=env\nARG A=arg\nRUN a", {"A": "given"}, ("A=env",)),
        ("FROM x\nARG A=arg\nENV A=env-$A\nRUN a", {}, ("A=env-arg",)),
        ("FROM x\nRUN a", {"A": "1", "HTTP_PROXY": "p"}, ()),
        ("FROM x AS base\nARG A=1\nFROM base\nRUN echo $A", {}, ("A=1",)),
        ("FROM x\nARG TARGETARCH\nARG BUILDOS\nRUN a", {}, ("TARGETARCH=amd64", "BUILDOS=linux")),
        ("FROM x\nARG TARGETARCH\nRUN a", {"TARGETARCH": "mips"}, ("TARGETARCH=mips",)),
    ],
)
def test_arguments_reach_a_command_as_they_are_in_scope(
    text: str, given: dict[str, str], env: tuple[str, ...]
) -> None:
    assert run_of(text, Options(build_args=given)).env == ("PATH=/bin", "LANG=C", *env)


def test_an_instruction_is_expanded_with_what_held_before_it() -> None:
    found = ending("FROM x\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\n")
    assert found.env == ("PATH=/bin", "LANG=C", "abc=bye", "def=hello", "ghi=bye")


def test_proxies_need_no_declaration_and_leave_no_trace() -> None:
    options = Options(build_args={"HTTP_PROXY": "p:1", "no_proxy": "x", "OTHER": "y"})
    run = run_of("FROM x\nRUN a", options)
    assert run.proxy == ("HTTP_PROXY=p:1", "no_proxy=x")
    assert history("FROM x\nRUN a", options) == ["RUN /bin/sh -c a # buildkit"]
    declared = run_of("FROM x\nARG HTTP_PROXY\nRUN a", options)
    assert declared.proxy == ("no_proxy=x",)
    assert "HTTP_PROXY=p:1" in declared.env


def test_from_sees_the_arguments_before_it_with_their_defaults() -> None:
    text = "ARG R=reg.example\nARG V=1 I=$R/app\nFROM $I:${V%.*}\n"
    options = Options(build_args={"V": "3.12"})
    assert last(text, options).base.ref == "reg.example/app:3"


# What each instruction does to the configuration.


def test_entrypoint_takes_away_the_command_of_the_base_only() -> None:
    assert ending('FROM x\nENTRYPOINT ["e"]\n').cmd == ()
    assert ending('FROM x\nCMD ["c"]\nENTRYPOINT ["e"]\n').cmd == ("c",)
    assert ending('FROM x AS a\nCMD ["c"]\nFROM a\nENTRYPOINT ["e"]\n').cmd == ()
    assert ending("FROM x\nENTRYPOINT []\n", config=ImageConfig(entrypoint=("e",))).entrypoint == ()


def test_shell_forms_are_run_by_the_shell_in_force() -> None:
    text = 'FROM x\nSHELL ["/bin/bash", "-ec"]\nRUN echo  $x\nCMD a b\n'
    stage = last(text)
    run = stage.steps[1].operation
    assert isinstance(run, Run)
    assert run.args == ("/bin/bash", "-ec", "echo  $x")
    assert stage.steps[-1].config.cmd == ("/bin/bash", "-ec", "a b")
    assert stage.steps[-1].config.shell == ("/bin/bash", "-ec")


def test_a_working_directory_is_made_and_relative_ones_add_up() -> None:
    stage = last("FROM x\nUSER app\nWORKDIR /a\nWORKDIR b/../c/\nWORKDIR $LANG\nWORKDIR /\n")
    assert [step.operation for step in stage.steps[1:]] == [
        MakeDirectory(path="/a", user="app"),
        MakeDirectory(path="/a/c", user="app"),
        MakeDirectory(path="/a/c/C", user="app"),
        None,
    ]
    assert [step.config.workdir for step in stage.steps[1:]] == ["/a", "/a/c", "/a/c/C", "/"]


def test_the_rest_of_the_configuration() -> None:
    found = ending(
        "FROM x\nLABEL a=$LANG \"b c\"='d $LANG'\nEXPOSE 80 53/UDP 8000-8002 127.0.0.1:81:443\n"
        'ARG P="90 91"\nEXPOSE $P\n'
        'VOLUME /v $LANG\nVOLUME ["/w x"]\nSTOPSIGNAL RTMIN+3\nUSER 1:2\n'
        "ENV legacy value with  spaces\nONBUILD RUN $x\n"
        "HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=2s --start-interval=1s --retries=3 \\\n"
        "CMD c d\n"
    )
    assert found.labels == {"a": "C", "b c": "d $LANG"}
    ports = ("443/tcp", "53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp", "90/tcp", "91/tcp")
    assert found.exposed_ports == ports
    assert found.volumes == ("/v", "/w x", "C")
    assert (found.stop_signal, found.user) == ("RTMIN+3", "1:2")
    assert found.env[-1] == "legacy=value with  spaces"
    assert found.onbuild == ("RUN $x",)
    assert found.healthcheck == Healthcheck(
        test=("CMD-SHELL", "c d"),
        interval=90 * 10**9,
        timeout=1_500_000_000,
        start_period=2 * 10**9,
        start_interval=10**9,
        retries=3,
    )


def test_health_checks_run_a_list_or_are_turned_off() -> None:
    assert ending('FROM x\nHEALTHCHECK CMD ["a", "b"]\n').healthcheck == Healthcheck(test=("CMD", "a", "b"))
    assert ending("FROM x\nHEALTHCHECK none\n").healthcheck == Healthcheck(test=("NONE",))


def test_labels_of_the_command_line_are_on_the_target() -> None:
    options = Options(labels={"a": "cli"})
    assert ending("FROM x\nLABEL a=file b=1\n", options).labels == {"a": "cli", "b": "1"}
    assert last("FROM x\n", options).config.labels == {"a": "cli"}
    assert planned("FROM x AS y\nRUN z\nFROM y\n", options).stages[0].steps[0].config.labels == {}


def test_the_maintainer_is_the_author_and_children_inherit_it() -> None:
    assert [stage.author for stage in planned("FROM x AS y\nMAINTAINER me\nFROM y\n").stages] == ["me", "me"]


# ONBUILD.


def test_triggers_of_an_image_come_first_and_are_gone_afterwards() -> None:
    config = ImageConfig(onbuild=("ARG A=1", "COPY . /src", "RUN make $A"), env=("PATH=/bin",))
    stage = last("FROM x\nRUN mine\n", config=config)
    assert [(step.line, step.text) for step in stage.steps] == [
        (0, "ARG A=1"),
        (0, "COPY . /src"),
        (0, "RUN make $A"),
        (2, "RUN mine"),
    ]
    assert stage.steps[-1].config.onbuild == ()
    assert stage.config.onbuild == ()


def test_triggers_of_a_stage_run_in_the_stage_on_top_and_may_need_others() -> None:
    text = (
        "FROM x AS tools\nRUN t\nFROM x AS base\nONBUILD COPY --from=tools /t /t\n"
        "ONBUILD RUN <<EOF\nuse t\nEOF\nFROM base\nRUN mine\nFROM y\n"
    )
    found = planned(text, Options(target="2"))
    assert [stage.index for stage in found.stages] == [0, 1, 2]
    assert [step.created_by for step in found.stages[-1].steps] == [
        "COPY /t /t # buildkit",
        "RUN /bin/sh -c use t\n # buildkit",
        "RUN /bin/sh -c mine # buildkit",
    ]


def test_a_trigger_that_may_not_be_one_is_refused() -> None:
    with pytest.raises(Invalid, match="FROM isn't allowed as an ONBUILD trigger"):
        last("FROM x\n", config=ImageConfig(onbuild=("FROM y",)))


# RUN.


def test_a_heredoc_alone_is_the_script_and_one_with_a_shebang_a_program() -> None:
    assert run_of("FROM x\nRUN <<-EOF\n\ta\n\tb\n\tEOF\n").args == ("/bin/sh", "-c", "a\nb\n")
    run = run_of("FROM x\nRUN <<EOF\n#!/usr/bin/python3\nprint(1)\nEOF\n")
    assert run.args == ("/bin/sh", "-c", "/dev/pipes/EOF")
    assert run.files == (Inline(name="EOF", data=b"#!/usr/bin/python3\nprint(1)\n"),)


def test_heredocs_with_a_command_are_left_to_the_shell() -> None:
    run = run_of("FROM x\nRUN cat <<A - <<'B' > /f\n$x\nA\n$y\nB\n")
    assert run.args[-1] == "cat <<A - <<'B' > /f\n$x\nA\n$y\nB"
    assert run.files == ()


def test_mounts_have_their_defaults_and_know_where_they_come_from() -> None:
    run = run_of(
        "FROM a AS s\nFROM x\nWORKDIR /w\nARG ID=tok\n"
        "RUN --mount=target=src --mount=type=cache,dst=/c,sharing=LOCKED,mode=0700,uid=5 "
        "--mount=type=bind,from=s,source=d,target=/d,rw --mount=type=tmpfs,target=/t,size=2m "
        "--mount=type=secret,id=$ID,required --mount=type=secret,src=a/b,env=TOKEN --mount=type=ssh "
        "--network=none --security=insecure make\n"
    )
    bind, cache, stage, tmpfs, secret, in_env, ssh = run.mounts
    assert (bind.kind, bind.target, bind.source, bind.readonly) == ("bind", "/w/src", "/", True)
    assert (cache.id, cache.sharing, cache.mode, cache.uid, cache.gid) == ("/c", "locked", 0o700, 5, -1)
    assert not cache.readonly
    assert (stage.origin, stage.source, stage.readonly) == (Origin(where="stage", stage=0), "/d", False)
    assert (tmpfs.size, tmpfs.readonly) == (2 << 20, False)
    assert (secret.id, secret.target, secret.required) == ("tok", "/run/secrets/tok", True)
    assert (in_env.id, in_env.env, in_env.target) == ("a/b", "TOKEN", "")
    assert (ssh.id, run.network, run.security) == ("default", "none", "insecure")


# COPY and ADD.


@pytest.mark.parametrize(
    ("workdir", "written", "meant"),
    [
        ("/w", "x", "/w/x"),
        ("/w", ".", "/w/"),
        ("/w", "./", "/w/"),
        ("/w", "x/", "/w/x/"),
        ("/w", "/a/../b//", "/b/"),
        ("/w", "../x", "/x"),
        ("/", ".", "/"),
        ("/", "//x", "/x"),
        ("/w", "../../..", "/"),
    ],
)
def test_a_destination_is_absolute_and_keeps_its_slash(workdir: str, written: str, meant: str) -> None:
    assert copy_of(f"FROM x\nWORKDIR {workdir}\nCOPY a {written}\n").destination == meant


def test_a_copy_carries_what_was_asked_for() -> None:
    found = copy_of(
        "FROM x\nARG U=app\nCOPY --chown=$U:1 --chmod=u+x,g-w --link --parents --exclude=*.o \\\n"
        "--exclude=$U a$U b /d/\n"
    )
    assert found == Copy(
        sources=("aapp", "b"),
        destination="/d/",
        chown="app:1",
        chmod="u+x,g-w",
        link=True,
        parents=True,
        exclude=("*.o", "app"),
    )


def test_heredocs_are_files_and_expand_unless_quoted() -> None:
    found = copy_of("FROM x\nCOPY --chmod=755 <<a <<-'b' /d/\n\"$LANG\" \\$LANG\na\n\t$LANG\nb\n")
    assert found.inline == (
        Inline(name="a", data=b'"C" $LANG\n'),
        Inline(name="b", data=b"$LANG\n"),
    )
    assert found.sources == ()


def test_add_makes_a_step_for_each_place_its_sources_come_from() -> None:
    url = "https://example.com/a.tar"
    steps = last(f"FROM x\nADD --unpack=true a.tar {url} https://git.example/r.git#v1:d /d/\n").steps
    found = [step.operation for step in steps]
    assert all(isinstance(files, Copy) and files.add and files.unpack for files in found)
    assert [
        (files.origin.where, files.origin.ref, files.sources) for files in found if isinstance(files, Copy)
    ] == [
        ("context", "", ("a.tar",)),
        ("url", url, ()),
        ("git", "https://git.example/r.git#v1:d", ("/",)),
    ]
    assert steps[1].created_by == f"ADD {url} /d/ # buildkit"


# History.


def test_history_reads_as_docker_writes_it() -> None:
    text = (
        'FROM x\nARG A=1 B\nENV E=v F="w x"\nRUN make $A\nRUN ["a", "b"]\n'
        "COPY --chown=a:b --chmod=1 --link s d\n"
        'ADD s t /d/\nWORKDIR w\nUSER u\nVOLUME ["/a", "/b"]\nEXPOSE 80 81/udp\nCMD ["a", "b \\"c\\""]\n'
        'ENTRYPOINT e f\nLABEL a=b\nSHELL ["/bin/s", "-c"]\nSTOPSIGNAL KILL\nMAINTAINER me & you\n'
        "HEALTHCHECK --interval=500ms --start-period=1h CMD t\n"
    )
    assert history(text) == [
        "ARG A=1 B",
        "ENV E=v F=w x",
        "RUN |2 A=1 B= /bin/sh -c make $A # buildkit",
        "RUN |2 A=1 B= a b # buildkit",
        "COPY --chown=a:b --chmod=1 s d # buildkit",
        "ADD s t /d/ # buildkit",
        "WORKDIR /w",
        "USER u",
        "VOLUME [/a /b]",
        "EXPOSE [80/tcp 81/udp]",
        'CMD ["a" "b \\"c\\""]',
        'ENTRYPOINT ["/bin/sh" "-c" "e f"]',
        "LABEL a=b",
        "SHELL [/bin/s -c]",
        "STOPSIGNAL KILL",
        "MAINTAINER me & you",
        "HEALTHCHECK {Test:[CMD-SHELL t] Interval:500ms Timeout:0s StartPeriod:1h0m0s "
        "StartInterval:0s Retries:0}",
    ]


def test_the_time_nothing_is_later_than_comes_with_the_arguments() -> None:
    assert Options().epoch() is None
    assert Options(build_args={"SOURCE_DATE_EPOCH": "1700000000"}).epoch() == 1700000000.0
    with pytest.raises(Invalid, match="SOURCE_DATE_EPOCH is a number of seconds, not 'now'"):
        Options(build_args={"SOURCE_DATE_EPOCH": "now"}).epoch()


def test_an_image_whose_configuration_is_missing_is_named() -> None:
    with pytest.raises(Invalid, match="the configuration of busybox is not known"):
        plan(parse(b"FROM busybox\n"), Options(), {})
