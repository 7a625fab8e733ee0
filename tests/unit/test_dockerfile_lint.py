"""What is said about the style of a Dockerfile, by the names of BuildKit's rules."""

from __future__ import annotations

import pytest

from swarmd.image.build.core.parse import parse
from swarmd.image.build.core.plan import Options, bases, plan
from swarmd.image.core.config import ImageConfig
from swarmd.model.errors import Invalid


def said(text: str, options: Options | None = None) -> list[tuple[str, int, str]]:
    options = options or Options()
    dockerfile = parse(text.encode())
    found = plan(dockerfile, options, dict.fromkeys(bases(dockerfile, options), ImageConfig()))
    return [(warned.rule, warned.line, warned.message) for warned in found.warnings]


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (
            "FROM scratch AS BadStage\n",
            [("StageNameCasing", 1, "Stage name 'BadStage' should be lowercase")],
        ),
        (
            "FROM scratch as base\n",
            [("FromAsCasing", 1, "'as' and 'FROM' keywords' casing do not match")],
        ),
        (
            "from scratch AS base\n",
            [("FromAsCasing", 1, "'AS' and 'from' keywords' casing do not match")],
        ),
        (
            "FROM scratch\nCOPY a \\\n\n.\n",
            [("NoEmptyContinuation", 4, "Empty continuation line")],
        ),
        (
            "FROM scratch\ncopy a /foo\nCOPY a /bar\n",
            [
                (
                    "ConsistentInstructionCasing",
                    2,
                    "Command 'copy' should match the case of the command majority (uppercase)",
                )
            ],
        ),
        (
            "FROM scratch\ncopy a /foo\ncopy a /bar\n",
            [
                (
                    "ConsistentInstructionCasing",
                    1,
                    "Command 'FROM' should match the case of the command majority (lowercase)",
                )
            ],
        ),
        ("from scratch\ncopy a /foo\n", []),
        (
            "FROM scratch AS b\nFROM scratch AS b\n",
            [("DuplicateStageName", 2, 'Duplicate stage name "b", stage names should be unique')],
        ),
        (
            "FROM scratch AS context\n",
            [
                (
                    "ReservedStageName",
                    1,
                    'Stage name should not use the same name as reserved stage "context"',
                )
            ],
        ),
        (
            "FROM scratch\nCMD a\n",
            [
                (
                    "JSONArgsRecommended",
                    2,
                    "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
                )
            ],
        ),
        ('FROM scratch\nSHELL ["/b", "-c"]\nENTRYPOINT a\n', []),
        (
            "FROM scratch\nMAINTAINER me\n",
            [("MaintainerDeprecated", 2, "Maintainer instruction is deprecated in favor of using label")],
        ),
        (
            "ARG VERSION=1\nFROM a:x$VERSIN\n",
            [
                (
                    "UndefinedArgInFrom",
                    2,
                    "FROM argument 'VERSIN' is not declared (did you mean VERSION?)",
                )
            ],
        ),
        (
            "FROM scratch\nWORKDIR app\nWORKDIR more\n",
            [
                (
                    "WorkdirRelativePath",
                    2,
                    'Relative workdir "app" can have unexpected results if the base image changes',
                )
            ],
        ),
        ("FROM scratch\nWORKDIR /app\nWORKDIR more\n", []),
        (
            "FROM scratch\nARG SOURCE=x\nCOPY $SORCE /d\n",
            [("UndefinedVar", 3, "Usage of undefined variable '$SORCE' (did you mean $SOURCE?)")],
        ),
        ("FROM scratch\nARG later\nCOPY a$later $PATH/x\n", []),
        (
            'FROM scratch\nCMD ["a"]\nCMD ["b"]\n',
            [
                (
                    "MultipleInstructionsDisallowed",
                    2,
                    "Multiple CMD instructions should not be used in the same stage because only the last "
                    "one will be used",
                )
            ],
        ),
        (
            "FROM scratch\nENV a b\n",
            [
                (
                    "LegacyKeyValueFormat",
                    2,
                    '"ENV key=value" should be used instead of legacy "ENV key value" format',
                )
            ],
        ),
        (
            "FROM --platform=$TARGETPLATFORM a\n",
            [
                (
                    "RedundantTargetPlatform",
                    1,
                    "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the "
                    "default behavior",
                )
            ],
        ),
        (
            "FROM --platform=linux/arm64 a AS x\n",
            [
                (
                    "FromPlatformFlagConstDisallowed",
                    1,
                    'FROM --platform flag should not use constant value "linux/arm64"',
                )
            ],
        ),
        ("FROM --platform=linux/arm64 a AS build_arm64\nFROM --platform=$BUILDPLATFORM b\n", []),
        (
            "FROM scratch\nARG GITHUB_TOKEN\nENV A_KEY=1 PUBLIC_KEY=2 KEYS=3\n",
            [
                (
                    "SecretsUsedInArgOrEnv",
                    2,
                    'Do not use ARG or ENV instructions for sensitive data (ARG "GITHUB_TOKEN")',
                ),
                (
                    "SecretsUsedInArgOrEnv",
                    3,
                    'Do not use ARG or ENV instructions for sensitive data (ENV "A_KEY")',
                ),
            ],
        ),
        (
            "FROM scratch\nEXPOSE 80/TcP\n",
            [("ExposeProtoCasing", 2, "Defined protocol '80/TcP' in EXPOSE instruction should be lowercase")],
        ),
        (
            "FROM scratch\nEXPOSE 80:80\n",
            [
                (
                    "ExposeInvalidFormat",
                    2,
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '80:80'",
                )
            ],
        ),
        ("# a comment\nFROM scratch AS x\n", []),
    ],
)
def test_a_rule_says_what_and_where(text: str, warnings: list[tuple[str, int, str]]) -> None:
    assert said(text) == warnings


def test_a_default_that_is_no_image_is_told_when_an_argument_hides_it() -> None:
    options = Options(build_args={"IMAGE": "alpine"})
    assert said("ARG IMAGE\nFROM $IMAGE\n", options) == [
        (
            "InvalidDefaultArgInFrom",
            2,
            "Default value for ARG $IMAGE results in empty or invalid base image name",
        )
    ]
    assert said("ARG IMAGE=busybox\nFROM $IMAGE\n", options) == []


def test_a_copy_of_what_is_kept_out_is_told() -> None:
    options = Options(ignore=("secret", "*.log", "!keep.log"))
    text = (
        "FROM scratch AS b\nFROM scratch AS a\nCOPY ./secret keep.log *.log /d/\nADD x.log /\n"
        "COPY --from=b secret /\n"
    )
    assert said(text, Options(target="a", ignore=options.ignore)) == [
        ("CopyIgnoredFile", 3, 'Attempting to Copy file "./secret" that is excluded by .dockerignore'),
        ("CopyIgnoredFile", 4, 'Attempting to Add file "x.log" that is excluded by .dockerignore'),
    ]


def test_comments_that_describe_are_judged_only_when_asked() -> None:
    text = "# no\n\n# x does this\nFROM scratch AS x\n# about y\nARG y z\n# z is good\nARG z\n"
    assert said(text) == []
    assert said(f"# check=experimental=all\n{text}") == [
        ("InvalidDefinitionDescription", 7, "Comment for ARG should follow the format: `# y <description>`")
    ]


def test_the_file_itself_turns_rules_off_and_warnings_into_an_error() -> None:
    text = "FROM scratch AS Base\nMAINTAINER me\n"
    assert said(f"# check=skip=all\n{text}") == []
    assert [rule for rule, _, _ in said(f"# check=skip=StageNameCasing,x\n{text}")] == [
        "MaintainerDeprecated"
    ]
    with pytest.raises(
        Invalid, match="lint violation found for rules: MaintainerDeprecated, StageNameCasing"
    ):
        said(f"# check=error=true\n{text}")
    assert said(f"# check=skip=all;error=true\n{text}") == []
