"""What is wrong with a Dockerfile, in the words its writers know from elsewhere."""

from __future__ import annotations

import pytest

from swarmd.image.build.core.parse import parse
from swarmd.image.build.core.plan import Options, bases, plan
from swarmd.image.core.config import ImageConfig
from swarmd.model.errors import Invalid


def build(text: str) -> None:
    dockerfile = parse(text.encode())
    plan(dockerfile, Options(), dict.fromkeys(bases(dockerfile, Options()), ImageConfig()))


def refused(text: str) -> str:
    with pytest.raises(Invalid) as caught:
        build(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("RUN x\nFROM a", "line 1: no build stage in current context"),
        ("ARG x\n", "line 1: no build stage: there is no FROM"),
        ("FROM $none\n", "line 1: base name ($none) should not be blank"),
        ("FROM --platform=$none a\n", 'line 1: empty platform value from expression "$none"'),
        ("FROM UPPER/Case\n", 'failed to parse stage name "UPPER/Case": invalid reference format'),
    ],
)
def test_what_is_no_stage_is_refused(text: str, error: str) -> None:
    assert error in refused(text)


@pytest.mark.parametrize(
    ("flag", "error"),
    [
        ("--mount=type=bnd,target=/a", 'unsupported mount type "bnd" (did you mean bind?)'),
        ("--mount=type=cache,target=/a,sharing=x", 'unsupported sharing value "x"'),
        ("--mount=trget=/a", "unexpected key 'trget' in 'trget=/a' (did you mean target?)"),
        ("--mount=target", "invalid field 'target' must be a key=value pair"),
        ("--mount=type=bind", "a bind mount needs a target"),
        ("--mount=type=tmpfs,target=/", 'invalid mount target "/"'),
        ("--mount=type=bind,target=/a,uid=1", 'uid not allowed for "bind" type mounts'),
        ("--mount=type=bind,target=/a,required", "unexpected key 'required' for mount type 'bind'"),
        ("--mount=type=bind,target=/a,ro=maybe", "invalid value for readonly: maybe"),
        ("--mount=type=cache,target=/a,mode=9", "invalid value 9 for mode"),
        ("--mount=type=secret", "invalid secret mount. one of source, target required"),
        ("--mount=type=secret,id=a,from=b", "secret mount should not have a from"),
        ("--mount=type=bind,from=$x,target=/a", "'from' doesn't support variable expansion"),
        ("--network=hst", 'unsupported network mode "hst" (did you mean host?)'),
        ("--security=none", 'unsupported security mode "none"'),
        ("--moutn=x", "unknown flag: --moutn (did you mean --mount?)"),
        ("--network=none --network=none", "duplicate flag specified: --network"),
        ("--network", "missing a value on flag: --network"),
    ],
)
def test_a_wrong_flag_of_run_is_explained(flag: str, error: str) -> None:
    found = refused(f"FROM x\nRUN {flag} ls\n")
    assert found.startswith(f"dockerfile parse error on line 2: {error}")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("COPY a b c", "When using COPY with more than one source file, the destination must be a directory"),
        ("COPY a", "COPY requires at least two arguments, but only one was provided."),
        ("COPY http://x/y z", "source can't be a URL for COPY"),
        ("COPY git@x.org:y z", "source can't be a git ref for COPY"),
        (
            "COPY --chmod=8 a b",
            "invalid chmod parameter: '8'. it should be octal string and between 0 and 07777",
        ),
        ("COPY --chmod=17777 a b", "invalid chmod parameter: '17777'"),
        ("COPY --checksum=x a b", "unknown flag: --checksum"),
        ("COPY --link=perhaps a b", "expecting boolean value for flag --link, not: perhaps"),
        ("COPY a <<EOF\nEOF", "COPY cannot accept a heredoc as a destination"),
        ("COPY <<../a /x/\n../a", "the heredoc <<../a becomes a file of that name: write it without /"),
        ("COPY <<.. /x/\n..", "the heredoc <<.. becomes a file of that name"),
        ("RUN <</etc/a\n#!/bin/sh\n/etc/a", "the heredoc <</etc/a becomes a file of that name"),
        ("ADD --checksum=sha256:aa a b", "checksum requires HTTP(S) or Git sources"),
        ("ADD --checksum=sha256:aa http://a http://b c/", "checksum can't be specified for multiple sources"),
        ("ADD --from=x a b", "unknown flag: --from"),
        ("FRO x", "unknown instruction: FRO (did you mean FROM?)"),
        ("nothing like that", "unknown instruction: nothing"),
        ("EXPOSE 80/icmp", "invalid proto: icmp"),
        ("EXPOSE 70000", "invalid containerPort: 70000"),
        ("EXPOSE 9-8", "invalid containerPort: 9-8"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("USER", "USER requires exactly one argument"),
        ("STOPSIGNAL SIGNOPE", "invalid signal: SIGNOPE"),
        ("SHELL bash -c", "SHELL requires the arguments to be in JSON form: SHELL bash -c"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("VOLUME $none", "VOLUME specified can not be an empty string"),
        ("ENV =x", "ENV names can not be blank"),
        ("ARG", "ARG requires at least one argument"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD FOO x", "unknown instruction: FOO"),
        ("MAINTAINER --boo me", "unknown flag: --boo"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK CONNECT x", 'Unknown type "CONNECT" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK --interval=5 CMD x", 'time: missing unit in duration "5"'),
        ("HEALTHCHECK --interval=50ns CMD x", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("ENV x=${y", "failed to process \"${y\": syntax error: missing '}'"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a AS 1b", 'invalid name for build stage: "1b", name can\'t start with a number'),
    ],
)
def test_a_wrong_instruction_is_refused_with_its_line_in_known_words(line: str, error: str) -> None:
    found = refused(f"FROM x\n{line}\n")
    assert found.startswith("dockerfile parse error on line 2: ")
    assert error in found


def test_a_thousand_triggers_in_each_other_are_refused_as_two_are() -> None:
    assert "Chaining ONBUILD via" in refused("FROM x\n" + "ONBUILD " * 8000 + "RUN x\n")
