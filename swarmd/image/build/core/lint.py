"""Rules of style that a Dockerfile can be held to without building it: BuildKit's, by its names.  Pure.

Rules about words that depend on what was set before (UndefinedVar …) are told while a stage is planned.
``# check=skip=RuleA,RuleB;error=true`` at the head of the file turns rules off, and warnings into an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from swarmd.image.build.core.flags import did_you_mean, read_bool
from swarmd.image.build.core.graph import Copy, Stage, Warned
from swarmd.image.build.core.history import quote
from swarmd.image.build.core.ignore import Ignore
from swarmd.image.build.core.instructions import understand
from swarmd.image.build.core.match import has_wildcards
from swarmd.image.build.core.meaning import Arg, From, Pairs
from swarmd.image.build.core.outline import Outline, Section
from swarmd.image.build.core.parse import Dockerfile, Instruction
from swarmd.image.build.core.scope import add_globals
from swarmd.image.build.core.words import expand
from swarmd.model.errors import Invalid
from swarmd.model.image_ref import parse as parse_ref

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile(r"(?:_|^)public(?:_|$)", re.IGNORECASE)
_ONCE = ("cmd", "entrypoint", "healthcheck")
_EXPERIMENTAL = ("InvalidDefinitionDescription",)


def apply_settings(directive: str, warnings: Iterable[Warned]) -> tuple[Warned, ...]:
    """The warnings that ``# check=`` leaves, in order, each once.  Raises Invalid where it asks for that."""
    settings = dict(part.strip().partition("=")[::2] for part in directive.split(";") if part.strip())
    skipped, wanted = _names(settings.get("skip", "")), _names(settings.get("experimental", ""))
    left = {
        warned
        for warned in warnings
        if not _listed(warned.rule, skipped)
        and (warned.rule not in _EXPERIMENTAL or _listed(warned.rule, wanted))
    }
    if left and read_bool(settings.get("error", "false").strip()):
        raise Invalid(f"lint violation found for rules: {', '.join(sorted({found.rule for found in left}))}")
    return tuple(sorted(left, key=lambda found: (found.line, found.rule, found.message)))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip().lower() for name in text.split(",") if name.strip())


def _listed(rule: str, names: tuple[str, ...]) -> bool:
    return "all" in names or rule.lower() in names


def lint(dockerfile: Dockerfile, sketch: Outline) -> Iterator[Warned]:
    """What can be said of the file as it is written; all stages, needed or not."""
    yield from _casing(dockerfile.instructions)
    for said in dockerfile.instructions:
        yield from _instruction(said)
    seen: set[str] = set()
    for section in sketch.sections:
        yield from _stage(section, seen)
        yield from _platform(section)
        yield from _unset(section, sketch)
        yield from _repeated(section)
    yield from _defaults(sketch)


def copies_of_ignored(stages: Iterable[Stage], ignore: tuple[str, ...]) -> Iterator[Warned]:
    """COPY and ADD of what the .dockerignore keeps out."""
    kept_out = Ignore(ignore)
    for stage in stages if kept_out else ():
        for step in stage.steps:
            files = step.operation
            if not isinstance(files, Copy) or files.origin.where != "context":
                continue
            for source in files.sources:
                if not has_wildcards(source) and kept_out.ignores(source.removeprefix("./")):
                    verb = "Add" if files.add else "Copy"
                    text = f"Attempting to {verb} file {quote(source)} that is excluded by .dockerignore"
                    yield Warned(rule="CopyIgnoredFile", line=step.line, message=text)


def _warned(rule: str, said: Instruction, message: str) -> Warned:
    return Warned(rule=rule, line=said.first, message=message)


def _casing(instructions: tuple[Instruction, ...]) -> Iterator[Warned]:
    words = [said.word for said in instructions]
    lower = sum(word.islower() for word in words) > sum(word.isupper() for word in words)
    for said in instructions:
        if said.word != (said.word.lower() if lower else said.word.upper()):
            case = "lowercase" if lower else "uppercase"
            text = f"Command '{said.word}' should match the case of the command majority ({case})"
            yield _warned("ConsistentInstructionCasing", said, text)


def _instruction(said: Instruction) -> Iterator[Warned]:
    if said.line.gaps:
        yield Warned(rule="NoEmptyContinuation", line=said.line.last, message="Empty continuation line")
    means = understand(said)
    if said.keyword == "maintainer":
        text = "Maintainer instruction is deprecated in favor of using label"
        yield _warned("MaintainerDeprecated", said, text)
    if isinstance(means, Arg) or (isinstance(means, Pairs) and said.keyword == "env"):
        for name, _ in means.pairs:
            if _SECRET.search(name) and not _NO_SECRET.search(name):
                keyword = said.keyword.upper()
                text = f"Do not use ARG or ENV instructions for sensitive data ({keyword} {quote(name)})"
                yield _warned("SecretsUsedInArgOrEnv", said, text)
    if isinstance(means, Pairs) and means.legacy:
        form = said.keyword.upper()
        text = f'"{form} key=value" should be used instead of legacy "{form} key value" format'
        yield _warned("LegacyKeyValueFormat", said, text)
    names = [name for name, _ in means.pairs] if isinstance(means, Arg) else []
    if isinstance(means, From) and means.name:
        names = [means.name]
    yield from _description(said, names)


def _description(said: Instruction, names: list[str]) -> Iterator[Warned]:
    comments = said.line.comments
    if names and comments and not any(text.startswith(f"{name} ") for text in comments for name in names):
        text = f"Comment for {said.keyword.upper()} should follow the format: `# {names[0]} <description>`"
        yield _warned("InvalidDefinitionDescription", said, text)


def _stage(section: Section, seen: set[str]) -> Iterator[Warned]:
    said, means = section.said, section.means
    if not means.name:
        return
    if means.name_written != means.name:
        text = f"Stage name '{means.name_written}' should be lowercase"
        yield _warned("StageNameCasing", said, text)
    word, keyword = said.word, means.as_written
    if (word.islower() and not keyword.islower()) or (word.isupper() and not keyword.isupper()):
        text = f"'{keyword}' and '{word}' keywords' casing do not match"
        yield _warned("FromAsCasing", said, text)
    if means.name in seen:
        text = f"Duplicate stage name {quote(means.name)}, stage names should be unique"
        yield _warned("DuplicateStageName", said, text)
    seen.add(means.name)
    if means.name in ("context", "scratch"):
        text = f"Stage name should not use the same name as reserved stage {quote(means.name)}"
        yield _warned("ReservedStageName", said, text)


def _platform(section: Section) -> Iterator[Warned]:
    platform, name = section.means.platform, section.means.name
    if platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
        text = (
            f"Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
        )
        yield _warned("RedundantTargetPlatform", section.said, text)
    elif platform and "$" not in platform and not any(part in name for part in platform.split("/") if name):
        text = f"FROM --platform flag should not use constant value {quote(platform)}"
        yield _warned("FromPlatformFlagConstDisallowed", section.said, text)


def _unset(section: Section, sketch: Outline) -> Iterator[Warned]:
    declared = {name for _, arg in sketch.head for name, _ in arg.pairs}
    for name in section.unset:
        if name not in declared:
            hint = did_you_mean(name, tuple(sketch.globals))
            text = f"FROM argument '{name}' is not declared{hint}"
            yield _warned("UndefinedArgInFrom", section.said, text)


def _repeated(section: Section) -> Iterator[Warned]:
    before: dict[str, Instruction] = {}
    for said, _ in section.body:
        if said.keyword not in _ONCE:
            continue
        if said.keyword in before:
            # The earlier one is the one that is lost.
            text = (
                f"Multiple {said.keyword.upper()} instructions should not be used in the same stage because "
                "only the last one will be used"
            )
            yield _warned("MultipleInstructionsDisallowed", before[said.keyword], text)
        before[said.keyword] = said


def _defaults(sketch: Outline) -> Iterator[Warned]:
    """FROM lines that are nothing unless an argument is given."""
    declared = {name for _, arg in sketch.head for name, _ in arg.pairs}
    seen = {name: value for name, value in sketch.globals.items() if name not in declared}
    for _, arg in sketch.head:
        add_globals(seen, arg, {}, sketch.escape)
    names = {section.means.name for section in sketch.sections}
    for section in sketch.sections:
        image = section.means.image
        if "$" not in image or _is_image(image, seen, names, sketch.escape):
            continue
        text = f"Default value for ARG {image} results in empty or invalid base image name"
        yield _warned("InvalidDefaultArgInFrom", section.said, text)


def _is_image(image: str, seen: dict[str, str], names: set[str], escape: str) -> bool:
    try:
        text = expand(image, seen, escape=escape).text
        if text.lower() not in names or not text:
            parse_ref(text)
    except Invalid:
        return False
    return True
